//! One slave behind a slow link with a deep queue, others on a fast one: a real gateway with one socket for all.

use netns::product::{Place, Process};
use netns::world::{number, port, report};
use netns::{End, Namespace, join};
use rustix::process::Signal;

/// Slaves on the fast link. The next id is the slave on the slow link.
const FAST: u64 = 20;
/// ECHOs of each master to the fast slaves, and the number of these masters. With several lcores, one of them gets the
/// flood and some of the masters.
const RECORDS: u64 = 4_000;
const MASTERS: u64 = 4;

/// Floods a slave behind 10 Mbit/s and 20 MB of queue while masters send ECHOs to the others. `bound` is the gateway's
/// socket on these `lcores`. `slow_gateway` is its address for the slow slave.
fn others_lose_nothing(lcores: &str, bound: &str, slow_gateway: &str) {
    if !netns::available() {
        return;
    }
    let (place, gateway, fast, slow) = (Place::new(), Namespace::new(), Namespace::new(), Namespace::new());
    let to_fast = End { namespace: &gateway, name: "fast", address: "10.95.1.1/24" };
    let to_slow = End { namespace: &gateway, name: "slow", address: "10.95.2.1/24" };
    join(&to_fast, &End { namespace: &fast, name: "f", address: "10.95.1.2/24" }, 1);
    join(&to_slow, &End { namespace: &slow, name: "s", address: "10.95.2.2/24" }, 1);
    slow.ip("route add 10.95.1.1/32 via 10.95.2.1 dev s");
    gateway.exec("tc qdisc add dev slow root tbf rate 10mbit burst 20kb limit 20000000");

    let serves = place.start(&gateway, &format!("gvm-dp {lcores} --port udp:{bound} --frames 4096"));
    serves.says(&["gateway \"", "control socket"]);
    let farm = |host: &Namespace, name: &str, gateway: &str, address: &str, first: u64, count: u64| {
        place.start(
            host,
            &format!(
                "gvm-dp slave --name {name} --gateway {gateway} --id {first} --count {count} --port udp:{address}:0 \
                 --frames 2048"
            ),
        )
    };
    let _fast = farm(&fast, "many", "10.95.1.1", "10.95.1.2", 0, FAST);
    let _slow = farm(&slow, "one", slow_gateway, "10.95.2.2", FAST, 1);
    place.until_registered("gateway", FAST + 1);
    let master = |id: u32, slaves: &str, more: &str| -> Process {
        place.start(
            &fast,
            &format!("gvm-pktgen --gateway 10.95.1.1 --id {id} --slaves {slaves} --timeout 40 -q --json - {more}"),
        )
    };
    // Twice as much as the link takes. The excess can only be dropped, but records for others must not be.
    let flood =
        master(100, &format!("{FAST}-{FAST}"), "--down pattern --size 1400 --rate 2000 --seconds 600 --allow-loss");
    // As many ECHOs are on their way at once as a socket's buffer holds. So every loss is a fault.
    let (asked, at_once) = (format!("0-{}", FAST - 1), 200 / MASTERS);
    let asks = format!("--rate 500 --window {at_once} --window-timeout 20 --records {RECORDS} --seconds 300");
    let asking: Vec<Process> = (1..=MASTERS as u32).map(|id| master(id, &asked, &asks)).collect();
    for asks in asking {
        let (code, printed, said) = asks.wait();
        let stats = place.stats("gateway");
        assert_eq!(code, Some(0), "{printed}\n{said}\n{stats:#}");
        let report = report(&printed);
        assert_eq!(
            (number(&report["down"]["records"]), number(&report["echo"]["ok"])),
            (RECORDS, RECORDS),
            "{report:#}"
        );
    }

    // The excess is in its own counter, and no node was declared gone.
    let stats = place.until_stats("gateway", "what was too much for the slow link", |stats| {
        number(&stats["directions"]["down"]["dropped"]["slow"]) > 0
    });
    assert!(port(&stats, 0, "tx_slow_found") > 0, "{stats:#}");
    let dropped = stats["directions"]["down"]["dropped"].as_object().unwrap();
    let others = dropped.iter().filter(|(name, _)| *name != "slow").map(|(_, count)| number(count)).sum::<u64>();
    assert_eq!((others, number(&stats["total"]["link"]["nodes_gone"])), (0, 0), "{stats:#}");

    // The slow slave is served all the time. When the flood has ended it is served like the others.
    flood.signal(Signal::TERM);
    flood.wait();
    place.until_stats("gateway", "nobody is slow any more", |stats| port(stats, 0, "tx_slow_destinations") == 0);
    serves.signal(Signal::TERM);
    let (code, _, said) = serves.wait();
    assert!(code == Some(0) && said.contains("drained: nothing was lost"), "{said}");
}

#[test]
fn a_slow_link_costs_others_nothing_on_a_socket_of_one_address() {
    others_lose_nothing("", "10.95.1.1:9999", "10.95.1.1");
}

#[test]
fn a_slow_link_costs_others_nothing_on_a_socket_of_all_addresses() {
    others_lose_nothing("", "0.0.0.0:9999", "10.95.2.1");
}

#[test]
fn a_slow_link_costs_others_nothing_on_sockets_of_two_lcores() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return netns::skip("two lcores need two cores");
    }
    others_lose_nothing("--lcores 0-1", "10.95.1.1:9999", "10.95.1.1");
}
