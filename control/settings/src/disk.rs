//! The settings of a disk, checked.

use crate::catalog::RoleName;
use crate::config::{Common, missing, wrong};
use crate::flags::DiskArgs;
use crate::listen::ListenAddress;
use common::exit::Failure;
use common::faults::Faults;
use common::sockets;
use common::units::Size;
use std::path::PathBuf;

/// Sizes are multiples of this many bytes.
const BLOCK: u64 = 4096;

/// The largest disk: 64 TiB.
const LARGEST: u64 = 64 << 40;

/// The largest disk in an area: 4 TiB.
const LARGEST_KEPT: u64 = 4 << 40;

/// The longest name of its area: `.map` stands behind it in the name of another one.
const AREA: usize = 28;

/// The least bytes of buffers, and the most that a channel can have.
const BUFFERS: std::ops::RangeInclusive<u64> = 2 << 20..=16 << 30;

/// Settings of a disk.
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// The settings of every role; no port.
    pub common: Common,
    /// Bytes of the disk.
    pub size: u64,
    /// Where clients connect.
    pub listen: ListenAddress,
    /// The group whose members may use a Unix socket.
    pub listen_group: Option<String>,
    /// The socket of the master.
    pub socket: PathBuf,
    /// The area in which it outlives its process, if it does.
    pub area: Option<String>,
    /// Bytes of buffers.
    pub buffers: u64,
    /// The most connections at once.
    pub connections: u16,
}

impl DiskSettings {
    /// Checks a disk's command line. All that is wrong is reported at once.
    ///
    /// # Errors
    /// A setting cannot be used, or the machine does not have what it names.
    pub fn new(args: DiskArgs) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let common = faults.take(Common::without_ports(args.process, "disk"));
        if common.as_ref().is_some_and(|common| common.cores.as_ref().is_some_and(|cores| cores.len() > 1)) {
            faults.add(Failure::Usage("a disk has one lcore: name one core, or start several disks".to_owned()));
        }
        let size = args.size.ok_or_else(|| missing(RoleName::Disk, "size", "--size 8G", "how large the disk is"));
        let size = faults.take(size).map(|size| {
            if size.0 == 0 || !size.0.is_multiple_of(BLOCK) || size.0 > LARGEST {
                faults.add(wrong("size", format!("{size}: choose a multiple of 4K, at most 64T")));
            }
            size.0
        });
        let listen = args.listen.ok_or_else(|| {
            let flag = "--listen unix:/run/gvm-dp/disk.nbd";
            missing(RoleName::Disk, "listen", flag, "where clients connect")
        });
        let listen = faults.take(listen);
        if let (Some(group), Some(ListenAddress::Tcp(address))) = (&args.listen_group, &listen) {
            let text = format!("{group}: tcp:{address} has no file that a group could use: leave it out");
            faults.add(wrong("listen-group", text));
        }
        if !BUFFERS.contains(&args.buffers.0) || !args.buffers.0.is_multiple_of(BLOCK) {
            faults.add(wrong("buffers", format!("{}: choose a multiple of 4K from 2M to 16G", args.buffers)));
        }
        if let Some(area) = &args.area {
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            let is_name =
                (1..=AREA).contains(&area.len()) && area.bytes().all(is_word) && !area.starts_with(['.', '-']);
            if !is_name {
                let text = "choose 1 to 28 letters, digits, dots, dashes and underscores, no dot or dash first";
                faults.add(wrong("area", format!("{area}: {text}")));
            }
            if let Some(size) = size.filter(|size| *size > LARGEST_KEPT) {
                faults.add(wrong("size", format!("{}: a disk in an area has at most 4T", Size(size))));
            }
        }
        if args.connections == 0 {
            faults.add(wrong("connections", "0: nobody could use the disk: allow at least 1".to_owned()));
        }
        let (Some(common), Some(size), Some(listen)) = (common, size, listen) else { return faults.finish(None) };
        let socket = args.socket.unwrap_or_else(|| sockets::directory().join("master.pages"));
        faults.finish(Some(Self {
            common,
            size,
            listen,
            listen_group: args.listen_group,
            socket,
            area: args.area,
            buffers: args.buffers.0,
            connections: args.connections,
        }))
    }
}
