//! The interface between gvm-dp and a plugin with ports: a versioned table of C functions, called once per burst.
//!
//! The plugin moves raw Ethernet frames between a device and an arena, and knows neither headers nor records. The host
//! owns the memory: it describes an arena of equal chunks to the plugin, and both name chunks by number. A chunk
//! belongs to one side at a time. Ownership moves only by [`Plugin::exchange`], by the frames that [`Plugin::rx_burst`]
//! returns and by the frames that [`Plugin::tx_burst`] took. Neither side frees what the other made.
//!
//! Functions that can fail return zero or a negative errno, and write a message into a [`Text`].
#![no_std]
#![forbid(unsafe_code)]

use core::ffi::{c_char, c_void};

/// First field of every table: the bytes `GVMPLUG` and a zero.
pub const MAGIC: u64 = u64::from_le_bytes(*b"GVMPLUG\0");

/// Changes with every structure and function of this file.
pub const VERSION: u32 = 4;

/// The function that a plugin exports. Null from a plugin that was built without its device library.
pub type Entry = extern "C" fn() -> *const Plugin;

/// The name of that function.
pub const ENTRY: &str = "gvm_dp_port_plugin";

/// Frames of one burst at most.
pub const BURST: usize = 64;

/// Received: the NIC found IP and UDP checksums right.
pub const CHECKSUM_GOOD: u32 = 1;
/// Received: the NIC found one of them wrong.
pub const CHECKSUM_BAD: u32 = 2;
/// To send: the NIC shall fill in the UDP checksum; its place has that of the pseudo header.
pub const CHECKSUM_FILL: u32 = 4;
/// To send: there is an 802.1Q tag before the IP header.
pub const TAGGED: u32 = 8;

/// A frame in a chunk of an arena.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The number of the chunk.
    pub chunk: u32,
    /// Where its data begins.
    pub offset: u16,
    /// Bytes of data.
    pub len: u16,
    /// [`CHECKSUM_GOOD`] and its like.
    pub flags: u32,
}

/// A text of bounded length, for errors.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    len: u32,
    bytes: [u8; 508],
}

impl Text {
    /// An empty one.
    pub const fn new() -> Self {
        Self { len: 0, bytes: [0; 508] }
    }

    /// The text, up to the first byte that is not UTF-8.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len as usize).unwrap_or(&self.bytes);
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                bytes.get(..error.valid_up_to()).and_then(|good| core::str::from_utf8(good).ok()).unwrap_or("")
            }
        }
    }

    /// Replaces the text; what does not fit is cut off.
    pub fn set(&mut self, text: &str) {
        let len = text.len().min(self.bytes.len());
        if let (Some(to), Some(from)) = (self.bytes.get_mut(..len), text.as_bytes().get(..len)) {
            to.copy_from_slice(from);
        }
        self.len = len as u32;
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

/// The arguments for starting a device library.
#[repr(C)]
pub struct Start {
    /// Its arguments, as for a program; each ends with a zero.
    pub arguments: *const *const c_char,
    /// How many there are.
    pub count: u32,
    /// Takes a line of its log: level as in syslog plus one (4 error, 5 warning, 7 information), text, bytes of text.
    pub log: extern "C" fn(u32, *const c_char, usize),
}

/// The properties of a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Device {
    /// Its id in all further calls.
    pub id: u16,
    /// The maximum number of its receive queues.
    pub max_rx_queues: u16,
    /// The maximum number of its transmit queues.
    pub max_tx_queues: u16,
    /// The minimum number of descriptors of a receive queue; 0 if unknown.
    pub min_rx_descriptors: u16,
    /// The maximum number of descriptors of a receive queue; 0 if unknown.
    pub max_rx_descriptors: u16,
    /// The minimum number of descriptors of a transmit queue; 0 if unknown.
    pub min_tx_descriptors: u16,
    /// The maximum number of descriptors of a transmit queue; 0 if unknown.
    pub max_tx_descriptors: u16,
    /// Its current MTU.
    pub mtu: u16,
    /// The smallest MTU that it can have.
    pub min_mtu: u16,
    /// The largest MTU that it can have; 0 if unknown.
    pub max_mtu: u16,
    /// Its NUMA node, or -1.
    pub node: i32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// 1 when it verifies IP and UDP checksums.
    pub rx_checksums: u8,
    /// 1 when it fills in UDP checksums.
    pub tx_checksums: u8,
    /// 1 when it spreads packets over its queues by UDP ports.
    pub rss: u8,
    /// 1 when its driver receives into memory of its own, so that each packet is copied.
    pub copies: u8,
    /// The driver's name, which ends with a zero.
    pub driver: Name,
}

/// A name that ends with a zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Name(pub [u8; 64]);

impl Name {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        self.0.get(..len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl Default for Name {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The configuration of a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Its queue pairs.
    pub queues: u16,
    /// Its MTU; 0 leaves it as it is.
    pub mtu: u16,
    /// 1: the NIC verifies checksums on receive.
    pub rx_checksums: u8,
    /// 1: the NIC fills in checksums.
    pub tx_checksums: u8,
    /// 1: the NIC spreads packets over the queues.
    pub rss: u8,
}

/// A queue pair and the arena of the lcore that polls it.
#[repr(C)]
pub struct QueueSetup {
    /// Its number.
    pub number: u16,
    /// Descriptors for receiving.
    pub rx_descriptors: u16,
    /// Descriptors for sending.
    pub tx_descriptors: u16,
    /// 1 as in [`Device::copies`].
    pub copies: u8,
    /// The NUMA node of the device, or -1.
    pub node: i32,
    /// Bytes of a chunk.
    pub chunk: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// The largest number of chunks in the plugin's own cache.
    pub cache: u32,
    /// First byte of the arena.
    pub base: *mut c_void,
    /// Bytes of the arena, a multiple of `page`.
    pub len: usize,
    /// Bytes of its pages.
    pub page: usize,
    /// Chunks that the queue gets at the beginning.
    pub given: *const u32,
    /// How many of these there are.
    pub given_count: u32,
}

/// Chunks that change owners.
#[repr(C)]
pub struct Exchange {
    /// On call: the chunks that the plugin gets. On return: the chunks that it gives back.
    pub chunks: *mut u32,
    /// How many it gets.
    pub given: u32,
    /// How many it may give back.
    pub room: u32,
    /// It gives back only chunks in excess of this number.
    pub keep: u32,
    /// Set by the plugin: how many chunks wait for the device to receive into.
    pub level: u32,
}

/// The counters of a device itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounts {
    /// Packets lost because no descriptor was free.
    pub missed: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Times that the driver found no buffer.
    pub no_buffer: u64,
}

/// The plugin's counters for a queue.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Packets that came in another owner's memory, or in several pieces, and were copied into a chunk.
    pub copied: u64,
    /// Packets longer than a chunk; they are dropped.
    pub too_long: u64,
    /// Packets that had to be copied when no chunk was left; they are dropped.
    pub no_chunk: u64,
    /// Times that the driver asked for chunks and there were too few.
    pub starved: u64,
}

/// A queue of the plugin. It is only used behind a pointer.
#[repr(C)]
pub struct Queue {
    private: [u8; 0],
}

/// The functions of a plugin.
///
/// `start`, and all functions that take a device, are called by one thread at a time. Functions that take a queue are
/// called by the one thread that polls it, after that thread called `register_thread`. Any thread may call
/// `queue_counts`.
#[repr(C)]
pub struct Plugin {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// [`layout`]: structures of other sizes are another version, whatever `version` is.
    pub layout: u32,
    /// The device library's version: a text that ends with a zero and stays valid.
    pub library: unsafe extern "C" fn() -> *const c_char,
    /// Starts the device library, once in a process.
    pub start: unsafe extern "C" fn(*const Start, *mut Text) -> i32,
    /// Registers the calling thread with the library, once.
    pub register_thread: unsafe extern "C" fn() -> i32,
    /// Unregisters a registered thread, before it ends.
    pub unregister_thread: unsafe extern "C" fn(),
    /// Makes the library's own thread call a function with a context, soon.
    pub on_library_thread: unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void) -> i32,
    /// Finds or makes a device. The texts are its arguments as the library writes them, and its name.
    pub open: unsafe extern "C" fn(*const c_char, *const c_char, *mut Device, *mut Text) -> i32,
    /// Configures a stopped device.
    pub configure: unsafe extern "C" fn(u16, *const Setup, *mut Text) -> i32,
    /// Makes the NIC steer UDP packets to a port by the low bits of their source port: port, number of values (a power
    /// of two), number of queues.
    pub steer_lanes: unsafe extern "C" fn(u16, u16, u16, u16, *mut Text) -> i32,
    /// Makes the NIC steer UDP packets to ports in a row to one queue each: the first port, number of queues.
    pub steer_ports: unsafe extern "C" fn(u16, u16, u16, *mut Text) -> i32,
    /// Starts a device, so that it receives.
    pub device_start: unsafe extern "C" fn(u16, *mut Text) -> i32,
    /// Lets packets of a VLAN pass a started device's own filter, if it has one that cannot be turned off.
    pub take_vlan: unsafe extern "C" fn(u16, u16, *mut Text) -> i32,
    /// Stops a device and closes it; then its queues have all chunks back.
    pub device_close: unsafe extern "C" fn(u16, *mut Text) -> i32,
    /// 1 if the link is up, 0 if it is down. Writes its speed in Mbit/s; 0 if that is unknown.
    pub link: unsafe extern "C" fn(u16, *mut u32) -> i32,
    /// The counters of the device.
    pub device_counts: unsafe extern "C" fn(u16, *mut DeviceCounts) -> i32,
    /// Calls back, with the context, for each of the driver's own counters.
    pub each_counter: unsafe extern "C" fn(u16, extern "C" fn(*mut c_void, *const c_char, u64), *mut c_void) -> i32,
    /// Makes a queue of a configured device that was not started.
    pub queue_open: unsafe extern "C" fn(u16, *const QueueSetup, *mut *mut Queue, *mut Text) -> i32,
    /// Receives; returns how many.
    pub rx_burst: unsafe extern "C" fn(*mut Queue, *mut Frame, u16) -> u16,
    /// Sends frames, beginning with the first; returns how many the device took. Their chunks now belong to the plugin.
    pub tx_burst: unsafe extern "C" fn(*mut Queue, *const Frame, u16) -> u16,
    /// Exchanges chunks; returns how many the plugin gave back.
    pub exchange: unsafe extern "C" fn(*mut Queue, *mut Exchange) -> u32,
    /// Makes the driver release the chunks of sent frames.
    pub tidy: unsafe extern "C" fn(*mut Queue),
    /// Empties the cache of chunks: that of the calling thread, or all if nobody uses the queue.
    pub flush: unsafe extern "C" fn(*mut Queue, u8),
    /// The plugin's counters for the queue.
    pub queue_counts: unsafe extern "C" fn(*const Queue, *mut QueueCounts),
    /// Closes a queue of a closed device, after its chunks were taken back.
    pub queue_close: unsafe extern "C" fn(*mut Queue),
    /// Writes this many meaningless frames. Benchmarks use it to measure the cost of a call of this table.
    pub rehearse: unsafe extern "C" fn(*mut Frame, u16) -> u16,
}

/// The sizes of all structures, in one number.
pub const fn layout() -> u32 {
    let sizes = [
        size_of::<Plugin>(),
        size_of::<Frame>(),
        size_of::<Text>(),
        size_of::<Start>(),
        size_of::<Device>(),
        size_of::<Setup>(),
        size_of::<QueueSetup>(),
        size_of::<Exchange>(),
        size_of::<DeviceCounts>(),
        size_of::<QueueCounts>(),
    ];
    let (mut all, mut i) = (0u32, 0);
    while i < sizes.len() {
        all = all.wrapping_mul(31).wrapping_add(sizes[i] as u32);
        i += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_and_never_garbled() {
        let mut text = Text::new();
        assert_eq!(text.as_str(), "");
        text.set("no such device");
        assert_eq!(text.as_str(), "no such device");
        // Two bytes each, so that the cut falls inside the last one.
        let long = core::iter::once('x').chain(core::iter::repeat_n('ä', 400));
        let mut bytes = [0; 1024];
        let mut at = 0;
        for c in long {
            at += c.encode_utf8(&mut bytes[at..]).len();
        }
        text.set(core::str::from_utf8(&bytes[..at]).unwrap());
        assert_eq!((text.as_str().len(), text.as_str().chars().last()), (507, Some('ä')));
    }

    #[test]
    fn a_name_ends_with_its_zero() {
        let mut name = Name::default();
        name.0[..8].copy_from_slice(b"net_ring");
        assert_eq!(name.as_str(), "net_ring");
        assert_eq!(Name([b'x'; 64]).as_str().len(), 64);
    }
}
