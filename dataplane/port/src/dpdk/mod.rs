//! Ports through DPDK, by a plugin that is loaded when such a port is requested.
//!
//! The plugin (`gvm-dpdk-plugin`) moves raw Ethernet frames between a device and an lcore's arena. Headers, addresses
//! and neighbours are handled here, as on every raw port. A frame that DPDK received is a chunk of the arena, and
//! leaves on any port without a copy. Drivers with memory of their own are the exception, and [`crate::Port::describe`]
//! reports that.
//!
//! | module | what |
//! |---|---|
//! | `plugin` | finding, loading and checking the plugin |
//! | `arguments` | the arguments with which EAL is started |
//! | `cause` | what its log says about a call that failed |
//! | `environment` | DPDK in this process, and the device thread |
//! | `device` | a device: set up, started, watched, closed |
//! | `watched` | the state of a device, as the device thread found it |
//! | `port` | the [`crate::Port`]: a queue pair of a device |

mod arguments;
mod cause;
mod device;
mod environment;
mod plugin;
mod port;
mod watched;

pub use arguments::EnvironmentConfig;
pub use cause::Cause;
pub use device::{Device, DeviceConfig, Spread, smallest_chunk};
pub use environment::Environment;
pub use plugin::{ENTRY_FILE, LoadedPlugin, PACKAGES};
pub use port::{DpdkCounters, DpdkPort};

use std::path::PathBuf;

/// Why a DPDK port cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpdkError {
    /// The plugin was not found.
    #[error(
        "DPDK ports need the plugin {ENTRY_FILE}, which is not in {}: install the package gvm-dp-dpdk, or build it \
         with \
         `{PACKAGES}` and `cargo build --release -p gvm-dpdk-plugin`, and set GVM_DP_PLUGIN_DIR to where it \
             is", paths(.0)
    )]
    NoPlugin(Vec<PathBuf>),
    /// The plugin was built on a machine without DPDK.
    #[error(
        "the plugin {} was built without DPDK: `{PACKAGES}`, then build it again with `cargo build --release -p \
         gvm-dpdk-plugin`", .0.display()
    )]
    Empty(PathBuf),
    /// The plugin, or a library that it needs, cannot be loaded.
    #[error("the plugin {} cannot be loaded: {reason}; are DPDK's libraries installed (`apt-get install \
        dpdk`)?", .path.display())]
    NotLoaded {
        /// The file.
        path: PathBuf,
        /// The loader's error.
        reason: String,
    },
    /// The plugin belongs to another gvm-dp.
    #[error(
        "the plugin {} is of another version ({found}, and this gvm-dp needs {needed}): install gvm-dp and its plugin \
         from \
         one package or one build", .path.display()
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The version that it reports.
        found: String,
        /// The version that it should have.
        needed: String,
    },
    /// DPDK cannot be started.
    #[error("DPDK does not start: {reason}; {}", .cause.remedy())]
    NoStart {
        /// DPDK's error.
        reason: String,
        /// The cause of the error.
        cause: Cause,
    },
    /// DPDK was started for other devices.
    #[error("DPDK runs in this process already, with other devices: name all of them at the start")]
    Started,
    /// The device is not there, or no driver takes it.
    #[error("dpdk:{name}: {reason}; {}", no_device(name, *.cause))]
    NoDevice {
        /// The device.
        name: String,
        /// What DPDK says.
        reason: String,
        /// What that means.
        cause: Cause,
    },
    /// The device cannot be set up.
    #[error("dpdk:{name}: {reason}; EAL's log says more with RUST_LOG=debug")]
    Device {
        /// The device.
        name: String,
        /// What DPDK says.
        reason: String,
    },
    /// The device has too few queues.
    #[error(
        "there are {lcores} lcores, and dpdk:{name} has {queues} queue pairs: each lcore needs one of its own. Name at \
         most \
         {queues} cores with --lcores{hint}"
    )]
    Queues {
        /// The device.
        name: String,
        /// The queues that it has.
        queues: u16,
        /// What is needed.
        lcores: u16,
        /// What else can be done.
        hint: &'static str,
    },
    /// The device's rings are too small or too large.
    #[error("dpdk:{name} has {what} descriptors for {}, and {wanted} are needed; \
        {hint}", if *.receives { "receiving" } else { "sending" })]
    Descriptors {
        /// The device.
        name: String,
        /// The limit: at most, or at least, so many.
        what: String,
        /// Whether it is the receive ring.
        receives: bool,
        /// What is needed.
        wanted: u32,
        /// What to do.
        hint: &'static str,
    },
    /// The link's MTU does not suit.
    #[error(
        "dpdk:{name}: an MTU of {mtu} is not possible: the device takes {least} to {most}; write ,mtu={most} or less"
    )]
    Mtu {
        /// The device.
        name: String,
        /// The MTU that was asked for.
        mtu: u16,
        /// The least.
        least: u16,
        /// The most.
        most: u16,
    },
    /// The frames are too small for the device.
    #[error("dpdk:{name}: frames of {chunk} bytes are too small: a packet of {mtu} bytes needs {needed}")]
    Chunk {
        /// The device.
        name: String,
        /// The size that the arena has.
        chunk: u32,
        /// The link's MTU.
        mtu: u16,
        /// What is needed.
        needed: u32,
    },
    /// A queue has no memory.
    #[error("dpdk:{name} queue {queue}: {reason}; {}", .cause.remedy())]
    Queue {
        /// The device.
        name: String,
        /// The queue.
        queue: u16,
        /// What DPDK says.
        reason: String,
        /// The cause of the error.
        cause: Cause,
    },
    /// A thread cannot take part.
    #[error("DPDK takes no further thread: {0}; it has room for 128 of them on a machine")]
    Thread(String),
    /// A device's driver blocks the device thread.
    #[error(
        "DPDK's devices are not looked after: the driver of one of them, or the kernel under it, does not come back \
         from a call. \
         Their links and their own counters stay as they were; `dmesg` may say why"
    )]
    Stuck,
    /// The device thread is gone.
    #[error("the thread that looks after DPDK's devices has ended: this is a fault of gvm-dp, please report it")]
    Gone,
}

/// The remedy for a device that DPDK does not accept.
fn no_device(name: &str, cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown if name.starts_with("net_") => {
            "is the driver's name right, and what it is told? `ls $(pkg-config --variable=driverdir libdpdk)` lists \
             drivers"
        }
        Cause::Unknown => {
            "does DPDK have a driver for this card? `dpdk-devbind.py --status-dev net` names the card, `ls \
             $(pkg-config \
             --variable=driverdir libdpdk)` lists drivers"
        }
        cause => cause.remedy(),
    }
}

fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
