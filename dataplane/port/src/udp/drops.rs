//! The datagrams that a socket drops: those that found no room, and those that were damaged.
//!
//! The kernel counts both in one number of the socket (SO_RXQ_OVFL): a datagram that finds the receive buffer full, and
//! one whose UDP checksum is found wrong when it is about to be read. The first kind means that we are too slow and may
//! have missed something. The second kind says nothing about us, and anybody can cause it. The kernel also counts each
//! kind separately, but for all sockets of the network namespace together (`/proc/net/snmp`, `/proc/net/snmp6`). The
//! two sources together separate the kinds: a datagram that was dropped here while no buffer of the namespace was full
//! was damaged, and the other way round. If buffers were full and datagrams were damaged, of this socket or of others,
//! the largest possible number counts as lost.
//!
//! The kernel never reports one case: a damaged datagram of up to 76 bytes with its UDP header is dropped before its
//! socket is known. No counter of a socket has it.

use frame::Time;
use frame::time::MILLISECOND;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The shortest time between two reads of the kernel's counters: one read takes about as long as receiving some
/// datagrams.
const READ_EVERY: Time = 50 * MILLISECOND;

/// The text of a file with all counters is shorter, in bytes.
const TEXT: usize = 16 << 10;

/// The drops of all sockets of a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dropped {
    /// For lack of room in a buffer, or of memory.
    full: u64,
    /// With a wrong checksum.
    damaged: u64,
}

impl Dropped {
    fn add(&mut self, name: &str, value: u64) {
        match name {
            "RcvbufErrors" | "MemErrors" => self.full += value,
            "InCsumErrors" => self.damaged += value,
            _ => {}
        }
    }

    /// Adds the counts in the text of `/proc/net/snmp` (IPv4: a line of names, a line of values) or `/proc/net/snmp6`
    /// (a line for each name).
    fn read(&mut self, text: &str) {
        let mut names = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("Udp: ") {
                match names.take() {
                    None => names = Some(rest),
                    Some(names) => {
                        for (name, value) in names.split_whitespace().zip(rest.split_whitespace()) {
                            self.add(name, value.parse().unwrap_or(0));
                        }
                    }
                }
            } else if let Some((name, value)) =
                line.strip_prefix("Udp6").and_then(|rest| rest.split_once(char::is_whitespace))
            {
                self.add(name, value.trim().parse().unwrap_or(0));
            }
        }
    }

    fn since(self, before: Self) -> Self {
        Self { full: self.full.saturating_sub(before.full), damaged: self.damaged.saturating_sub(before.damaged) }
    }
}

/// The counters of the network namespace in which it was opened.
struct Namespace {
    files: Vec<File>,
    text: Box<[u8]>,
}

impl Namespace {
    fn open(ipv6: bool) -> io::Result<Self> {
        let names = ["/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"];
        let files: io::Result<_> = names.iter().take(1 + usize::from(ipv6)).map(File::open).collect();
        Ok(Self { files: files?, text: vec![0; TEXT].into() })
    }

    fn read(&mut self) -> Option<Dropped> {
        let mut dropped = Dropped::default();
        for file in &self.files {
            let mut len = 0;
            // A read may end at the end of any line.
            while let Some(room) = self.text.get_mut(len..).filter(|room| !room.is_empty()) {
                match file.read_at(room, len as u64).ok()? {
                    0 => break,
                    read => len += read,
                }
            }
            dropped.read(std::str::from_utf8(&self.text[..len]).ok()?);
        }
        Some(dropped)
    }
}

/// How many of the dropped datagrams were lost, and how many were damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// They found no room.
    pub(super) lost: u64,
    /// Their checksum was wrong.
    pub(super) damaged: u64,
}

/// See the module's documentation.
pub(super) struct Drops {
    /// `None` without `/proc`: then all dropped datagrams count as lost.
    namespace: Option<Namespace>,
    judge: Judge,
    /// The last number from the socket, modulo 2^32.
    overflows: u32,
    /// Dropped for a reason that is not yet known.
    pending: u64,
    read_at: Time,
}

impl Drops {
    /// For a socket that was opened in the caller's network namespace.
    pub(super) fn new(ipv6: bool) -> Self {
        let mut namespace = Namespace::open(ipv6).ok();
        let judge = Judge::new(namespace.as_mut().and_then(Namespace::read).unwrap_or_default());
        Self { namespace, judge, overflows: 0, pending: 0, read_at: 0 }
    }

    /// Takes the socket's count of datagrams that it has dropped since it was made.
    pub(super) fn note_overflows(&mut self, overflows: u32) {
        self.pending += u64::from(overflows.wrapping_sub(self.overflows));
        self.overflows = overflows;
    }

    /// The reasons for the drops; `None` while nothing more was dropped, or it is too early to ask again.
    #[inline]
    pub(super) fn settle(&mut self, now: Time) -> Option<Settled> {
        if self.pending == 0 || now < self.read_at { None } else { Some(self.ask(now)) }
    }

    #[cold]
    fn ask(&mut self, now: Time) -> Settled {
        self.read_at = now.saturating_add(READ_EVERY);
        let pending = std::mem::take(&mut self.pending);
        match self.namespace.as_mut().and_then(Namespace::read) {
            Some(all) => self.judge.settle(pending, all),
            None => Settled { lost: pending, damaged: 0 },
        }
    }
}

/// Separates the kinds of a socket's drops, with the counts of all sockets of its namespace.
struct Judge {
    seen: Dropped,
    /// Counts of the last read that this socket has not explained yet: it may report them only now.
    rest: Dropped,
}

impl Judge {
    fn new(seen: Dropped) -> Self {
        Self { seen, rest: Dropped::default() }
    }

    fn settle(&mut self, pending: u64, all: Dropped) -> Settled {
        let fresh = all.since(self.seen);
        self.seen = all;
        let (full, wrong) = (self.rest.full + fresh.full, self.rest.damaged + fresh.damaged);
        let by_room = pending.min(full);
        let damaged = (pending - by_room).min(wrong);
        // Drops that neither kind explains (a filter, a policy) did not reach us either.
        let lost = pending - damaged;
        self.rest = Dropped { full: (full - by_room).min(fresh.full), damaged: (wrong - damaged).min(fresh.damaged) };
        Settled { lost, damaged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SNMP: &str = "\
Ip: Forwarding DefaultTTL
Ip: 2 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 100 3 12 90 7 1 4 0 2
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
UdpLite: 5 5 5 5 5 5 5 5 5
";
    const SNMP6: &str = "\
Ip6InReceives                   \t5
Udp6InDatagrams                 \t9
Udp6RcvbufErrors                \t20
Udp6InCsumErrors                \t30
Udp6MemErrors                   \t40
UdpLite6RcvbufErrors            \t5
UdpLite6InCsumErrors            \t5
";

    #[test]
    fn the_counters_of_a_namespace_are_read_by_name() {
        let mut dropped = Dropped::default();
        dropped.read(SNMP);
        assert_eq!(dropped, Dropped { full: 9, damaged: 4 });
        dropped.read(SNMP6);
        assert_eq!(dropped, Dropped { full: 69, damaged: 34 });
        // Older kernels have fewer columns; a text that is not a number is not a counter.
        let mut dropped = Dropped::default();
        dropped.read("Udp: InDatagrams InCsumErrors\nUdp: 1 5\nUdp: RcvbufErrors\nUdp: x\nUdp6\nUdp6InCsumErrors x\n");
        assert_eq!(dropped, Dropped { full: 0, damaged: 5 });
    }

    #[test]
    fn this_kernel_says_how_much_its_sockets_dropped() {
        for ipv6 in [false, true] {
            assert!(Namespace::open(ipv6).unwrap().read().is_some());
        }
    }

    fn settle(judge: &mut Judge, pending: u64, full: u64, damaged: u64) -> (u64, u64) {
        let all = Dropped { full: judge.seen.full + full, damaged: judge.seen.damaged + damaged };
        let Settled { lost, damaged } = judge.settle(pending, all);
        (lost, damaged)
    }

    #[test]
    fn what_was_dropped_is_what_the_namespace_says() {
        let mut judge = Judge::new(Dropped { full: 100, damaged: 100 });
        assert_eq!(settle(&mut judge, 5, 0, 5), (0, 5));
        assert_eq!(settle(&mut judge, 5, 5, 0), (5, 0));
        assert_eq!(settle(&mut judge, 12, 5, 7), (5, 7));
        // Other sockets lost something, too: the largest possible number counts as lost.
        assert_eq!(settle(&mut judge, 12, 8, 12), (8, 4));
        assert_eq!(settle(&mut Judge::new(Dropped::default()), 12, 0, 0), (12, 0), "a filter");
    }

    #[test]
    fn a_socket_may_say_later_what_the_namespace_said_before() {
        let mut judge = Judge::new(Dropped::default());
        assert_eq!(settle(&mut judge, 1, 40, 1), (1, 0));
        assert_eq!(settle(&mut judge, 30, 0, 30), (30, 0));
        // But not much later.
        assert_eq!(settle(&mut judge, 30, 0, 30), (0, 30));
    }

    #[test]
    fn it_is_not_asked_more_often_than_it_may() {
        let mut drops = Drops { namespace: None, ..Drops::new(false) };
        assert_eq!(drops.settle(5), None);
        drops.note_overflows(3);
        assert_eq!(drops.settle(5), Some(Settled { lost: 3, damaged: 0 }));
        drops.note_overflows(7);
        assert_eq!((drops.settle(5), drops.settle(READ_EVERY + 4)), (None, None));
        drops.note_overflows(u32::MAX);
        assert_eq!(drops.settle(READ_EVERY + 5).map(|settled| settled.lost), Some(u64::from(u32::MAX) - 3));
        // The socket's number is modulo 2^32.
        drops.note_overflows(1);
        assert_eq!(drops.settle(3 * READ_EVERY).map(|settled| settled.lost), Some(2));
    }

    proptest! {
        /// Every drop is in exactly one of the two counts; a drop that only a full buffer explains never counts as
        /// damaged.
        #[test]
        fn nothing_is_counted_twice_or_not(
            steps in proptest::collection::vec((0u64..50, 0u64..50, 0u64..50, 0u64..50), 1..40),
        ) {
            let mut judge = Judge::new(Dropped::default());
            for (lost, damaged, others_lost, others_damaged) in steps {
                let settled = settle(&mut judge, lost + damaged, lost + others_lost, damaged + others_damaged);
                prop_assert_eq!(settled.0 + settled.1, lost + damaged);
                prop_assert!(settled.0 >= lost);
            }
        }
    }
}
