//! The wire with its two ends. The test's own thread moves the packets.

use crate::fault::{Direction, Faults, Happened};
use crate::link::Link;
use crate::machine::Machine;
use crate::pcap::Pcap;
use crate::verbs::{self, Completion, Opened, Path};
use crate::{HOST, HOST_MAC, roce};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Instant;
use wire::net::arp::Arp;
use wire::net::ethernet::{self, Ethernet};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// The longest time that a step may take before the test fails.
const PATIENCE: u64 = 200 * SECOND;
/// The longest sleep.
const NAP: u64 = SECOND / 100;
/// Packets of each scenario that are written for tshark. They are limited, because tshark reads packets more slowly
/// than we send them.
const WRITTEN: u64 = 400;

/// The other end of the wire. It has the addresses [`HOST`] and [`HOST_MAC`].
pub trait Host {
    /// A frame of RoCEv2 arrived; its ICRC is right.
    fn receive(&mut self, now: u64, frame: &[u8]);
    /// Gives all frames that shall leave now to `send`.
    fn advance(&mut self, now: u64, send: &mut dyn FnMut(&[u8]));
    /// The time at which it must be called even if nothing arrived.
    fn deadline(&self) -> Option<u64>;
}

/// A host that only listens.
#[derive(Default)]
pub struct Listener {
    /// All frames that it received.
    pub heard: Vec<Vec<u8>>,
    /// Frames that it will send.
    pub say: Vec<Vec<u8>>,
}

impl Host for Listener {
    fn receive(&mut self, _: u64, frame: &[u8]) {
        self.heard.push(frame.to_vec());
    }

    fn advance(&mut self, _: u64, send: &mut dyn FnMut(&[u8])) {
        for frame in self.say.drain(..) {
            send(&frame);
        }
    }

    fn deadline(&self) -> Option<u64> {
        None
    }
}

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the host.
    ToGuest = 0,
    /// To the host.
    ToHost = 1,
}

/// Everything: the guest, the wire, and what was seen on it.
pub struct World {
    machine: Machine,
    began: Instant,
    ways: [Direction; 2],
    /// The faults on both ways before they were last changed.
    happened: Happened,
    /// Whether the host is behind the tap.
    is_tapped: bool,
    heard: String,
    /// Answers of the guest that were not read yet.
    answers: Vec<String>,
    pcap: Pcap,
    written: u64,
    /// Packets of RoCEv2 by way and opcode.
    seen: [[u64; 256]; 2],
    /// PSN and value of every answer to an atomic operation.
    atomics: Vec<(u32, u64)>,
    wrong: Vec<String>,
}

impl World {
    /// Boots a guest and waits until it is ready.
    ///
    /// # Panics
    /// When that fails.
    pub fn boot(pcap: &std::path::Path) -> Self {
        let machine = Machine::boot().unwrap_or_else(|reason| panic!("no guest: {reason}"));
        let pcap = Pcap::create(pcap).unwrap_or_else(|error| panic!("{}: {error}", pcap.display()));
        let mut world = Self {
            machine,
            began: Instant::now(),
            ways: [Direction::new(), Direction::new()],
            happened: Happened::default(),
            is_tapped: false,
            heard: String::new(),
            answers: Vec::new(),
            pcap,
            written: 0,
            seen: [[0; 256]; 2],
            atomics: Vec::new(),
            wrong: Vec::new(),
        };
        let ready = world.answer(&mut Listener::default());
        assert_eq!(ready, "ok ready", "{}", world.machine.log());
        world
    }

    /// Nanoseconds since the boot.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// The machine, with the namespace of the tap.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// From now on the host is the one behind the tap, or again the one that callers pass.
    pub fn tap(&mut self, is_tapped: bool) {
        self.is_tapped = is_tapped;
    }

    /// Makes both ways bad, each by a seed of its own.
    pub fn become_bad(&mut self, to_guest: Faults, to_host: Faults, seed: u64) {
        self.happened = self.happened_at_all();
        self.ways[Way::ToGuest as usize].become_bad(to_guest, seed);
        self.ways[Way::ToHost as usize].become_bad(to_host, !seed);
    }

    /// Makes both ways perfect. Delayed packets are still on their way.
    pub fn become_bad_no_more(&mut self) {
        self.become_bad(Faults::NONE, Faults::NONE, 0);
    }

    /// The faults on a way since it became bad.
    pub fn happened(&self, way: Way) -> Happened {
        self.ways[way as usize].happened()
    }

    /// The faults on both ways since the boot.
    pub fn happened_at_all(&self) -> Happened {
        self.ways.iter().fold(self.happened, |sum, way| sum.and(way.happened()))
    }

    /// Packets with an opcode that entered the wire on a way and were right, since [`Self::begin_scenario`].
    pub fn seen(&self, way: Way, opcode: u8) -> u64 {
        self.seen[way as usize][usize::from(opcode)]
    }

    /// PSN and value of every answer to COMPARE&SWAP and FETCH&ADD that entered the wire, since
    /// [`Self::begin_scenario`].
    pub fn atomics(&self) -> &[(u32, u64)] {
        &self.atomics
    }

    /// Begins a new scenario and resets the counts.
    pub fn begin_scenario(&mut self) {
        self.seen = [[0; 256]; 2];
        self.atomics.clear();
        self.written = self.pcap.packets();
    }

    /// Whether every packet so far obeyed the rules of [`roce::read`].
    ///
    /// # Panics
    /// With the first that did not.
    pub fn assert_packets_are_right(&self) {
        assert!(self.wrong.is_empty(), "{} packets are wrong: {}", self.wrong.len(), self.wrong[0]);
    }

    /// Forgets the one packet that was broken on purpose.
    ///
    /// # Panics
    /// When none was seen, or several.
    pub fn forgive_wrong_packet(&mut self) {
        assert_eq!(self.wrong.len(), 1, "{:?}", self.wrong);
        self.wrong.clear();
    }

    /// Writes all packets for tshark to their file. Returns their number.
    ///
    /// # Panics
    /// When the disk is full.
    pub fn flush(&mut self) -> u64 {
        self.pcap.flush().expect("room for the packets");
        self.pcap.packets()
    }

    fn enter(&mut self, now: u64, way: Way, frame: &[u8]) {
        let is_roce = roce::is_roce(frame);
        if is_roce {
            match roce::read(frame) {
                Ok(packet) => {
                    self.seen[way as usize][usize::from(packet.opcode)] += 1;
                    self.atomics.extend(packet.atomic_answer().map(|value| (packet.psn, value)));
                }
                Err(reason) => self.wrong.push(format!("{way:?}: {reason}: {frame:02x?}")),
            }
            if self.pcap.packets() < self.written + WRITTEN {
                self.pcap.write(now, frame).expect("room for the packets");
            }
        }
        self.ways[way as usize].enter(now, frame, is_roce);
    }

    /// One round: received frames are processed, due frames are sent, and then it sleeps until more comes, at most to
    /// `until`.
    fn turn(&mut self, host: &mut dyn Host, until: u64) -> Result<(), String> {
        let now = self.now();
        let mut frames = Vec::new();
        self.machine.card.read(|frame| frames.push(frame.to_vec()))?;
        for frame in frames.drain(..) {
            self.enter(now, Way::ToHost, &frame);
        }
        self.machine.tap.read(|frame| frames.push(frame.to_vec()))?;
        if self.is_tapped {
            for frame in frames.drain(..) {
                self.enter(now, Way::ToGuest, &frame);
            }
        }
        while let Some(frame) = self.ways[Way::ToHost as usize].leave(now) {
            if self.is_tapped {
                self.machine.tap.write(&frame);
            } else if roce::is_roce(&frame) {
                host.receive(now, &frame);
            } else if let Some(answer) = answer_arp(&frame) {
                self.machine.card.write(&answer);
            }
        }
        if !self.is_tapped {
            host.advance(now, &mut |frame| self.enter(now, Way::ToGuest, frame));
        }
        while let Some(frame) = self.ways[Way::ToGuest as usize].leave(now) {
            self.machine.card.write(&frame);
        }
        self.machine.card.flush()?;
        self.machine.tap.flush()?;
        self.listen()?;
        let deadlines = self.ways.iter().filter_map(Direction::deadline).chain(host.deadline());
        let wake = deadlines.chain([until]).min().unwrap_or(until);
        self.sleep(wake.saturating_sub(self.now()).min(NAP));
        Ok(())
    }

    fn sleep(&self, nanoseconds: u64) {
        let writes = |link: &Link| if link.is_full() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let Machine { card, tap, console, .. } = &self.machine;
        let mut sockets = [
            PollFd::new(card.socket(), writes(card)),
            PollFd::new(tap.socket(), writes(tap)),
            PollFd::new(console, PollFlags::IN),
        ];
        let timeout = Timespec { tv_sec: 0, tv_nsec: nanoseconds as _ };
        // An interrupted sleep is a short one.
        let _ = poll(&mut sockets, Some(&timeout));
    }

    fn listen(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        loop {
            match self.machine.console.read(&mut buffer) {
                Ok(0) => return Err("the guest's console is closed".to_owned()),
                Ok(len) => self.heard.push_str(&String::from_utf8_lossy(&buffer[..len])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the guest's console: {error}")),
            }
        }
        while let Some(end) = self.heard.find('\n') {
            let line: String = self.heard.drain(..=end).collect();
            self.answers.push(line.trim_end().to_owned());
        }
        Ok(())
    }

    /// Runs the wire until `look` returns a value.
    ///
    /// # Panics
    /// When it never does.
    pub fn until<H: Host, T>(&mut self, what: &str, host: &mut H, mut look: impl FnMut(&mut H) -> Option<T>) -> T {
        let end = self.now() + PATIENCE;
        loop {
            if let Some(found) = look(host) {
                return found;
            }
            let turned = if self.now() < end { self.turn(host, end) } else { Err("never".to_owned()) };
            turned.unwrap_or_else(|reason| panic!("{what}: {reason}\n{}", self.machine.log()));
        }
    }

    /// Runs the wire for this many nanoseconds.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn run_for(&mut self, host: &mut dyn Host, nanoseconds: u64) {
        let end = self.now() + nanoseconds;
        while self.now() < end {
            self.turn(host, end).unwrap_or_else(|reason| panic!("{reason}\n{}", self.machine.log()));
        }
    }

    /// Sends the guest a line, and does not wait for its answer.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn tell(&mut self, line: &str) {
        // The guest reads a line after each answer, so that there is always room for a few lines.
        let told = self.machine.console.write_all(format!("{line}\n").as_bytes());
        told.unwrap_or_else(|error| panic!("{line}: {error}\n{}", self.machine.log()));
    }

    /// The guest's next answer.
    ///
    /// # Panics
    /// When it never comes.
    pub fn answer(&mut self, host: &mut dyn Host) -> String {
        let end = self.now() + PATIENCE;
        while self.answers.is_empty() {
            let turned = if self.now() < end { self.turn(host, end) } else { Err("never".to_owned()) };
            turned.unwrap_or_else(|reason| panic!("an answer of the guest: {reason}\n{}", self.machine.log()));
        }
        self.answers.remove(0)
    }

    /// Sends the guest a line. Returns the numbers in its answer.
    ///
    /// # Panics
    /// When it answers anything but `ok` and numbers.
    pub fn ask(&mut self, host: &mut dyn Host, line: &str) -> Vec<u64> {
        self.tell(line);
        let answer = self.answer(host);
        let words = verbs::words(&answer).unwrap_or_else(|answer| panic!("{line}: {answer}"));
        words.iter().map(|word| word.parse().unwrap_or_else(|_| panic!("{line}: {answer}"))).collect()
    }

    /// Opens the guest's queue pair anew.
    ///
    /// # Panics
    /// When it refuses.
    pub fn open(&mut self, host: &mut dyn Host) -> Opened {
        self.tell("open");
        let answer = self.answer(host);
        verbs::words(&answer).ok().and_then(|words| verbs::opened(&words)).unwrap_or_else(|| panic!("open: {answer}"))
    }

    /// Connects the guest's queue pair.
    ///
    /// # Panics
    /// When it refuses.
    pub fn connect(&mut self, host: &mut dyn Host, path: &Path) {
        self.ask(host, &path.command());
    }

    /// Waits for this many completions of the guest, and at most this many milliseconds.
    ///
    /// # Panics
    /// When it answers something else.
    pub fn poll(&mut self, host: &mut dyn Host, count: usize, milliseconds: u32) -> Vec<Completion> {
        self.tell(&format!("poll {count} {milliseconds}"));
        self.polled(host)
    }

    /// The answer to a `poll` that was told before.
    ///
    /// # Panics
    /// When it is something else.
    pub fn polled(&mut self, host: &mut dyn Host) -> Vec<Completion> {
        let answer = self.answer(host);
        let done = verbs::words(&answer).ok().and_then(|words| verbs::completions(&words));
        done.unwrap_or_else(|| panic!("poll: {answer}"))
    }
}

/// The answer to a question for the host's Ethernet address.
fn answer_arp(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, packet) = Ethernet::parse(frame).ok()?;
    if header.ethertype != ethernet::ARP {
        return None;
    }
    let question = Arp::parse(packet).ok().filter(|arp| arp.target_ip == HOST)?;
    let mut answer = vec![0; 64];
    let len = question.reply(HOST_MAC)?.emit_frame(None, &mut answer)?;
    answer.truncate(len);
    Some(answer)
}
