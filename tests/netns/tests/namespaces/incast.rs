//! Several slaves answer a master at once, and the port on their way sends less than they could: `rate=` stands for the
//! slow link. The senders must slow down before anything is dropped.

use netns::product::{Place, Process};
use netns::world::{number, port};
use netns::{End, Namespace, join, real_checksums};
use serde_json::Value;

/// The number of slaves.
const SLAVES: u32 = 4;

/// The rate, as the option has it, and in bits a second.
const RATE: (&str, u64) = ("rate=60M", 60_000_000);

/// What the application moves in each direction, in bytes.
const SIZE: u64 = 8 << 20;

/// A master on one host; a gateway and slaves on the other one.
struct Hosts {
    place: Place,
    near: Namespace,
    _far: Namespace,
    _slaves: Vec<Process>,
    gateway: Process,
    master: Process,
}

impl Hosts {
    /// Starts all with these ports at both ends of the link between the hosts.
    fn start(gateway: &str, master: &str) -> Self {
        let (place, far, near) = (Place::new(), Namespace::new(), Namespace::new());
        let gateway_end = End { namespace: &far, name: "gw", address: "10.97.1.1/24" };
        let master_end = End { namespace: &near, name: "m", address: "10.97.1.2/24" };
        join(&gateway_end, &master_end, 1);
        real_checksums(&gateway_end);
        real_checksums(&master_end);
        let common = "--heartbeat 250ms --rx-mode adaptive --frames 8192";
        let gateway = place
            .start(&far, &format!("gvm-dp gateway --name gateway --port {gateway} --port udp:127.0.0.1:9999 {common}"));
        gateway.says(&["gateway \"", "control socket"]);
        let slave = |id: u32| {
            let slave = place.start(
                &far,
                &format!(
                    "gvm-dp slave --name slave-{id} --gateway 127.0.0.1 --id {id} --port udp:127.0.0.1:0 --domain {id} \
                     --memory 64M --memory-pages ordinary --keep-free 0 --heartbeat 250ms --frames 4096"
                ),
            );
            slave.says(&["control socket"]);
            slave
        };
        let slaves = (1..=SLAVES).map(slave).collect();
        place.until_registered("gateway", SLAVES.into());
        let master = place
            .start(&near, &format!("gvm-dp master --name master --gateway 10.97.1.1 --id 1 --port {master} {common}"));
        master.says(&["applications at"]);
        place.until_stats("master", "the master knows the slaves", |stats| {
            stats["total"]["master"]["slaves_known"] == SLAVES
        });
        Self { place, near, _far: far, _slaves: slaves, gateway, master }
    }

    /// An application writes all of its memory, verifies it, and reads at random: all at once, in large blocks.
    fn move_pages(&self) {
        let line = format!("gvm-dp page bench --json --size {SIZE} --block 64K --depth 64 --duration 500ms");
        let (code, printed, said) = self.place.start(&self.near, &line).wait();
        assert_eq!(code, Some(0), "{printed}\n{said}\n{}", self.not_zero());
        let report: Value = serde_json::from_str(&printed).expect("it prints JSON");
        for step in report["steps"].as_array().expect("it lists its steps") {
            assert_eq!((&step["failed"], &step["wrong_bytes"]), (&0.into(), &0.into()), "{report:#}");
        }
    }

    /// No datagram was dropped anywhere, and the window of the master shrank.
    fn nothing_is_lost_and_the_window_shrank(&self) {
        for name in ["gateway", "master"] {
            let stats = self.place.stats(name);
            let dropped = |direction: &str| stats["directions"][direction]["dropped"].as_object().cloned();
            let dropped: u64 =
                ["down", "up"].into_iter().filter_map(dropped).flatten().map(|(_, count)| number(&count)).sum();
            assert_eq!(dropped, 0, "{}", self.not_zero());
            assert_eq!(number(&stats["total"]["lcore"]["rx_lost"]), 0, "{}", self.not_zero());
        }
        let stats = self.place.stats("master");
        let shrunk = |why: &str| number(&stats["total"]["transport"][why]);
        assert!(shrunk("window_shrunk_mark") > 0, "{}", self.not_zero());
    }

    fn not_zero(&self) -> String {
        format!("{}\n{}", self.place.not_zero("gateway"), self.place.not_zero("master"))
    }

    fn drain(self) {
        let Self { place, near, gateway, master, .. } = &self;
        for name in ["master", "gateway"] {
            let output = place.run(near, &format!("gvm-dp drain --name {name}"));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        master.says(&["drained"]);
        gateway.says(&["drained: nothing was lost"]);
    }
}

/// Moves pages. The first port of the process `name` has the rate: no more leaves it than the rate allows, and much of
/// it had to wait.
fn the_rate_holds(hosts: &Hosts, name: &str) {
    let before = hosts.place.stats(name);
    hosts.move_pages();
    let after = hosts.place.stats(name);
    let more = |counter: &str| port(&after, 0, counter) - port(&before, 0, counter);
    let (bits, delayed) = (more("tx_bytes") * 8, more("tx_rate_delayed"));
    assert!(bits / 8 > SIZE, "{bits} bits: {}", hosts.not_zero());
    assert!(delayed * 1400 > SIZE / 2 && more("tx_rate_held") > 0, "{delayed}: {}", hosts.not_zero());
    // The clock of the process, read before the first counters and after the last ones, at most a second away.
    let at = |stats: &Value| stats["uptime_seconds"].as_f64().expect("a number");
    let most = (at(&after) - at(&before) + 1.0) * RATE.1 as f64;
    assert!(bits as f64 <= most, "{bits} bits of at most {most}");
    hosts.nothing_is_lost_and_the_window_shrank();
}

#[test]
fn answers_of_slaves_wait_before_a_slow_port_of_the_gateway_and_none_is_lost() {
    if !netns::available() {
        return;
    }
    let gateway = format!("udp:10.97.1.1:9999,{}", RATE.0);
    let hosts = Hosts::start(&gateway, "udp:10.97.1.2:0");
    hosts.gateway.says(&["port 0: udp:10.97.1.1:9999", "sends at most 60Mbit/s"]);
    the_rate_holds(&hosts, "gateway");
    hosts.drain();
}

#[test]
fn the_same_on_nic_queues_whose_packets_no_queue_discipline_sees() {
    if !netns::available() {
        return;
    }
    let gateway = format!("xdp:gw,{}", RATE.0);
    let hosts = Hosts::start(&gateway, "xdp:m");
    hosts.gateway.says(&["port 0: xdp:gw", "sends at most 60Mbit/s"]);
    the_rate_holds(&hosts, "gateway");
    hosts.drain();
}

#[test]
fn pages_for_slaves_wait_before_a_slow_port_of_the_master_and_none_is_lost() {
    if !netns::available() {
        return;
    }
    let master = format!("xdp:m,{}", RATE.0);
    let hosts = Hosts::start("xdp:gw", &master);
    hosts.master.says(&["port 0: xdp:m", "sends at most 60Mbit/s"]);
    the_rate_holds(&hosts, "master");
    hosts.drain();
}
