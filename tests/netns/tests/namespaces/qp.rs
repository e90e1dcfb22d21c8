//! `gvm-dp qp`: queue pairs between two processes, over NIC queues and over sockets.

use netns::product::{Place, Process, until};
use netns::world::{number, report};
use netns::{End, Namespace, join, real_checksums};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A request fails after eight timeouts (17 ms each, rounded up). RoCE allows up to four times as long, and this
/// machine may be busy.
const QUICK: &str = "--timeout 17ms --retries 7";
const GIVEN_UP: Duration = Duration::from_secs(20);

/// Two hosts with a port each, and the address at which the first serves.
struct Hosts {
    place: Place,
    server: Namespace,
    client: Namespace,
    ports: [&'static str; 2],
    address: &'static str,
}

/// Hosts over AF_XDP on a veth of this MTU. `None` when this machine cannot run such tests.
fn queues(mtu: u16) -> Option<Hosts> {
    netns::available().then(|| {
        let (server, client) = (Namespace::new(), Namespace::new());
        let a = End { namespace: &server, name: "a", address: "10.94.1.1/24" };
        let b = End { namespace: &client, name: "b", address: "10.94.1.2/24" };
        join(&a, &b, 2);
        for end in [&a, &b] {
            end.namespace.ip(&format!("link set dev {} mtu {mtu}", end.name));
            real_checksums(end);
        }
        Hosts { place: Place::new(), server, client, ports: ["xdp:a", "xdp:b"], address: "10.94.1.1" }
    })
}

/// Hosts over sockets on a loopback.
fn sockets() -> Option<Hosts> {
    netns::available().then(|| {
        let (server, client) = (Namespace::new(), Namespace::new());
        let a = End { namespace: &server, name: "a", address: "10.94.1.1/24" };
        let b = End { namespace: &client, name: "b", address: "10.94.1.2/24" };
        join(&a, &b, 1);
        let ports = ["udp:10.94.1.1", "udp:10.94.1.2"];
        Hosts { place: Place::new(), server, client, ports, address: "10.94.1.1" }
    })
}

/// Bytes that do not repeat within a short distance.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

impl Hosts {
    fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.place.path(name), content).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.place.path(name).to_str().unwrap().to_owned()
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.place.path(name)).unwrap()
    }

    /// A server that lends something; peers may call when this returns.
    fn serve(&self, more: &str) -> Process {
        let line = format!("gvm-dp qp serve --port {} --frames 1024 {more}", self.ports[0]);
        let server = self.place.start(&self.server, &line);
        server.says(&["peers set up their queue pairs at"]);
        server
    }

    /// A client's command line without its peer.
    fn alone(&self, command: &str) -> String {
        format!("gvm-dp qp {command} --port {} --frames 1024", self.ports[1])
    }

    fn client(&self, command: &str) -> String {
        format!("{} --peer {}", self.alone(command), self.address)
    }

    /// Runs a client that must succeed. Returns its stdout and its stderr.
    fn run(&self, line: &str) -> (String, String) {
        let output = self.place.run(&self.client, line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), said)
    }

    fn refused(&self, code: i32, line: &str) -> String {
        self.place.refused(&self.client, code, line)
    }
}

/// Ends the server by a signal. Returns its stderr.
fn end(server: Process) -> String {
    server.signal(Signal::TERM);
    let (code, _, said) = server.wait();
    assert_eq!(code, Some(0), "{said}");
    said
}

/// All checks that are the same for every kind of port.
fn bytes_cross(hosts: &Hosts) {
    let region = pattern(1_000_003, 1);
    let lent = hosts.file("lent", &region);
    let save = hosts.path("saved");
    let server = hosts.serve(&format!("--file {lent} --save {save}"));

    let whole = hosts.path("whole");
    hosts.run(&format!("{} --out {whole}", hosts.client("read")));
    assert!(hosts.content("whole") == region);
    let (printed, _) = hosts.run(&format!("{} --offset 5 --length 1", hosts.client("read")));
    assert_eq!(printed.as_bytes(), &region[5..6]);
    hosts.run(&format!("{} --verify {lent}", hosts.client("read")));

    let new = pattern(300_001, 2);
    let input = hosts.file("input", &new);
    hosts.run(&format!("{} --in {input} --offset 70001 --verify", hosts.client("write")));
    let complaint = hosts.refused(8, &format!("{} --verify {lent}", hosts.client("read")));
    assert!(complaint.contains("byte 70001 of what was read is not that of"), "{complaint}");

    for (op, size) in [("read", 4096), ("write", 5000), ("fetch-add", 8)] {
        let line = format!("{} --op {op} --size {size} --count 300 --depth 8 --json", hosts.client("bench"));
        let report = report(&hosts.run(&line).0);
        assert_eq!((number(&report["requests"]), number(&report["size"])), (300, size), "{report:#}");
        let counted = |set: &str, name: &str| number(&report["counters"][set][name]);
        assert_eq!(counted("transport", "completed"), 300, "{report:#}");
        assert_eq!(counted("transport", "rc_dropped_icrc") + counted("roce", "solved_identification"), 0, "{report:#}");
    }
    // The benchmark wrote to the start of the region, and not behind its own part.
    let said = end(server);
    assert!(said.contains("0 with a wrong ICRC, 0 for no queue pair"), "{said}");
    let saved = hosts.content("saved");
    assert_eq!(saved.len(), region.len());
    assert!(saved[1_000_000..] == region[1_000_000..]);
}

/// Requests that must fail, with the right error and in bounded time.
fn failures_are_named(hosts: &Hosts) {
    let nobody = hosts.refused(6, &hosts.client("read"));
    assert!(nobody.contains("does `gvm-dp qp serve` run there"), "{nobody}");

    let mut server = hosts.serve("--memory 64K --read-only --peers 1");
    for (more, part) in [
        ("read --rkey 0x55", "REM_ACCESS_ERR after 0 requests"),
        ("read --offset 60K --length 5K", "are not all among them"),
        ("bench --op write --count 1", "REM_ACCESS_ERR"),
    ] {
        let complaint = hosts.refused(8, &hosts.client(more));
        assert!(complaint.contains(part), "{more}: {complaint}");
    }
    // This server has only one queue pair.
    let first = hosts.place.start(&hosts.client, &format!("{} --duration 60s {QUICK}", hosts.client("bench")));
    first.says(&["rkey="]);
    let other = hosts.ports[1].replace("10.94.1.2", "10.94.1.3");
    if other != hosts.ports[1] {
        hosts.client.ip("address add 10.94.1.3/24 dev b");
        let line = hosts.client("read").replace(hosts.ports[1], &other);
        let complaint = hosts.refused(8, &line);
        assert!(complaint.contains("refuses: 1 queue pairs are in use"), "{complaint}");
    }
    // A peer that dies.
    server.signal(Signal::KILL);
    until("the end of the server", || (!server.is_running()).then_some(()));
    let began = Instant::now();
    let (code, printed, said) = first.wait();
    assert_eq!(code, Some(8), "{printed}\n{said}");
    assert!(said.contains("RETRY_EXC_ERR") && said.contains("the peer did not answer"), "{said}");
    assert!(began.elapsed() < GIVEN_UP, "{said}");

    // The address and the queues of the server are free for the next one.
    let server = hosts.serve("--memory 64K");
    hosts.run(&format!("{} --length 64K --out /dev/null", hosts.client("read")));
    let waiting = hosts.place.start(&hosts.client, &format!("{} --duration 60s", hosts.client("bench")));
    waiting.says(&["rkey="]);
    let (code, _, said) = {
        waiting.signal(Signal::INT);
        waiting.wait()
    };
    assert_eq!(code, Some(8), "{said}");
    assert!(said.contains("SIGINT before it was complete"), "{said}");
    end(server);
}

#[test]
fn bytes_cross_over_nic_queues() {
    let Some(hosts) = queues(3400) else { return };
    bytes_cross(&hosts);
    // Nothing is left on the interfaces.
    for (namespace, name) in [(&hosts.server, "a"), (&hosts.client, "b")] {
        let link = namespace.ip(&format!("-details link show dev {name}"));
        assert!(!link.contains("xdp"), "{link}");
    }
}

#[test]
fn bytes_cross_in_jumbo_packets() {
    let Some(hosts) = queues(9000) else { return };
    bytes_cross(&hosts);
    let server = hosts.serve("--memory 1M");
    let (_, said) = hosts.run(&format!("{} --out /dev/null", hosts.client("read")));
    assert!(said.contains("mtu=4096"), "{said}");
    end(server);
}

#[test]
fn bytes_cross_over_sockets() {
    let Some(hosts) = sockets() else { return };
    bytes_cross(&hosts);
}

#[test]
fn a_socket_and_a_nic_queue_understand_each_other() {
    for ports in [["udp:10.94.1.1", "xdp:b"], ["xdp:a", "udp:10.94.1.2"]] {
        let Some(hosts) = queues(9000) else { return };
        bytes_cross(&Hosts { ports, ..hosts });
    }
}

#[test]
fn failures_over_nic_queues_are_named() {
    let Some(hosts) = queues(3400) else { return };
    failures_are_named(&hosts);
}

#[test]
fn failures_over_sockets_are_named() {
    let Some(hosts) = sockets() else { return };
    failures_are_named(&hosts);
}

#[test]
fn a_host_that_vanishes_gives_its_queue_pair_back() {
    let Some(hosts) = sockets() else { return };
    let server = hosts.serve("--memory 64K --peers 1");
    let client = hosts.place.start(&hosts.client, &format!("{} --duration 600s {QUICK}", hosts.client("bench")));
    client.says(&["rkey="]);
    // No FIN and no answer comes from that host any more.
    hosts.client.ip("link set dev b down");
    server.says(&["10.94.1.2:", "gone; QP"]);
    drop(client);
    hosts.client.ip("link set dev b up");
    hosts.run(&format!("{} --out /dev/null", hosts.client("read")));
    end(server);
}

#[test]
fn a_peer_is_set_up_by_hand() {
    let Some(hosts) = queues(3400) else { return };
    let lent = hosts.file("lent", &pattern(10_000, 3));
    let server =
        hosts.serve(&format!("--file {lent} --peer 10.94.1.2 --qpn 0x100 --psn 7 --own-qpn 0x200 --own-psn 0xfffff0"));
    let said = server.says(&["is set up by hand"]);
    assert!(said.contains("10.94.1.2") && said.contains("qpn=0x000100 psn=0x000007"), "{said}");
    let (code, printed, said) = {
        let line = until("the line of the set-up", || {
            let printed = server.printed();
            printed.lines().find(|line| line.starts_with("GVM-QP 1")).map(str::to_owned)
        });
        let value = |key: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(key));
            word.unwrap_or_else(|| panic!("{line} does not say {key}")).to_owned()
        };
        assert_eq!(
            (value("qpn="), value("psn="), value("mtu=")),
            ("0x000200".into(), "0xfffff0".into(), "2048".into())
        );
        let (rkey, va, length) = (value("rkey="), value("va="), value("length="));
        hosts.run(&format!(
            "{} --peer 10.94.1.1 --qpn 0x200 --psn 0xfffff0 --rkey {rkey} --va {va} --region {length} --own-qpn 0x100 \
             --own-psn 7 \
             --verify {lent}",
            hosts.alone("read")
        ));
        server.signal(Signal::TERM);
        server.wait()
    };
    assert_eq!(code, Some(0), "{printed}\n{said}");
    // Queue pair numbers that are not allowed, and incomplete set-ups.
    for (code, line, part) in [
        (8, format!("{} --own-qpn 0x101", hosts.client("read")), "its low bits are a place"),
        (2, format!("{} --peer 10.94.1.1 --qpn 0x200", hosts.alone("read")), "--psn"),
        (2, "gvm-dp qp read --port udp:0.0.0.0 --peer 10.94.1.1".to_owned(), "as in udp:192.0.2.1"),
        (3, format!("{} --path-mtu 4096", hosts.client("read")), "the port carries IP packets of 3400 bytes"),
    ] {
        let complaint = hosts.refused(code, &line);
        assert!(complaint.contains(part), "{line}: {complaint}");
    }
}
