//! Builds ports and lcores from settings.

pub mod devices;
pub mod dpdk;
mod neighbours;
pub mod nic;
pub mod offloads;
pub mod ports;
pub mod steering;

use common::exit::Failure;
use frame::{Placement, Pool, Role};
use host::placement;
use host::privilege::Thread;
use lcore::bells::Bells;
use lcore::mailbox::{self, Sender};
use lcore::thread::{LcoreHandle, Starting, ThreadConfig, start};
use lcore::{Clock, ControlSender, Lcore, RxMode};
use port::any::AnyPort;
use ports::Ports;
use rustix::thread::CapabilitySet;
use serve::board::RoleCounters;
use std::sync::{Arc, mpsc};
use tokio::sync::mpsc::UnboundedSender;

/// How many commands may wait for one lcore. Further routes wait at the registrar's desk.
const MAILBOX: usize = 16_384;

/// One running lcore, and the channel for commands to it.
pub struct Started<C, K = RoleCounters> {
    /// The thread.
    pub running: LcoreHandle,
    /// Its mailbox.
    pub commands: Sender<C>,
    /// The counters of its role.
    pub counters: K,
}

/// An lcore that is being built.
struct Building<C, K> {
    starting: Starting<Failure>,
    commands: Sender<C>,
    facts: mpsc::Receiver<K>,
}

/// What lcores have to do with the rest of the process.
#[derive(Clone, Copy)]
pub struct LcoreLinks<'a> {
    /// Where they put link control, in a gateway.
    pub registrar: Option<&'a ControlSender>,
    /// What they sleep on when other processes may wake them, too. Then there is one lcore.
    pub bells: Option<&'a Bells>,
    /// Receives the number of each lcore that ends.
    pub ended: &'a UnboundedSender<u16>,
}

/// Starts an lcore for each core of the ports.
///
/// `make` builds the role on the lcore's own thread from its number, its pool and its ports.
///
/// # Errors
/// It fails as [`Ports::open`] and `make` do. The error is [`Failure::Arena`] when there is no memory. It is
/// [`Failure::Machine`] when a thread cannot be started, pinned or confined. It is [`Failure::Internal`] when an lcore
/// panics. It also fails when a NIC or a device does not start to receive.
pub fn start_lcores<R, K, F>(
    ports: &Ports,
    mode: RxMode,
    clock: Clock,
    links: LcoreLinks<'_>,
    make: F,
) -> Result<Vec<Started<R::Command, K>>, Failure>
where
    R: Role + 'static,
    R::Command: 'static,
    K: Send + 'static,
    F: Fn(u16, &Pool, &[AnyPort]) -> Result<(R, K), Failure> + Clone + Send + 'static,
{
    let named: Vec<usize> = ports.cores.iter().copied().flatten().collect();
    placement::warn(&named, ports.nics().map(|nic| nic.name()));
    let node = placement::arena_node(ports.nics().map(|nic| nic.name()));
    let place = Placement { node, address_bits: ports.address_bits };
    let build = |index: u16, core: Option<usize>, sources: Ports| {
        let (commands, mailbox) = match links.bells {
            Some(bells) => mailbox::mailbox_with(MAILBOX, Arc::new(bells.clone())),
            None => mailbox::mailbox(MAILBOX).map_err(|e| Failure::Machine(e.to_string()))?,
        };
        let (tell, facts) = mpsc::channel();
        let (make, registrar) = (make.clone(), links.registrar.cloned());
        let body = move || {
            let pool = Pool::placed(sources.pool, place).map_err(Failure::Arena)?;
            let ports = sources.open(index, &pool)?;
            let (role, counters) = make(index, &pool, &ports)?;
            // The receiver waits for it, or everything is gone.
            let _ = tell.send(counters);
            sources.confinement.enter(Thread::Lcore, CapabilitySet::empty())?;
            Ok(Lcore::new(index, role, ports, pool, mailbox, registrar))
        };
        let config = ThreadConfig { index, core, mode, clock };
        let ended = links.ended.clone();
        let starting = start(config, body, move || {
            // Nobody listens only when the process is already ending.
            let _ = ended.send(index);
        })?;
        Ok::<_, Failure>(Building { starting, commands, facts })
    };
    let finish = |building: Building<R::Command, K>| {
        let running = building.starting.wait()?;
        let counters =
            building.facts.recv().map_err(|_| Failure::Internal("an lcore said nothing of itself".to_owned()))?;
        Ok::<_, Failure>(Started { running, commands: building.commands, counters })
    };
    // The first lcore opens the sockets of all. Then the others are built at the same time, since each touches its
    // arena.
    let mut started = Vec::with_capacity(ports.cores.len());
    let mut cores = ports.cores.iter().enumerate().map(|(index, core)| (index as u16, *core));
    if let Some((index, core)) = cores.next() {
        started.push(finish(build(index, core, ports.clone())?)?);
        let others: Vec<_> = cores.map(|(index, core)| build(index, core, ports.clone())).collect();
        for building in others {
            started.push(finish(building?)?);
        }
    }
    ports.nics().try_for_each(|nic| nic.take_packets())?;
    ports.devices().try_for_each(|device| device.start())?;
    ports.confine_devices()?;
    Ok(started)
}

/// One line for each port at start.
pub fn announce<C, K>(started: &[Started<C, K>], ports: &Ports) {
    let lcores = started.len();
    let on = if lcores == 1 { "1 lcore".to_owned() } else { format!("{lcores} lcores") };
    for port in started.first().iter().flat_map(|first| &first.running.view().ports) {
        let nic = ports.nics().find(|nic| nic.id() == port.id).map(|nic| nic.describe(lcores));
        let device = ports.devices().find(|device| device.id() == port.id).map(|device| device.describe());
        let text = nic.or(device).unwrap_or_else(|| format!("{}, {on}", port.about.describe()));
        tracing::info!("port {}: {text}", port.id.0);
    }
}
