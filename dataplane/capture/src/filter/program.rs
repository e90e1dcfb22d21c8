//! A filter in the form that an lcore evaluates.

use super::{Expr, FilterError, Term};
use frame::{Class, Peer};
use std::fmt;
use std::str::FromStr;
use wire::{RecordHeader, Scale, Walk};

/// What is known about a datagram in addition to its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Whether it was received; else it was sent.
    pub received: bool,
    /// The direction of its cargo, if known.
    pub direction: Option<Class>,
    /// Where it came from or went to.
    pub peer: &'a Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Term(Term),
    Not,
    And,
    Or,
}

/// A compiled filter. Evaluation allocates nothing, whatever the bytes are.
#[derive(Clone, Debug)]
pub struct Filter {
    expr: Option<Expr>,
    /// In postfix order: every operator follows its operands.
    ops: Vec<Op>,
    /// Whether anything depends on the records.
    reads_records: bool,
}

/// The subject of a term: a record, or bytes that are no record.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Record(&'a RecordHeader),
    Bad,
    Nothing,
}

impl Filter {
    /// A filter that picks everything.
    pub const fn all() -> Self {
        Self { expr: None, ops: Vec::new(), reads_records: false }
    }

    /// Compiles an expression.
    pub fn new(expr: Expr) -> Self {
        let mut ops = Vec::new();
        compile(&expr, &mut ops);
        let of_datagram = |op: &Op| {
            use Term::{Host, Port, Rx, Tx, Udp};
            matches!(op, Op::Not | Op::And | Op::Or | Op::Term(Host(_) | Udp(_) | Port(_) | Rx | Tx))
        };
        let reads_records = !ops.iter().all(of_datagram);
        Self { expr: Some(expr), ops, reads_records }
    }

    /// Whether anything depends on [`Seen::direction`].
    pub fn asks_direction(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Term(Term::Up | Term::Down)))
    }

    /// Whether a datagram is picked.
    pub fn picks(&self, scale: Scale, seen: &Seen<'_>, datagram: &[u8]) -> bool {
        if self.ops.is_empty() {
            return true;
        }
        if !self.reads_records {
            return self.holds(seen, Subject::Nothing);
        }
        let mut records = Walk::new(datagram, scale).peekable();
        if records.peek().is_none() {
            return self.holds(seen, Subject::Nothing);
        }
        records.any(|record| match record {
            Ok((_, record)) => self.holds(seen, Subject::Record(record.header())),
            Err(_) => self.holds(seen, Subject::Bad),
        })
    }

    fn holds(&self, seen: &Seen<'_>, subject: Subject<'_>) -> bool {
        // The stack of values, the last one in bit 0; never more values than terms.
        let mut values = 0u64;
        for op in &self.ops {
            values = match *op {
                Op::Term(term) => values << 1 | u64::from(is(term, seen, subject)),
                Op::Not => values ^ 1,
                Op::And => (values >> 1) & (values | !1),
                Op::Or => (values >> 1) | (values & 1),
            };
        }
        values & 1 == 1
    }
}

fn is(term: Term, seen: &Seen<'_>, subject: Subject<'_>) -> bool {
    let header = match subject {
        Subject::Record(header) => Some(header),
        Subject::Bad | Subject::Nothing => None,
    };
    let record = |wanted: &dyn Fn(&RecordHeader) -> bool| header.is_some_and(wanted);
    let cargo = || record(&|header| !header.msg_type().is_link_control());
    match term {
        Term::Slave(first, last) => record(&|header| (first..=last).contains(&header.slave_id())),
        Term::Type(msg_type) => record(&|header| header.msg_type() == msg_type),
        Term::Req(first, last) => record(&|header| (first..=last).contains(&header.req_id())),
        Term::Master(id) => record(&|header| header.master_id() == id),
        Term::Link => record(&|header| header.msg_type().is_link_control()),
        Term::Cargo => cargo(),
        Term::Bad => matches!(subject, Subject::Bad),
        Term::Host(ip) => seen.peer.ip() == ip,
        Term::Udp(port) => seen.peer.udp_port == port,
        Term::Port(port) => seen.peer.port.0 == port,
        Term::Up => seen.direction == Some(Class::Up) && cargo(),
        Term::Down => seen.direction == Some(Class::Down) && cargo(),
        Term::Rx => seen.received,
        Term::Tx => !seen.received,
    }
}

fn compile(expr: &Expr, ops: &mut Vec<Op>) {
    match expr {
        Expr::Term(term) => ops.push(Op::Term(*term)),
        Expr::Not(expr) => {
            compile(expr, ops);
            ops.push(Op::Not);
        }
        Expr::And(a, b) | Expr::Or(a, b) => {
            compile(a, ops);
            compile(b, ops);
            ops.push(if matches!(expr, Expr::And(..)) { Op::And } else { Op::Or });
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    /// Reads an expression; an empty one picks everything.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() { Ok(Self::all()) } else { text.parse().map(Self::new) }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.as_ref().map_or(Ok(()), |expr| write!(f, "{expr}"))
    }
}
