//! What the threads of a process are for, and what they need.

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// A poll loop.
    Lcore,
    /// The look-up of next hops beside an interface's poll loops.
    Neighbours,
    /// What follows the interface under a port, and tells its XDP program.
    Addresses,
    /// DPDK's own threads: what looks after devices, and what serves their interrupts.
    Devices,
    /// What writes the log to standard error.
    Log,
    /// What ends the process when the control thread does not.
    End,
    /// Registrar, watchdog, control socket, signals, drain; and what it starts.
    Control,
}

/// What the process needs beside what every process does. Each has its lists in [`super::seccomp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Ports on NIC queues through AF_XDP.
    pub xdp: bool,
    /// Ports through DPDK.
    pub dpdk: bool,
    /// Looking up host names, when the configuration is read again.
    pub names: bool,
}
