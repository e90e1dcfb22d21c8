//! What the XDP program decides about a packet. `build.rs` writes the same numbers for C.

/// Receive queues of one interface that the program can steer to.
pub const MAX_QUEUES: u32 = 256;

/// What became of a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// To the AF_XDP socket of its queue.
    Redirect = 0,
    /// To the kernel: it ends before its headers do.
    PassTruncated = 1,
    /// To the kernel: not IPv4 (ARP, IPv6, a second tag).
    PassEthertype = 2,
    /// To the kernel: IPv4, but not UDP, or a broken header.
    PassProtocol = 3,
    /// To the kernel: a fragment.
    PassFragment = 4,
    /// To the kernel: UDP, but to another port.
    PassPort = 5,
    /// Dropped: for us, but its queue has no socket.
    DropNoSocket = 6,
}

impl Verdict {
    /// All verdicts in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Redirect,
        Self::PassTruncated,
        Self::PassEthertype,
        Self::PassProtocol,
        Self::PassFragment,
        Self::PassPort,
        Self::DropNoSocket,
    ];

    /// The name in statistics, and in the C program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::PassTruncated => "pass_truncated",
            Self::PassEthertype => "pass_ethertype",
            Self::PassProtocol => "pass_protocol",
            Self::PassFragment => "pass_fragment",
            Self::PassPort => "pass_port",
            Self::DropNoSocket => "drop_no_socket",
        }
    }

    /// What it means, for the help text of a counter.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Redirect => "Packets given to an AF_XDP socket.",
            Self::PassTruncated => "Packets left to the kernel: they end before their headers do.",
            Self::PassEthertype => "Packets left to the kernel: not IPv4.",
            Self::PassProtocol => "Packets left to the kernel: IPv4 but not UDP, or a broken header.",
            Self::PassFragment => "Packets left to the kernel: fragments.",
            Self::PassPort => "Packets left to the kernel: UDP to another port.",
            Self::DropNoSocket => "Packets dropped: their receive queue has no AF_XDP socket.",
        }
    }
}
