//! How gvm-dp ends: exit codes, and the errors behind them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; a running process drained and lost nothing |
//! | 1 | a fault of gvm-dp itself: please report it |
//! | 2 | the command line or the configuration file cannot be understood, or contradicts itself |
//! | 3 | the machine does not have a requested resource (core, interface, address, memory) |
//! | 4 | something is in use: a port, a name |
//! | 5 | a key file, or the file with the secrets of leases, cannot be used |
//! | 6 | no running process answers, or several do |
//! | 7 | the process ended without having drained: the records that it held are lost |
//! | 8 | a queue pair or a request for pages was refused or failed, or its data is wrong |
//! | 9 | the process ended, having lost nothing, while a device or the kernel still kept it waiting |

use crate::place::{Place, Problem};
use ebpf::SteerError;
use frame::{ArenaError, TableError, UnitMemoryError};
use lcore::cores::CoreError;
use lcore::thread::StartError;
use link::KeyError;
use link::registrar::RegistrarError;
use port::dpdk::{Cause, DpdkError};
use port::neighbour::ResolverError;
use port::spec::SpecError;
use port::udp::UdpError;
use port::xdp::XdpError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::{ScaleError, ShardsError};

/// Shown under `--help`.
pub const HELP: &str = "Exit codes: 0 done or drained, 1 a fault of gvm-dp, 2 command line or configuration file, 3 \
    the machine lacks \
something, 4 in use, 5 key file, 6 no or several running processes, 7 ended without having drained, 8 a queue pair \
    or a request for pages failed, 9 ended while a device kept it waiting.";

/// A process that holds an XDP program attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The kernel's id of the program.
    pub program: String,
}

/// Why a command failed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// A setting has a value that cannot be used.
    #[error("--{name} {text}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value, and why it cannot be used.
        text: String,
    },
    /// A setting names something that this machine does not have.
    #[error("--{name} {text}")]
    Lacking {
        /// The setting.
        name: &'static str,
        /// Its value, and what the machine has instead.
        text: String,
    },
    /// Something is wrong with a setting that stands in the configuration file.
    #[error("{place}: {failure}")]
    At {
        /// Where it stands.
        place: Place,
        /// What is wrong.
        failure: Box<Failure>,
    },
    /// The configuration file cannot be read.
    #[error(
        "configuration file {}: {source}; check the path and that this user may read it, or give another one with \
         --config FILE", .path.display()
    )]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something in the configuration file cannot be used.
    #[error("{}", lines(.0))]
    ConfigText(Vec<Problem>),
    /// Several things are wrong; each has a line.
    #[error("{}", each(.0))]
    Several(Vec<Failure>),
    /// The scale is not possible.
    #[error("{0}")]
    Scale(ScaleError),
    /// The shards are not possible.
    #[error("--shards: {0}")]
    Shards(ShardsError),
    /// A port cannot be read.
    #[error("--port: {0}")]
    Spec(SpecError),
    /// The registrar refuses its settings.
    #[error("{0}")]
    Registrar(RegistrarError),
    /// A core does not exist.
    #[error("--lcores: {0}")]
    Core(CoreError),
    /// The machine lacks something.
    #[error("{0}")]
    Machine(String),
    /// There is no memory for an arena.
    #[error("{0}")]
    Arena(ArenaError),
    /// There is no memory to be lent.
    #[error("--memory: {0}")]
    Lent(UnitMemoryError),
    /// There is no memory for a table.
    #[error("{0}")]
    Table(TableError),
    /// A UDP port cannot be opened.
    #[error("{0}")]
    Udp(UdpError),
    /// NIC queues cannot be opened.
    #[error("{0}")]
    Xdp(XdpError),
    /// A device of DPDK cannot be used.
    #[error("{0}")]
    Dpdk(DpdkError),
    /// The XDP program does not run.
    #[error("{0}")]
    Steer(SteerError),
    /// Another process has its XDP program on the interface.
    #[error(
        "interface {ifname} has the XDP program {} of process {} (pid {}): end that process, or use another interface",
        .owner.program, .owner.name, .owner.pid
    )]
    Occupied {
        /// Name of the interface.
        ifname: String,
        /// The process.
        owner: Owner,
    },
    /// Another process uses the device.
    #[error("--port {port}: process {name} (pid {pid}) has this device: end that process, or use another device")]
    DeviceHeld {
        /// The port that was asked for.
        port: String,
        /// Its process id.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// The kernel cannot be asked for next hops.
    #[error("{0}")]
    Neighbours(ResolverError),
    /// A running process has this name.
    #[error(
        "a gvm-dp named \"{name}\" runs already and answers at {}: stop it (gvm-dp drain --name {name}), or give this \
         one another --name", .socket.display()
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Its socket.
        socket: PathBuf,
    },
    /// Another program uses the address for metrics.
    #[error("--metrics {0} is in use: `ss -tlpn sport = :{port}` shows by whom; choose another address or \
        port", port = .0.port())]
    MetricsInUse(SocketAddr),
    /// Another program uses the address for the set-up of queue pairs.
    #[error("--listen {0} is in use: `ss -tlpn sport = :{port}` shows by whom; choose another address or \
        port", port = .0.port())]
    ListenInUse(SocketAddr),
    /// The control socket cannot be created.
    #[error("cannot serve the control socket {}: {source}; can this user write there?", .path.display())]
    Socket {
        /// The socket or its directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Other users can write into the directory of the control sockets.
    #[error(
        "the directory of control sockets {} lets other users write into it (mode {mode:03o}): `chmod 700 {}`, or name \
         another one with GVM_DP_RUN_DIR", .path.display(), .path.display()
    )]
    ExposedDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process uses the socket for applications.
    #[error("{0}")]
    ApplicationsInUse(String),
    /// Another process has the area of a master, or it is there already.
    #[error("{0}")]
    AreaInUse(String),
    /// Something that is not a control socket stands at its path.
    #[error(
        "{} is not a socket, and gvm-dp removes no file that is not its own: move it away, or take another --name",
        .0.display()
    )]
    NoSocket(PathBuf),
    /// A key file cannot be read.
    #[error("key file {}: {source}; {}", .path.display(), reading(.source, .path))]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A key file cannot be written.
    #[error("cannot write the key file {}: {source}; {}", .path.display(), writing(.source))]
    KeyUnwritten {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Every user may read the key.
    #[error(
        "key file {path} is open to every user of this machine (mode {mode:03o}): make it private with `chmod o= \
         {path}`; \
         the user that gvm-dp runs as must own it or be in its group, as after `chown root:gvm-dp {path} && chmod 640 \
         {path}` for the service", path = .path.display()
    )]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user may change the key at any time.
    #[error(
        "key file {path} belongs to user {owner}, who is neither this one nor root and could put another key there: \
         `chown root \
         {path}`, or make a copy that is yours", path = .path.display()
    )]
    KeyForeign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The content of the file is not a key.
    #[error("key file {}: {source}", .path.display())]
    KeyText {
        /// The file.
        path: PathBuf,
        /// Why it is not a key.
        source: KeyError,
    },
    /// The file with the secrets of a master's leases cannot be used.
    #[error("lease secrets {}: {text}", .path.display())]
    LeaseSecrets {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        text: String,
    },
    /// Another process has the file with the secrets of leases.
    #[error(
        "lease secrets {}: another process has this file, and each master needs one of its own: name another one with \
         --lease-secrets, or end the other process", .0.display()
    )]
    LeaseSecretsInUse(PathBuf),
    /// The output of a command cannot be written.
    #[error("cannot write to stdout: {0}; is the disk full, or the reader gone?")]
    Output(io::Error),
    /// Client: no process answers.
    #[error("{0}")]
    Client(String),
    /// The process ended without having drained.
    #[error("{0}")]
    Lost(String),
    /// There is no queue pair, it failed, or its data is wrong.
    #[error("{0}")]
    QueuePair(String),
    /// The master refuses, a request for pages failed, or its data is wrong.
    #[error("{0}")]
    Pages(String),
    /// Everything that the process held has left, but something else did not end in time.
    #[error("{0}")]
    Unfinished(String),
    /// A fault of gvm-dp itself.
    #[error("{0}: this is a fault of gvm-dp, please report it")]
    Internal(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::At { failure, .. } => failure.code(),
            // Failures that the user can correct by the text come first.
            Self::Several(failures) => failures.iter().map(Self::code).min().unwrap_or(1),
            Self::Setting { .. } | Self::ConfigFile { .. } | Self::ConfigText(_) => 2,
            Self::Registrar(RegistrarError::NoMemory(_)) => 3,
            Self::Usage(_) | Self::Scale(_) | Self::Shards(_) | Self::Spec(_) | Self::Registrar(_) => 2,
            Self::Lacking { .. }
            | Self::Core(_)
            | Self::Machine(_)
            | Self::Arena(_)
            | Self::Table(_)
            | Self::Lent(_) => 3,
            Self::Socket { .. } | Self::Output(_) | Self::ExposedDirectory { .. } | Self::NoSocket(_) => 3,
            Self::Udp(UdpError::InUse(_)) | Self::NameInUse { .. } | Self::MetricsInUse(_) | Self::ListenInUse(_) => 4,
            Self::ApplicationsInUse(_) | Self::AreaInUse(_) | Self::LeaseSecretsInUse(_) => 4,
            Self::Xdp(XdpError::Busy { .. }) | Self::Steer(SteerError::Busy(_)) | Self::Occupied { .. } => 4,
            Self::DeviceHeld { .. } | Self::Dpdk(DpdkError::NoDevice { cause: Cause::Held, .. }) => 4,
            Self::Dpdk(DpdkError::Gone) => 1,
            Self::Udp(_) | Self::Xdp(_) | Self::Dpdk(_) | Self::Steer(_) | Self::Neighbours(_) => 3,
            Self::KeyFile { .. }
            | Self::KeyUnwritten { .. }
            | Self::KeyExposed { .. }
            | Self::KeyForeign { .. }
            | Self::KeyText { .. }
            | Self::LeaseSecrets { .. } => 5,
            Self::Client(_) => 6,
            Self::Lost(_) => 7,
            Self::QueuePair(_) | Self::Pages(_) => 8,
            Self::Unfinished(_) => 9,
        }
    }
}

impl Failure {
    /// The setting that this failure is about, if there is one.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Setting { name, .. } | Self::Lacking { name, .. } => Some(name),
            Self::Shards(_) => Some("shards"),
            Self::Core(_) => Some("lcores"),
            _ => None,
        }
    }
}

/// One line for each failure.
fn each(failures: &[Failure]) -> String {
    failures.iter().map(Failure::to_string).collect::<Vec<_>>().join("\n")
}

/// What to do about a key file that cannot be read.
fn reading(error: &io::Error, path: &Path) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            "check the path; `gvm-dp key new --out FILE` makes a cluster key, `gvm-dp key derive` one for a node"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => format!(
            "this user may not read it: run as its owner, or let a service read it through its group, as `chown \
             root:gvm-dp {path} && chmod 640 {path}` does. A process that runs already reads files only in the \
                 directories that \
             it was started with: restart it to name another one"
        ),
        _ => "check the path and what is there".to_owned(),
    }
}

/// What to do about a key file that cannot be written.
fn writing(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "a key is never overwritten: choose another name, or move the old one away first"
        }
        io::ErrorKind::NotFound => "its directory must exist",
        io::ErrorKind::PermissionDenied => "this user may not write in its directory: choose another, or run as root",
        _ => "check its directory, and that there is room",
    }
}

/// What to do when a limit of the kernel was reached and the failure itself does not say it.
pub fn limit_hint(failure: &Failure) -> &'static str {
    // The numbers identify these errors: they are in the text of every error of the system.
    match failure.to_string() {
        text if text.contains("(os error 24)") => {
            "; this process may have more files open with `ulimit -n 1024`, or LimitNOFILE= in a systemd unit"
        }
        // A thread that lacks memory for its stack has the same error as one too many.
        text if text.contains("(os error 11)") => {
            "; this process may have more threads with `ulimit -u unlimited` and `ulimit -v unlimited`, or TasksMax= \
             and LimitAS= in a systemd unit"
        }
        text if text.contains("(os error 12)") => {
            "; this process may have more memory with `ulimit -v unlimited`, or LimitAS= in a systemd unit"
        }
        text if text.contains("(os error 23)") => "; this machine may have more files open with `sysctl fs.file-max`",
        _ => "",
    }
}

/// One line for each problem.
fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

impl From<StartError<Failure>> for Failure {
    fn from(error: StartError<Failure>) -> Self {
        match error {
            StartError::Build(failure) => failure,
            StartError::Pin { .. } | StartError::Spawn { .. } => Self::Machine(error.to_string()),
            StartError::Panicked { .. } => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_documented() {
        let address = "127.0.0.1:1".parse().unwrap();
        let path = || PathBuf::from("/k");
        let place = Place { path: path().into(), line: 1, column: 1 };
        for (failure, code) in [
            (Failure::Internal(String::new()), 1),
            (Failure::Scale(wire::Scale::new(3, 4).unwrap_err()), 2),
            (Failure::ConfigFile { path: path(), source: io::Error::other("x") }, 2),
            (Failure::ConfigText(Vec::new()), 2),
            (Failure::Lacking { name: "port", text: String::new() }, 3),
            (Failure::Setting { name: "mtu", text: String::new() }, 2),
            (Failure::At { place, failure: Box::new(Failure::Core(CoreError::NoCores)) }, 3),
            (Failure::Core(CoreError::NoCores), 3),
            (Failure::Udp(UdpError::NoSuchAddress(address)), 3),
            (Failure::Udp(UdpError::InUse(address)), 4),
            (Failure::Xdp(XdpError::NoInterface("eth9".into())), 3),
            (Failure::Xdp(XdpError::Busy { ifname: "eth9".into(), queue: 1 }), 4),
            (Failure::Dpdk(DpdkError::NoPlugin(Vec::new())), 3),
            (Failure::Steer(SteerError::Busy("eth9".into())), 4),
            (Failure::MetricsInUse(address), 4),
            (Failure::ApplicationsInUse(String::new()), 4),
            (Failure::AreaInUse(String::new()), 4),
            (Failure::NameInUse { name: "n".into(), socket: path() }, 4),
            (Failure::KeyExposed { path: path(), mode: 0o644 }, 5),
            (Failure::KeyForeign { path: path(), owner: 7 }, 5),
            (Failure::LeaseSecrets { path: path(), text: String::new() }, 5),
            (Failure::LeaseSecretsInUse(path()), 4),
            (Failure::KeyUnwritten { path: path(), source: io::Error::other("x") }, 5),
            (Failure::Several(vec![Failure::Core(CoreError::NoCores), Failure::Usage(String::new())]), 2),
            (Failure::NoSocket(path()), 3),
            (Failure::ExposedDirectory { path: path(), mode: 0o777 }, 3),
            (Failure::Output(io::Error::other("x")), 3),
            (Failure::Client(String::new()), 6),
            (Failure::Lost(String::new()), 7),
            (Failure::QueuePair(String::new()), 8),
            (Failure::Unfinished(String::new()), 9),
        ] {
            assert_eq!(failure.code(), code, "{failure}");
            assert!(HELP.contains(&format!("{code} ")));
        }
    }
}
