//! One capture: taps on all lcores, drained into a stream of pcapng.

use super::merge::Merge;
use super::taps;
use super::wants::{Masters, Side};
use crate::request::ControlRequest;
use crate::single::Permit;
use crate::state::ServerState;
use ::capture::Filter;
use ::capture::packet::{Headers, MAX_HEADERS, Packet};
use ::capture::pcapng::{Interface, Statistics, Writer};
use api::capture::CaptureOrder;
use frame::{Peer, Time};
use hyper::body::Bytes;
use lcore::Clock;
use lcore::tap::{Copied, Watch, Way, tap};
use lcore::watchdog::{Pulse, Stage};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often empty taps are checked again.
const LOOK: Duration = Duration::from_millis(4);
/// How many copies are taken before other duties of the control thread run.
const AT_ONCE: usize = 256;
/// Bytes of a piece of the stream.
const PIECE: usize = 64 << 10;
/// How often the registrar is asked for the addresses of the masters.
const ASK: Duration = Duration::from_millis(500);

/// How long the end waits for lcores to finish their current poll.
const SETTLE: Duration = Duration::from_millis(500);

/// How long the last piece waits for a client that does not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// The capture's end of one lcore's tap.
struct Line {
    watch: Watch,
    pulse: Arc<Pulse>,
    ports: Vec<PortLine>,
}

/// One port of one lcore: an interface of the file.
struct PortLine {
    name: String,
    description: String,
    own: Option<Peer>,
    delivered: u64,
}

/// Why a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Count,
    Time,
    Told,
    Process,
    ClientGone,
}

/// See the module's documentation.
pub(super) struct Session {
    state: ServerState,
    lines: Vec<Line>,
    masters: Option<Masters>,
    merge: Merge<Box<Copied>>,
    clock: Clock,
    /// Add this to the process's time to get the time since 1970.
    offset: Duration,
    began: Time,
    deadline: Option<Instant>,
    left: u64,
    filter: String,
    snaplen: u32,
    out: Vec<u8>,
}

impl Session {
    /// Attaches a tap to every lcore.
    pub(super) fn begin(order: &CaptureOrder, filter: Filter, state: &ServerState) -> Self {
        let board = &state.board;
        let views: Vec<_> = board.views().collect();
        let mtu = views.iter().flat_map(|view| &view.ports).map(|port| port.about.mtu()).max().unwrap_or(0);
        let config = taps::of(order, views.len(), mtu);
        let side = if board.is_gateway() { Side::Gateway } else { Side::Slave };
        let mut masters = Masters::new();
        let text = filter.to_string();
        let asks_masters = side == Side::Gateway && filter.asks_direction();
        let mut lines = Vec::with_capacity(views.len());
        for view in views {
            let wants = masters.wants(filter.clone(), side, board.scale());
            let (tap, watch) = tap(config, view.ports.len(), wants);
            view.tap_slot.put(tap);
            let port = |port: &lcore::thread::PortView| PortLine {
                name: format!("port{}-lcore{}", port.id.0, view.index),
                description: port.about.describe(),
                own: port.about.own_end(),
                delivered: 0,
            };
            let ports = view.ports.iter().map(port).collect();
            lines.push(Line { watch, pulse: Arc::clone(&view.pulse), ports });
        }
        let merge = Merge::new(lines.len() * config.slots);
        let clock = board.clock();
        let began = clock.now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            state: state.clone(),
            lines,
            masters: asks_masters.then_some(masters),
            merge,
            clock,
            offset: since.saturating_sub(Duration::from_nanos(began)),
            began,
            deadline: order.duration_ms.map(|limit| Instant::now() + Duration::from_millis(limit)),
            left: order.count.unwrap_or(u64::MAX),
            filter: text,
            snaplen: config.snaplen as u32 + MAX_HEADERS as u32,
            out: Vec::with_capacity(PIECE + 4096),
        }
    }

    /// Streams until the capture ends.
    pub(super) async fn run(mut self, permit: Permit, pieces: mpsc::Sender<Bytes>) {
        tracing::info!("capture begins{}{}", if self.filter.is_empty() { "" } else { ": " }, self.filter);
        self.head();
        let end = self.stream(&permit, &pieces).await;
        let why = match end {
            End::Count => "as many as were asked for",
            End::Time => "its time is over",
            End::Told => "told to",
            End::Process => "the process ends",
            End::ClientGone => "the client went away",
        };
        let sum = |count: fn(&lcore::tap::PortTally) -> u64| -> u64 {
            self.lines.iter().flat_map(|line| line.watch.ports()).map(count).sum()
        };
        let written: u64 = self.lines.iter().flat_map(|line| &line.ports).map(|port| port.delivered).sum();
        tracing::info!(
            "capture ends, {why}: {written} datagrams, {} dropped for want of room, {} seen",
            sum(|port| port.dropped.get()),
            sum(|port| port.seen.get())
        );
        if end != End::ClientGone {
            self.tail();
        }
        let last = Bytes::from(std::mem::take(&mut self.out));
        // The client that reads the end may begin another capture, and must find the memory of this one free.
        drop(self);
        drop(permit);
        if end != End::ClientGone {
            // A client that goes away now, or does not read, misses only the statistics.
            let _ = pieces.send_timeout(last, PATIENCE).await;
        }
    }

    async fn stream(&mut self, permit: &Permit, pieces: &mpsc::Sender<Bytes>) -> End {
        let mut ask_at = Instant::now();
        let mut told = false;
        loop {
            if let Some(masters) = &mut self.masters
                && Instant::now() >= ask_at
            {
                if let Ok(now) = self.state.request(ControlRequest::Masters).await {
                    masters.tell(now);
                }
                ask_at = Instant::now() + ASK;
            }
            // Checked before the taps are read, so that nothing comes after the end.
            let end = if told { Some(End::Told) } else { self.end() };
            if matches!(end, Some(End::Told | End::Time)) {
                self.settle().await;
            }
            let mut taken = self.take();
            let mut now = self.clock.now();
            if end.is_some() {
                // At most as much as the taps have slots: the slots are given back later.
                while self.take() > 0 {}
                (taken, now) = (0, Time::MAX);
            }
            while self.write(now) {
                if let Some(end) = self.send(permit, pieces).await {
                    return end;
                }
            }
            if let Some(end) = self.send(permit, pieces).await {
                return end;
            }
            if self.left == 0 {
                return End::Count;
            }
            if let Some(end) = end {
                return end;
            }
            if taken == AT_ONCE {
                tokio::task::yield_now().await;
                continue;
            }
            let rest = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = tokio::time::sleep(rest.map_or(LOOK, |rest| rest.min(LOOK))) => {}
                () = pieces.closed() => return End::ClientGone,
                () = permit.stop.notified() => told = true,
            }
        }
    }

    /// Waits until every lcore has finished its current poll. Then everything that it has received and sent so far is
    /// copied. A datagram may reach its receiver before its copy is made. The wait for an lcore that stands still is
    /// short.
    async fn settle(&self) {
        let beats: Vec<u64> = self.lines.iter().map(|line| line.pulse.beats()).collect();
        let deadline = Instant::now() + SETTLE;
        let is_over = |(line, beats): (&Line, &u64)| {
            let between = matches!(line.pulse.stage(), Stage::Starting | Stage::Waiting | Stage::Stopped);
            between || line.pulse.beats() != *beats
        };
        while !self.lines.iter().zip(&beats).all(is_over) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Why the capture ends by itself now, if it does.
    fn end(&self) -> Option<End> {
        if self.lines.iter().all(|line| line.watch.is_ended() || line.pulse.stage() == Stage::Stopped) {
            Some(End::Process)
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Some(End::Time)
        } else {
            None
        }
    }

    /// Sends what was written. Returns why the capture ends, if that was the last piece.
    async fn send(&mut self, permit: &Permit, pieces: &mpsc::Sender<Bytes>) -> Option<End> {
        if self.out.is_empty() {
            return None;
        }
        let piece = Bytes::from(std::mem::replace(&mut self.out, Vec::with_capacity(PIECE + 4096)));
        tokio::select! {
            sent = pieces.send(piece) => sent.is_err().then_some(End::ClientGone),
            // The client does not read what it has.
            () = permit.stop.notified() => Some(End::Told),
        }
    }

    /// Takes copies from the taps, up to [`AT_ONCE`] from each.
    fn take(&mut self) -> usize {
        let mut most = 0;
        for (lcore, line) in self.lines.iter_mut().enumerate() {
            let mut taken = 0;
            while taken < AT_ONCE
                && let Some(slot) = line.watch.take()
            {
                self.merge.add(lcore, slot.time, slot);
                taken += 1;
            }
            most = most.max(taken);
        }
        most
    }

    /// Writes copies that are old enough at `now`. Returns whether more than a piece is left.
    fn write(&mut self, now: Time) -> bool {
        while self.left > 0 {
            if self.out.len() >= PIECE {
                return true;
            }
            let Some((lcore, slot)) = self.merge.next(now) else { break };
            self.packet(lcore, &slot);
            if let Some(line) = self.lines.get_mut(lcore) {
                line.watch.give_back(slot);
            }
            self.left -= 1;
        }
        false
    }

    fn packet(&mut self, lcore: usize, slot: &Copied) {
        let time = self.since_1970(slot.time);
        let interface = self.interface(lcore, usize::from(slot.peer.port.0));
        let Some(port) = self.lines.get_mut(lcore).and_then(|line| line.ports.get_mut(usize::from(slot.peer.port.0)))
        else {
            return;
        };
        port.delivered += 1;
        let received = slot.way == Way::Rx;
        let bytes = slot.data();
        let packet = Packet { received, own: port.own, peer: slot.peer, ce: slot.ce, bytes, len: slot.len };
        let headers = Headers::of(&packet);
        let len = headers.bytes().len() + slot.len;
        Writer::new(&mut self.out).packet(interface, time, received, [headers.bytes(), bytes], len);
    }

    fn since_1970(&self, time: Time) -> Duration {
        self.offset + Duration::from_nanos(time)
    }

    /// The number of an interface of the file.
    fn interface(&self, lcore: usize, port: usize) -> u32 {
        let before: usize = self.lines.iter().take(lcore).map(|line| line.ports.len()).sum();
        (before + port) as u32
    }

    fn head(&mut self) {
        let mut writer = Writer::new(&mut self.out);
        let application = concat!("gvm-dp ", env!("CARGO_PKG_VERSION"), "; Ethernet, IP and UDP headers are made up");
        writer.section(application, std::env::consts::ARCH, std::env::consts::OS);
        for port in self.lines.iter().flat_map(|line| &line.ports) {
            writer.interface(&Interface {
                name: &port.name,
                description: &port.description,
                filter: &self.filter,
                snaplen: self.snaplen,
            });
        }
    }

    fn tail(&mut self) {
        let (began, ended) = (self.since_1970(self.began), self.since_1970(self.clock.now()));
        let mut writer = Writer::new(&mut self.out);
        let mut number = 0;
        for line in &self.lines {
            for (port, tally) in line.ports.iter().zip(line.watch.ports()) {
                let statistics = Statistics {
                    began,
                    ended,
                    received: tally.seen.get(),
                    accepted: tally.wanted.get(),
                    dropped: tally.dropped.get(),
                    delivered: port.delivered,
                };
                writer.statistics(number, &statistics);
                number += 1;
            }
        }
    }
}
