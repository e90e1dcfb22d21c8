//! Changes of the machine under a running `gvm-dp`. It follows a change, or names it in the log, in `stats` and by
//! `/ready`.

use netns::product::{Process, until};
use netns::world::{QUEUES, World, interface, number, port, two_armed};
use netns::{End, Namespace, join};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// The answer of `/ready` in a namespace: the status line and the reasons.
fn ready_at(namespace: &Namespace, address: &str) -> Option<String> {
    namespace.enter(|| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: test\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

const METRICS: &str = "127.0.0.1:9998";

/// Waits until the gateway is ready.
fn until_ready(world: &World) {
    until("ready", || ready_at(&world.gateway, METRICS)?.starts_with("HTTP/1.1 200").then_some(()));
}

/// Waits until heartbeats of a farm are answered once more. After the carrier is back, the kernels need up to a second
/// until they send again, and they have lost their neighbours. They drop what sockets send meanwhile.
fn until_answered(world: &World, farm: &str) {
    let accepted = |stats: &serde_json::Value| number(&stats["total"]["farm"]["acks_accepted"]);
    let before = accepted(&world.place.stats(farm));
    world.place.until_stats(farm, "answers", |stats| accepted(stats) > before + 8);
}

/// Waits until the gateway is not ready and names all of these reasons.
fn until_not_ready(world: &World, parts: &[&str]) {
    let mut last = None;
    let says = |answer: &str| answer.starts_with("HTTP/1.1 503") && parts.iter().all(|part| answer.contains(part));
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("not ready", || {
            last = ready_at(&world.gateway, METRICS);
            last.as_deref().is_some_and(says).then_some(())
        });
    }));
    assert!(found.is_ok(), "never {parts:?}, last {last:?}");
}

/// Waits until `stats` warns of all of these in one line.
fn until_stats_warn(world: &World, name: &str, parts: &[&str]) {
    until(&format!("a warning with {parts:?}"), || {
        let line = format!("gvm-dp stats --name {name} --interval 50ms");
        let output = world.place.run(&world.gateway, &line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().any(|line| line.contains('!') && parts.iter().all(|part| line.contains(part))).then_some(())
    });
}

#[test]
fn a_link_without_a_carrier_is_down_on_queues_and_on_sockets() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway(&format!("--lcores 0 --port left --port udp:10.92.2.1:9999 --metrics {METRICS}"));
    let _farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:0.0.0.0:0 --metrics 127.0.0.1:9998");
    world.place.until_registered("gateway", 8);
    until_ready(&world);
    let stats = world.place.stats("gateway");
    assert_eq!(interface(&stats, "left")["link"], "up");
    // The loopback of the farm's host has the state "unknown", which counts as up.
    until("a ready farm", || ready_at(&world.farm, METRICS)?.starts_with("HTTP/1.1 200").then_some(()));
    world.every_record_comes_back("10.92.1.1", 0..8);

    // The other end goes down. This end is still set up, but has no carrier.
    world.master.ip("link set dev m down");
    gateway.says(&["xdp:left queue 0", "no carrier", "`ip link show dev left`"]);
    until_not_ready(&world, &["port 0 of lcore 0 (xdp:left queue", "the interface has no carrier"]);
    world.place.until_stats("gateway", "no link", |stats| {
        port(stats, 0, "link_up") == 0 && interface(stats, "left")["link"] == "no carrier"
    });
    until_stats_warn(&world, "gateway", &["xdp:left", "the link is down"]);
    world.farm.ip("link set dev f down");
    gateway.says(&["udp:10.92.2.1: right has no carrier"]);
    until_not_ready(&world, &["(xdp:left queue", "port 1 of lcore 0 (udp:10.92.2.1:9999", "no carrier"]);
    // The farm's socket is bound to no interface. It has a link while any interface has one.
    until("a farm without a link", || ready_at(&world.farm, METRICS)?.contains("(udp:0.0.0.0:").then_some(()));

    world.master.ip("link set dev m up");
    world.farm.ip("link set dev f up");
    until_ready(&world);
    until_answered(&world, "farm");
    gateway.says(&["udp:10.92.2.1: the link is up again"]);
    let stats = world.place.stats("gateway");
    assert_eq!((port(&stats, 0, "link_downs"), port(&stats, 1, "link_downs")), (u64::from(QUEUES), 1));
    world.place.until_registered("gateway", 8);
    world.every_record_comes_back("10.92.1.1", 0..8);

    // The address of a socket is removed, and comes back on another interface.
    world.gateway.ip("address del 10.92.2.1/24 dev right");
    gateway.says(&["udp:10.92.2.1: no interface has that address any more"]);
    until_not_ready(&world, &["(udp:10.92.2.1:9999", "no interface has its address"]);
    world.gateway.ip("address add 10.92.2.1/32 dev lo");
    gateway.says(&["udp:10.92.2.1: the address is lo's now, it was right's"]);
    until_ready(&world);
    drop(gateway);
}

#[test]
fn what_should_leave_without_a_carrier_is_dropped_and_counted() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway(&format!("--port left --port right --metrics {METRICS}"));
    let _farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 8);
    let load = world.pktgen("10.92.1.1", 0..8, "--rate 1000 --seconds 50 --allow-loss");
    let down = |stats: &serde_json::Value| number(&stats["directions"]["down"]["records_out"]);
    world.place.until_stats("gateway", "load", |stats| down(stats) > 200);
    // Without a carrier the kernel accepts packets, drops them, and reports nothing.
    world.farm.ip("link set dev f down");
    let stats = world
        .place
        .until_stats("gateway", "drops that are counted", |stats| port(stats, 1, "tx_dropped_link_down") > 100);
    assert!(number(&stats["directions"]["down"]["dropped"]["tx"]) > 0, "{stats:#}");
    world.farm.ip("link set dev f up");
    let before = down(&stats);
    world.place.until_stats("gateway", "load again", |stats| down(stats) > before + 200);
    drop(load);
    world.assert_books_balance();
    world.drain(gateway);
}

/// Gives an interface another name. Old kernels require that it is down.
fn rename(namespace: &Namespace, from: &str, to: &str) {
    namespace.ip(&format!("link set dev {from} down"));
    namespace.ip(&format!("link set dev {from} name {to}"));
    namespace.ip(&format!("link set dev {to} up"));
}

fn strips_tags(world: &World, ifname: &str) -> bool {
    world.gateway.exec(&format!("ethtool -k {ifname}")).contains("rx-vlan-offload: on")
}

fn notes(world: &World) -> usize {
    let entries = std::fs::read_dir(world.place.directory()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("offloads-")).count()
}

/// Renames `right`, and makes another interface with its name.
fn rename_right(world: &World, gateway: &Process) {
    rename(&world.gateway, "right", "renamed");
    gateway.says(&["right is called renamed now"]);
    world.gateway.ip("link add name right type veth peer name right-peer");
    world.gateway.exec("ethtool -K right rxvlan off");
    world.place.until_stats("gateway", "the new name", |stats| {
        stats["interfaces"].as_array().unwrap().iter().any(|interface| interface["name"] == "renamed")
    });
}

#[test]
fn an_interface_is_its_number_whatever_it_is_called() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway(&format!("--port left --port right --metrics {METRICS}"));
    let _farm = world.farm("farm", "10.92.2.1", 0, 8, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 8);
    let index = interface(&world.place.stats("gateway"), "right")["index"].clone();
    assert!(!strips_tags(&world, "right"));
    rename_right(&world, &gateway);
    // All output has the new name.
    let stats = world.place.stats("gateway");
    assert_eq!(interface(&stats, "renamed")["index"], index);
    let description = stats["lcores"][0]["ports"][1]["description"].as_str().unwrap();
    assert!(description.starts_with("xdp:renamed queue"), "{description}");
    // The interface was down while it got its new name. Packets are dropped until all lcores know that it is up again.
    until_ready(&world);
    until_answered(&world, "farm");
    world.place.until_registered("gateway", 8);
    world.every_record_comes_back("10.92.1.1", 0..8);

    // The gateway follows the addresses and the Ethernet address of this interface, and not those of the new interface
    // with the old name.
    world.gateway.ip("address add 10.92.7.1/24 dev right");
    world.gateway.ip("address add 10.92.5.1/24 dev renamed");
    gateway.says(&["renamed has other addresses now", "10.92.2.1 10.92.5.1"]);
    world.gateway.ip("link set dev renamed address 02:00:00:00:92:07");
    gateway.says(&["renamed has other addresses now", "02:00:00:00:92:07 10.92.2.1 10.92.5.1"]);
    world.farm.forget_neighbours("f");
    world.farm.ip("address add 10.92.5.2/24 dev f");
    let _other = world.farm("other", "10.92.5.1", 8, 8, "udp:10.92.5.2:0");
    world.place.until_registered("gateway", 16);
    world.every_record_comes_back("10.92.1.1", 0..16);
    assert!(!gateway.said().contains("10.92.7.1"), "{}", gateway.said());
    world.farm.ip("link set dev f down");
    until_not_ready(&world, &["(xdp:renamed queue", "no carrier"]);
    world.farm.ip("link set dev f up");
    until_ready(&world);

    // Offloads that were turned off are on again at the end, on this interface and on no other.
    assert_eq!(notes(&world), 2);
    world.drain(gateway);
    assert_eq!((strips_tags(&world, "renamed"), strips_tags(&world, "right"), notes(&world)), (true, false, 0));
}

#[test]
fn offloads_of_a_renamed_interface_are_on_again_after_a_kill() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway("--port left --port right");
    rename_right(&world, &gateway);
    gateway.signal(Signal::KILL);
    gateway.wait();
    assert_eq!((strips_tags(&world, "renamed"), notes(&world)), (false, 2));
    let gateway = world.gateway("--port udp:10.92.1.1:9999");
    gateway.says(&["renamed: on again, since a process that was killed had left it off: rxvlan"]);
    assert_eq!((strips_tags(&world, "renamed"), strips_tags(&world, "right"), notes(&world)), (true, false, 0));
    world.drain(gateway);
}

#[test]
fn the_way_to_another_shard_is_an_interface_and_not_a_name() {
    let Some(world) = two_armed() else { return };
    let second = Namespace::new();
    let other = End { namespace: &second, name: "other", address: "10.92.4.2/24" };
    join(&End { namespace: &world.gateway, name: "across", address: "10.92.4.1/24" }, &other, QUEUES);
    let neighbor = "1=across,ip=10.92.4.2,mac=02:00:00:00:92:05";
    let gateway = world.gateway(&format!("--shards 0 --port left --neighbor {neighbor}"));
    rename(&world.gateway, "across", "beyond");
    world.gateway.ip("link add name across type veth peer name across-peer");
    // Cargo leaves by the interface of the start, with its present Ethernet address.
    world.gateway.ip("link set dev beyond address 02:00:00:00:92:06");
    gateway.says(&["left: cargo of shard 1 goes by beyond as it is now"]);
    // After it is gone, the interface with its name takes its place.
    world.gateway.ip("link delete dev beyond");
    gateway.says(&["left: cargo of shard 1 goes by across as it is now"]);
    world.drain(gateway);
}

/// The MTU of each slave's route.
fn route_mtus(world: &World) -> Vec<u64> {
    let output = world.place.run(&world.gateway, "gvm-dp routes --name gateway --json");
    let routes: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    routes["slaves"].as_array().unwrap().iter().map(|slave| number(&slave["mtu"])).collect()
}

fn until_routes(world: &World, mtu: u64) {
    let mut last = Vec::new();
    let so = |mtus: &[u64]| !mtus.is_empty() && mtus.iter().all(|is| *is == mtu);
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the routes' MTU", || {
            last = route_mtus(world);
            so(&last).then_some(())
        });
    }));
    assert!(found.is_ok(), "never {mtu}, last {last:?}");
}

/// Sends enough records to one slave that packets are full. Every record must come back.
fn full_packets_come_back(world: &World) {
    let full = || number(&world.place.stats("gateway")["total"]["flush"]["flush_full"]);
    let before = full();
    let arguments = "--rate 100000 --window 200 --window-timeout 20 --records 8000 --seconds 50 --size 64";
    let (code, printed, said) = world.pktgen("10.92.1.1", 0..1, arguments).wait();
    assert_eq!(code, Some(0), "{printed}\n{said}\n{:#}", world.place.stats("gateway"));
    assert!(full() > before + 50, "no full packets, so that this shows nothing");
}

#[test]
fn a_lowered_mtu_is_followed_by_the_routes() {
    for port in ["right", "udp:10.92.2.1:9999"] {
        let Some(world) = two_armed() else { return };
        let arguments = "--hold 5ms --early off --lcores 0";
        let mut gateway = world.gateway(&format!("{arguments} --port left --port {port} --metrics {METRICS}"));
        let farm = world.farm("farm", "10.92.2.1", 0, 4, "udp:0.0.0.0:0");
        world.place.until_registered("gateway", 4);
        until_routes(&world, 1500);
        full_packets_come_back(&world);

        // At the gateway larger packets do not pass the veth any more, in either direction.
        world.gateway.ip("link set dev right mtu 1300");
        gateway.says(&["right: the MTU is 1300 now, it was 1500"]);
        gateway.says(&["port 1: the largest packet has 1300 bytes from now on, it had 1500"]);
        until_routes(&world, 1300);
        // The slave knows it, too, and reports that packets of the claimed size do not get through.
        farm.says(&["packets of 1500 bytes do not get through"]);
        full_packets_come_back(&world);
        let stats = world.place.stats("gateway");
        assert_eq!(stats["total"]["control"]["mtu_changes"], 1);
        assert_eq!(stats["lcores"][0]["ports"][1]["mtu"], 1300);
        until_ready(&world);

        // The same at the other end: the slave reports it with its next heartbeats, and sends no larger packets itself.
        world.farm.ip("link set dev f mtu 1200");
        farm.says(&["port 0: the largest packet has 1200 bytes from now on"]);
        until_routes(&world, 1200);
        full_packets_come_back(&world);
        world.farm.ip("link set dev f mtu 1500");
        until_routes(&world, 1300);

        // An MTU below the size of a heartbeat cannot be used.
        world.gateway.ip("link set dev right mtu 300");
        gateway.says(&["port 1 (", "an MTU of 300 is too small for records and heartbeats"]);
        until_not_ready(&world, &["an MTU of 300 is too small"]);
        until_stats_warn(&world, "gateway", &["an MTU of 300 is too small"]);
        world.gateway.ip("link set dev right mtu 1500");
        gateway.says(&["port 1: the MTU of the interface is one that frames hold again"]);
        until_ready(&world);
        world.place.until_registered("gateway", 4);
        until_routes(&world, 1500);
        full_packets_come_back(&world);
        assert!(gateway.is_running());
        world.assert_books_balance();
        world.drain(gateway);
    }
}

#[test]
fn queues_that_nobody_serves_are_named() {
    let Some(world) = two_armed() else { return };
    let four = End { namespace: &world.gateway, name: "four", address: "10.92.8.1/24" };
    let f4 = End { namespace: &world.farm, name: "f4", address: "10.92.8.2/24" };
    join(&four, &f4, 4);
    netns::real_checksums(&f4);
    let set = |end: &End<'_>, queues: u32| {
        end.namespace.exec(&format!("ethtool -L {} rx {queues} tx {queues}", end.name));
    };
    set(&f4, 2);
    set(&four, 2);
    let gateway = world.gateway(&format!("--port left --port four --metrics {METRICS}"));
    until_ready(&world);
    // There are more queues at both ends now, and the kernel spreads packets over all of them.
    set(&four, 4);
    set(&f4, 4);
    gateway
        .says(&["four has 4 receive queues now, and gvm-dp serves the 2", "`ethtool -L four combined 2` (or `rx 2`)"]);
    until_not_ready(&world, &["four has 4 receive queues now"]);
    until_stats_warn(&world, "gateway", &["four has 4 receive queues now"]);
    let stats = world
        .place
        .until_stats("gateway", "the gauge", |stats| number(&stats["total"]["control"]["queues_unserved"]) == 2);
    let change = &stats["changes"][0];
    assert_eq!((&change["part"], &change["port"], &change["loses"]), (&"queues".into(), &1.into(), &true.into()));
    let nic = interface(&stats, "four");
    assert_eq!((number(&nic["queues"]), number(&nic["queues_served"])), (4, 2));
    // A slave whose packets come to a queue without a socket does not register. Slaves are added until there is one.
    let registered = || number(&world.place.stats("gateway")["membership"]["registered"]);
    let mut farms: Vec<Process> = Vec::new();
    while registered() == farms.len() as u64 {
        let (first, before) = (farms.len() as u32, registered());
        assert!(first < 40, "the kernel puts all flows on two of four queues");
        let farm = world.farm(&format!("farm{first}"), "10.92.8.1", first, 1, "udp:10.92.8.2:0");
        until("an answer, or none", || {
            (registered() > before || farm.said().contains("no answer from the gateway")).then_some(())
        });
        farms.push(farm);
    }
    // When all queues are served again, all slaves register.
    set(&f4, 2);
    set(&four, 2);
    gateway.says(&["port 1: all receive queues of the interface are served again"]);
    until_ready(&world);
    world.place.until_registered("gateway", farms.len() as u64);
    assert_eq!(world.place.stats("gateway")["changes"], serde_json::json!([]));
    world.drain(gateway);
}

/// The tasks of a process with this name.
fn tasks(process: &Process, name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().flatten();
    let is = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    tasks.filter(is).map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// A cpuset with one process in it, where the machine has cgroups of version 1; removed when this is dropped.
struct Cpuset(std::path::PathBuf);

impl Cpuset {
    fn new(process: &Process) -> Option<Self> {
        let parent = std::path::Path::new("/sys/fs/cgroup/cpuset");
        let all = std::fs::read_to_string(parent.join("cpuset.cpus")).ok()?;
        let set = Self(parent.join(format!("gvmdp-{}", process.pid())));
        std::fs::create_dir(&set.0).ok()?;
        set.write("cpuset.mems", std::fs::read_to_string(parent.join("cpuset.mems")).unwrap().trim());
        set.write("cpuset.cpus", all.trim());
        set.write("cgroup.procs", &process.pid().to_string());
        Some(set)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap_or_else(|error| panic!("{file} {text}: {error}"));
    }
}

impl Drop for Cpuset {
    fn drop(&mut self) {
        // The cpuset is empty a moment after its process has ended.
        until("an empty cpuset", || {
            std::fs::remove_dir(&self.0).map_or_else(|error| (error.raw_os_error() == Some(2)).then_some(()), Some)
        });
    }
}

/// Lets a thread run on these cores, as `taskset` does.
fn set_affinity(tid: i32, cores: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    rustix::thread::sched_setaffinity(rustix::thread::Pid::from_raw(tid), &set).unwrap();
}

#[test]
fn an_lcore_that_was_moved_to_other_cores_says_so() {
    let Some(world) = two_armed() else { return };
    let cores: Vec<usize> = lcore::CoreList::of_this_process().unwrap().iter().collect();
    let [first, .., last] = cores[..] else {
        // Written directly, because the test runner hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this machine has one core, and an lcore can be moved nowhere");
        return;
    };
    let gateway = world.gateway(&format!("--lcores {last} --port udp:10.92.1.1:9999 --metrics {METRICS}"));
    let lcore_of = |stats: &serde_json::Value| {
        let lcore = &stats["lcores"][0];
        (lcore["core"].clone(), lcore["asked_core"].clone(), lcore["cores"].as_str().unwrap().to_owned())
    };
    let stats = world.place.stats("gateway");
    assert_eq!(lcore_of(&stats), (last.into(), last.into(), last.to_string()));
    let [tid] = tasks(&gateway, "lcore-0")[..] else { panic!("one lcore") };

    // The thread is moved to another core, and then to several.
    set_affinity(tid, &[first]);
    gateway.says(&[&format!("lcore 0 was pinned to core {last} and may run on {first} now"), &format!("{tid}`")]);
    let stats = world.place.until_stats("gateway", "the gauge", |stats| stats["total"]["control"]["lcores_moved"] == 1);
    assert_eq!(lcore_of(&stats), (first.into(), last.into(), first.to_string()));
    until_stats_warn(&world, "gateway", &[&format!("lcore 0 was pinned to core {last}")]);
    set_affinity(tid, &[first, last]);
    world.place.until_stats("gateway", "no core", |stats| lcore_of(stats).0.is_null());
    // The lcore still works, so the gateway is ready.
    until_ready(&world);
    set_affinity(tid, &[last]);
    gateway.says(&["lcore 0: it is pinned to its core again"]);
    world.place.until_stats("gateway", "its core", |stats| {
        lcore_of(stats).0 == last && stats["changes"] == serde_json::json!([])
    });

    // A cpuset that loses the core has the same effect.
    if let Some(cpuset) = Cpuset::new(&gateway) {
        // Older kernels reset a thread's own choice of cores when the thread enters a cpuset.
        set_affinity(tid, &[last]);
        world.place.until_stats("gateway", "its core", |stats| lcore_of(stats).0 == last);
        cpuset.write("cpuset.cpus", &first.to_string());
        world.place.until_stats("gateway", "another core", |stats| lcore_of(stats).0 == first);
        world.drain(gateway);
    } else {
        world.drain(gateway);
    }
}
