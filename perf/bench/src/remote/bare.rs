//! The floor of READs over AF_XDP: the same packets in the same numbers on the same ports, and no transport.
//!
//! One end keeps requests outstanding, and the other one answers each with the packets that an answer to a READ has.
//! The bytes of the page are copied at both ends, and nothing else is done: no ICRC, no window, no acknowledgement.
//! What remains is what the kernel's veth costs, and the port with its headers and UDP checksums.

use crate::remote::machine::{Link, PortKind, cause, local, open_xdp, peer_at, pool};
use crate::remote::reader::{MASTER, SLAVE};
use crate::remote::{PAGE, PAGES, fill, is_page, page_of};
use anyhow::{Context as _, ensure};
use ebpf::Steer;
use frame::time::MILLISECOND;
use frame::{Burst, Class, Datagram, Guarded, Hugepages, Outbox, Peer, PortId, Role, Time};
use lcore::mailbox::{Sender, mailbox};
use lcore::thread::{LcoreHandle, Starting, ThreadConfig, start};
use lcore::{Clock, Lcore, RxMode};
use netns::End;
use port::xdp::{Umem, XdpPort};
use records::Framing;
use roce::Answer;
use std::sync::mpsc;
use std::time::Duration;
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, MsgType};
use zerocopy::IntoBytes as _;

/// Bytes of the headers of a packet: BTH; RETH of a request; AETH of the first and the last packet of an answer; ICRC.
const BTH: usize = 12;
const RETH: usize = 16;
const AETH: usize = 4;
const ICRC: usize = 4;

/// When nothing came for this long, packets were lost: all that is outstanding is asked again.
const SILENCE: Time = 100 * MILLISECOND;

/// The time after which a benchmark gives up.
const FOR_EVER: Duration = Duration::from_secs(30);

/// Which request a packet belongs to, and which part of the answer it is: in the place of the BTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    number: u32,
    slot: u32,
    offset: u32,
}

impl Mark {
    fn write(self) -> [u8; BTH] {
        let words = [self.number, self.slot, self.offset].map(u32::to_le_bytes);
        std::array::from_fn(|at| words[at / 4][at % 4])
    }

    /// The mark of a record, and the bytes behind it without the ICRC.
    fn read(record: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = record.get(HEADER_LEN..)?.split_first_chunk::<BTH>()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mark = Self { number: word(0), slot: word(4), offset: word(8) };
        Some((mark, rest.get(..rest.len().checked_sub(ICRC)?)?))
    }
}

/// What a slice came to.
#[derive(Clone, Debug)]
pub struct BareDone {
    /// Pages that came, each the one that was asked for.
    pub pages: u64,
    /// Requests that were sent again, since packets were lost.
    pub repeated: u64,
    /// A page that was another one.
    pub fault: Option<String>,
}

/// Orders to an end.
pub enum BareOrder {
    /// The other end is there.
    Peer(Peer),
    /// Ask until [`BareOrder::Stop`].
    Start(Answer<BareDone>),
    /// Ask no more. When the last answer is there, the caller is told.
    Stop,
}

/// A request that is outstanding.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    number: u32,
    /// Bytes of the page that have not come.
    missing: u32,
}

/// The end that asks.
struct Asker {
    slots: Vec<Asked>,
    next: u32,
    came_at: Time,
    stops: bool,
    answer: Option<Answer<BareDone>>,
    done: BareDone,
}

/// See the module's documentation.
pub struct BareEnd {
    peer: Option<Peer>,
    /// The pages of the end that serves; a place for each request of the one that asks.
    memory: Guarded,
    /// Bytes of a page in each packet of an answer.
    mtu: u32,
    /// `None` of the end that serves.
    asker: Option<Asker>,
}

impl BareEnd {
    /// The end that asks, with so many requests outstanding; 0 makes the end that serves.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(depth: u32, mtu: u32) -> anyhow::Result<Self> {
        let pages = if depth == 0 { PAGES } else { depth };
        let mut memory = Guarded::new((pages * PAGE) as usize, Hugepages::Prefer)?;
        if depth == 0 {
            fill(&mut memory);
        }
        let done = BareDone { pages: 0, repeated: 0, fault: None };
        let slots = vec![Asked::default(); depth as usize];
        let asker = Asker { slots, next: 0, came_at: 0, stops: false, answer: None, done };
        Ok(Self { peer: None, memory, mtu, asker: (depth > 0).then_some(asker) })
    }

    fn serve(&mut self, burst: &Burst, out: &mut Outbox) {
        let Some(peer) = self.peer else { return };
        for (_, datagram) in burst.iter() {
            let Some((mark, _)) = Mark::read(datagram.frame.data()) else { continue };
            let start = (page_of(mark.number.into()) * PAGE) as usize;
            for offset in (0..PAGE).step_by(self.mtu as usize) {
                let len = self.mtu.min(PAGE - offset);
                let part = start + offset as usize..start + (offset + len) as usize;
                let is_end = offset == 0 || offset + len == PAGE;
                let aeth = if is_end { AETH } else { 0 };
                send(&peer, Class::Up, Mark { offset, ..mark }, aeth, &self.memory[part], out);
            }
        }
    }

    fn take(&mut self, now: Time, burst: &Burst, out: &mut Outbox) {
        let (Some(peer), Some(asker)) = (self.peer, &mut self.asker) else { return };
        for (_, datagram) in burst.iter() {
            let Some((mark, rest)) = Mark::read(datagram.frame.data()) else { continue };
            let len = self.mtu.min(PAGE.saturating_sub(mark.offset));
            let bytes = rest.len().checked_sub(len as usize).and_then(|at| rest.get(at..));
            let asked = asker.slots.get_mut(mark.slot as usize).filter(|asked| asked.number == mark.number);
            let (Some(bytes), Some(asked)) = (bytes, asked.filter(|asked| asked.missing >= len)) else { continue };
            let place = (mark.slot * PAGE) as usize;
            let at = place + mark.offset as usize;
            self.memory[at..at + len as usize].copy_from_slice(bytes);
            asked.missing -= len;
            asker.came_at = now;
            if asked.missing > 0 {
                continue;
            }
            if !is_page(&self.memory[place..place + PAGE as usize], page_of(mark.number.into())) {
                let text = || format!("bare answer {} is another page", mark.number);
                asker.done.fault.get_or_insert_with(text);
            }
            asker.done.pages += 1;
            if !asker.stops {
                asker.ask(mark.slot, &peer, out);
            }
        }
    }
}

impl Asker {
    fn ask(&mut self, slot: u32, peer: &Peer, out: &mut Outbox) {
        if let Some(asked) = self.slots.get_mut(slot as usize) {
            *asked = Asked { number: self.next, missing: PAGE };
            let mark = Mark { number: self.next, slot, offset: 0 };
            // One that finds no frame is asked again later, as one that was lost.
            send(peer, Class::Down, mark, 0, &[0; RETH], out);
            self.next = self.next.wrapping_add(1);
        }
    }

    fn outstanding(&self) -> usize {
        self.slots.iter().filter(|asked| asked.missing > 0).count()
    }

    fn advance(&mut self, now: Time, peer: &Peer, out: &mut Outbox) {
        if self.outstanding() == 0 {
            if self.stops
                && let Some(answer) = self.answer.take()
            {
                self.stops = false;
                answer(self.done.clone());
            }
        } else if now >= self.came_at + SILENCE {
            self.came_at = now;
            for slot in 0..self.slots.len() {
                if self.slots[slot].missing > 0 {
                    self.done.repeated += 1;
                    self.ask(slot as u32, peer, out);
                }
            }
        }
    }
}

/// Sends one packet: a record with a mark, `aeth` more bytes, these bytes and the place of an ICRC.
fn send(peer: &Peer, class: Class, mark: Mark, aeth: usize, bytes: &[u8], out: &mut Outbox) {
    let Some(mut frame) = out.alloc() else { return };
    let payload = BTH + aeth + bytes.len() + ICRC;
    let header = RecordHeader::new(MsgType::RC, SLAVE, req_id(MASTER, 0), payload as u32);
    let fits = frame.append(header.as_bytes())
        && frame.append(&mark.write())
        && frame.append(&[0; AETH][..aeth])
        && frame.append(bytes)
        && frame.append(&[0; ICRC]);
    if fits {
        out.send(Datagram::new(frame, *peer, class, 1));
    }
}

impl Role for BareEnd {
    type Command = BareOrder;

    fn receive(&mut self, now: Time, _: PortId, burst: &mut Burst, out: &mut Outbox) {
        if self.asker.is_some() {
            self.take(now, burst, out);
        } else {
            self.serve(burst, out);
        }
        burst.clear();
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        if let (Some(asker), Some(peer)) = (&mut self.asker, &self.peer) {
            asker.advance(now, peer, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        let asker = self.asker.as_ref().filter(|asker| asker.outstanding() > 0)?;
        Some(asker.came_at + SILENCE)
    }

    fn command(&mut self, now: Time, order: BareOrder, out: &mut Outbox) {
        match order {
            BareOrder::Peer(peer) => self.peer = Some(peer),
            BareOrder::Start(answer) => {
                if let (Some(asker), Some(peer)) = (&mut self.asker, &self.peer) {
                    asker.done = BareDone { pages: 0, repeated: 0, fault: None };
                    (asker.answer, asker.stops, asker.came_at) = (Some(answer), false, now);
                    (0..asker.slots.len() as u32).for_each(|slot| asker.ask(slot, peer, out));
                }
            }
            BareOrder::Stop => {
                if let Some(asker) = &mut self.asker {
                    asker.stops = true;
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        // It runs until nobody can order anything any more.
        false
    }

    fn frames_held(&self) -> usize {
        0
    }
}

/// One end on an lcore of its own.
struct BareLcore {
    /// Its thread; first, so that it ends first.
    _running: LcoreHandle,
    orders: Sender<BareOrder>,
    _steer: Steer,
}

impl BareLcore {
    fn start(
        end: &End<'_>,
        core: usize,
        depth: u32,
        (mtu, path_mtu): (u16, u32),
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let ifname = end.name.to_owned();
        let (report, made) = mpsc::channel();
        let build = move || -> anyhow::Result<Lcore<BareEnd, XdpPort>> {
            let (pool, bare, (sender, receiver)) = (pool(mtu)?, BareEnd::new(depth, path_mtu)?, mailbox(64)?);
            let (port, steer) = open_xdp(PortId(0), &ifname, &Umem::new(&pool)?)?;
            // Nobody waits for it when the benchmark was given up.
            let _ = report.send((sender, steer));
            Ok(Lcore::new(0, bare, vec![port], pool, receiver, None))
        };
        let config = ThreadConfig { index: 0, core: Some(core), mode: RxMode::Adaptive, clock };
        let running = end.namespace.enter(|| start(config, build, || ()).and_then(Starting::wait).map_err(cause))?;
        let (orders, steer) = made.recv().context("the lcore was built")?;
        Ok(Self { _running: running, orders, _steer: steer })
    }

    fn order(&self, order: BareOrder) -> anyhow::Result<()> {
        ensure!(self.orders.try_send(order).is_ok(), "the lcore's mailbox is full");
        Ok(())
    }
}

/// Two ends on a link of AF_XDP ports, each on a core of its own.
pub struct BarePair {
    asker: BareLcore,
    _server: BareLcore,
    _link: Link,
}

impl BarePair {
    /// Starts both, with so many requests outstanding.
    ///
    /// # Errors
    /// AF_XDP or XDP cannot be had, or there is no memory.
    pub fn start(link: Link, depth: u32, clock: Clock) -> anyhow::Result<Self> {
        let mtu = link.mtu();
        let (asker, server) = {
            let [a, b] = link.ends();
            let peers = [&b, &a].map(|end| Ok::<_, anyhow::Error>(peer_at(PortKind::Xdp, PortId(0), &local(end)?)));
            let [to_server, to_asker] = peers;
            let (to_server, to_asker) = (to_server?, to_asker?);
            let path_mtu = Framing::path_mtu(&to_server, mtu).context("an MTU with room for a packet")?;
            let mtus = (mtu, path_mtu.bytes());
            let server = BareLcore::start(&b, 1, 0, mtus, clock)?;
            let asker = BareLcore::start(&a, 0, depth, mtus, clock)?;
            server.order(BareOrder::Peer(to_asker))?;
            asker.order(BareOrder::Peer(to_server))?;
            (asker, server)
        };
        Ok(Self { asker, _server: server, _link: link })
    }

    /// Exchanges pages for a while.
    ///
    /// # Errors
    /// They do not end, or a page is another one.
    pub fn run(&self, length: Duration) -> anyhow::Result<BareDone> {
        let (tell, told) = mpsc::channel();
        self.asker.order(BareOrder::Start(Box::new(move |done| drop(tell.send(done)))))?;
        std::thread::sleep(length);
        self.asker.order(BareOrder::Stop)?;
        let done = told.recv_timeout(FOR_EVER).context("bare answers do not come")?;
        match done.fault {
            Some(fault) => anyhow::bail!(fault),
            None => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Pool, PoolConfig};

    /// Moves what one end sent to the other one; returns how many packets, and the bytes of the largest.
    fn carry(now: Time, from: &mut Outbox, to: &mut BareEnd, out: &mut Outbox, lose: usize) -> (usize, usize) {
        let queue = from.queue(PortId(0)).unwrap();
        let sent: Vec<Datagram> = std::iter::from_fn(|| queue.take()).collect();
        queue.rewind();
        let largest = sent.iter().map(|datagram| datagram.frame.data().len()).max().unwrap_or(0);
        let count = sent.len();
        for datagram in sent.into_iter().skip(lose) {
            let mut burst = Burst::new();
            let mut frame = out.alloc().unwrap();
            assert!(frame.append(datagram.frame.data()));
            burst.push(Datagram::new(frame, datagram.peer, Class::Up, 1)).unwrap();
            to.receive(now, PortId(0), &mut burst, out);
        }
        (count, largest)
    }

    #[test]
    fn packets_have_the_sizes_of_reads_and_each_page_is_the_one_that_was_asked_for() {
        for (mtu, packets, largest) in [(4096, 1, 4096 + 43), (1024, 4, 1024 + 43)] {
            let pool = || Pool::new(PoolConfig { frames: 256, chunk: 8192, ..PoolConfig::default() }).unwrap();
            let (mut there, mut here) = (Outbox::new(pool(), 1), Outbox::new(pool(), 1));
            let (mut asker, mut server) = (BareEnd::new(8, mtu).unwrap(), BareEnd::new(0, mtu).unwrap());
            let peer = Peer::socket(PortId(0), "10.0.0.1:9999".parse().unwrap());
            server.command(0, BareOrder::Peer(peer), &mut there);
            asker.command(0, BareOrder::Peer(peer), &mut here);
            let (tell, told) = mpsc::channel();
            asker.command(0, BareOrder::Start(Box::new(move |done| drop(tell.send(done)))), &mut here);
            for turn in 0..10 {
                assert_eq!(carry(turn, &mut here, &mut server, &mut there, 0), (8, HEADER_LEN + 32));
                assert_eq!(carry(turn, &mut there, &mut asker, &mut here, 0), (8 * packets, largest));
            }
            // A request and an answer are lost, and asked for again after a while.
            carry(10, &mut here, &mut server, &mut there, 1);
            carry(10, &mut there, &mut asker, &mut here, 1);
            asker.command(11, BareOrder::Stop, &mut here);
            carry(11, &mut here, &mut server, &mut there, 0);
            carry(11, &mut there, &mut asker, &mut here, 0);
            let late = asker.deadline().unwrap();
            asker.advance(late, &mut here);
            assert_eq!(carry(late, &mut here, &mut server, &mut there, 0).0, 2);
            carry(late, &mut there, &mut asker, &mut here, 0);
            asker.advance(late, &mut here);
            let done = told.try_recv().unwrap();
            assert_eq!((done.repeated, done.fault), (2, None));
            assert!(done.pages >= 88 && asker.deadline().is_none(), "{}", done.pages);
        }
    }

    #[test]
    fn another_page_is_a_fault() {
        let pool = Pool::new(PoolConfig { frames: 64, chunk: 8192, ..PoolConfig::default() }).unwrap();
        let mut out = Outbox::new(pool, 1);
        let mut asker = BareEnd::new(1, 4096).unwrap();
        let peer = Peer::socket(PortId(0), "10.0.0.1:9999".parse().unwrap());
        asker.command(0, BareOrder::Peer(peer), &mut out);
        let (tell, told) = mpsc::channel();
        asker.command(0, BareOrder::Start(Box::new(move |done| drop(tell.send(done)))), &mut out);
        asker.command(0, BareOrder::Stop, &mut out);
        drop(out.queue(PortId(0)).unwrap().take());
        send(&peer, Class::Up, Mark { number: 0, slot: 0, offset: 0 }, AETH, &[7; PAGE as usize], &mut out);
        let answer = out.queue(PortId(0)).unwrap().take().unwrap();
        let mut burst = Burst::new();
        burst.push(answer).unwrap();
        asker.receive(1, PortId(0), &mut burst, &mut out);
        asker.advance(1, &mut out);
        assert!(told.try_recv().unwrap().fault.unwrap().contains("is another page"));
    }
}
