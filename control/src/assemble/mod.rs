//! A role, its ports and its lcores, from settings.

pub mod gateway;
pub mod slave;

use crate::config::Common;
use crate::exit::Failure;
use crate::serve::board::RoleCounters;
use frame::{Pool, PortId, Role};
use lcore::mailbox::{self, Sender};
use lcore::thread::{Running, Starting, ThreadConfig, start};
use lcore::{Clock, ControlMail, Lcore};
use port::udp::{UdpError, UdpOptions, UdpPort};
use std::net::SocketAddr;
use std::sync::mpsc;
use tokio::sync::mpsc::UnboundedSender;

/// Commands that may wait for one lcore. Routes beyond that wait at the registrar's desk.
const MAILBOX: usize = 16_384;

/// One running lcore, and the way to tell it things.
pub struct Started<C> {
    /// The thread.
    pub running: Running,
    /// Its mailbox.
    pub commands: Sender<C>,
    /// What its role counts.
    pub counters: RoleCounters,
}

/// An lcore that is being built.
struct Building<C> {
    starting: Starting<Failure>,
    commands: Sender<C>,
    facts: mpsc::Receiver<(RoleCounters, Vec<SocketAddr>)>,
}

/// Starts an lcore for each core of the settings.
///
/// `make` builds the role on the lcore's own thread from its pool and its ports. `ended` hears of each lcore's end.
pub fn start_lcores<R, F>(
    common: &Common,
    clock: Clock,
    registrar: Option<&Sender<ControlMail>>,
    ended: &UnboundedSender<u16>,
    make: F,
) -> Result<Vec<Started<R::Command>>, Failure>
where
    R: Role + 'static,
    R::Command: 'static,
    F: Fn(&Pool, &[UdpPort]) -> Result<(R, RoleCounters), Failure> + Clone + Send + 'static,
{
    let shared = common.cores.len() > 1;
    if shared {
        common.ports.iter().try_for_each(|address| is_free(*address)).map_err(Failure::Udp)?;
    }
    let build = |index: u16, core: Option<usize>, addresses: Vec<SocketAddr>| {
        let (commands, mailbox) = mailbox::mailbox(MAILBOX).map_err(|e| Failure::Machine(e.to_string()))?;
        let (tell, facts) = mpsc::channel();
        let (pool, make, registrar) = (common.pool, make.clone(), registrar.cloned());
        let body = move || {
            let pool = Pool::new(pool).map_err(Failure::Arena)?;
            let options = UdpOptions { reuse_port: shared, ..UdpOptions::default() };
            let ports = addresses
                .iter()
                .enumerate()
                .map(|(id, address)| UdpPort::open(PortId(id as u8), *address, pool.clone(), options))
                .collect::<Result<Vec<_>, _>>()
                .map_err(Failure::Udp)?;
            let (role, counters) = make(&pool, &ports)?;
            let bound = ports.iter().map(UdpPort::local_addr).collect();
            // The other end waits for it, or is gone together with everything else.
            let _ = tell.send((counters, bound));
            Ok(Lcore::new(index, role, ports, pool, mailbox, registrar))
        };
        let config = ThreadConfig { index, core, mode: common.rx_mode, clock };
        let ended = ended.clone();
        let starting = start(config, body, move || {
            // Nobody listens only when the process is already ending.
            let _ = ended.send(index);
        })?;
        Ok::<_, Failure>(Building { starting, commands, facts })
    };
    let finish = |building: Building<R::Command>| {
        let running = building.starting.wait()?;
        let (counters, bound) =
            building.facts.recv().map_err(|_| Failure::Internal("an lcore said nothing of itself".to_owned()))?;
        Ok::<_, Failure>((Started { running, commands: building.commands, counters }, bound))
    };
    // The first one finds out what port 0 became; the others are then built at the same time, each touching its arena.
    let mut started = Vec::with_capacity(common.cores.len());
    let mut cores = common.cores.iter().enumerate().map(|(index, core)| (index as u16, *core));
    if let Some((index, core)) = cores.next() {
        let (first, bound) = finish(build(index, core, common.ports.clone())?)?;
        started.push(first);
        let others: Vec<_> = cores.map(|(index, core)| build(index, core, bound.clone())).collect();
        for building in others {
            started.push(finish(building?)?.0);
        }
    }
    Ok(started)
}

/// Several lcores share an address with `SO_REUSEPORT`, and so would another gvm-dp of the same user: without this look
/// it would silently take half of the packets.
fn is_free(address: SocketAddr) -> Result<(), UdpError> {
    match std::net::UdpSocket::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(UdpError::InUse(address)),
        // Opening the port says it better.
        Err(_) => Ok(()),
    }
}

/// One line for each port at start.
fn announce<C>(started: &[Started<C>]) {
    let lcores = started.len();
    let on = if lcores == 1 { "1 lcore".to_owned() } else { format!("{lcores} lcores") };
    for port in started.first().iter().flat_map(|first| &first.running.view().ports) {
        tracing::info!("port {}: {}, {on}", port.id.0, port.description);
    }
}

/// Nanoseconds since 1970: differs in each start, and grows.
fn epoch() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64).max(1)
}
