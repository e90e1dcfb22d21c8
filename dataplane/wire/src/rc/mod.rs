//! Packets of reliable connections: InfiniBand's transport headers, and the ICRC in both framings.
//!
//! A packet is a [`Bth`], extension headers that its [`Opcode`] determines, payload, 0 to 3 bytes of pad so that
//! payload and pad are a multiple of four, and the ICRC. Two framings carry it: a GVM record of type
//! [`MsgType::RC`](crate::MsgType::RC), and RoCEv2 (UDP port [`ROCE_PORT`]). They differ in the bytes before the BTH
//! that the ICRC covers. An [`IcrcSeed`] holds these; no other code knows the framing.
//!
//! | module | what |
//! |---|---|
//! | [`opcode`] | the opcodes of RC, and which headers they bring |
//! | [`bth`] | the Base Transport Header |
//! | [`psn`] | 24-bit packet sequence numbers |
//! | [`headers`] | RETH, AtomicETH, AtomicAckETH, ImmDt, IETH |
//! | [`aeth`] | the ACK header: syndromes, credits, RNR timers |
//! | [`icrc`] | the ICRC in both framings |
//! | [`packet`] | a whole packet: parse and build |

pub mod aeth;
pub mod bth;
pub mod headers;
pub mod icrc;
pub mod opcode;
pub mod packet;
pub mod psn;

pub use aeth::{Aeth, NakCode, RnrTimer, Syndrome};
pub use bth::Bth;
pub use headers::{AtomicAckEth, AtomicEth, Ieth, ImmDt, Reth};
pub use icrc::{ICRC_LEN, IPV4_UDP, IcrcSeed, Ipv4Udp};
pub use opcode::{Kind, Opcode, Place};
pub use packet::{BadPacket, OVERHEAD, Packet, PathMtu, open, pad_of, wire_len};
pub use psn::Psn;

/// The UDP port of RoCEv2.
pub const ROCE_PORT: u16 = 4791;

/// The default partition key, of which everybody is a full member.
pub const DEFAULT_PKEY: u16 = 0xffff;

/// Queue pair numbers have 24 bits; 0 and 1 are reserved by InfiniBand.
pub const QPN_MASK: u32 = 0x00ff_ffff;
