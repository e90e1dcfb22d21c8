//! `neighbours`: the cost of bad neighbours for honest slaves at a real gateway, compared with the same load without
//! them.
//!
//! First, at a `udp:` port, a slave behind 10 Mbit/s and a queue of 20 MB is sent twice as much as its link takes.
//! Measured are the round trips of 20 other slaves on a fast link. In the same round that slave is sent the same data
//! on a fast link, which shows the part of the difference that is only the additional work. Second, at an `xdp:` port,
//! one slave sends at full speed to a master behind a rate limit. Measured is how much of the data of 20 other slaves
//! gets through, each of which sends less than its share.

use crate::ratios::{Ratios, median};
use crate::report::Report;
use crate::unavailable::needs_two_cores_and_namespaces;
use anyhow::{Context as _, ensure};
use netns::product::{Place, Process, until};
use netns::world::report as report_in;
use netns::{End, Namespace, join, real_checksums};
use rustix::process::Signal;
use serde_json::Value;

/// Honest slaves; the next id is the bad neighbour.
const HONEST: u64 = 20;
/// The slow link.
const SLOW: &str = "qdisc replace dev slow root tbf rate 10mbit burst 20kb limit 20000000";
/// The rate limit: it lets 2,150 records through in a second, 102 for each slave.
const LIMIT: &str = "qdisc replace dev left root tbf rate 4mbit burst 10kb limit 20000000";
/// Records a second of all honest slaves together, and of the one that floods.
const UPWARD: (u64, u64) = (1_600, 8_000);

/// A gateway and nodes on two sides of it.
struct World {
    place: Place,
    gateway: Namespace,
    near: Namespace,
    far: Namespace,
}

impl World {
    fn new(near: &str, far: &str) -> Self {
        let world =
            Self { place: Place::new(), gateway: Namespace::new(), near: Namespace::new(), far: Namespace::new() };
        let sides = [(&world.near, near, "n", "10.98.1"), (&world.far, far, "f", "10.98.2")];
        for (host, name, end, net) in sides {
            let [ours, theirs] = [1, 2].map(|last| format!("{net}.{last}/24"));
            let theirs = End { namespace: host, name: end, address: &theirs };
            join(&End { namespace: &world.gateway, name, address: &ours }, &theirs, 1);
            real_checksums(&theirs);
        }
        world
    }

    fn serve(&self, ports: &str) -> Process {
        let gateway = self.place.start(&self.gateway, &format!("gvm-dp {ports} --frames 4096"));
        gateway.says(&["gateway \"", "control socket"]);
        gateway
    }

    fn farm(&self, host: &Namespace, first: u64, count: u64, more: &str) -> Process {
        let line = format!("gvm-dp slave --name farm-{first} --id {first} --count {count} --frames 2048 {more}");
        self.place.start(host, &line)
    }

    fn master(&self, gateway: &str, id: u32, slaves: &str, more: &str) -> Process {
        let line =
            format!("gvm-pktgen --gateway {gateway} --id {id} --slaves {slaves} --timeout 40 -q --json - {more}");
        self.place.start(&self.near, &line)
    }
}

/// The report of a master that ends with success.
fn reported(master: Process) -> anyhow::Result<Value> {
    let (code, printed, said) = master.wait();
    ensure!(code == Some(0), "a master ended with {code:?}: {said}");
    Ok(report_in(&printed))
}

fn number(value: &Value) -> anyhow::Result<f64> {
    value.as_f64().with_context(|| format!("{value} is not a number"))
}

/// The 99th percentiles of a round, in nanoseconds: alone, beside a fast neighbour that is sent much, beside a slow
/// one.
fn slow_link(rounds: usize, records: u64) -> anyhow::Result<Vec<[f64; 3]>> {
    let world = World::new("fast", "slow");
    world.far.ip("route add 10.98.1.1/32 via 10.98.2.1 dev f");
    let _gateway = world.serve("--port udp:10.98.1.1:9999");
    let _others = world.farm(&world.near, 0, HONEST, "--gateway 10.98.1.1 --port udp:10.98.1.2:0");
    let _neighbour = world.farm(&world.far, HONEST, 1, "--gateway 10.98.1.1 --port udp:10.98.2.2:0");
    world.place.until_registered("gateway", HONEST + 1);
    let asks = || {
        let asks = format!("--rate 2000 --window 200 --window-timeout 20 --records {records} --seconds 300");
        let report = reported(world.master("10.98.1.1", 1, &format!("0-{}", HONEST - 1), &asks))?;
        ensure!(report["echo"]["lost"] == 0, "others lost records: {report:#}");
        number(&report["latency_ns"]["p99"])
    };
    let beside = |queue: Option<&str>| {
        if let Some(queue) = queue {
            world.gateway.exec(&format!("tc {queue}"));
        }
        let sends = "--down pattern --size 1400 --rate 2000 --seconds 600 --allow-loss";
        let flood = world.master("10.98.1.1", 100, &format!("{HONEST}-{HONEST}"), sends);
        until("the neighbour is sent something", || {
            let held = world.place.stats("gateway")["directions"]["down"]["datagrams_out"].as_u64();
            held.is_some_and(|out| out > 0).then_some(())
        });
        let p99 = asks()?;
        flood.signal(Signal::TERM);
        flood.wait();
        if queue.is_some() {
            world.gateway.exec("tc qdisc del dev slow root");
        }
        Ok::<_, anyhow::Error>(p99)
    };
    (0..rounds).map(|_| Ok([asks()?, beside(None)?, beside(Some(SLOW))?])).collect()
}

/// The share of the honest slaves' data that gets through a rate limit beside a slave that floods.
fn rate_limit(seconds: u64) -> anyhow::Result<f64> {
    let world = World::new("left", "right");
    // AF_XDP bypasses the queues of its own interface, but not those of the interface under it.
    world.gateway.ip("link add link left name limited type macvlan mode private");
    world.gateway.ip("address del 10.98.1.1/24 dev left");
    world.gateway.ip("address add 10.98.1.1/24 dev limited");
    world.gateway.ip("link set dev limited up");
    world.gateway.exec(&format!("tc {LIMIT}"));
    let _gateway = world.serve("--port xdp:limited,mode=skb --port xdp:right");
    let sends = |first: u64, count: u64, master: u32, rate: u64| {
        let more =
            format!("--gateway 10.98.2.1 --port udp:10.98.2.2:0 --traffic master={master},payload=200,rate={rate}");
        world.farm(&world.far, first, count, &more)
    };
    let _farms = [sends(0, HONEST, 1, UPWARD.0), sends(HONEST, 1, 2, UPWARD.1)];
    world.place.until_registered("gateway", HONEST + 1);
    let hears = format!("--down nothing --seconds {seconds} --allow-loss");
    let flooded = world.master("10.98.1.1", 2, &format!("{HONEST}-{HONEST}"), &hears);
    let honest = reported(world.master("10.98.1.1", 1, &format!("0-{}", HONEST - 1), &hears))?;
    let flooded = reported(flooded)?;
    ensure!(number(&flooded["up"]["lost"])? > 0.0, "nothing was too much: {flooded:#}");
    let (ok, lost) = (number(&honest["up"]["ok"])?, number(&honest["up"]["lost"])?);
    ensure!(ok > 0.0, "nothing came: {honest:#}");
    Ok(ok / (ok + lost))
}

/// The benchmark.
///
/// # Errors
/// A process failed, an honest slave lost a record beside a slow one, or this machine has no namespaces.
pub fn report(rounds: Option<usize>, quick: bool) -> anyhow::Result<Report> {
    needs_two_cores_and_namespaces()?;
    let (usual, records, seconds) = if quick { (1, 400, 2) } else { (9, 6_000, 10) };
    let all = slow_link(rounds.unwrap_or(usual), records)?;
    let column = |at: usize| median(all.iter().map(|round| round[at]).collect());
    let of_alone = |at: usize| Ratios::of(all.iter().map(|round| round[at] / round[0]).collect());
    let (alone, fast, slow) = (column(0) / 1e3, column(1) / 1e3, column(2) / 1e3);
    println!("p99 of {HONEST} slaves alone {alone:.0} us, beside a fast neighbour {fast:.0} us ({})", of_alone(1));
    println!("beside a slow one {slow:.0} us ({})", of_alone(2));
    let share = rate_limit(seconds)?;
    println!(
        "behind a rate limit, beside one that floods, {:.1} % of what honest slaves send gets through",
        100.0 * share
    );
    let details = serde_json::json!({
        "p99_us": { "alone": alone, "beside_fast": fast, "beside_slow": slow },
        "beside_fast": of_alone(1).json(),
        "honest_share_behind_a_rate_limit": share,
    });
    Ok(Report { name: "neighbours", value: slow, unit: "us", ratios: of_alone(2), details })
}
