//! `gvm-dp trace` on real processes: each record's story from where it came in to where it left.

use crate::api::{ask, request};
use crate::capture::{cluster, echo};
use crate::harness::{Place, text, until};
use crate::schema::Checker;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

#[test]
fn the_story_of_each_record_is_told_both_ways() {
    let place = Place::new();
    let (gateway, address, farm, mut master) = cluster(&place, &["--hold", "5ms", "--early", "off"]);
    let path = place.directory.join("trace.json");
    let client = place.start_into(&["trace", "--name", "gateway", "--slave", "3", "--count", "4", "--json"], &path);
    gateway.says(&["trace begins: slave 3"]);
    // Two down and two up, whatever heartbeats come between are told as well: so ask until all are there.
    until("the end of the trace", || {
        echo(&mut master, &[1, 3, 2, 3]);
        gateway.said().contains("trace ends").then_some(())
    });
    client.says(&["gateway: trace of slave 3 ends after 4 of 4 records: as many as were asked for"]);
    assert_eq!(client.wait(), Some(0));
    let lines = std::fs::read_to_string(&path).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 4, "{lines}");
    let document: Value = serde_json::from_str(api::OPENAPI).unwrap();
    let checker = Checker { document: &document };
    for record in &records {
        let wrong = checker.check(&document["components"]["schemas"]["TracedRecord"], record);
        assert!(wrong.is_empty(), "{record}: {wrong:?}");
        if record["fate"] == "registrar" {
            continue;
        }
        let down = record["msg_type"] == 0x10;
        let (from, to) = if down { (master.address(), farm.address()) } else { (farm.address(), master.address()) };
        assert_eq!(record["peer"], from.to_string(), "{record}");
        assert_eq!((&record["left"]["peer"], &record["left"]["cause"]), (&json!(to.to_string()), &json!("hold")));
        assert!(record["left"]["open_ns"].as_u64() >= Some(5_000_000), "{record}");
        assert_eq!(record["bytes"], 39);
        if down {
            assert_eq!(record["datagram_bytes"], 4 * 39);
            assert!([39, 117].iter().any(|offset| record["offset"] == *offset), "{record}");
            assert_eq!(record["left"]["records"], 2);
        }
    }
    assert!(records.iter().filter(|record| record["msg_type"] == 0x10).count() >= 1);
    assert!(address.port() > 0);
}

#[test]
fn a_trace_is_shown_as_text_and_ends_with_its_time() {
    let place = Place::new();
    let (gateway, _, _farm, master) = cluster(&place, &["--hold", "inf", "--early", "off"]);
    let path = place.directory.join("trace.txt");
    let client = place.start_into(&["trace", "--name", "gateway", "--slave", "5", "--duration", "3s"], &path);
    gateway.says(&["trace begins: slave 5"]);
    let complaint = place.refused(6, &["trace", "--name", "gateway", "--slave", "1", "--duration", "1ms"]);
    assert!(complaint.contains("another trace runs"), "{complaint}");
    master.echo(&[5, 5], 0);
    let end = client.says(&["trace of slave 5 ends after"]);
    assert!(end.ends_with(" of 10 records: its time is over"), "{end}");
    assert_eq!(client.wait(), Some(0));
    let shown = std::fs::read_to_string(&path).unwrap();
    for part in [
        "lcore 0, port 0, from 127.0.0.1:",
        "ECHO of 39 bytes at byte 39 of 78, request 0x1000000000001",
        "waits still",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // And then another may run.
    let output = place.run(&["trace", "--name", "gateway", "--slave", "1", "--duration", "1ms"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_trace_of_a_slave_that_is_not_there_says_so() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&["--shards", "0-3"]);
    for (slave, why) in [
        ("9", "is not registered here (gvm-dp routes lists who is)"),
        ("131071", "is in a shard that this gateway does not serve"),
    ] {
        let output = place.run(&["trace", "--slave", slave, "--duration", "50ms"]);
        let said = text(&output.stderr);
        assert!(output.status.success() && output.stdout.is_empty(), "{said}");
        assert!(said.contains(&format!("slave {slave} {why}: what is shown of it will be what is dropped")), "{said}");
        let end = format!("trace of slave {slave} ends after 0 of 10 records: its time is over; the slave {why}");
        assert!(said.contains(&end), "{said}");
    }
}

#[test]
fn a_trace_says_why_it_ends() {
    let place = Place::new();
    let (gateway, _, _farm, _master) = cluster(&place, &[]);
    let begin = || {
        let begun = || gateway.said().matches("trace begins").count();
        let before = begun();
        let client = place.start(&["trace", "--name", "gateway", "--slave", "7", "--count", "9000"]);
        until("the trace", || (begun() > before).then_some(()));
        client
    };
    let client = begin();
    client.signal(Signal::INT);
    let end = client.says(&["trace of slave 7 ends after"]);
    assert!(end.ends_with(" of 9000 records: interrupted"), "{end}");
    assert_eq!(client.wait(), Some(0));
    gateway.says(&["trace ends: slave 7", "records: the client went away"]);

    let client = begin();
    gateway.signal(Signal::TERM);
    let end = client.says(&["trace of slave 7 ends after"]);
    assert!(end.contains(" of 9000 records: the process ends"), "{end}");
    assert_eq!(client.wait(), Some(0));
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_trace_of_a_process_that_is_killed_fails() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&[]);
    let client = place.start(&["trace", "--slave", "7"]);
    gateway.says(&["trace begins"]);
    // Dropped, it is killed.
    client.says(&["slave 7 is not registered here"]);
    drop(gateway);
    client.says(&["went away in the middle of the trace: 0 of 10 records were told"]);
    assert_eq!(client.wait(), Some(6));
}

#[test]
fn notes_are_told_to_those_who_ask_for_them() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let document: Value = serde_json::from_str(api::OPENAPI).unwrap();
    let checker = Checker { document: &document };
    let order = json!({ "slave": 1, "count": 5, "duration_ms": 1 }).to_string();
    assert_eq!(lines(&place, "/v1/trace", &order), Vec::<Value>::new());
    let notes = lines(&place, "/v1/trace?notes=true", &order);
    for note in &notes {
        let wrong = checker.check(&document["components"]["schemas"]["TraceNote"], note);
        assert!(wrong.is_empty(), "{note}: {wrong:?}");
    }
    assert_eq!(
        notes,
        [
            json!({ "note": "begun", "slave": "unregistered", "records": 0, "why": null }),
            json!({ "note": "ended", "slave": "unregistered", "records": 0, "why": "duration" })
        ]
    );
    let (status, error) = request(&place, "gateway", "POST", "/v1/trace?notes=perhaps", Some(&order));
    assert_eq!((status, &error["code"]), (400, &json!("bad_request")), "{error}");
}

/// Sends an order by hand, and returns the lines of the answer.
fn lines(place: &Place, path: &str, order: &str) -> Vec<Value> {
    let mut stream = UnixStream::connect(place.directory.join("gateway.sock")).unwrap();
    // HTTP/1.0 has no chunks.
    let head = format!("POST {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", order.len());
    stream.write_all(format!("{head}\r\n{order}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{answer}");
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_cannot_be_traced_is_said() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let complaint = place.refused(2, &["trace", "--slave", "131072"]);
    assert!(complaint.contains("there is no slave 131072: the last one is 131071"), "{complaint}");
    for count in ["0", "10001"] {
        let complaint = place.refused(2, &["trace", "--slave", "1", "--count", count]);
        assert!(complaint.contains("write a whole number from 1 to 10000"), "{complaint}");
    }
    let _farm = place.slave(address, 0, &["--name", "farm"]);
    until("the farm", || place.run(&["stats", "--name", "farm"]).status.success().then_some(()));
    let complaint = place.refused(6, &["trace", "--name", "farm", "--slave", "0"]);
    assert!(complaint.contains("only a gateway traces records"), "{complaint}");
    let (status, error) = request(&place, "gateway", "POST", "/v1/trace", Some("{}"));
    assert_eq!((status, &error["code"]), (400, &json!("bad_request")));
    let order = json!({ "slave": 1, "count": 20_000 });
    let (status, _) = ask(&place, "gateway", "POST", "/v1/trace", Some(&order));
    assert_eq!(status, 422);
}
