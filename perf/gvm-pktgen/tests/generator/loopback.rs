//! The whole generator against a farm without a gateway, over UDP on loopback.

use clap::Parser;
use frame::{Hugepages, Pool, PoolConfig, PortId};
use lcore::mailbox::mailbox;
use lcore::thread::{LcoreHandle, ThreadConfig, start};
use lcore::{Clock, Lcore, RxMode};
use pktgen::cli::Cli;
use pktgen::report::Verdict;
use pktgen::run::{RunError, run};
use port::udp::{UdpOptions, UdpPort};
use slave::{Farm, FarmConfig, FarmCounters, Ids};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use wire::Scale;

/// Starts a farm of ids 0 to 99; it ends when it is dropped.
fn farm() -> (LcoreHandle, SocketAddr, Arc<FarmCounters>) {
    let clock = Clock::start();
    let (give, shared) = mpsc::channel();
    let (order, commands) = mailbox(4).unwrap();
    let build = move || -> Result<_, String> {
        let pool = PoolConfig { frames: 1024, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let pool = Pool::new(pool).map_err(|error| error.to_string())?;
        let any = "127.0.0.1:0".parse().unwrap();
        let port = UdpPort::open(PortId(0), any, pool.clone(), UdpOptions::default()).map_err(|e| e.to_string())?;
        let ids = Ids::range(Scale::default(), 0, 100).unwrap();
        let farm = Farm::new(FarmConfig::direct(ids), clock.now(), |_| ()).map_err(|error| error.to_string())?;
        give.send((port.local_addr(), Arc::clone(farm.counters()))).unwrap();
        drop(order);
        Ok(Lcore::new(0, farm, vec![port], pool, commands, None))
    };
    let thread = ThreadConfig { index: 0, core: None, mode: RxMode::Adaptive, clock };
    let running = start(thread, build, || ()).unwrap().wait().unwrap();
    let (address, counters) = shared.recv().unwrap();
    (running, address, counters)
}

fn cli(line: &str) -> Cli {
    Cli::try_parse_from(std::iter::once("gvm-pktgen").chain(line.split_whitespace())).unwrap()
}

#[test]
fn every_echo_comes_back_as_it_was() {
    let (farm, address, counters) = farm();
    for (line, records) in [
        ("--size 64 --rate 20000 --window 512", 4_000),
        ("--size imix --distribution zipf:1.1 --window 256", 3_000),
        ("--size page --distribution burst:8 --window 64 --pack 1", 1_000),
    ] {
        let before = counters.echo_replied.get();
        let cli = cli(&format!(
            "--direct {address} --count 100 --port udp:127.0.0.1:0 --frames 2048 --records {records} --seconds 60 \
             {line} \
             --window-timeout 20"
        ));
        let report = run(&cli, |_| ()).unwrap();
        assert_eq!((report.down.records, report.echo.ok, report.verdict()), (records, records, Verdict::Ok), "{line}");
        assert_eq!(counters.echo_replied.get() - before, records);
        assert_eq!(report.latency_ns.count, records);
        assert!(report.latency_ns.p50 > 0 && report.latency_ns.p50 <= report.latency_ns.max);
        assert!(counters.balance());
    }
    drop(farm);
}

#[test]
fn slaves_that_are_not_there_are_lost_records() {
    let (_farm, address, counters) = farm();
    let line = format!(
        "--direct {address} --slaves 99-100 --port udp:127.0.0.1:0 --frames 2048 --records 200 --rate 5000 --seconds 60"
    );
    let report = run(&cli(&line), |_| ()).unwrap();
    assert_eq!((report.echo.ok, report.echo.lost, report.verdict()), (100, 100, Verdict::Loss));
    assert_eq!(counters.dropped_not_ours.get(), 100);
}

#[test]
fn no_gateway_is_an_error_that_says_what_to_check() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let line = format!(
        "--gateway {} --count 1 --port udp:127.0.0.1:0 --frames 1024 --timeout 1",
        nobody.local_addr().unwrap()
    );
    let error = run(&cli(&line), |_| ()).unwrap_err();
    assert!(matches!(error, RunError::NotReady(_)));
    let text = error.to_string();
    assert!(text.starts_with("0 of 1 gateways have registered master 1 after 1 s: check their addresses"), "{text}");
}

#[test]
fn what_cannot_be_run_is_explained() {
    for (more, expected) in [
        ("--count 131073", "slave id 131072 does not exist"),
        ("--count 1 --size 1450", "choose at most 1449"),
        ("--count 1 --gw-bits 18", "gw-bits 18 is larger than slave-bits 17"),
        ("--count 1 --port xdp:eth9", "this generator runs over udp:ADDR:PORT"),
        ("--count 1 --port udp:192.0.2.1:0", "no interface of this machine has that address"),
    ] {
        let error = run(&cli(&format!("--direct 127.0.0.1:9 {more}")), |_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
