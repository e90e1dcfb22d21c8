//! One receive queue of an interface through AF_XDP, with the lcore's arena as its memory.
//!
//! The socket layer is our own, over `libc`: the arena is one memory for all ports of an lcore, whatever their kind, so
//! it must own its mapping and lend it to the kernel. See "Arena" in `docs/architecture.md`.
//!
//! | module | what |
//! |---|---|
//! | `umem` | the arena as AF_XDP sees it; sockets that share it |
//! | `ring` | the four rings of a socket |
//! | `socket` | making, binding and waking a socket |
//! | `mode` | zero-copy or copy: requested, and obtained |
//! | `probe` | whether a driver has zero-copy |
//! | `offload` | receive offloads of a NIC that hide or change packets for XDP |
//! | `flow_rules` | packets to a UDP port come to one queue |
//! | `ledger` | which frames the kernel has, and getting them back |
//! | `places` | where frames are in the UMEM |
//! | `chain` | packets that come in several descriptors |
//! | `interface` | an interface's index, addresses, MTU, queues |
//! | `number` | interfaces by their number, which does not change with the name |
//! | `port` | the [`crate::Port`]: removes headers on receive, writes headers on transmit |
//! | `counters` | the counters of a queue |
//! | `queues` | the queues of an interface that one lcore serves, as one port |
//! | `about` | facts about them |

mod about;
mod chain;
mod config;
mod counters;
mod error;
mod flow_rules;
mod interface;
mod kick;
mod ledger;
mod mode;
mod number;
mod offload;
mod places;
mod port;
mod probe;
mod queues;
mod ring;
mod socket;
mod umem;

pub use config::XdpConfig;
pub use counters::XdpCounters;
pub use error::{NotEthernet, XdpError};
pub use flow_rules::FlowRules;
pub use interface::Interface;
pub use mode::BoundMode;
pub(crate) use number::rx_queues_of;
pub use offload::Offloads;
pub use places::has_chains;
pub use port::{XdpPort, largest_packet, largest_packet_zero_copy};
pub use probe::can_zero_copy;
pub use queues::XdpQueues;
pub use umem::Umem;
