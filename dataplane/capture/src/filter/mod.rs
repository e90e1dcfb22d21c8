//! Filters: which datagrams a capture copies.
//!
//! An expression is evaluated for each record of a datagram; the datagram is picked when one of them satisfies it. If
//! the end of a datagram is no record, it counts as one that is `bad`.
//!
//! It is compiled into a short list of terms and operators in postfix order. The lcore evaluates it without allocation,
//! so that unwanted datagrams do not take the slots of wanted ones. Otherwise one slave of a busy gateway could not be
//! watched.

mod names;
mod parse;
mod program;

pub use names::name_of as type_name;
pub use parse::{FilterError, MAX_DEPTH, MAX_TERMS};
pub use program::{Filter, Seen};

use std::fmt;
use std::net::IpAddr;
use wire::MsgType;

/// One test of a record or its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// `slave 17`, `slave 0-99`: its slave id is one of these.
    Slave(u32, u32),
    /// `type echo`, `type 0x8001`: its message type.
    Type(MsgType),
    /// `req 0x1000000000002a`, `req 0-99`: its request id is one of these.
    Req(u64, u64),
    /// `master 1`: the master in the top 16 bits of its request id.
    Master(u16),
    /// `host 192.0.2.1`: the peer's address.
    Host(IpAddr),
    /// `udp 9999`: the peer's UDP port.
    Udp(u16),
    /// `port 0`: the port of this process that the datagram went through.
    Port(u8),
    /// `link`: it is link control.
    Link,
    /// `cargo`: it is a record and no link control.
    Cargo,
    /// `bad`: it is no record.
    Bad,
    /// `up`: cargo on its way to a master.
    Up,
    /// `down`: cargo on its way to a slave.
    Down,
    /// `rx`: it was received.
    Rx,
    /// `tx`: it was sent.
    Tx,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A single test.
    Term(Term),
    /// `not x`.
    Not(Box<Self>),
    /// `x and y`.
    And(Box<Self>, Box<Self>),
    /// `x or y`.
    Or(Box<Self>, Box<Self>),
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Slave(first, last) if first == last => write!(f, "slave {first}"),
            Self::Slave(first, last) => write!(f, "slave {first}-{last}"),
            Self::Type(msg_type) => match names::name_of(msg_type) {
                Some(name) => write!(f, "type {name}"),
                None => write!(f, "type {:#06x}", msg_type.0),
            },
            Self::Req(first, last) if first == last => write!(f, "req {first:#x}"),
            Self::Req(first, last) => write!(f, "req {first:#x}-{last:#x}"),
            Self::Master(id) => write!(f, "master {id}"),
            Self::Host(ip) => write!(f, "host {ip}"),
            Self::Udp(port) => write!(f, "udp {port}"),
            Self::Port(port) => write!(f, "port {port}"),
            Self::Link => f.write_str("link"),
            Self::Cargo => f.write_str("cargo"),
            Self::Bad => f.write_str("bad"),
            Self::Up => f.write_str("up"),
            Self::Down => f.write_str("down"),
            Self::Rx => f.write_str("rx"),
            Self::Tx => f.write_str("tx"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An operand that is an operator stands in parentheses, so that nobody needs to know the precedence.
        let inner = |f: &mut fmt::Formatter<'_>, expr: &Self| match expr {
            Self::Term(term) => write!(f, "{term}"),
            compound => write!(f, "({compound})"),
        };
        let pair = |f: &mut fmt::Formatter<'_>, a: &Self, operator: &str, b: &Self| {
            inner(f, a)?;
            write!(f, " {operator} ")?;
            inner(f, b)
        };
        match self {
            Self::Term(term) => write!(f, "{term}"),
            Self::Not(expr) => {
                f.write_str("not ")?;
                inner(f, expr)
            }
            Self::And(a, b) => pair(f, a, "and", b),
            Self::Or(a, b) => pair(f, a, "or", b),
        }
    }
}
