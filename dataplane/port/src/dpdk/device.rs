//! A device of DPDK: set up, started, watched, closed.

use super::DpdkError;
use super::cause;
use super::environment::{Environment, register_thread};
use super::plugin::LoadedPlugin;
use super::watched::Watched;
use crate::claims::LcorePorts;
use crate::lock::lock;
use crate::vlans::Vlans;
use crate::watch::Seen;
use frame::arena::{Backing, HUGEPAGE};
use frame::pool::{COLOURS, HEADROOM};
use frame::{Pool, PortId};
use port_abi::{Queue, QueueSetup, Setup, Text};
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How long a request for a driver's own counters waits: the control thread makes it, and others wait for that thread.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// The fewest descriptors with which a queue is useful.
const LEAST_RING: u32 = 32;

/// The settings with which a device is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its name: a PCI address, or that of a virtual device.
    pub name: String,
    /// Its name with the arguments for its driver.
    pub devargs: String,
    /// Queue pairs: one for each lcore.
    pub lcores: u16,
    /// Whether each lcore has a UDP port of its own, in a row from the usual one on.
    pub own_ports: bool,
    /// The link's MTU; `None` does not change the device's MTU.
    pub mtu: Option<u16>,
    /// Bytes of a chunk of the arenas.
    pub chunk: u32,
    /// Descriptors of each ring, as far as the device allows.
    pub ring: u32,
}

/// Where drivers put a received packet in a chunk.
const RX_HEADROOM: u32 = 128;
/// Ethernet header with two tags, and the checksum that some drivers keep.
const AROUND: u32 = 26;

/// The smallest chunk with which a device can receive and send at this MTU.
pub const fn smallest_chunk(mtu: u16) -> u32 {
    // Many NICs measure buffers in KiB.
    let receive = RX_HEADROOM + (mtu as u32 + AROUND).next_multiple_of(1024);
    let send = HEADROOM as u32 + (COLOURS - 1) * 64 + mtu as u32 - wire::IPV4_UDP_LEN as u32;
    let most = if receive > send { receive } else { send };
    most.next_multiple_of(64)
}

/// A queue that was opened, with the chunks that it was given.
pub(super) struct Opened {
    pub(super) plugin: LoadedPlugin,
    pub(super) queue: *mut Queue,
    pub(super) given: Vec<u32>,
}

/// How packets are spread over queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// There is one queue.
    One,
    /// By rules for the lane.
    Lanes,
    /// By rules for the UDP ports of the lcores.
    Ports,
    /// By a hash over addresses and UDP ports.
    Rss,
    /// In a way that only the driver knows.
    Driver,
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One => "1 queue",
            Self::Lanes => "lanes steered by rte_flow",
            Self::Ports => "UDP ports of lcores steered by rte_flow",
            Self::Rss => "lanes spread by RSS",
            Self::Driver => "spread by its driver",
        })
    }
}

/// A queue, for the device thread.
#[derive(Clone, Copy)]
struct QueuePointer(*mut Queue);

// SAFETY: the plugin allows other threads than the lcore to flush their own cache of a queue.
unsafe impl Send for QueuePointer {}

/// A device that is in use. Its queues are opened by the lcores, each on its own thread; then it is started.
pub struct Device {
    environment: Environment,
    config: DeviceConfig,
    info: port_abi::Device,
    setup: Setup,
    rings: (u16, u16),
    spread: Mutex<Spread>,
    watched: Arc<Watched>,
    queues: Mutex<Vec<QueuePointer>>,
    /// The driver's own counters, as of its last answer.
    counters: Mutex<Vec<(String, u64)>>,
}

impl Device {
    /// Finds or makes the device, and sets it up for `lcores` lcores.
    ///
    /// # Errors
    /// See [`DpdkError`]: each names its remedy.
    pub fn open(environment: &Environment, config: DeviceConfig) -> Result<Self, DpdkError> {
        let plugin = environment.plugin();
        let text = |text: &str| CString::new(text).map_err(|_| Self::failed(&config, "a zero in its name".to_owned()));
        let (devargs, name) = (text(&config.devargs)?, text(&config.name)?);
        let opened = environment.call(move || {
            let (mut info, mut text) = (port_abi::Device::default(), Text::new());
            cause::forget();
            // SAFETY: live texts and structures, on the thread for such calls.
            let result = unsafe { (plugin.table.open)(devargs.as_ptr(), name.as_ptr(), &raw mut info, &raw mut text) };
            if result == 0 { Ok(info) } else { Err(cause::of(text.as_str().to_owned())) }
        })?;
        let name = || config.name.clone();
        let mut info = opened.map_err(|(reason, cause)| DpdkError::NoDevice { name: name(), reason, cause })?;
        if info.mac == [0; 6] {
            info.mac = made_up(&config.name);
        }
        let (setup, rings) = plan(&config, &info)?;
        let mut device = Self {
            watched: Arc::new(Watched {
                plugin,
                id: info.id,
                name: config.name.clone(),
                running: AtomicBool::new(false),
                closed: AtomicBool::new(false),
                up: AtomicBool::new(true),
                under: OnceLock::new(),
                mbits: AtomicU64::new(0),
                missed: AtomicU64::new(0),
                no_buffer: AtomicU64::new(0),
                rx_errors: AtomicU64::new(0),
                tx_errors: AtomicU64::new(0),
            }),
            environment: environment.clone(),
            info,
            setup,
            rings,
            spread: Mutex::new(Spread::One),
            queues: Mutex::default(),
            counters: Mutex::default(),
            config,
        };
        device.configure()?;
        environment.watch(&device.watched);
        Ok(device)
    }

    fn failed(config: &DeviceConfig, reason: String) -> DpdkError {
        DpdkError::Device { name: config.name.clone(), reason }
    }

    /// Makes a call about this device on the device thread.
    fn call(
        &self,
        job: impl FnOnce(&'static port_abi::Plugin, u16, *mut Text) -> i32 + Send + 'static,
    ) -> Result<(), DpdkError> {
        let (plugin, id) = (self.environment.plugin(), self.info.id);
        let outcome = self.environment.call(move || {
            let mut text = Text::new();
            match job(plugin.table, id, &raw mut text) {
                0 => Ok(()),
                _ => Err(text.as_str().to_owned()),
            }
        })?;
        outcome.map_err(|reason| Self::failed(&self.config, reason))
    }

    fn configure(&mut self) -> Result<(), DpdkError> {
        let attempt = |device: &Self| {
            let setup = device.setup;
            // SAFETY: a live structure and text; the device is not started.
            device.call(move |plugin, id, text| unsafe { (plugin.configure)(id, &raw const setup, text) })
        };
        let first = attempt(self);
        if first.is_ok() || self.config.mtu.is_some() || self.setup.mtu == 0 {
            return first;
        }
        // A driver whose MTU cannot be set keeps its own.
        self.setup.mtu = 0;
        attempt(self)
    }

    /// Sets the kernel's interfaces on which its driver sends and receives: from now on its link is down while theirs
    /// is.
    pub fn stand_on(&self, under: Vec<Arc<Seen>>) {
        // Set once, when the device was opened.
        let _ = self.watched.under.set(under);
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.info.mac
    }

    /// The link's MTU, in bytes.
    pub fn mtu(&self) -> u16 {
        match (self.setup.mtu, self.info.mtu) {
            (0, 0) => 1500,
            (0, own) => own,
            (told, _) => told,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its driver's name.
    pub fn driver(&self) -> &str {
        self.info.driver.as_str()
    }

    /// Its NUMA node, if it reports one.
    pub fn node(&self) -> Option<u32> {
        u32::try_from(self.info.node).ok()
    }

    /// Descriptors of its rings: receive, send.
    pub fn rings(&self) -> (u16, u16) {
        self.rings
    }

    /// How packets are spread over queues; known once the device is started.
    pub fn spread(&self) -> Spread {
        *lock(&self.spread)
    }

    /// Whether its packets are copied, because its driver receives into memory of its own.
    pub fn copies(&self) -> bool {
        self.info.copies != 0
    }

    /// Whether it verifies the checksums of what is received.
    pub fn verifies_checksums(&self) -> bool {
        self.setup.rx_checksums != 0
    }

    /// Whether it fills in the UDP checksums of what is sent.
    pub fn fills_checksums(&self) -> bool {
        self.setup.tx_checksums != 0
    }

    /// Whether the link is up.
    pub fn is_up(&self) -> bool {
        self.watched.up.load(Ordering::Relaxed)
    }

    /// The link's speed in Mbit/s; 0 when it is unknown.
    pub fn mbits(&self) -> u64 {
        self.watched.mbits.load(Ordering::Relaxed)
    }

    /// Opens a queue pair on the calling thread, and gives it chunks of the pool.
    pub(super) fn open_queue(&self, id: PortId, number: u16, pool: &Pool) -> Result<Opened, DpdkError> {
        let plugin = self.environment.plugin();
        register_thread(plugin)?;
        // One at a time: drivers expect no other.
        let mut queues = lock(&self.queues);
        // The driver takes the chunks that it needs during setup and start; then the port takes the rest back.
        let mut given = vec![0; pool.spare() as usize];
        let count = pool.take_free(&mut given);
        given.truncate(count);
        let page = if pool.backing() == Backing::Hugepages { HUGEPAGE } else { 4096 };
        let setup = QueueSetup {
            number,
            rx_descriptors: self.rings.0,
            tx_descriptors: self.rings.1,
            copies: self.info.copies,
            node: self.info.node,
            chunk: pool.chunk(),
            chunks: pool.slots(),
            cache: (pool.capacity() / 16).min(64),
            base: pool.base().as_ptr().cast(),
            len: pool.len().next_multiple_of(HUGEPAGE),
            page,
            given: given.as_ptr(),
            given_count: given.len() as u32,
        };
        let (mut queue, mut text) = (std::ptr::null_mut(), Text::new());
        cause::forget();
        // SAFETY: the arena is mapped as long as a chunk of it is lent; the chunks were just taken; live structures.
        let result =
            unsafe { (plugin.table.queue_open)(self.info.id, &raw const setup, &raw mut queue, &raw mut text) };
        if queue.is_null() || result != 0 {
            for chunk in given {
                // SAFETY: the plugin has no queue, or one that never receives: nobody uses the chunk.
                drop(unsafe { pool.from_index(chunk, 0, 0) });
            }
            let (reason, cause) = cause::of(text.as_str().to_owned());
            return Err(DpdkError::Queue { name: self.config.name.clone(), queue: number, reason, cause });
        }
        queues.push(QueuePointer(queue));
        drop(queues);
        tracing::debug!(
            "dpdk:{}: queue {number} of port {} is open, {} frames lent",
            self.config.name,
            id.0,
            given.len()
        );
        Ok(Opened { plugin, queue, given })
    }

    /// Starts the device: packets are received and sent from now on. All queues are open.
    ///
    /// # Errors
    /// See [`DpdkError`].
    pub fn start(&self) -> Result<(), DpdkError> {
        // SAFETY: a device that is set up, with all its queues.
        self.call(|plugin, id, text| unsafe { (plugin.device_start)(id, text) })?;
        *lock(&self.spread) = self.steer();
        let (plugin, queues) = (self.environment.plugin(), lock(&self.queues).clone());
        self.environment.call(move || {
            for QueuePointer(queue) in queues {
                // Nobody would ever use the chunks that the start cached on that thread.
                // SAFETY: an open queue; the flush is of the calling thread's own.
                unsafe { (plugin.table.flush)(queue, 0) };
            }
        })?;
        self.watched.running.store(true, Ordering::Release);
        tracing::debug!("dpdk:{}: started", self.config.name);
        let watched = Arc::clone(&self.watched);
        self.environment.call(move || watched.look())
    }

    /// Tells a started device that filters VLANs by itself which packets shall come.
    ///
    /// # Errors
    /// See [`DpdkError`].
    pub fn take_vlans(&self, vlans: &Vlans) -> Result<(), DpdkError> {
        let vlans = vlans.clone();
        self.call(move |plugin, id, text| {
            // SAFETY: a started device.
            let mut results = vlans.tags().map(|vid| unsafe { (plugin.take_vlan)(id, vid, text) });
            results.find(|result| *result != 0).unwrap_or(0)
        })
    }

    /// The UDP ports of the lcores, for the lcore that has this queue, if each has one of its own.
    pub(super) fn lcore_ports(&self, own: u16) -> Option<LcorePorts> {
        let lcores = self.config.lcores;
        self.config.own_ports.then_some(LcorePorts { first: wire::GATEWAY_PORT, lcores, own })
    }

    /// Steers lanes, or the UDP ports of lcores, to lcores if the NIC can do that.
    fn steer(&self) -> Spread {
        let queues = self.setup.queues;
        if queues < 2 {
            return Spread::One;
        }
        let own_ports = self.config.own_ports;
        let steered = self.call(move |plugin, id, text| {
            if own_ports {
                // SAFETY: a started device.
                return unsafe { (plugin.steer_ports)(id, wire::GATEWAY_PORT, queues, text) };
            }
            let values = queues.next_power_of_two().min(wire::LANES);
            // SAFETY: a started device.
            unsafe { (plugin.steer_lanes)(id, wire::GATEWAY_PORT, values, queues, text) }
        });
        match steered {
            Ok(()) if own_ports => Spread::Ports,
            Ok(()) => Spread::Lanes,
            Err(error) => {
                tracing::debug!("{error}");
                if self.setup.rss != 0 { Spread::Rss } else { Spread::Driver }
            }
        }
    }

    /// Stops the device and closes it. No lcore polls its queues any more; when the queues are dropped, all frames are
    /// back.
    ///
    /// # Errors
    /// See [`DpdkError`].
    pub fn close(&self) -> Result<(), DpdkError> {
        self.watched.running.store(false, Ordering::Release);
        // SAFETY: nobody polls it.
        self.call(|plugin, id, text| unsafe { (plugin.device_close)(id, text) })?;
        self.watched.closed.store(true, Ordering::Release);
        tracing::debug!("dpdk:{}: closed", self.config.name);
        Ok(())
    }

    /// The driver's own counters, by name. If the driver does not answer within a second, those of its last answer.
    pub fn driver_counters(&self) -> Vec<(String, u64)> {
        extern "C" fn visit(context: *mut c_void, name: *const c_char, value: u64) {
            // SAFETY: the list of the call below, and a text that ends with a zero.
            let (list, name) = unsafe { (&mut *context.cast::<Vec<(String, u64)>>(), CStr::from_ptr(name)) };
            list.push((name.to_string_lossy().into_owned(), value));
        }
        let (plugin, id) = (self.environment.plugin(), self.info.id);
        let all = self.environment.call_within(ANSWERS_WITHIN, move || {
            let mut list: Vec<(String, u64)> = Vec::new();
            // SAFETY: an open device; the list lives during the call.
            unsafe { (plugin.table.each_counter)(id, visit, (&raw mut list).cast()) };
            list
        });
        let mut last = lock(&self.counters);
        if let Ok(all) = all {
            *last = all;
        }
        last.clone()
    }

    pub(super) fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }
}

/// An Ethernet address of our own for a virtual device without one: derived from its name, so that it survives a
/// restart.
fn made_up(name: &str) -> [u8; 6] {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    [2, 0x47, a, b, c, d]
}

/// The setup of the device and its ring sizes, or why it cannot be used with these settings.
fn plan(config: &DeviceConfig, info: &port_abi::Device) -> Result<(Setup, (u16, u16)), DpdkError> {
    let name = || config.name.clone();
    let queues = info.max_rx_queues.min(info.max_tx_queues);
    if config.lcores > queues {
        let hint = match config.name.starts_with("net_") {
            true => ", or give the virtual device more queues in what its driver is told",
            false => "",
        };
        return Err(DpdkError::Queues { name: name(), queues, lcores: config.lcores, hint });
    }
    let own = if info.mtu == 0 { 1500 } else { info.mtu };
    let mtu = config.mtu.unwrap_or(own);
    let most = if info.max_mtu == 0 { u16::MAX } else { info.max_mtu };
    if mtu < info.min_mtu || mtu > most {
        return Err(DpdkError::Mtu { name: name(), mtu, least: info.min_mtu, most });
    }
    let needed = smallest_chunk(mtu);
    if config.chunk < needed {
        return Err(DpdkError::Chunk { name: name(), chunk: config.chunk, mtu, needed });
    }
    let rx = descriptors(config, true, info.min_rx_descriptors, info.max_rx_descriptors)?;
    let tx = descriptors(config, false, info.min_tx_descriptors, info.max_tx_descriptors)?;
    let setup = Setup {
        queues: config.lcores,
        mtu,
        rx_checksums: info.rx_checksums,
        tx_checksums: info.tx_checksums,
        rss: info.rss,
    };
    Ok((setup, (rx, tx)))
}

/// Descriptors of a ring: the number that was asked for, within the limits of the device.
fn descriptors(config: &DeviceConfig, receives: bool, least: u16, most: u16) -> Result<u16, DpdkError> {
    let most = if most == 0 { u16::MAX } else { most };
    let complain = |what: String, wanted: u32, hint: &'static str| DpdkError::Descriptors {
        name: config.name.clone(),
        what,
        receives,
        wanted,
        hint,
    };
    if u32::from(most) < LEAST_RING {
        return Err(complain(format!("at most {most}"), LEAST_RING, "use another device"));
    }
    if u32::from(least) > config.ring {
        return Err(complain(
            format!("at least {least}"),
            config.ring,
            "as many frames wait in the device: ask for more --frames",
        ));
    }
    Ok(config.ring.min(u32::from(most)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_holds_what_a_device_receives_and_what_is_sent() {
        // A NIC's buffer is a multiple of a KiB after 128 bytes; the data of packets that we make begins after 320
        // bytes.
        assert_eq!((smallest_chunk(1500), smallest_chunk(9000)), (2176, 9344));
        for mtu in 576..32_000 {
            let chunk = smallest_chunk(mtu);
            assert!(chunk.is_multiple_of(64) && chunk >= u32::from(mtu) + AROUND + RX_HEADROOM && chunk < 33_000);
        }
    }

    fn config() -> DeviceConfig {
        let name = "0000:01:00.0".to_owned();
        DeviceConfig { devargs: name.clone(), name, lcores: 2, own_ports: false, mtu: None, chunk: 4096, ring: 1024 }
    }

    fn info() -> port_abi::Device {
        port_abi::Device {
            max_rx_queues: 8,
            max_tx_queues: 8,
            min_rx_descriptors: 64,
            max_rx_descriptors: 4096,
            min_tx_descriptors: 64,
            max_tx_descriptors: 512,
            mtu: 1500,
            min_mtu: 68,
            max_mtu: 9710,
            rss: 1,
            ..port_abi::Device::default()
        }
    }

    #[test]
    fn a_device_is_used_as_far_as_it_goes() {
        let (setup, rings) = plan(&config(), &info()).unwrap();
        assert_eq!((setup.queues, setup.mtu, setup.rss, rings), (2, 1500, 1, (1024, 512)));
        // A device that reports nothing about itself.
        let silent = port_abi::Device { max_rx_queues: 2, max_tx_queues: 2, ..port_abi::Device::default() };
        assert_eq!(plan(&config(), &silent).unwrap().1, (1024, 1024));
    }

    #[test]
    fn what_a_device_cannot_is_said_with_the_remedy() {
        let refused = |config: DeviceConfig, info: port_abi::Device| plan(&config, &info).unwrap_err().to_string();
        for (complaint, parts) in [
            (
                refused(DeviceConfig { lcores: 9, ..config() }, info()),
                ["there are 9 lcores", "has 8 queue pairs", "at most 8"],
            ),
            (
                refused(DeviceConfig { name: "net_ring0".into(), lcores: 9, ..config() }, info()),
                ["dpdk:net_ring0", "8 queue pairs", "more queues"],
            ),
            (
                refused(config(), port_abi::Device { max_rx_descriptors: 16, ..info() }),
                ["at most 16", "for receiving", "32 are needed"],
            ),
            (
                refused(DeviceConfig { ring: 128, ..config() }, port_abi::Device { min_tx_descriptors: 256, ..info() }),
                ["at least 256", "for sending", "more --frames"],
            ),
            (refused(DeviceConfig { mtu: Some(9800), ..config() }, info()), ["9800", "68 to 9710", "mtu=9710"]),
            (
                refused(DeviceConfig { mtu: Some(9000), ..config() }, info()),
                ["frames of 4096 bytes", "a packet of 9000", "needs 9344"],
            ),
        ] {
            assert!(parts.iter().all(|part| complaint.contains(part)), "{complaint}");
        }
    }
}
