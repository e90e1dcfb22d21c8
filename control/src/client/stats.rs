//! `gvm-dp stats`: what a running process counts.

use super::{Target, print};
use crate::cli::StatsArgs;
use crate::exit::Failure;
use crate::serve::stats::{Direction, InterfaceStats, Stats};
use hyper::Method;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Prints the counters: once, as JSON, or every second with rates.
pub fn run(args: &StatsArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    if args.json {
        print(&format!("{}\n", String::from_utf8_lossy(&target.request(Method::GET, "/v1/stats")?)));
        return Ok(());
    }
    let mut before = read(&target)?;
    let mut goes_on = print(&table(&before, None)) && args.watch;
    while goes_on {
        std::thread::sleep(Duration::from_secs(1));
        let now = read(&target)?;
        goes_on = print(&format!("\n{}", table(&now, Some(&before))));
        before = now;
    }
    Ok(())
}

fn read(target: &Target) -> Result<Stats, Failure> {
    target.read(&target.request(Method::GET, "/v1/stats")?)
}

/// The whole, as a person reads it; with rates per second when there is an earlier look.
fn table(stats: &Stats, before: Option<&Stats>) -> String {
    let mut text = String::new();
    let Stats { name, role, version, pid, uptime_seconds, state, cpu_seconds, .. } = stats;
    let _ = writeln!(
        text,
        "{name}: {role} {version}, pid {pid}, {state} for {uptime_seconds:.1} s, {} lcores, {cpu_seconds:.2} CPU seconds",
        stats.lcores.len()
    );
    if let Some(members) = &stats.membership {
        let _ = writeln!(
            text,
            "registered: {} of {} ids, {} suspect, {} masters, generation {}",
            members.registered, members.ids, members.suspect, members.masters, members.generation
        );
    }
    for (name, direction) in &stats.directions {
        describe_direction(&mut text, name, direction);
    }
    let seconds = before.map(|before| (uptime_seconds - before.uptime_seconds).max(1e-3));
    for (set, counters) in &stats.total {
        let earlier = before.and_then(|before| before.total.get(set));
        describe_set(&mut text, set, counters, earlier.zip(seconds));
    }
    for interface in &stats.interfaces {
        let InterfaceStats { port, name, address, mtu, queues, ring, asked, mode, .. } = interface;
        let title = format!(
            "interface of port {port}: {name}, {queues} queues, {mode} (asked for {asked}), MTU {mtu}, {address}, rings of \
             {ring}"
        );
        describe_set(&mut text, &title, &interface.verdicts, None);
    }
    for lcore in &stats.lcores {
        let core = lcore.core.map_or("not pinned".to_owned(), |core| format!("core {core}"));
        let _ = writeln!(
            text,
            "lcore {} ({core}): {}, {:.2} CPU seconds, frames on {}",
            lcore.index, lcore.stage, lcore.cpu_seconds, lcore.memory
        );
        for port in &lcore.ports {
            describe_set(&mut text, &format!("port {} {}", port.id, port.description), &port.counters, None);
        }
    }
    text
}

fn describe_direction(text: &mut String, name: &str, direction: &Direction) {
    let Direction { records_in, records_out, held, datagrams_in, datagrams_out, .. } = direction;
    let saved = direction.saved_percent.map_or("-".to_owned(), |saved| format!("{saved:.1} %"));
    let _ = writeln!(
        text,
        "{name:<5} records in {records_in}, out {records_out}, held {held}; datagrams in {datagrams_in}, out \
         {datagrams_out}; packets saved {saved}"
    );
    for (reason, count) in direction.dropped.iter().filter(|(_, count)| **count > 0) {
        let _ = writeln!(text, "{:<5} dropped {count}: {reason}", "");
    }
}

/// The counters of a set that are not zero.
fn describe_set(
    text: &mut String,
    name: &str,
    counters: &BTreeMap<String, u64>,
    earlier: Option<(&BTreeMap<String, u64>, f64)>,
) {
    let _ = writeln!(text, "{name}");
    for (counter, value) in counters.iter().filter(|(_, value)| **value > 0) {
        let rate = earlier.map(|(earlier, seconds)| {
            let grown = value.saturating_sub(earlier.get(counter).copied().unwrap_or(0));
            format!("{:>14.0}/s", grown as f64 / seconds)
        });
        let _ = writeln!(text, "  {counter:<32}{value:>20}{}", rate.unwrap_or_default());
    }
}
