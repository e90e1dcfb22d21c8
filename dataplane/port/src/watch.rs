//! Follows what the machine changes under a port while it runs, on a thread, so that poll loops need not check.
//!
//! A [`Watcher`] follows one interface by its number, or the interface that has a socket's address. The results are in
//! a [`Seen`]: poll loops read it with plain loads, other threads get names from it.

use crate::addresses::{AddressTable, Addresses, MAX_ADDRESSES, Shown};
use crate::neighbour::ResolverError;
use crate::netlink::{self, Device, Netlink};
use crate::worker::{Bell, Wait, Worker};
use crate::xdp::{Interface, rx_queues_of};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often it checks without a message from the kernel: the kernel sends none when the number of queues changes.
const LOOK: Wait = Wait::milliseconds(1000);

/// Whether packets can pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Link {
    /// The interface is up, and has a carrier or no need of one.
    #[default]
    Up,
    /// An administrator has set the interface down.
    Down,
    /// It is set up, but has no carrier.
    NoCarrier,
    /// The interface does not exist any more; for a socket, no interface has its address.
    Gone,
}

impl Link {
    /// The link of an interface on whose queues we send ourselves.
    fn of(device: &Device) -> Self {
        match (device.is_up(), device.has_carrier()) {
            (false, _) => Self::Down,
            (true, false) => Self::NoCarrier,
            (true, true) => Self::Up,
        }
    }

    /// The link of an interface on which the kernel sends for us.
    fn through_kernel(device: &Device) -> Self {
        match Self::of(device) {
            Self::Up if !device.is_operational() => Self::NoCarrier,
            link => link,
        }
    }

    fn from_number(number: u8) -> Self {
        [Self::Up, Self::Down, Self::NoCarrier, Self::Gone]
            .into_iter()
            .find(|link| *link as u8 == number)
            .unwrap_or_default()
    }

    /// In a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::NoCarrier => "no carrier",
            Self::Gone => "gone",
        }
    }
}

/// The subject that is followed.
#[derive(Clone, Debug)]
pub enum Subject {
    /// An interface, by its number.
    Interface(Interface),
    /// The interface under a device of DPDK, by its number: only its name, link and MTU matter.
    Under(u32),
    /// The interface that has a socket's address. For a socket with the unspecified address, all but the loopback: it
    /// has a link while one of them has.
    Address(IpAddr),
}

/// The present state of a port's interface. Clones of its `Arc` share it.
pub struct Seen {
    addresses: Arc<Shown>,
    link: AtomicU8,
    mtu: AtomicU32,
    rx_queues: AtomicU32,
    name: Mutex<String>,
}

impl Seen {
    fn new(sight: &Sight) -> Self {
        let table = AddressTable::new(sight.mac, &sight.addresses);
        let seen = Self {
            addresses: Shown::new(table),
            link: AtomicU8::default(),
            mtu: AtomicU32::default(),
            rx_queues: AtomicU32::default(),
            name: Mutex::default(),
        };
        seen.take(sight);
        seen
    }

    /// Takes over everything but the addresses.
    fn take(&self, sight: &Sight) {
        self.link.store(sight.link as u8, Ordering::Relaxed);
        self.mtu.store(sight.mtu, Ordering::Relaxed);
        self.rx_queues.store(sight.rx_queues, Ordering::Relaxed);
        self.lock_name().clone_from(&sight.name);
    }

    fn lock_name(&self) -> MutexGuard<'_, String> {
        // Valid even if its last owner panicked.
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name, or the last name that it had; empty for a socket with the unspecified address.
    pub fn name(&self) -> String {
        self.lock_name().clone()
    }

    /// Whether packets can pass.
    #[inline]
    pub fn link(&self) -> Link {
        Link::from_number(self.link.load(Ordering::Relaxed))
    }

    /// The largest IP packet that it takes, in bytes; of several interfaces, the largest value.
    #[inline]
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Its receive queues; 0 if they do not matter, as for a socket.
    pub fn rx_queues(&self) -> u32 {
        self.rx_queues.load(Ordering::Relaxed)
    }

    /// Its addresses.
    pub fn table(&self) -> AddressTable {
        self.addresses.table()
    }

    /// The addresses for one poll loop, which answers at this UDP port.
    pub fn addresses(&self, udp_port: u16) -> Addresses {
        Addresses::new(Arc::clone(&self.addresses), udp_port)
    }
}

/// The state of an interface at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sight {
    name: String,
    link: Link,
    mac: [u8; 6],
    mtu: u32,
    rx_queues: u32,
    addresses: Vec<[u8; 4]>,
}

impl Sight {
    fn of(device: Device) -> Self {
        Self { link: Link::of(&device), name: device.name, mac: device.mac, mtu: device.mtu, ..Self::default() }
    }

    fn through_kernel(device: Device) -> Self {
        let link = Link::through_kernel(&device);
        Self { link, ..Self::of(device) }
    }
}

/// Reads the state of the subject.
struct Eyes {
    netlink: Netlink,
    subject: Subject,
}

impl Eyes {
    /// The present state; `None` when the subject does not exist.
    fn look(&mut self) -> io::Result<Option<Sight>> {
        match &self.subject {
            Subject::Interface(Interface { index, .. }) => {
                let Some(device) = self.netlink.device(*index)? else { return Ok(None) };
                let addresses = self.netlink.addresses(*index)?;
                let Some(rx_queues) = rx_queues_of(*index)? else { return Ok(None) };
                Ok(Some(Sight { addresses, rx_queues, ..Sight::of(device) }))
            }
            Subject::Under(index) => Ok(self.netlink.device(*index)?.map(Sight::through_kernel)),
            Subject::Address(ip) if ip.is_unspecified() => self.look_at_all().map(Some),
            Subject::Address(ip) if ip.is_loopback() => {
                // All of 127.0.0.0/8 belongs to the loopback, although it lists one address.
                let mut devices = self.netlink.devices()?.into_iter();
                Ok(devices.find(Device::is_loopback).map(Sight::through_kernel))
            }
            Subject::Address(ip) => {
                let Some(index) = self.netlink.interface_with(*ip)? else { return Ok(None) };
                Ok(self.netlink.device(index)?.map(Sight::through_kernel))
            }
        }
    }

    /// All interfaces that lead away from this machine and are in use.
    fn look_at_all(&mut self) -> io::Result<Sight> {
        let addressed = self.netlink.interfaces_with_addresses()?;
        let devices = self.netlink.devices()?;
        // The kernel makes some interfaces by itself that nobody uses: they are down and have no address.
        let used = |device: &&Device| !device.is_loopback() && (device.is_up() || addressed.contains(&device.index));
        let used: Vec<&Device> = devices.iter().filter(used).collect();
        let links = || used.iter().map(|device| Link::through_kernel(device));
        let mtu = used.iter().map(|device| device.mtu).max().unwrap_or(u32::MAX);
        let link = [Link::Up, Link::NoCarrier, Link::Down].into_iter().find(|link| links().any(|is| is == *link));
        // A host with only the loopback sends to itself.
        Ok(Sight { link: link.unwrap_or(Link::Up), mtu, ..Sight::default() })
    }
}

/// Follows the interface of a port, on a thread of its own. Dropping it ends the thread.
pub struct Watcher {
    seen: Arc<Seen>,
    _worker: Worker,
}

impl Watcher {
    /// Reads the state, and starts the thread in the network namespace of the caller.
    ///
    /// `changed` is called on that thread after any interface of the namespace has changed, and every second, with the
    /// present name and addresses of this one, also when they are unchanged. Poll loops then know them already. Before
    /// all else the thread calls `prepare`, which may give up privileges that neither needs: the thread itself needs
    /// netlink, a socket, and the calls that read the state of an interface.
    ///
    /// # Errors
    /// There is no netlink socket, or no thread, or `prepare` failed.
    pub fn start(
        subject: Subject,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        mut changed: impl FnMut(&str, &AddressTable) + Send + 'static,
    ) -> Result<Self, ResolverError> {
        let failed = |action| move |source| ResolverError { action, source };
        let bell = Arc::new(Bell::new().map_err(failed("make an eventfd"))?);
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let changes = netlink::changes(groups).map_err(failed("listen to changes of interfaces"))?;
        let netlink = Netlink::open().map_err(failed("open a netlink socket"))?;
        let mut eyes = Eyes { netlink, subject };
        let sight = eyes.look().map_err(failed("read what an interface has"))?;
        let mut last = sight.unwrap_or_else(|| Sight { link: Link::Gone, ..Sight::default() });
        let mut table = AddressTable::new(last.mac, &last.addresses);
        let seen = Arc::new(Seen::new(&last));
        complain(&last);
        say_link(&eyes.subject, &last, Link::Up);
        let theirs = Arc::clone(&seen);
        let work = move || {
            let now = match eyes.look() {
                Ok(Some(sight)) => sight,
                // The last values stay.
                Ok(None) => Sight { link: Link::Gone, ..last.clone() },
                Err(error) => {
                    tracing::warn!("{}: cannot read what the interface has: {error}", last.name);
                    return LOOK;
                }
            };
            if table.update(now.mac, &now.addresses) {
                tracing::info!("{} has other addresses now: {table}", now.name);
                complain(&now);
                theirs.addresses.show(&table);
            }
            if now != last {
                say(&eyes.subject, &last, &now);
                theirs.take(&now);
                last = now;
            }
            changed(&last.name, &table);
            LOOK
        };
        let worker = Worker::start("addresses", bell, changes, prepare, LOOK, work)?;
        Ok(Self { seen, _worker: worker })
    }

    /// The state that it follows.
    pub fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }
}

/// Logs what happened to the subject.
fn say(subject: &Subject, before: &Sight, now: &Sight) {
    if before.name != now.name && !before.name.is_empty() {
        match subject {
            Subject::Interface(_) | Subject::Under(_) => tracing::info!("{} is called {} now", before.name, now.name),
            Subject::Address(ip) => {
                tracing::info!("udp:{ip}: the address is {}'s now, it was {}'s", now.name, before.name)
            }
        }
    }
    if before.mtu != now.mtu && before.mtu != 0 && !now.name.is_empty() {
        tracing::info!("{}: the MTU is {} now, it was {}", now.name, now.mtu, before.mtu);
    }
    say_link(subject, now, before.link);
}

/// Logs whether packets can pass, if that has changed. Queues of an interface log it themselves.
fn say_link(subject: &Subject, now: &Sight, before: Link) {
    let Subject::Address(ip) = subject else { return };
    let name = if now.name.is_empty() { "every interface but the loopback" } else { &now.name };
    match now.link {
        link if link == before => {}
        Link::Up => tracing::info!("udp:{ip}: the link is up again"),
        Link::Down => tracing::warn!("udp:{ip}: {name} is down: `ip link set dev IFACE up`"),
        Link::NoCarrier => tracing::warn!(
            "udp:{ip}: {name} has no carrier: is the cable in, and the other end up? `ip -brief link` shows it"
        ),
        Link::Gone => tracing::warn!(
            "udp:{ip}: no interface has that address any more, so that nothing arrives: `ip -brief address` lists what \
             there \
             is"
        ),
    }
}

fn complain(sight: &Sight) {
    if sight.addresses.len() > MAX_ADDRESSES {
        tracing::warn!(
            "{} has {} IPv4 addresses, and gvm-dp uses the first {MAX_ADDRESSES}: datagrams to the others stay with \
             the kernel; take away what is not needed, with `ip address del`",
            sight.name,
            sight.addresses.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_seen_as_it_is() {
        let lo = Interface::find("lo").unwrap();
        let watcher = Watcher::start(Subject::Interface(lo.clone()), || Ok(()), |_, _| ()).unwrap();
        let seen = watcher.seen();
        assert_eq!((&*seen.name(), seen.link(), seen.mtu(), seen.rx_queues()), ("lo", Link::Up, lo.mtu, lo.rx_queues));
        assert_eq!(seen.table().ipv4().next(), lo.ipv4);
        for ip in ["127.0.0.1", "127.9.9.9", "::1"] {
            let watcher = Watcher::start(Subject::Address(ip.parse().unwrap()), || Ok(()), |_, _| ()).unwrap();
            assert_eq!((&*watcher.seen().name(), watcher.seen().link()), ("lo", Link::Up), "{ip}");
        }
        let nobody = Watcher::start(Subject::Address("192.0.2.77".parse().unwrap()), || Ok(()), |_, _| ()).unwrap();
        assert_eq!((nobody.seen().link(), nobody.seen().link().name()), (Link::Gone, "gone"));
    }

    #[test]
    fn a_thread_that_cannot_be_confined_is_none() {
        let lo = Interface::find("lo").unwrap();
        let refused = || Err(io::Error::other("no"));
        let error = Watcher::start(Subject::Interface(lo), refused, |_, _| ()).err().unwrap().to_string();
        assert!(error.contains("cannot confine its thread: no"), "{error}");
    }
}
