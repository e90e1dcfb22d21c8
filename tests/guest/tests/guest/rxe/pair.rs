//! Both ends of one connection, so that a scenario is written once and runs in both directions.

use super::ours::Ours;
use guest::content;
use guest::verbs::{Completion, Opened, Path};
use guest::world::World;
use std::collections::BTreeSet;

/// Bytes of memory of either end, all of it one region with all rights.
pub(crate) const MEMORY: u64 = 4 << 20;

/// An end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Our transport.
    Ours,
    /// The guest's rxe.
    Guest,
}

impl Side {
    /// The other end.
    pub(crate) fn peer(self) -> Self {
        match self {
            Self::Ours => Self::Guest,
            Self::Guest => Self::Ours,
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
    WriteImm,
    Send,
    SendImm,
    FetchAdd,
    CmpSwap,
}

impl Op {
    /// The guest's name of the operation, and the kind of the requester's completion.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("read", "READ"),
            Self::Write => ("write", "WRITE"),
            Self::WriteImm => ("write_imm", "WRITE"),
            Self::Send => ("send", "SEND"),
            Self::SendImm => ("send_imm", "SEND"),
            Self::FetchAdd => ("fetch_add", "FETCH_ADD"),
            Self::CmpSwap => ("cmp_swap", "CMP_SWAP"),
        }
    }

    /// The kind of the responder's completion, if it gets one.
    pub(crate) fn received(self) -> Option<&'static str> {
        match self {
            Self::WriteImm => Some("RECV_WRITE_IMM"),
            Self::Send | Self::SendImm => Some("RECV"),
            _ => None,
        }
    }

    /// Whether it carries immediate data.
    pub(crate) fn has_immediate(self) -> bool {
        matches!(self, Self::WriteImm | Self::SendImm)
    }
}

/// A request: the operation, its part of the requester's memory, and its part of the responder's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The operation.
    pub op: Op,
    /// The id, which the completion has, too.
    pub id: u64,
    /// Offset in the requester's memory.
    pub local: u64,
    /// Bytes.
    pub len: u64,
    /// Offset in the responder's memory; may lie outside, to see what happens.
    pub remote: u64,
    /// The key, instead of that of all memory.
    pub rkey: Option<u32>,
    /// Immediate data, or the operand to add or to compare with.
    pub a: u64,
    /// The new word of COMPARE&SWAP.
    pub b: u64,
}

impl Request {
    /// `len` bytes between these offsets.
    pub(crate) fn new(op: Op, id: u64, local: u64, remote: u64, len: u64) -> Self {
        let len = if matches!(op, Op::FetchAdd | Op::CmpSwap) { 8 } else { len };
        Self { op, id, local, len, remote, rkey: None, a: 0, b: 0 }
    }
}

/// Timeouts and retries of both ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Exponent of the time until a retry: 4.096 us times 2 to this.
    pub timeout: u8,
    /// Retries; rxe takes 7 for no end.
    pub retries: u8,
    /// Retries after RNR; 7 is without end.
    pub rnr_retries: u8,
    /// The time that a responder without a receive asks for, as the code in the AETH.
    pub rnr_timer: u8,
}

impl Patience {
    /// 0.5 s, 7 retries, RNR without end, 0.64 ms. A busy machine may stop the guest for a while.
    pub(crate) const USUAL: Self = Self { timeout: 17, retries: 7, rnr_retries: 7, rnr_timer: 12 };
}

/// Reads and atomics under way at once.
pub(crate) const DEPTH: u8 = 16;

/// A connection.
pub(crate) struct Pair<'a> {
    pub world: &'a mut World,
    pub ours: Ours,
    guest: Opened,
    /// The first PSN of ours and of the guest.
    psns: [u32; 2],
    /// Answers of the guest to posts, which nobody has read yet.
    unread: usize,
}

impl<'a> Pair<'a> {
    /// Connects a fresh queue pair of ours with a fresh one of the guest.
    pub(crate) fn connect(world: &'a mut World, mtu: u32, patience: Patience, seed: u32) -> Self {
        let mut nobody = guest::world::Listener::default();
        let guest = world.open(&mut nobody);
        // Near the largest PSN, so that the PSNs of every long message wrap.
        let (psn, own_psn) = (0xff_fff0_u32.wrapping_sub(seed % 64) & 0xff_ffff, 0xff_ffe0);
        let mut ours = Ours::new(mtu, patience, guest.qpn, psn, own_psn);
        let path = Path {
            mtu,
            qpn: ours.qpn(),
            psn,
            own_psn,
            timeout: patience.timeout,
            retries: patience.retries,
            rnr_retries: patience.rnr_retries,
            rnr_timer: patience.rnr_timer,
            depth: DEPTH,
        };
        world.connect(&mut ours, &path);
        Self { world, ours, guest, psns: [psn, own_psn], unread: 0 }
    }

    /// Sends the guest a line without waiting. Its answer must be a plain `ok`; it is read before the next answer that
    /// is needed.
    fn tell(&mut self, line: &str) {
        self.world.tell(line);
        self.unread += 1;
    }

    /// Reads the answers that [`Self::tell`] left.
    fn catch_up(&mut self) {
        for _ in 0..std::mem::take(&mut self.unread) {
            let answer = self.world.answer(&mut self.ours);
            assert_eq!(answer, "ok");
        }
    }

    fn ask(&mut self, line: &str) -> Vec<u64> {
        self.catch_up();
        self.world.ask(&mut self.ours, line)
    }

    /// Fills a piece of memory with the content of a seed.
    pub(crate) fn fill(&mut self, side: Side, offset: u64, len: u64, seed: u64) {
        match side {
            Side::Ours => self.ours.write(offset, &content::bytes(seed, len as usize)),
            Side::Guest => {
                self.ask(&format!("fill {offset} {len} {seed}"));
            }
        }
    }

    /// The hash of a piece of memory.
    pub(crate) fn hash(&mut self, side: Side, offset: u64, len: u64) -> u64 {
        match side {
            Side::Ours => content::hash(&self.ours.read(offset, len)),
            Side::Guest => self.ask(&format!("hash {offset} {len}"))[0],
        }
    }

    /// Posts a request at `side`; the other end is the responder.
    pub(crate) fn post(&mut self, side: Side, request: Request) {
        let Request { op, id, local, len, remote, rkey, a, b } = request;
        match side {
            Side::Ours => {
                let rkey = rkey.unwrap_or(self.guest.rkey);
                self.ours.post(&Request {
                    remote: self.guest.address.wrapping_add(remote),
                    rkey: Some(rkey),
                    ..request
                });
            }
            Side::Guest => {
                let (address, own) = self.ours.region();
                let (address, rkey) = (address.wrapping_add(remote), rkey.unwrap_or(own));
                let name = op.names().0;
                self.tell(&format!("{name} {id} {local} {len} {address} {rkey} {a} {b}"));
            }
        }
    }

    /// Posts a receive at `side`.
    pub(crate) fn receive(&mut self, side: Side, id: u64, local: u64, len: u64) {
        match side {
            Side::Ours => self.ours.post_receive(id, local, len),
            Side::Guest => self.tell(&format!("receive {id} {local} {len}")),
        }
    }

    /// The next `count` completions of `side`, in their order.
    pub(crate) fn poll(&mut self, side: Side, count: usize) -> Vec<Completion> {
        self.catch_up();
        let done = match side {
            Side::Ours => self.world.until("a completion of ours", &mut self.ours, |ours| ours.done(count)),
            Side::Guest => self.world.poll(&mut self.ours, count, 20_000),
        };
        assert_eq!(done.len(), count, "{side:?}: {done:?}");
        done
    }

    /// Whether `side` has no completion for this many milliseconds.
    pub(crate) fn is_silent(&mut self, side: Side, milliseconds: u32) -> bool {
        self.catch_up();
        match side {
            Side::Ours => {
                self.world.run_for(&mut self.ours, u64::from(milliseconds) * 1_000_000);
                self.ours.done(1).is_none()
            }
            Side::Guest => self.world.poll(&mut self.ours, 1, milliseconds).is_empty(),
        }
    }

    /// The answers of the peer of `side` to atomic operations, in the order of the requests. A repeated answer is
    /// listed once.
    pub(crate) fn atomic_answers(&self, side: Side) -> Vec<u64> {
        let first = self.psns[usize::from(side == Side::Guest)];
        let answers = self.world.atomics().iter().map(|&(psn, value)| (psn.wrapping_sub(first) & 0xff_ffff, value));
        // Sorted by PSN. Two different answers to one request are both listed.
        answers.collect::<BTreeSet<_>>().into_iter().map(|(_, value)| value).collect()
    }

    /// The key of all memory of `side`.
    pub(crate) fn rkey(&self, side: Side) -> u32 {
        match side {
            Side::Ours => self.ours.region().1,
            Side::Guest => self.guest.rkey,
        }
    }

    /// The key of a region of `side` over these bytes, which the peer may read and not write.
    pub(crate) fn read_only(&mut self, side: Side, offset: u64, len: u64) -> u32 {
        match side {
            Side::Ours => self.ours.read_only(offset, len),
            Side::Guest => {
                /// `IBV_ACCESS_REMOTE_READ`.
                const REMOTE_READ: u32 = 4;
                self.ask(&format!("window {offset} {len} {REMOTE_READ}"))[0] as u32
            }
        }
    }

    /// Ends a scenario. Every packet must be in one of our counters, and none in a counter of unexpected packets.
    pub(crate) fn end(mut self) {
        let counters = self.ours.counters();
        assert!(counters.balance(), "packets are missing in our counters: {counters:?}");
        let never = [
            counters.rc_dropped_short.get(),
            counters.rc_dropped_opcode.get(),
            counters.rc_dropped_version.get(),
            counters.rc_dropped_pad.get(),
            counters.rc_dropped_pkey.get(),
            counters.rc_dropped_wrong_path.get(),
            counters.rc_dropped_icrc.get(),
            counters.rc_dropped_response_unfit.get(),
        ];
        assert_eq!(never, [0; 8], "short, opcode, version, pad, P_Key, path, ICRC, unfit: {counters:?}");
        self.ask("close");
    }
}
