//! The counters of a queue of an interface.

frame::counters! {
    /// What one AF_XDP socket counts.
    pub struct XdpCounters {
        /// Packets taken from the RX ring.
        rx_packets,
        /// Bytes of UDP payload received.
        rx_bytes,
        /// Packets whose headers are not those of a whole UDP datagram; dropped.
        rx_dropped_malformed: drop,
        /// Datagrams to another IP address or UDP port; dropped.
        rx_dropped_not_ours: drop,
        /// Datagrams with IP options; dropped.
        rx_dropped_ip_options: drop,
        /// Datagrams of a VLAN that the port does not take packets from; dropped.
        rx_dropped_vlan: drop,
        /// Datagrams from a source that no sender can have; dropped.
        rx_dropped_source: drop,
        /// Datagrams with a wrong UDP checksum; dropped.
        rx_dropped_checksum: drop,
        /// Datagrams whose UDP checksum the sender left to a NIC that is not there; dropped.
        rx_dropped_partial_checksum: drop,
        /// Packets that came in several pieces and were joined: jumbo frames.
        rx_joined,
        /// Packets that are larger than a frame, whole or in several pieces; dropped.
        rx_dropped_too_long: drop,
        /// Descriptors of the kernel that name no frame it has; ignored.
        rx_bad_descriptors,
        /// Packets that the kernel dropped because no frame waited in the fill ring.
        rx_lost_kernel,
        /// Packets that the kernel dropped because the RX ring was full.
        rx_lost_ring_full,
        /// Times that the kernel found the fill ring empty.
        rx_fill_empty,
        /// Times that the fill ring could not be refilled: the pool had no frame.
        rx_no_frame,
        /// Frames that wait to be received into, or were received and not yet taken.
        rx_frames: gauge,
        /// The most packets that were seen waiting in the RX ring of a queue at once.
        rx_ring_max: gauge,
        /// Datagrams put into the TX ring.
        tx_packets,
        /// Of these, datagrams that took several descriptors: jumbo frames.
        tx_chained,
        /// Bytes of UDP payload put into the TX ring.
        tx_bytes,
        /// Datagrams larger than the link's MTU, or without room for headers before them; dropped.
        tx_dropped_too_long: drop,
        /// Datagrams to a peer whose next hop has no known Ethernet address (yet); dropped.
        tx_dropped_no_neighbour: drop,
        /// Datagrams dropped because the interface was down or gone, or had no carrier.
        tx_dropped_link_down: drop,
        /// Datagrams dropped because the interface had no IPv4 address (any more).
        tx_dropped_no_address: drop,
        /// Datagrams to an IPv6 peer; dropped.
        tx_dropped_family: drop,
        /// Descriptors that the kernel refused.
        tx_bad_descriptors,
        /// Times that the TX ring was full; the datagrams waited.
        tx_full,
        /// System calls that made the kernel look at the TX ring.
        tx_kicks,
        /// Kicks that failed.
        tx_kick_errors,
        /// Times that the interface was taken down, or lost its carrier.
        link_downs,
        /// 1 while the interface is up and has a carrier.
        link_up: gauge,
        /// 1 once the interface has vanished and its frames went back to the pool.
        vanished: gauge,
        /// Entries of the TX and completion rings in use: one for each frame, and more for a jumbo frame.
        tx_frames: gauge,
        /// The most entries of the TX and completion rings of a queue that were in use at once.
        tx_frames_max: gauge,
    }
}

crate::raw::raw_counters!(XdpCounters);
