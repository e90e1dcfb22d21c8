//! Two real gateways for the same slaves. One drains, is killed and comes back, and the cluster changes its key, all
//! while a farm and a master send.

use netns::Namespace;
use netns::product::{Place, Process, until};
use netns::world::{number, report};
use rustix::process::Signal;
use serde_json::Value;

const SLAVES: u32 = 50;
const GATEWAYS: [(&str, &str); 2] = [("one", "127.0.0.1"), ("two", "127.0.0.2")];

struct World {
    place: Place,
    host: Namespace,
}

impl World {
    /// One host, with nothing but its loopback.
    fn new() -> Option<Self> {
        netns::available().then(|| Self { place: Place::new(), host: Namespace::new() })
    }

    fn start(&self, line: &str) -> Process {
        self.place.start(&self.host, line)
    }

    fn gateway(&self, number: usize, more: &str) -> Process {
        let (name, address) = GATEWAYS[number];
        let line = format!("gvm-dp --name {name} --port udp:{address}:9999 --frames 4096 --heartbeat 250ms {more}");
        self.start(&line)
    }

    /// A farm of all slaves that sends on its own, too.
    fn farm(&self, more: &str) -> Process {
        self.start(&format!(
            "gvm-dp slave --name farm {} --id 0 --count {SLAVES} --port udp:127.0.0.1:0 --frames 4096 --heartbeat \
             250ms \
             --traffic master=1,payload=64,rate=2000 {more}",
            gateways()
        ))
    }

    fn master(&self, seconds: u32, more: &str) -> Process {
        self.start(&format!(
            "gvm-pktgen {} --count {SLAVES} --heartbeat 0.25 --timeout 40 -q --json - --rate 2000 --seconds {seconds} \
             {more}",
            gateways()
        ))
    }

    fn records_in(&self, number_of: usize, direction: &str) -> u64 {
        let stats = self.place.stats(GATEWAYS[number_of].0);
        number(&stats["directions"][direction]["records_in"])
    }

    /// Waits until a gateway knows all slaves and the master.
    fn until_whole(&self, number: usize) {
        let (name, _) = GATEWAYS[number];
        self.place.until_registered(name, u64::from(SLAVES));
        until("the master", || (self.place.stats(name)["membership"]["masters"] == 1).then_some(()));
    }

    /// Waits until cargo of both directions comes to a gateway.
    fn until_used(&self, number: usize) {
        let before = ["down", "up"].map(|direction| self.records_in(number, direction));
        until("cargo", || {
            let now = ["down", "up"].map(|direction| self.records_in(number, direction));
            (now[0] > before[0] + 200 && now[1] > before[1] + 200).then_some(())
        });
    }

    /// Starts all processes, and waits until both gateways know all nodes and the first one is used.
    fn under_load(&self, more: [&str; 3], seconds: u32) -> ([Process; 2], Process, Process) {
        let processes = [self.gateway(0, more[0]), self.gateway(1, more[0])];
        for gateway in &processes {
            gateway.says(&["control socket"]);
        }
        let farm = self.farm(more[1]);
        let master = self.master(seconds, more[2]);
        (0..2).for_each(|number| self.until_whole(number));
        self.until_used(0);
        (processes, farm, master)
    }
}

fn gateways() -> String {
    GATEWAYS.map(|(_, address)| format!("--gateway {address}")).join(" ")
}

/// The report of a master. All its records must have come back, and it must have got all records of slaves.
fn nothing_lost(world: &World, master: Process) -> Value {
    let (code, printed, said) = master.wait();
    let report = report(&printed);
    // If something is missing, these are the counters of the processes that still run.
    let counted: Vec<String> = ["one", "two", "farm"].map(|name| world.place.not_zero(name)).into();
    let said = format!("{said}\n{}", counted.join("\n"));
    for kind in ["echo", "up"] {
        let checked = &report[kind];
        assert_eq!((number(&checked["lost"]), number(&checked["duplicate"])), (0, 0), "{kind}: {report:#}\n{said}");
    }
    assert_eq!(code, Some(0), "{report:#}\n{said}");
    assert!(number(&report["echo"]["ok"]) > 4_000, "{report:#}");
    report
}

#[test]
fn a_drain_under_load_loses_nothing_and_its_successor_is_used_again() {
    let Some(world) = World::new() else { return };
    let ([one, _two], farm, master) = world.under_load(["", "", ""], 12);
    let moves = || number(&world.place.stats("farm")["total"]["farm"]["gateway_moves"]);
    let before = moves();
    one.signal(Signal::TERM);
    let (code, _, said) = one.wait();
    assert_eq!(code, Some(0), "{said}");
    for line in ["all nodes have heard that this gateway leaves", "what is held leaves", "drained: nothing was lost"] {
        assert!(said.contains(line), "{said}");
    }
    farm.says(&["gateway 127.0.0.2:9999", "cargo goes to this gateway now"]);
    world.until_used(1);
    let again = world.gateway(0, "");
    again.says(&["control socket"]);
    farm.says(&["gateway 127.0.0.1:9999", "cargo goes to this gateway now"]);
    world.until_used(0);
    let report = nothing_lost(&world, master);
    // Each of the 16 shards that both gateways serve moved away and back.
    assert_eq!(report["shard_moves"], 2 * 16, "{report:#}");
    // All slaves came back, and none moved more often. A slave that began at the second gateway moved once less.
    let moved = moves() - before;
    assert!((u64::from(SLAVES)..=2 * u64::from(SLAVES)).contains(&moved), "{moved}");
}

#[test]
fn after_a_gateway_was_killed_traffic_is_whole_again() {
    let Some(world) = World::new() else { return };
    let ([one, _two], farm, master) = world.under_load(["", "", "--allow-loss"], 8);
    one.signal(Signal::KILL);
    one.wait();
    world.until_used(1);
    farm.says(&["gateway 127.0.0.2:9999", "cargo goes to this gateway now"]);
    let (code, printed, said) = master.wait();
    let lossy = report(&printed);
    assert_eq!(code, Some(0), "{lossy:#}\n{said}");
    // The lost records were lost on the way through the killed gateway.
    assert!(number(&lossy["echo"]["lost"]) > 0, "{lossy:#}");
    assert_eq!((number(&lossy["echo"]["duplicate"]), number(&lossy["echo"]["corrupted"])), (0, 0), "{lossy:#}");
    nothing_lost(&world, world.master(3, ""));
}

#[test]
fn the_cluster_takes_another_key_by_restarts_of_one_gateway_after_the_other() {
    let Some(world) = World::new() else { return };
    let file = |name: &str, digit: &str| world.place.file(name, &digit.repeat(64));
    let (old, new) = (file("old", "1"), file("new", "2"));
    let both = |flag: &str| format!("{flag} {old} {flag} {new}");
    let (gateways, nodes) = (both("--key-file"), both("--cluster-key-file"));
    let only_old = format!("--key-file {old}");
    let ([one, two], _farm, master) = world.under_load([&only_old, &nodes, &nodes], 14);
    // Nodes have both keys. Gateways get the new key one after the other.
    let mut running = Vec::new();
    for (number, gateway) in [one, two].into_iter().enumerate() {
        gateway.signal(Signal::TERM);
        let (code, _, said) = gateway.wait();
        assert_eq!(code, Some(0), "{said}");
        let gateway = world.gateway(number, &gateways);
        gateway.says(&["cluster key with fingerprint", "(old) and", "(new)"]);
        world.until_whole(number);
        let (name, _) = GATEWAYS[number];
        let old_key = || world.place.stats(name)["total"]["link"]["members_old_key"].clone();
        until("the new key on all members", || (old_key() == 0).then_some(()));
        world.until_used(0);
        running.push(gateway);
    }
    nothing_lost(&world, master);
    assert!(number(&world.place.stats("farm")["total"]["farm"]["keys_switched"]) >= u64::from(SLAVES));
}
