//! What the XDP program decides about a packet. `build.rs` writes the same numbers for C.

/// Where a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// To an AF_XDP socket of this process.
    Socket,
    /// Out of a port, to the gateway of another shard.
    Neighbor,
    /// To the kernel, as if there were no program.
    Kernel,
    /// Nowhere.
    Dropped,
}

macro_rules! verdicts {
    ($(#[doc = $doc:literal] $name:ident = $text:literal, $fate:ident;)*) => {
        /// What happened to a packet, and why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Verdict {
            $(#[doc = $doc] $name,)*
        }

        impl Verdict {
            /// All verdicts in the order of their numbers.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            /// The name in statistics; in upper case, that in the C program.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it means, for the help text of a counter.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $doc.trim_ascii(),)* }
            }

            /// Where its packets went.
            pub const fn fate(self) -> Fate {
                match self { $(Self::$name => Fate::$fate,)* }
            }
        }
    };
}

// First what goes to the kernel, then what is dropped, neighbours, and sockets: the C program acts on the number.
// Within each, in the order in which it looks; a packet has the first verdict that fits.
verdicts! {
    /// Packets left to the kernel: shorter than Ethernet, IPv4 and UDP headers.
    PassTruncated = "pass_truncated", Kernel;
    /// Packets left to the kernel: not IPv4, or more than one 802.1Q tag.
    PassEthertype = "pass_ethertype", Kernel;
    /// Packets left to the kernel: not unicast to the MAC of the interface.
    PassMac = "pass_mac", Kernel;
    /// Packets left to the kernel: IPv4 but not UDP, or not a version 4 header.
    PassProtocol = "pass_protocol", Kernel;
    /// Packets left to the kernel: not to an IPv4 address of ours.
    PassAddress = "pass_address", Kernel;
    /// Packets left to the kernel: a fragment after the first, which has no UDP header.
    PassFragment = "pass_fragment", Kernel;
    /// Packets left to the kernel: UDP to another port, RoCEv2 included unless a role claims it.
    PassPort = "pass_port", Kernel;
    /// Packets dropped: for us, with IP options.
    DropIpOptions = "drop_ip_options", Dropped;
    /// Packets dropped: for us, of a VLAN that the port does not take packets from.
    DropVlan = "drop_vlan", Dropped;
    /// Packets dropped: for us, from a source that no sender can have.
    DropSource = "drop_source", Dropped;
    /// Packets dropped: for us, the first fragment of a larger one.
    DropFragment = "drop_fragment", Dropped;
    /// Packets dropped: for us, with a wrong IP header checksum.
    DropIpChecksum = "drop_ip_checksum", Dropped;
    /// Packets dropped: for us, but cut off: the IP header says that there were more bytes.
    DropCutOff = "drop_cut_off", Dropped;
    /// Packets dropped: for us, but too short for their UDP length or for a record header.
    DropTruncated = "drop_truncated", Dropped;
    /// Packets dropped: for us, but no record begins with the magic.
    DropMagic = "drop_magic", Dropped;
    /// Packets dropped: the first record's payload_len points past the end.
    DropLength = "drop_length", Dropped;
    /// Packets dropped: the first record's slave id is out of range.
    DropSlaveId = "drop_slave_id", Dropped;
    /// Packets dropped: for us, but their receive queue has no AF_XDP socket.
    DropNoSocket = "drop_no_socket", Dropped;
    /// Packets dropped: cargo of a shard that we do not serve, and no neighbour is known for it.
    DropForeignShard = "drop_foreign_shard", Dropped;
    /// Packets dropped: cargo for a neighbour that would leave through the port it came in on.
    DropHairpin = "drop_hairpin", Dropped;
    /// Packets dropped: cargo for a neighbour, at the end of its time to live.
    DropTtl = "drop_ttl", Dropped;
    /// Packets dropped: cargo for a neighbour whose port is gone.
    DropNoPort = "drop_no_port", Dropped;
    /// Packets sent on to the gateway of another shard.
    RedirectNeighbor = "redirect_neighbor", Neighbor;
    /// Packets given to the AF_XDP socket of their queue: RoCEv2 for a role that claims it.
    RedirectRoce = "redirect_roce", Socket;
    /// Packets given to the AF_XDP socket of their queue: link control.
    RedirectControl = "redirect_control", Socket;
    /// Packets given to the AF_XDP socket of their queue: cargo of a shard that we serve.
    RedirectCargo = "redirect_cargo", Socket;
}
