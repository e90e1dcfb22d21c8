//! A whole session between a gateway and its nodes is recorded. When the nodes are gone, it is sent again from the
//! addresses of its senders: to the gateway, to the gateway after a restart, and to nodes that have started again.

use netns::product::{Place, Process};
use netns::sniff::{Datagram, Sniffer};
use netns::world::number;
use netns::{End, Namespace, join};
use rustix::process::Signal;
use serde_json::Value;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};
use wire::link::HeartbeatAck;
use wire::{MsgType, Record, Scale, Walk};

const GATEWAY: &str = "10.96.1.1:9999";
const FARM: &str = "10.96.1.2:7001";
const MASTER: &str = "10.96.1.2:7002";
/// One slave alone is gone after 3 intervals. Several that fall silent at once would be suspect for longer than their
/// cookies hold.
const SLAVES: u64 = 1;
/// Records that the master sends in the session; each comes back.
const RECORDS: u64 = 500;
/// Datagrams that are played before the counters are checked, so that no queue overflows.
const AT_ONCE: usize = 32;
/// The message of a node that gets only answers to another start of it.
const OLD_ANSWERS: &str = "but answers to another one: somebody sends recorded answers again";

/// Two hosts, and the cluster's key.
struct World {
    place: Place,
    gateway: Namespace,
    nodes: Namespace,
    key: String,
}

/// The recorded datagrams.
#[derive(Debug)]
struct Tape {
    /// The datagrams of the nodes, in order.
    said: Vec<Datagram>,
    /// The link control for the nodes.
    answers: Vec<Datagram>,
}

fn is_link(datagram: &Datagram) -> bool {
    Record::first(&datagram.payload).is_ok_and(|record| record.header().msg_type().is_link_control())
}

fn records(datagram: &Datagram) -> u64 {
    Walk::new(&datagram.payload, Scale::default()).filter(Result::is_ok).count() as u64
}

impl World {
    fn new() -> Self {
        let (place, gateway, nodes) = (Place::new(), Namespace::new(), Namespace::new());
        join(
            &End { namespace: &gateway, name: "g", address: "10.96.1.1/24" },
            &End { namespace: &nodes, name: "n", address: "10.96.1.2/24" },
            1,
        );
        let key = place.file("cluster.key", &"42".repeat(32));
        Self { place, gateway, nodes, key }
    }

    fn serve(&self) -> Process {
        let line = format!("gvm-dp --port udp:{GATEWAY} --frames 2048 --key-file {}", self.key);
        let gateway = self.place.start(&self.gateway, &line);
        gateway.says(&["gateway \"", "control socket"]);
        gateway
    }

    fn farm(&self) -> Process {
        let line = format!(
            "gvm-dp slave --name farm --gateway {GATEWAY} --id 0 --count {SLAVES} --port udp:{FARM} --frames 1024 \
             --cluster-key-file {}",
            self.key
        );
        self.place.start(&self.nodes, &line)
    }

    fn master(&self, more: &str) -> Process {
        let line = format!(
            "gvm-pktgen --gateway {GATEWAY} --id 3 --slaves 0-{} --port udp:{MASTER} --timeout 40 \
             --cluster-key-file {} {more}",
            SLAVES - 1,
            self.key
        );
        self.place.start(&self.nodes, &line)
    }

    /// Records a session in which every record came back. Then its nodes end without a message, and the gateway has
    /// declared them gone.
    fn session(&self) -> Tape {
        let (at_gateway, at_nodes) = (Sniffer::new(&self.gateway), Sniffer::new(&self.nodes));
        let farm = self.farm();
        self.place.until_registered("gateway", SLAVES);
        let sends = format!("--records {RECORDS} --rate 400 --window 100 --window-timeout 20 --seconds 50");
        let (code, printed, said) = self.master(&sends).wait();
        assert_eq!(code, Some(0), "{printed}\n{said}");
        drop(farm);
        self.place.until_stats("gateway", "nobody is registered", nobody_is_there);
        let tape =
            Tape { said: at_gateway.datagrams(), answers: at_nodes.datagrams().into_iter().filter(is_link).collect() };
        for node in [FARM, MASTER] {
            let of_node = tape.said.iter().filter(|datagram| datagram.from.to_string() == node);
            let (link, cargo): (Vec<_>, Vec<_>) = of_node.partition(|datagram| is_link(datagram));
            assert!(link.len() > 1 && cargo.into_iter().map(records).sum::<u64>() == RECORDS, "{node}: {tape:?}");
        }
        tape
    }

    /// Plays the datagrams of the nodes to the gateway, from their addresses. Nobody may be registered, and nothing may
    /// be forwarded.
    fn play_to_gateway(&self, tape: &Tape) -> Value {
        let sockets = [FARM, MASTER].map(|at| (at, self.nodes.enter(|| UdpSocket::bind(at)).expect("they are gone")));
        let before = self.place.stats("gateway");
        let (mut link, mut cargo) = (0, 0);
        let mut after = before.clone();
        // The newest heartbeats come first, while their cookies hold. Then comes the session in its own order.
        let newest_first = tape.said.iter().rev().filter(|datagram| is_link(datagram));
        let played: Vec<&Datagram> = newest_first.chain(&tape.said).collect();
        for some in played.chunks(AT_ONCE) {
            for &datagram in some {
                let (_, socket) = sockets.iter().find(|(at, _)| datagram.from.to_string() == *at).expect("one of them");
                socket.send_to(&datagram.payload, GATEWAY).expect("the gateway is there");
                *(if is_link(datagram) { &mut link } else { &mut cargo }) += records(datagram);
            }
            after = self.place.until_stats("gateway", "all that was played came", |now| {
                let more = |path| count(now, path) - count(&before, path);
                (more("/total/link/heartbeats_in"), more("/directions/up/records_in")) == (link, cargo)
            });
            assert!(nobody_is_there(&after), "{after:#}");
        }
        let more = |path| count(&after, path) - count(&before, path);
        let untouched = [
            "/total/link/heartbeats_accepted",
            "/total/link/members_out",
            "/directions/down/records_in",
            "/directions/down/records_out",
            "/directions/up/records_out",
        ];
        assert_eq!(untouched.map(more), [0; 5], "{after:#}");
        assert_eq!(more("/directions/up/dropped/unregistered_source"), cargo, "{after:#}");
        let refused = more("/total/link/refused_replayed") + more("/total/link/heartbeats_challenged");
        assert_eq!(refused, link, "each heartbeat is refused by name: {after:#}");
        for (at, socket) in &sockets {
            let mut bytes = [0; 2048];
            socket.set_nonblocking(true).expect("a socket can be that");
            while let Ok(len) = socket.recv(&mut bytes) {
                for (_, record) in Walk::new(&bytes[..len], Scale::default()).flatten() {
                    let ack = HeartbeatAck::parse(&record).expect("nothing else is sent to whoever plays");
                    assert!(!ack.registered, "{at}");
                }
            }
        }
        after
    }
}

fn count(stats: &Value, path: &str) -> u64 {
    stats.pointer(path).map_or_else(|| panic!("no {path} in {stats:#}"), number)
}

fn nobody_is_there(stats: &Value) -> bool {
    ["/total/link/slaves_here", "/total/link/slaves_suspect", "/total/link/masters_here"]
        .iter()
        .all(|path| count(stats, path) == 0)
}

#[test]
fn a_recorded_session_registers_nobody_and_moves_no_cargo() {
    if !netns::available() {
        return;
    }
    let world = World::new();
    let gateway = world.serve();
    let tape = world.session();
    world.play_to_gateway(&tape);
    gateway.signal(Signal::TERM);
    let (code, _, said) = gateway.wait();
    assert_eq!(code, Some(0), "{said}");

    // Another start of the gateway knows nobody, and has another secret.
    let gateway = world.serve();
    let stats = world.play_to_gateway(&tape);
    assert_eq!(count(&stats, "/total/link/refused_replayed"), 0, "{stats:#}");
    gateway.signal(Signal::TERM);
    let (code, _, said) = gateway.wait();
    assert!(code == Some(0) && said.contains("drained: nothing was lost"), "{said}");
}

#[test]
fn recorded_answers_register_no_node_that_has_started_again() {
    if !netns::available() {
        return;
    }
    let world = World::new();
    let gateway = world.serve();
    let tape = world.session();
    drop(gateway);
    let socket = world.gateway.enter(|| UdpSocket::bind(GATEWAY)).expect("the gateway is gone");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket can have one");
    let to = |node: SocketAddrV4| tape.answers.iter().filter(move |datagram| datagram.to == node);
    let members = to(MASTER.parse().expect("it is an address"))
        .filter(|datagram| Record::first(&datagram.payload).is_ok_and(|r| r.header().msg_type() == MsgType::MEMBERS));
    assert!(members.count() > 0, "{:?}", tape.answers);

    let farm = world.farm();
    farm.says(&["control socket"]);
    let master = world.master("--seconds 1");
    let mut bytes = [0; 2048];
    let began = Instant::now();
    // Each node that sends a heartbeat gets all recorded answers to its address.
    while ![&farm, &master].iter().all(|node| node.said().contains(OLD_ANSWERS)) {
        assert!(began.elapsed() < Duration::from_secs(60), "{}\n{}", farm.said(), master.said());
        let Ok((_, from)) = socket.recv_from(&mut bytes) else { continue };
        let std::net::SocketAddr::V4(node) = from else { continue };
        for answer in to(node) {
            let _ = socket.send_to(&answer.payload, from);
        }
    }
    for node in [&farm, &master] {
        assert!(!node.said().contains("registered: hold"), "{}", node.said());
    }
    let stats = world.place.stats("farm");
    assert_eq!(count(&stats, "/membership/registered"), 0, "{stats:#}");
    assert!(count(&stats, "/total/farm/acks_refused_challenge") > SLAVES, "{stats:#}");
}
