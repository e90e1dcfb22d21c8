//! `gvm-dp page bench`: allocates, writes, verifies every byte, and measures reads.

use super::load::{Action, Load, Memory, Outcome};
use super::master::{failure, socket};
use crate::cli::PageBenchArgs;
use common::exit::Failure;
use common::output::print;
use indicatif::{ProgressBar, ProgressStyle};
use pages::{Client, ClientOptions, EXTENT, Status};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The quantiles that are printed.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];

/// Extents of one allocation.
const AT_ONCE: u32 = 64;

/// Runs the benchmark.
///
/// # Errors
/// As for all page commands.
pub(super) fn run(args: &PageBenchArgs) -> Result<(), Failure> {
    let (block, count) = sizes(args)?;
    let options = ClientOptions {
        requests: args.depth.next_power_of_two().max(2),
        buffers: (u64::from(args.depth) * u64::from(block)).next_multiple_of(4096),
        extents: count,
        name: "gvm-dp page bench".to_owned(),
        patience: Duration::from_secs(60),
        ..ClientOptions::default()
    };
    let mut client = Client::connect(socket(&args.master), &options).map_err(failure)?;
    let begin = Instant::now();
    let mut extents = Vec::with_capacity(count as usize);
    while extents.len() < count as usize {
        let more = AT_ONCE.min(count - extents.len() as u32);
        extents.extend(client.allocate(more, false).map_err(failure)?);
    }
    let allocated = begin.elapsed();
    let run = getrandom::u64().map_err(|error| Failure::Machine(format!("no random numbers: {error}")))?;
    let memory = Memory { extents, block, run };
    let blocks = memory.blocks();
    let depth = u64::from(args.depth).min(blocks) as u32;
    let mut load = Load { client: &mut client, memory: &memory, depth };
    let mut steps = vec![("write", load.run(Action::Write, 0..blocks, &bar(blocks, "write"))?)];
    if is_good(&steps) {
        steps.push(("verify", load.run(Action::Verify, 0..blocks, &bar(blocks, "verify"))?));
    }
    let until = Instant::now() + Duration::from_nanos(args.duration.0);
    let mut state = run | 1;
    let random = std::iter::from_fn(|| {
        // xorshift64 (Marsaglia, 2003): good enough to visit blocks in no order.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (Instant::now() < until).then_some(state % blocks)
    });
    if is_good(&steps) {
        steps.push(("read", load.run(Action::Read, random, &ProgressBar::hidden())?));
    }
    let state = client.state().map_err(failure)?;
    client.free(&memory.extents).map_err(failure)?;
    let text = if args.json {
        let steps: Vec<Value> = steps.iter().map(|(name, outcome)| report(name, outcome, block)).collect();
        let extents = memory.extents.len();
        format!("{:#}\n", json!({ "extents": extents, "block": block, "depth": args.depth, "steps": steps }))
    } else {
        let mut text = format!(
            "{} extents of 2 MiB allocated in {:.3} s, {} at a time from now on\n",
            memory.extents.len(),
            allocated.as_secs_f64(),
            args.depth
        );
        steps.iter().for_each(|(name, outcome)| text.push_str(&line(name, outcome, block)));
        text.push_str(&format!(
            "wrong bytes {}; {} requests, {} of them failed\n",
            steps.iter().map(|(_, outcome)| outcome.wrong_bytes).sum::<u64>(),
            state.requests,
            state.failures
        ));
        text
    };
    print(&text)?;
    verdict(&steps)
}

/// The sizes of a request and of the memory, in bytes and in extents.
fn sizes(args: &PageBenchArgs) -> Result<(u32, u32), Failure> {
    let block = u32::try_from(args.block.0).ok().filter(|block| {
        let fits = (8..=EXTENT).contains(block);
        fits && block.is_multiple_of(8) && EXTENT.is_multiple_of(*block)
    });
    let Some(block) = block else {
        return Err(Failure::Setting {
            name: "block",
            text: format!("{}: choose a multiple of 8 that divides 2M, as in 4K", args.block),
        });
    };
    let count = args.size.0.div_ceil(EXTENT.into());
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok((block, count)),
        _ => Err(Failure::Setting { name: "size", text: format!("{}: choose 2M or more", args.size) }),
    }
}

/// A bar on a terminal; nothing elsewhere.
fn bar(blocks: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(blocks).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:7} [{bar:40}] {pos}/{len} {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn per_second(outcome: &Outcome) -> f64 {
    outcome.done as f64 / outcome.elapsed.as_secs_f64().max(1e-9)
}

fn line(name: &str, outcome: &Outcome, block: u32) -> String {
    let shares = SHARES.map(|(share, at)| format!("{share} {:.1} us", outcome.latencies.at(at) as f64 / 1e3));
    let rate = per_second(outcome);
    let mut text = format!(
        "{name:7} {} blocks of {block} bytes in {:.3} s: {rate:.0}/s, {:.1} MB/s; {}",
        outcome.done,
        outcome.elapsed.as_secs_f64(),
        rate * f64::from(block) / 1e6,
        shares.join(", ")
    );
    if outcome.repeated > 0 {
        text.push_str(&format!("; {} repeated", outcome.repeated));
    }
    text.push('\n');
    text
}

fn report(name: &str, outcome: &Outcome, block: u32) -> Value {
    let [p50, p99, max] = SHARES.map(|(_, at)| outcome.latencies.at(at));
    let rate = per_second(outcome);
    json!({
        "step": name, "blocks": outcome.done, "seconds": outcome.elapsed.as_secs_f64(), "blocks_per_second": rate,
        "bytes_per_second": rate * f64::from(block), "p50_ns": p50, "p99_ns": p99, "max_ns": max,
        "repeated": outcome.repeated, "failed": outcome.failures(), "wrong_bytes": outcome.wrong_bytes,
    })
}

/// Whether no request of any step has failed so far. After a failure the other steps make no sense.
fn is_good(steps: &[(&str, Outcome)]) -> bool {
    steps.iter().all(|(_, outcome)| outcome.failures() == 0)
}

/// Wrong bytes and failed requests are an error.
fn verdict(steps: &[(&str, Outcome)]) -> Result<(), Failure> {
    for (name, outcome) in steps {
        if let Some((status, count)) = outcome.failed.iter().next() {
            let status = Status::from_number(*status);
            return Err(Failure::Pages(format!("{count} requests of the step {name} ended with {status}")));
        }
        if outcome.wrong_bytes > 0 {
            return Err(Failure::Pages(format!(
                "{} bytes were not those that were written: memory or transport is at fault, so report it",
                outcome.wrong_bytes
            )));
        }
    }
    Ok(())
}
