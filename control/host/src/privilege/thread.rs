//! The purposes of the threads of a process, and their needs.

/// The purpose of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// A poll loop.
    Lcore,
    /// Looks up next hops for an interface's poll loops.
    Neighbours,
    /// Follows the interface under a port, and updates its XDP program.
    Addresses,
    /// DPDK's own threads: they look after devices, or serve their interrupts.
    Devices,
    /// Makes memory that came back from a master zero.
    Scrub,
    /// Takes applications on a master's socket, and makes their channels.
    Applications,
    /// Connects a disk to its master.
    Connector,
    /// Writes the log to standard error.
    Log,
    /// Ends the process when the control thread does not.
    End,
    /// Registrar, watchdog, control socket, signals, drain; and the threads that it starts.
    Control,
}

/// What this process needs in addition to every process. Each need has its lists in [`super::seccomp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Ports on NIC queues through AF_XDP.
    pub xdp: bool,
    /// Ports through DPDK.
    pub dpdk: bool,
    /// Applications with channels.
    pub applications: bool,
    /// Clients of a disk, and the channel to its master.
    pub disk: bool,
    /// Looking up host names, when the configuration is read again.
    pub names: bool,
}
