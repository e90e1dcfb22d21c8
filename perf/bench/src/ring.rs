//! `ring`: what a request costs on its way through a channel and back, and how long a sleeping end takes to wake.
//!
//! **Hand-off.** A client posts bursts of 32 requests and polls completions; a server takes and completes them. Each
//! has a mapping of its own, as two processes have. Once both run on one core in turns (CPU time: what the work is),
//! and once on two cores (wall-clock time: what the cache lines cost, too). The baseline moves the same words the same
//! way and does nothing else: no checks, no room, no end that may sleep.
//!
//! **Wake-up.** A server sleeps on its bell as an lcore does. A client posts one request and rings; the time is that
//! until the server has taken it. The baseline is a thread that sleeps in `ppoll` over an eventfd, on the same core, in
//! turn.

use crate::idle::bare::Bare;
use crate::input;
use crate::ratios::{Ratios, median};
use crate::report::Report;
use crate::stopwatch::Stopwatch;
use crate::unavailable::needs;
use anyhow::{Context, ensure};
use channel::{
    ChannelCompletion, ChannelLayout, ChannelRequest, ChannelStatus, ClientEnd, Lane, MOST_AT_ONCE, ServerEnd, Transfer,
};
use core_affinity::{CoreId, set_for_current};
use frame::time::{MICROSECOND, SECOND};
use frame::{Hugepages, Shared, Time};
use lcore::{Clock, CoreList};
use rustix::event::{EventfdFlags, epoll, eventfd};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Requests under way.
const CAPACITY: u32 = 1024;
const BURST: usize = 32;

/// Requests of a round.
const REQUESTS: u64 = 1 << 19;

/// Between two wake-ups, in nanoseconds: long after the last spin.
const PAUSE: std::ops::Range<u32> = 1_500_000..4_500_000;

/// A wake-up that takes longer counts as lost.
const NEVER: Time = 60 * SECOND;

/// Parts of all wake-ups, each with a ratio of its own.
const PARTS: usize = 10;

const REQUEST: ChannelRequest =
    ChannelRequest { tag: 0, transfer: Transfer::Read, lane: Lane::Demand, extent: 1, offset: 0, len: 4096, buffer: 0 };

const DONE: ChannelCompletion = ChannelCompletion { tag: 0, status: ChannelStatus::DONE, len: 4096 };

type Ends = (ClientEnd<Arc<Shared>>, ServerEnd<Arc<Shared>>);

fn memories(bytes: u64) -> anyhow::Result<[Arc<Shared>; 2]> {
    let made = Shared::new(bytes as usize, Hugepages::Prefer)?;
    let adopted = Shared::adopt(made.file().try_clone_to_owned()?, 1 << 30)?;
    made.freeze()?;
    Ok([Arc::new(made), Arc::new(adopted)])
}

fn ends() -> anyhow::Result<Ends> {
    let layout = ChannelLayout::new(CAPACITY, 4096)?;
    let [made, adopted] = memories(layout.bytes())?;
    Ok((ClientEnd::new(adopted, layout)?, ServerEnd::new(made, layout)?))
}

/// Takes and completes what there is.
#[inline]
fn attend(server: &mut ServerEnd<Arc<Shared>>) -> anyhow::Result<usize> {
    let mut burst = [REQUEST; MOST_AT_ONCE];
    let taken = server.take(&mut burst)?.count;
    let mut done = [DONE; MOST_AT_ONCE];
    for (completion, request) in done.iter_mut().zip(&burst[..taken]) {
        completion.tag = request.tag;
        completion.len = request.len;
    }
    server.complete(&done[..taken])?;
    Ok(taken)
}

/// What a client has posted and polled. Completions come in the order of the requests here.
#[derive(Default)]
struct Client {
    posted: u64,
    ended: u64,
}

impl Client {
    /// Posts a burst, if there is room for it, and polls.
    #[inline]
    fn step(&mut self, end: &mut ClientEnd<Arc<Shared>>) -> anyhow::Result<()> {
        if self.posted < REQUESTS && end.room() >= BURST {
            let mut burst = [REQUEST; BURST];
            for (request, tag) in burst.iter_mut().zip(self.posted..) {
                request.tag = tag;
            }
            self.posted += end.post(&burst)?.count as u64;
        }
        let mut done = [DONE; MOST_AT_ONCE];
        let found = end.poll(&mut done)?;
        for completion in &done[..found] {
            ensure!(completion.tag == self.ended && completion.len == 4096, "a request is lost, doubled or changed");
            self.ended += 1;
        }
        Ok(())
    }
}

/// The baseline: words in two arrays, and how many there are. The client knows the rest by its own count.
struct BareRing {
    memory: Arc<Shared>,
}

impl BareRing {
    const REQUESTS_AT: usize = 32;
    const DONE_AT: usize = Self::REQUESTS_AT + 4 * CAPACITY as usize;
    const WORDS: usize = Self::DONE_AT + 2 * CAPACITY as usize;

    #[inline]
    fn post(&self, from: u64, count: usize) {
        let words = &self.memory[Self::REQUESTS_AT..Self::DONE_AT];
        for number in from..from + count as u64 {
            let at = (number % u64::from(CAPACITY)) as usize * 4;
            for (word, value) in words[at..at + 4].iter().zip([number, 1, 4096 << 32, 0x0101 << 48]) {
                word.store(value, Ordering::Relaxed);
            }
        }
        self.memory[0].store(from + count as u64, Ordering::Release);
    }

    #[inline]
    fn attend(&self, from: u64) -> u64 {
        let tail = self.memory[0].load(Ordering::Acquire).min(from + MOST_AT_ONCE as u64);
        if tail == from {
            return from;
        }
        for number in from..tail {
            let at = (number % u64::from(CAPACITY)) as usize;
            let mut entry = [0; 4];
            let words = &self.memory[Self::REQUESTS_AT + 4 * at..][..4];
            entry.iter_mut().zip(words).for_each(|(value, word)| *value = word.load(Ordering::Relaxed));
            let words = &self.memory[Self::DONE_AT + 2 * at..][..2];
            words[0].store(entry[0], Ordering::Relaxed);
            words[1].store(entry[2], Ordering::Relaxed);
        }
        self.memory[16].store(tail, Ordering::Release);
        tail
    }

    #[inline]
    fn poll(&self, from: u64) -> anyhow::Result<u64> {
        let tail = self.memory[16].load(Ordering::Acquire);
        for number in from..tail {
            let at = Self::DONE_AT + (number % u64::from(CAPACITY)) as usize * 2;
            let entry = [self.memory[at].load(Ordering::Relaxed), self.memory[at + 1].load(Ordering::Relaxed)];
            ensure!(entry == [number, 4096 << 32], "a request is lost, doubled or changed");
        }
        Ok(tail)
    }

    #[inline]
    fn step(&self, client: &mut Client) -> anyhow::Result<()> {
        if client.posted < REQUESTS && client.posted - client.ended <= u64::from(CAPACITY) - BURST as u64 {
            self.post(client.posted, BURST);
            client.posted += BURST as u64;
        }
        client.ended = self.poll(client.ended)?;
        Ok(())
    }
}

/// Nanoseconds for each request, on one core in turns.
fn one_core() -> anyhow::Result<[f64; 2]> {
    let (mut end, mut server) = ends()?;
    let mut client = Client::default();
    let watch = Stopwatch::start();
    while client.ended < REQUESTS {
        client.step(&mut end)?;
        attend(&mut server)?;
    }
    let ours = watch.nanoseconds() / REQUESTS as f64;
    let [made, adopted] = memories(8 * BareRing::WORDS as u64)?;
    let (ring, other, mut taken) = (BareRing { memory: adopted }, BareRing { memory: made }, 0);
    let mut client = Client::default();
    let watch = Stopwatch::start();
    while client.ended < REQUESTS {
        ring.step(&mut client)?;
        taken = other.attend(taken);
    }
    Ok([ours, watch.nanoseconds() / REQUESTS as f64])
}

/// Runs a server on one core and a client on another; nanoseconds for each request.
fn across(
    [here, there]: [usize; 2],
    mut serve: impl FnMut() -> anyhow::Result<()> + Send,
    mut step: impl FnMut(&mut Client) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let (over, ready) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let server = scope.spawn(|| -> anyhow::Result<()> {
            set_for_current(CoreId { id: there });
            ready.store(true, Ordering::Release);
            while !over.load(Ordering::Relaxed) {
                serve()?;
            }
            Ok(())
        });
        set_for_current(CoreId { id: here });
        while !ready.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let (clock, mut client, mut result) = (Clock::start(), Client::default(), Ok(()));
        let before = clock.now();
        while client.ended < REQUESTS && result.is_ok() && !server.is_finished() {
            // Whether the server has failed is asked rarely: it costs a shared line.
            for _ in 0..1024 {
                result = step(&mut client);
                if client.ended >= REQUESTS || result.is_err() {
                    break;
                }
            }
        }
        let time = clock.now() - before;
        over.store(true, Ordering::Relaxed);
        result.and(server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?)?;
        ensure!(client.ended == REQUESTS, "requests are missing");
        Ok(time as f64 / REQUESTS as f64)
    })
}

fn two_cores(cores: [usize; 2]) -> anyhow::Result<[f64; 2]> {
    let (mut end, mut server) = ends()?;
    let ours = across(cores, || attend(&mut server).map(drop), |client| client.step(&mut end))?;
    let [made, adopted] = memories(8 * BareRing::WORDS as u64)?;
    let (ring, other, mut taken) = (BareRing { memory: adopted }, BareRing { memory: made }, 0);
    let serve = || {
        taken = other.attend(taken);
        Ok(())
    };
    Ok([ours, across(cores, serve, |client| ring.step(client))?])
}

/// A server that sleeps on its bell, as an lcore does on those of its clients.
struct Sleeper {
    bell: OwnedFd,
    woke_at: AtomicU64,
    woken: AtomicU64,
    over: AtomicBool,
}

impl Sleeper {
    fn run(&self, core: usize, clock: Clock, server: &mut ServerEnd<Arc<Shared>>) -> anyhow::Result<()> {
        set_for_current(CoreId { id: core });
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let hears = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&hears, &self.bell, epoll::EventData::new_u64(0), edge)?;
        let longest = rustix::event::Timespec { tv_sec: 0, tv_nsec: lcore::wait::LONGEST_SLEEP as i64 };
        let mut events = Vec::with_capacity(4);
        while !self.over.load(Ordering::Relaxed) {
            let mut burst = [REQUEST; 1];
            if server.take(&mut burst)?.count > 0 {
                self.woke_at.store(clock.now(), Ordering::Relaxed);
                self.woken.store(self.woken.load(Ordering::Relaxed) + 1, Ordering::Release);
                server.complete(&[ChannelCompletion { tag: burst[0].tag, ..DONE }])?;
            } else if server.sleep()? {
                events.clear();
                let _ = epoll::wait(&hears, rustix::buffer::spare_capacity(&mut events), Some(&longest));
                server.wake()?;
            }
        }
        Ok(())
    }
}

/// Waits until `count` of what `look` says was reached; returns when that was.
fn until(clock: Clock, count: u64, look: impl Fn() -> (u64, Time)) -> anyhow::Result<Time> {
    let began = clock.now();
    loop {
        let (seen, at) = look();
        if seen >= count {
            return Ok(at);
        }
        ensure!(clock.now() - began < NEVER, "a wake-up was lost: nothing came for 60 seconds");
        std::thread::yield_now();
    }
}

/// Latencies of wake-ups, in microseconds: of a channel, and of a thread in `ppoll`.
fn wake_ups([here, there]: [usize; 2], wakes: usize) -> anyhow::Result<[Vec<f64>; 2]> {
    let (mut end, mut server) = ends()?;
    let clock = Clock::start();
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let (woke_at, woken, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let sleeper = Sleeper { bell, woke_at, woken, over };
    let bare = Bare::start(there, clock)?;
    set_for_current(CoreId { id: here });
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| sleeper.run(there, clock, &mut server));
        let mut random = input::Random::new(1);
        let (mut ours, mut theirs) = (Vec::with_capacity(wakes), Vec::with_capacity(wakes));
        let mut measure = || -> anyhow::Result<()> {
            for number in 1..=wakes as u64 {
                let mut pause = || {
                    let ns = PAUSE.start + random.below(PAUSE.end - PAUSE.start);
                    std::thread::sleep(Duration::from_nanos(ns.into()));
                };
                pause();
                let before = clock.now();
                if end.post(&[ChannelRequest { tag: number, ..REQUEST }])?.ring {
                    rustix::io::write(&sleeper.bell, &1u64.to_ne_bytes())?;
                }
                let look = || (sleeper.woken.load(Ordering::Acquire), sleeper.woke_at.load(Ordering::Relaxed));
                let at = until(clock, number, look)?;
                ours.push(at.saturating_sub(before) as f64 / MICROSECOND as f64);
                let mut done = [DONE; 2];
                while end.poll(&mut done)? == 0 {
                    std::hint::spin_loop();
                }
                ensure!(done[0].tag == number, "a completion is lost or doubled");
                pause();
                let before = clock.now();
                bare.ring()?;
                let at = until(clock, number, || bare.woke())?;
                theirs.push(at.saturating_sub(before) as f64 / MICROSECOND as f64);
            }
            Ok(())
        };
        let result = measure();
        sleeper.over.store(true, Ordering::Relaxed);
        let _ = rustix::io::write(&sleeper.bell, &1u64.to_ne_bytes());
        result.and(thread.join().map_err(|_| anyhow::anyhow!("the server panicked"))?)?;
        Ok([ours, theirs])
    })
}

/// Ratios of the medians of each part.
fn parts([ours, theirs]: &[Vec<f64>; 2]) -> Ratios {
    let each = ours.len().div_ceil(PARTS).max(1);
    let ratio = |(us, them): (&[f64], &[f64])| median(us.to_vec()) / median(them.to_vec());
    Ratios::of(ours.chunks(each).zip(theirs.chunks(each)).map(ratio).collect())
}

/// The benchmark. Its value is the hand-off between two cores, and its ratio that of the hand-off; the ratio of the
/// wake-ups stands in the table.
///
/// # Errors
/// There is one core only ([`Unavailable`](crate::unavailable::Unavailable)), the kernel refuses something, or a
/// request is lost.
pub fn report(rounds: Option<usize>, wakes: Option<usize>, quick: bool) -> anyhow::Result<Report> {
    let machine = CoreList::of_this_process()?;
    let cores: Vec<usize> = machine.iter().take(2).collect();
    needs(cores.len() == 2, format!("a hand-off needs two cores, and this process may use core {machine} alone"))?;
    let cores: [usize; 2] = cores.try_into().ok().context("two cores")?;
    let (usual_rounds, usual_wakes) = if quick { (2, 50) } else { (31, 2000) };
    let (mut one, mut two) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds.unwrap_or(usual_rounds) {
        for (measured, all) in [(one_core()?, &mut one), (two_cores(cores)?, &mut two)] {
            all.iter_mut().zip(measured).for_each(|(all, value)| all.push(value));
        }
    }
    let wake = wake_ups(cores, wakes.unwrap_or(usual_wakes))?;
    let ratios = |pair: &[Vec<f64>; 2]| Ratios::of(pair[0].iter().zip(&pair[1]).map(|(us, them)| us / them).collect());
    let (one_ratios, two_ratios, wake_ratios) = (ratios(&one), ratios(&two), parts(&wake));
    println!("ring: channels of {CAPACITY} requests, there and back, bursts of {BURST}; wake-ups of a sleeping server");
    println!("{:>24} {:>10} {:>10} {:>7} {:>12}", "", "channel", "bare", "ratio", "range");
    let rows = [
        ("one core, CPU ns", &one, one_ratios),
        ("two cores, ns", &two, two_ratios),
        ("wake-up, us (p50)", &wake, wake_ratios),
    ];
    let mut details = Vec::new();
    for (name, [ours, theirs], ratios) in rows {
        let (ours, theirs) = (median(ours.clone()), median(theirs.clone()));
        println!("{name:>24} {ours:>10.1} {theirs:>10.1} {:>7.2} {:>12}", ratios.median, ratios.range());
        details.push(serde_json::json!({ "name": name, "ours": ours, "bare": theirs, "ratios": ratios.json() }));
    }
    let value = median(two[0].clone());
    Ok(Report { name: "ring", value, unit: "ns/request", ratios: two_ratios, details: details.into() })
}
