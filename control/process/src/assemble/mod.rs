//! Builds ports and lcores from settings.

pub mod cores;
pub mod devices;
pub mod dpdk;
mod limits;
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
use lcore::handover::{HandOver, HandOverEnds, HandoverCounters};
use lcore::mailbox::{self, Receiver, Sender};
use lcore::thread::{LcoreHandle, Starting, ThreadConfig, start};
use lcore::{Clock, ControlSender, Lcore, RxMode};
use port::Port;
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

/// A running lcore that hands over to others, with what it counts of that.
pub type StartedApart<C, K> = Started<C, (K, Arc<HandoverCounters>)>;

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
    /// What each of them sleeps on when other processes may wake them, too.
    pub bells: Option<&'a [Bells]>,
    /// Receives the number of each lcore that ends.
    pub ended: &'a UnboundedSender<u16>,
}

/// Bytes of the ring in which each lcore gets what others hand over to it.
const HAND_OVER_BYTES: usize = 2 << 20;

/// The most and the fewest datagrams that have room in it.
const HAND_OVER_SLOTS: (usize, usize) = (64, 1024);

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
    let mailboxes = mailboxes(ports, links.bells)?;
    start_with(ports, (mode, clock), links, mailboxes, make, |port, _, _| port)
}

/// The same for lcores with a UDP port each: what arrives on one lcore and is for another is handed over. What each
/// lcore counts of that comes with the counters of its role.
///
/// # Errors
/// As [`start_lcores`].
pub fn start_apart<R, K, F>(
    ports: &Ports,
    mode: RxMode,
    clock: Clock,
    links: LcoreLinks<'_>,
    make: F,
) -> Result<Vec<StartedApart<R::Command, K>>, Failure>
where
    R: Role + 'static,
    R::Command: 'static,
    K: Send + 'static,
    F: Fn(u16, &Pool, &[AnyPort]) -> Result<(R, K), Failure> + Clone + Send + 'static,
{
    let mailboxes = mailboxes(ports, links.bells)?;
    let room = ports.pool.chunk as usize;
    let slots = (HAND_OVER_BYTES / room.max(1)).clamp(HAND_OVER_SLOTS.0, HAND_OVER_SLOTS.1);
    // One lcore has nobody to hand over to.
    let announcers = mailboxes.iter().filter(|_| mailboxes.len() > 1).map(|(commands, _)| commands.announcer());
    let all = HandOverEnds::new(announcers.collect(), slots, room);
    let theirs = all.clone();
    let make = move |index: u16, pool: &Pool, ports: &[AnyPort]| {
        let (role, counters) = make(index, pool, ports)?;
        let handed = theirs.get(usize::from(index)).map(|ends| Arc::clone(ends.counters())).unwrap_or_default();
        Ok((role, (counters, handed)))
    };
    let wrap = move |port, pool: &Pool, index: u16| HandOver::new(port, pool, all.get(usize::from(index)).cloned());
    start_with(ports, (mode, clock), links, mailboxes, make, wrap)
}

/// Both ends of each lcore's mailbox.
type Mailboxes<C> = Vec<(Sender<C>, Receiver<C>)>;

fn mailboxes<C: Send>(ports: &Ports, bells: Option<&[Bells]>) -> Result<Mailboxes<C>, Failure> {
    let mailbox = |index: usize| match bells.and_then(|bells| bells.get(index)) {
        Some(bells) => Ok(mailbox::mailbox_with(MAILBOX, Arc::new(bells.clone()))),
        None => mailbox::mailbox(MAILBOX).map_err(|e| Failure::Machine(e.to_string())),
    };
    (0..ports.cores.len()).map(mailbox).collect()
}

/// Starts an lcore for each mailbox. `wrap` makes the port of an lcore of one that was opened.
fn start_with<R, P, K, F, W>(
    ports: &Ports,
    (mode, clock): (RxMode, Clock),
    links: LcoreLinks<'_>,
    mailboxes: Mailboxes<R::Command>,
    make: F,
    wrap: W,
) -> Result<Vec<Started<R::Command, K>>, Failure>
where
    R: Role + 'static,
    R::Command: 'static,
    P: Port + 'static,
    K: Send + 'static,
    F: Fn(u16, &Pool, &[AnyPort]) -> Result<(R, K), Failure> + Clone + Send + 'static,
    W: Fn(AnyPort, &Pool, u16) -> P + Clone + Send + 'static,
{
    let named: Vec<usize> = ports.cores.iter().copied().flatten().collect();
    placement::warn(&named, ports.nics().map(|nic| nic.name()));
    let node = placement::arena_node(ports.nics().map(|nic| nic.name()));
    let place = Placement { node, address_bits: ports.address_bits };
    let build = |index: u16, core: Option<usize>, (commands, mailbox), sources: Ports| {
        let (tell, facts) = mpsc::channel();
        let (make, wrap, registrar) = (make.clone(), wrap.clone(), links.registrar.cloned());
        let body = move || {
            let pool = Pool::placed(sources.pool, place).map_err(Failure::Arena)?;
            let ports = sources.open(index, &pool)?;
            let (role, counters) = make(index, &pool, &ports)?;
            // The receiver waits for it, or everything is gone.
            let _ = tell.send(counters);
            let ports = ports.into_iter().map(|port| wrap(port, &pool, index)).collect();
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
    let cores = ports.cores.iter().zip(mailboxes).enumerate();
    let mut cores = cores.map(|(index, (core, mailbox))| (index as u16, *core, mailbox));
    if let Some((index, core, mailbox)) = cores.next() {
        started.push(finish(build(index, core, mailbox, ports.clone())?)?);
        let others: Vec<_> = cores.map(|(index, core, mailbox)| build(index, core, mailbox, ports.clone())).collect();
        for building in others {
            started.push(finish(building?)?);
        }
    }
    ports.steer_lcores();
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
        // Those descriptions are of all queues, and not of the port of an lcore, which names its rate.
        let limit = ports.limit(port.id).map_or(String::new(), |limit| format!(", {limit}"));
        let of_all = nic.or(device).map(|text| text + &limit);
        let text = of_all.unwrap_or_else(|| format!("{}, {on}", port.about.describe()));
        tracing::info!("port {}: {text}", port.id.0);
    }
}
