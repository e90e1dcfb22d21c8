//! What real processes say at debug and trace: each crate's events, under its name, and none for each record.

use crate::harness::{Place, Process, until};
use crate::master::Master;
use rustix::process::Signal;
use std::net::SocketAddr;

/// A gateway on a port of the kernel's choice that says this much.
fn gateway(place: &Place, log: &str, more: &[&str]) -> (Process, SocketAddr) {
    let mut arguments = vec!["gateway", "--port", "udp:127.0.0.1:0", "--frames", "2048"];
    arguments.extend(more);
    let gateway = place.start_with(&[("RUST_LOG", log)], &arguments);
    let address = gateway.address();
    (gateway, address)
}

#[test]
fn a_gateway_says_what_it_does() {
    let place = Place::new();
    let (gateway, address) = gateway(&place, "trace", &["--heartbeat", "100ms"]);
    // Set-up: settings, memory, port, lcore, what threads may do.
    gateway.says(&["DEBUG", "port = udp:127.0.0.1:0 from the command line"]);
    gateway.says(&["DEBUG", "hold = 50us by default"]);
    gateway.says(&["DEBUG", "the control socket is ", "gateway.sock"]);
    gateway.says(&["DEBUG", "2048 frames of 2048 bytes in an arena of "]);
    gateway.says(&["DEBUG", "udp:127.0.0.1:", "a socket of port 0, MTU ", " receive buffer of "]);
    gateway.says(&["DEBUG", "a thread is confined as Lcore"]);
    gateway.says(&["DEBUG", "lcore 0 polls 1 port, thread ", "no core of its own, adaptive"]);

    // Members: registered, heard again, refused and gone, each with its reason; and their routes.
    let farm = place.slave(address, 0, &["--count", "2", "--name", "farm", "--heartbeat", "100ms"]);
    place.until_registered("gateway", 2);
    for slave in ["slave 0", "slave 1"] {
        gateway.says(&["TRACE", slave, "was sent a cookie"]);
        gateway.says(&["DEBUG", slave, "is registered for the first time, MTU "]);
        gateway.says(&["DEBUG", slave, " is reached at 127.0.0.1:"]);
        gateway.says(&["TRACE", slave, "is still there, heartbeat "]);
    }
    let other = place.slave(address, 1, &["--name", "other", "--heartbeat", "100ms"]);
    gateway.says(&["DEBUG", "a heartbeat of slave 1 from 127.0.0.1:", "was refused: duplicate"]);
    drop(other);
    // One that falls silent is gone; two at once are suspect first.
    let single = place.slave(address, 5, &["--name", "single", "--heartbeat", "100ms"]);
    gateway.says(&["DEBUG", "slave 5", "is registered for the first time"]);
    drop(single);
    gateway.says(&["DEBUG", "slave 5 is gone: it was silent for 3 intervals"]);
    drop(farm);
    for slave in ["slave 0", "slave 1"] {
        gateway.says(&["DEBUG", slave, "is suspect: it fell silent together with many others"]);
        gateway.says(&["DEBUG", slave, "is gone: it was suspect for 10 intervals"]);
        gateway.says(&["DEBUG", slave, "has no route any more"]);
    }

    // Settings, and who asked.
    place.ask(&["set", "hold", "20us"]);
    gateway.says(&["DEBUG", "every lcore is told a hold of 20000 ns"]);
    gateway.says(&["DEBUG", "control socket: PATCH /v1/settings is answered 200 OK"]);
    place.ask(&["set", "rx-mode", "polling"]);
    gateway.says(&["DEBUG", "lcore 0 is told to wait as polling"]);
    gateway.signal(Signal::TERM);
    gateway.says(&["DEBUG", "lcore 0 has ended: Drained"]);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn what_was_decided_is_said_once_a_second_and_not_for_each_record() {
    /// More than all lines of set-up, link control and some seconds.
    const LINES: usize = 2000;
    let place = Place::new();
    let (gateway, address) = gateway(&place, "trace", &[]);
    let mut master = Master::register(1, address);
    let _farm = place.slave(address, 0, &["--count", "4", "--name", "farm", "--traffic", "master=1,rate=4000"]);
    let passed = || place.stats("gateway")["directions"]["up"]["records_out"].as_u64().unwrap();
    until("records", || {
        master.poll();
        (passed() > 4 * LINES as u64).then_some(())
    });
    until("what was decided", || {
        master.poll();
        gateway.said().contains("in the last second, flush: flush_").then_some(())
    });
    let said = gateway.said();
    // The questions above are lines of ours as well.
    let lines = said.lines().filter(|line| !line.contains("control socket: GET")).count();
    assert!(lines < LINES, "{lines} lines");
}

#[test]
fn one_crate_is_listened_to_alone_also_while_it_runs() {
    let place = Place::new();
    let (gateway, address) = gateway(&place, "info,link=debug", &[]);
    let _farm = place.slave(address, 3, &["--name", "farm"]);
    gateway.says(&["DEBUG", "slave 3", "is registered for the first time"]);
    let said = gateway.said();
    let others: Vec<&str> =
        said.lines().filter(|line| line.contains("DEBUG") && !line.contains("is registered")).collect();
    assert!(others.is_empty() && !said.contains("TRACE"), "{others:#?}");
    place.ask(&["set", "--name", "gateway", "log", "info,serve=debug"]);
    until("what is asked", || {
        place.stats("gateway");
        gateway.said().contains("control socket: GET /v1/stats is answered 200 OK").then_some(())
    });
}

#[test]
fn both_ends_of_a_queue_pair_say_how_it_was_set_up() {
    let place = Place::new();
    let [.., a, b] = std::process::id().to_be_bytes();
    let [here, there] = [1, 2].map(|last| format!("127.{}.{b}.{last}", a % 127 + 1));
    let server = ["qp", "serve", "--port", &format!("udp:{here}"), "--frames", "1024", "--memory", "1M"];
    let server = place.start_with(&[("RUST_LOG", "debug")], &server);
    server.says(&["peers set up their queue pairs at"]);
    server.says(&["DEBUG", &format!("the role runs on {here}"), "path MTU "]);
    let client = ["qp", "read", "--frames", "1024", "--port", &format!("udp:{there}"), "--peer", &here];
    let client = place.start_with(&[("RUST_LOG", "transport=debug")], &[&client[..], &["--length", "64"]].concat());
    for (process, peer) in [(&server, &there), (&client, &here)] {
        process.says(&["DEBUG", "QP 0x", "is made: PSN 0x"]);
        process.says(&["DEBUG", &format!("towards {peer} QP 0x"), ": connected"]);
    }
    assert_eq!(client.wait(), Some(0));
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}
