//! Loads the XDP program, attaches it to an interface, and fills its maps.

use crate::verdict::{MAX_QUEUES, Verdict};
use aya::maps::{MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

static PROGRAM: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Where in the interface's receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, before the kernel makes a socket buffer: what speed needs.
    Driver,
    /// In the network stack, for drivers without XDP: works on every interface, slowly.
    Generic,
}

/// Why the XDP program does not run.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The process lacks a capability.
    #[error(
        "no permission to {0}: XDP needs CAP_BPF and CAP_NET_ADMIN (and CAP_NET_RAW for its sockets); run as root, or \
         give the program these capabilities, or use a udp: port"
    )]
    Permission(&'static str),
    /// The kernel has no BPF, or refuses the program.
    #[error("the kernel refused the XDP program: {0}")]
    Load(Box<dyn Error + Send + Sync>),
    /// There is no such interface.
    #[error("there is no interface `{0}` here: `ip -brief link` lists them (each network namespace has its own)")]
    NoInterface(String),
    /// Another XDP program is attached.
    #[error(
        "interface {0} already has an XDP program, perhaps of another gvm-dp: `ip link show {0}` shows its id; stop the \
         program that it belongs to, or detach it with `ip link set dev {0} xdp off`"
    )]
    Busy(String),
    /// The driver cannot run XDP programs.
    #[error("the driver of {0} has no XDP: use xdp:{0},mode=skb (slow, works everywhere), or a udp: port")]
    NoDriverXdp(String),
    /// The interface's MTU, or that of its veth peer, leaves no room for XDP.
    #[error(
        "the MTU of {0} (or of the other end of a veth) is too large for XDP: lower it to 1500 with \
         `ip link set dev {0} mtu 1500`, on both ends of a veth"
    )]
    Mtu(String),
    /// The kernel is too old to attach by link.
    #[error(
        "{0}: this kernel cannot attach XDP programs by link, so that one could outlive a crash: use Linux 5.9 or later"
    )]
    NoLink(String),
    /// The program is attached already.
    #[error("the XDP program is attached to {0} already; each interface needs a program of its own")]
    Attached(String),
    /// A queue that has no place in the map.
    #[error("receive queue {0} is out of range: an interface is used up to queue {last}", last = MAX_QUEUES - 1)]
    Queue(u32),
    /// Anything else.
    #[error("cannot {action}: {source}")]
    Os {
        /// What failed.
        action: String,
        /// What the kernel or the loader said.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The error number at the bottom of a chain of errors.
fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        at = error.source();
    }
    None
}

fn load_error(error: impl Error + Send + Sync + 'static) -> SteerError {
    match os_error(&error) {
        Some(libc::EPERM | libc::EACCES) => SteerError::Permission("load the XDP program"),
        _ => SteerError::Load(error.into()),
    }
}

/// The XDP program of one interface. It is detached when this is dropped, or when the process dies however it dies.
pub struct Steer {
    ebpf: Ebpf,
    attached: Option<(String, FdLink)>,
}

impl Steer {
    /// Loads the program for datagrams to `udp_port`. It sees no packet before [`Steer::attach`].
    pub fn load(udp_port: u16) -> Result<Self, SteerError> {
        let mut ebpf = EbpfLoader::new()
            // The program needs nothing of the kernel's types; reading them takes most of the time of a load.
            .btf(None)
            .override_global("udp_port", &udp_port, true)
            .load(PROGRAM)
            .map_err(load_error)?;
        program(&mut ebpf)?.load().map_err(load_error)?;
        Ok(Self { ebpf, attached: None })
    }

    /// Attaches the program to an interface of the calling thread's network namespace.
    pub fn attach(&mut self, ifname: &str, hook: Hook) -> Result<(), SteerError> {
        if let Some((name, _)) = &self.attached {
            return Err(SteerError::Attached(name.clone()));
        }
        if ifname.bytes().any(|byte| byte == 0) {
            return Err(SteerError::NoInterface(ifname.to_owned()));
        }
        let mode = match hook {
            Hook::Driver => XdpMode::Driver,
            Hook::Generic => XdpMode::Skb,
        };
        let name = ifname.to_owned();
        let xdp = program(&mut self.ebpf)?;
        let id = xdp.attach(ifname, mode).map_err(|error| match (&error, os_error(&error)) {
            (ProgramError::UnknownInterface { .. }, _) | (_, Some(libc::ENODEV)) => {
                SteerError::NoInterface(name.clone())
            }
            (_, Some(libc::EPERM | libc::EACCES)) => SteerError::Permission("attach the XDP program"),
            (_, Some(libc::EBUSY | libc::EEXIST)) => SteerError::Busy(name.clone()),
            (_, Some(libc::EOPNOTSUPP)) => SteerError::NoDriverXdp(name.clone()),
            (_, Some(libc::ERANGE)) => SteerError::Mtu(name.clone()),
            _ => SteerError::Os { action: format!("attach the XDP program to {name}"), source: error.into() },
        })?;
        let link = xdp.take_link(id).map_err(load_error)?;
        // An old kernel's way to attach would leave the program behind if this process were killed.
        let link = FdLink::try_from(link).map_err(|_| SteerError::NoLink(name.clone()))?;
        self.attached = Some((name, link));
        Ok(())
    }

    /// Gives the packets of a receive queue to an AF_XDP socket, which is bound to the same interface and queue.
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        self.sockets()?.set(queue, socket.as_raw_fd(), 0).map_err(|error| queue_error(queue, error))
    }

    /// Drops the packets of a receive queue from now on.
    pub fn clear_socket(&mut self, queue: u32) -> Result<(), SteerError> {
        self.sockets()?.unset(queue).map_err(|error| queue_error(queue, error))
    }

    fn sockets(&mut self) -> Result<XskMap<&mut aya::maps::MapData>, SteerError> {
        let map = self.ebpf.map_mut("sockets").ok_or_else(|| missing("sockets"))?;
        XskMap::try_from(map).map_err(load_error)
    }

    /// Packets with this verdict since the program was loaded, on all CPUs together.
    pub fn packets(&self, verdict: Verdict) -> Result<u64, SteerError> {
        let map = self.ebpf.map("verdicts").ok_or_else(|| missing("verdicts"))?;
        let verdicts: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(load_error)?;
        let cpus = verdicts.get(&(verdict as u32), 0).map_err(load_error)?;
        Ok(cpus.iter().sum())
    }

    /// The program, for [`aya::programs::TestRun`].
    pub fn program(&mut self) -> Result<&mut Xdp, SteerError> {
        program(&mut self.ebpf)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, SteerError> {
    ebpf.program_mut("steer").ok_or_else(|| missing("steer"))?.try_into().map_err(load_error)
}

fn missing(name: &str) -> SteerError {
    SteerError::Load(format!("`{name}` is not in the object: build it again").into())
}

fn queue_error(queue: u32, error: MapError) -> SteerError {
    match error {
        MapError::OutOfBounds { .. } => SteerError::Queue(queue),
        error => SteerError::Os { action: format!("set the socket of queue {queue}"), source: error.into() },
    }
}
