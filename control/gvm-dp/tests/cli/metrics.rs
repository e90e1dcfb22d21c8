//! `--metrics`: every counter is there under its name and with its help, and health is what it says.

use crate::exposition::{self, Families, sum};
use crate::harness::{Place, Process, until};
use crate::master::Master;
use api::applications::{ApplicationStats, AreaStats, ServingStats};
use api::lending::{LeaseStats, LendingStats};
use api::stats::InterfaceStats;
use blockmap::{DiskCounters, DiskHistograms};
use frame::PortId;
use frame::counter::{CounterSet, Kind, Visitor};
use frame::outbox::OutboxCounters;
use gateway::counters::{DirectionCounters, FlushCounters, FlushHistograms, GatewayCounters};
use lcore::handover::HandoverCounters;
use lcore::thread::{PortView, View};
use lcore::watchdog::{Cause, Finding, Stage};
use lcore::{Clock, LcoreCounters, PoolCounters, StageSamples};
use lease::{LenderCounters, LoanCounters};
use link::RegistrarCounters;
use master::{MasterCounters, MasterHistograms};
use port::dpdk::DpdkCounters;
use port::host::HostCounters;
use port::rate::RateCounters;
use port::udp::UdpCounters;
use port::xdp::XdpCounters;
use records::RecordCounters;
use serve::ControlCounters;
use serve::board::{Board, LcoreBoard, RoleCounters};
use serve::metrics::text::Exposition;
use serve::metrics::{collect, health, name};
use slave::FarmCounters;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use transport::TransportCounters;

/// Sets of queue pairs over RoCEv2, which `gvm-dp qp` prints: no process that serves metrics has them.
const NOT_SERVED: [&str; 1] = ["RoceCounters"];

/// What counts in the set of a port: the host of a DPDK port, and the rate of any port.
struct OfPort<S>(&'static str, S);

impl<S: CounterSet> CounterSet for OfPort<S> {
    fn name(&self) -> &'static str {
        self.0
    }

    fn visit(&self, visitor: &mut Visitor<'_>) {
        self.1.visit(visitor);
    }

    fn kind(&self, counter: &str) -> Kind {
        self.1.kind(counter)
    }
}

/// Every set that gvm-dp has, exposed.
pub(crate) fn everything() -> Families {
    let mut text = Exposition::default();
    let sets: [&dyn CounterSet; 21] = [
        &LcoreCounters::default(),
        &HandoverCounters::default(),
        &PoolCounters::default(),
        &OutboxCounters::default(),
        &DirectionCounters::default(),
        &FlushCounters::default(),
        &RegistrarCounters::default(),
        &UdpCounters::default(),
        &XdpCounters::default(),
        &FarmCounters::default(),
        &LenderCounters::default(),
        &LoanCounters::default(),
        &MasterCounters::default(),
        &RecordCounters::default(),
        &TransportCounters::default(),
        &ControlCounters::default(),
        &DiskCounters::default(),
        &StageSamples::default(),
        &DpdkCounters::default(),
        &OfPort(DpdkCounters::default().name(), HostCounters::default()),
        &OfPort(XdpCounters::default().name(), RateCounters::default()),
    ];
    for set in sets {
        collect::counters(&mut text, set, &[("lcore", "0"), ("port", "0"), ("direction", "down")]);
    }
    collect::histograms(&mut text, &FlushHistograms::default(), &[("lcore", "0")]);
    collect::histograms(&mut text, &DiskHistograms::default(), &[("lcore", "0")]);
    collect::histograms(&mut text, &MasterHistograms::default(), &[("lcore", "0")]);
    let verdicts = [("redirect_cargo".to_owned(), 1)].into();
    collect::interface(&mut text, &InterfaceStats { name: "eth0".to_owned(), verdicts, ..InterfaceStats::default() });
    let leases = vec![LeaseStats { id: 17, master: 1, units: 2, recalled: 1 }];
    let lending = LendingStats { host_available_bytes: Some(1), keep_free_bytes: Some(1), ..LendingStats::default() };
    collect::lending(&mut text, &LendingStats { unit_bytes: 64 << 20, leased: 2, leases, ..lending });
    // The name is text of another process.
    let name = "a \"b\"\n\\".to_owned();
    let applications = vec![ApplicationStats { connection: 3, name, ..ApplicationStats::default() }];
    let areas = vec![AreaStats { name: "disk-1".to_owned(), extents: 2, ..AreaStats::default() }];
    collect::serving(&mut text, &ServingStats { extent_bytes: 2 << 20, applications, areas });
    exposition::read(&text.finish())
}

pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

#[test]
fn every_counter_of_the_documentation_is_there_with_its_help() {
    let families = everything();
    let document = std::fs::read_to_string(project().join("docs/operating.md")).unwrap();
    let (_, tables) = document.split_once("<!-- counters: begin").unwrap();
    let (mut set, mut seen) = (String::new(), 0);
    let mut lines = tables.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("### ") {
            set = heading.to_owned();
            // The generator's own counters are not gvm-dp's.
            let about = lines.by_ref().find(|line| !line.is_empty()).unwrap();
            if about.contains("(`perf/") || NOT_SERVED.contains(&&*set) {
                set.clear();
            }
            match &*set {
                "HostCounters" => "DpdkCounters".clone_into(&mut set),
                "RateCounters" => "XdpCounters".clone_into(&mut set),
                _ => (),
            }
        } else if let Some((counter, help)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | "))
            && !set.is_empty()
        {
            let help = help.trim_end_matches(" |").replace("\\|", "|");
            // Prometheus has times in seconds.
            let help = help.replace("Nanoseconds", "Seconds").replace("in nanoseconds", "in seconds");
            let histogram = set.ends_with("Histograms");
            let is_gauge = histogram || help.contains(" (a gauge)");
            let help = help.replace(" (a gauge)", "");
            let kind = if is_gauge { Kind::Gauge } else { Kind::Counter };
            let name = name::of(&set, counter, kind);
            let family = families.get(&name.family).unwrap_or_else(|| panic!("{set}::{counter}: no {}", name.family));
            assert!(family.help.contains(&help), "{}: \"{}\" lacks \"{help}\"", name.family, family.help);
            assert_eq!(histogram, family.kind == "histogram", "{}", name.family);
            if let Some((label, value)) = name.member {
                let part = format!("{label}=\"{value}\"");
                assert!(family.samples.keys().any(|series| series.contains(&part)), "{}: no {part}", name.family);
            }
            seen += 1;
        }
    }
    assert!(seen > 150, "only {seen} counters found in docs/operating.md");
}

pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: \"{answer}\""));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn address(process: &Process) -> SocketAddr {
    let line = process.says(&["metrics on http://"]);
    line.split_once("http://").unwrap().1.split('/').next().unwrap().parse().unwrap()
}

fn scrape(address: SocketAddr) -> Families {
    let (status, body) = get(address, "/metrics");
    assert_eq!(status, 200);
    exposition::read(&body)
}

#[test]
fn a_gateway_and_a_farm_are_scraped() {
    let place = Place::new();
    let (gateway, at) = place.gateway(&["--metrics", "127.0.0.1:0", "--hold", "5ms"]);
    let farm = place.slave(at, 0, &["--count", "8", "--name", "farm", "--metrics", "127.0.0.1:0"]);
    let (gateway, farm) = (address(&gateway), address(&farm));
    place.until_registered("gateway", 8);
    let mut master = Master::register(1, at);
    until("the master at the gateway", || (place.stats("gateway")["membership"]["masters"] == 1).then_some(()));
    let before = scrape(gateway);
    let slaves: Vec<u32> = (0..32).map(|number| number % 8).collect();
    master.echo(&slaves, 0);
    until("32 answers", || {
        master.poll();
        (master.answered.len() == 32).then_some(())
    });
    let after = scrape(gateway);
    exposition::check_growth(&before, &after);
    // What left was counted when it came.
    for direction in ["direction=\"down\"", "direction=\"up\""] {
        assert_eq!(sum(&after, "gvm_dp_direction_records_in_total", &[direction]), 32.0);
    }
    assert_eq!(sum(&after, "gvm_dp_registrar_slaves_here", &[]), 8.0);
    assert_eq!(sum(&after, "gvm_dp_registrar_masters_here", &[]), 1.0);
    let left = sum(&after, "gvm_dp_flush_hold_seconds", &["_count{"]);
    assert!(left > 0.0, "{left}");
    for family in ["gvm_dp_udp_rx_datagrams_total", "gvm_dp_lcore_cpu_seconds_total", "gvm_dp_uptime_seconds"] {
        assert!(sum(&after, family, &[]) > 0.0, "{family}");
    }
    assert_eq!(sum(&after, "gvm_dp_build_info", &["role=\"gateway\"", "name=\"gateway\"", "version=\""]), 1.0);
    assert_eq!(sum(&after, "gvm_dp_settings_info", &["hold=\"5ms\""]), 1.0);
    assert_eq!(sum(&after, "gvm_dp_draining", &[]), 0.0);
    for health in ["gvm_dp_live", "gvm_dp_ready"] {
        assert_eq!(sum(&after, health, &[]), 1.0, "{health}");
    }
    // When nothing moves any more, all is accounted for.
    until("a balance", || {
        let now = scrape(gateway);
        (["down", "up"].iter().all(|way| sum(&now, "gvm_dp_records_unaccounted", &[&format!("\"{way}\"")]) == 0.0))
            .then_some(())
    });
    let stats = place.stats("gateway");
    let requests = stats["total"]["control"]["metrics_requests"].as_u64().unwrap();
    assert!(requests >= 3, "the same names in JSON");
    assert_eq!(stats["histograms"]["hold_ns"]["buckets"].as_array().unwrap().len(), 22);
    let farm = scrape(farm);
    assert_eq!(sum(&farm, "gvm_dp_farm_echo_replied_total", &[]), 32.0);
    assert!(!farm.contains_key("gvm_dp_direction_records_in_total"));
}

#[test]
fn health_and_what_is_refused() {
    let place = Place::new();
    let (gateway, at) = place.gateway(&["--metrics", "127.0.0.1:0", "--hold", "inf", "--early", "off"]);
    let metrics = address(&gateway);
    assert_eq!(get(metrics, "/live"), (200, "live\n".to_owned()));
    assert_eq!(get(metrics, "/ready"), (200, "ready\n".to_owned()));
    assert_eq!(get(metrics, "/").0, 404);
    let mut stream = TcpStream::connect(metrics).unwrap();
    stream.write_all(b"POST /metrics HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    // Larger than any request: closed without the answer to a scrape.
    let mut stream = TcpStream::connect(metrics).unwrap();
    let _ = stream.write_all(format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10)).as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let taken = metrics.to_string();
    let complaint = place.refused(4, &["--name", "b", "--port", "udp:127.0.0.1:0", "--metrics", &taken]);
    assert!(complaint.contains("is in use") && complaint.contains("ss -tlpn sport = :"), "{complaint}");
    let complaint = place.refused(3, &["--name", "b", "--port", "udp:127.0.0.1:0", "--metrics", "198.51.100.77"]);
    assert!(complaint.contains("no interface of this machine has that address"), "{complaint}");
    let complaint = place.refused(2, &["--port", "udp:127.0.0.1:0", "--metrics", "here"]);
    assert!(complaint.contains("as 127.0.0.1 or"), "{complaint}");
    let open = place.start(&["--name", "open", "--port", "udp:127.0.0.1:0", "--metrics", "0.0.0.0:0"]);
    open.says(&["WARN", "metrics on 0.0.0.0:", "there is no authentication"]);
    drop((gateway, at));
}

/// A count of the control thread.
fn counted(place: &Place, counter: &str) -> u64 {
    place.stats("gateway")["total"]["control"][counter].as_u64().unwrap()
}

#[test]
fn slow_connections_keep_nobody_from_asking_for_health() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&["--metrics", "127.0.0.1:0"]);
    let metrics = address(&gateway);
    // As slow as it gets: half of a request, and then nothing, from the first byte on or later.
    let slow = |number: usize| {
        let mut stream = TcpStream::connect(metrics).unwrap();
        stream.write_all(&b"GET /live HTTP/1.1\r\nhost: "[..number % 27]).unwrap();
        stream
    };
    let mut connections: Vec<TcpStream> = (0..64).map(slow).collect();
    for (round, connection) in connections.iter_mut().enumerate().take(50) {
        assert_eq!(get(metrics, "/live"), (200, "live\n".to_owned()), "round {round}");
        assert_eq!(get(metrics, "/ready"), (200, "ready\n".to_owned()), "round {round}");
        // There are always 64 of them.
        *connection = slow(round);
    }
    assert_eq!(get(metrics, "/metrics").0, 200);
    assert!(counted(&place, "metrics_connections_displaced") >= 48);
    // The others were given two seconds.
    until("the others to be given up", || (counted(&place, "metrics_timeouts") > 0).then_some(()));
    assert_eq!(counted(&place, "metrics_connections_refused"), 0);
    drop(connections);
}

#[test]
fn clients_that_do_not_read_keep_nobody_from_asking_for_health() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&["--metrics", "127.0.0.1:0"]);
    let metrics = address(&gateway);
    let ask = |_| {
        let stream = TcpStream::connect(metrics).unwrap();
        // So that an answer does not fit into the buffers of the kernel.
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 2048).unwrap();
        (&stream).write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        stream
    };
    let mut scrapes: Vec<TcpStream> = (0..64).map(ask).collect();
    for _ in 0..20 {
        assert_eq!(get(metrics, "/live"), (200, "live\n".to_owned()));
        assert_eq!(get(metrics, "/ready"), (200, "ready\n".to_owned()));
    }
    scrapes.iter_mut().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    until("a place", || (get(metrics, "/metrics").0 == 200).then_some(()));
}

/// A gateway's lcore with one AF_XDP port, whose link is up or down.
pub(crate) fn lcore(index: u16, link_up: u64) -> LcoreBoard {
    let counters = XdpCounters::default();
    counters.link_up.set(link_up);
    let facts = port::Facts { description: "xdp:eth7".to_owned(), mtu: 1500, own_end: None };
    let port = PortView { id: PortId(0), about: Arc::new(facts), counters: Arc::new(counters) };
    let view = View {
        index,
        core: Some(2),
        tid: 0,
        backing: frame::Backing::OrdinaryPages,
        lcore: Arc::default(),
        pool: Arc::default(),
        outbox: Arc::default(),
        ports: vec![port],
        pulse: Arc::default(),
        stages: Arc::default(),
        tap_slot: Arc::default(),
    };
    LcoreBoard::new(view, RoleCounters::Gateway(Arc::new(GatewayCounters::default())))
}

#[test]
fn an_lcore_that_stands_still_is_not_live_and_a_link_that_is_down_not_ready() {
    let board =
        Board::new("gateway", "g".to_owned(), wire::Scale::default(), Clock::start(), vec![lcore(0, 1), lcore(1, 0)]);
    assert!(health::not_live(&board).is_empty());
    let reasons = health::not_ready(&board).join("\n");
    assert!(reasons.contains("lcore 0 does not poll yet"), "{reasons}");
    assert!(reasons.contains("port 0 of lcore 1 (xdp:eth7): the link is down"), "{reasons}");
    assert!(!reasons.contains("lcore 0 (xdp:eth7)") && !reasons.contains("drains"), "{reasons}");
    let (stage, port, cause) = (Stage::Tx(PortId(0)), "xdp:eth7".to_owned(), Cause::Descheduled);
    board.note(&Finding::Stalled { lcore: 1, stage, port, since: 0, cause });
    assert_eq!(health::not_live(&board), ["lcore 1 stands still before its first poll"]);
    let families = exposition::read(&collect::all(&board));
    assert_eq!(sum(&families, "gvm_dp_lcore_standing", &["lcore=\"1\""]), 1.0);
    assert_eq!(sum(&families, "gvm_dp_control_watchdog_stalls_total", &[]), 1.0);
    assert_eq!(sum(&families, "gvm_dp_xdp_link_up", &[]), 1.0);
    assert_eq!((sum(&families, "gvm_dp_live", &[]), sum(&families, "gvm_dp_ready", &[])), (0.0, 0.0));
    board.note(&Finding::Recovered { lcore: 1, stood: 7 });
    assert!(health::not_live(&board).is_empty());
    board.set_draining();
    assert!(health::not_ready(&board).contains(&"the process drains".to_owned()));
}
