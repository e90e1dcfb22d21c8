//! Whoever reads what gvm-dp prints and logs may be away, or stop reading: nothing waits for it, and nothing is
//! silently lost.

use crate::api;
use crate::harness::{Place, text, until};
use crate::signals::until_thread;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

/// A file that takes nothing.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe that nobody reads any more.
fn closed() -> PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

/// A pipe that has no room for another byte, and how many are in it.
pub(crate) fn stalled() -> (PipeReader, PipeWriter, usize) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    let mut filled = 0;
    while let Ok(written) = writer.write(&[b'.'; 4096]) {
        filled += written;
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer, filled)
}

/// Every command that prints. The second list is of those whose output is worth nothing in part.
const TABLES: &[&[&str]] = &[
    &["stats", "--interval", "10ms"],
    &["stats", "--json"],
    &["stats", "--watch", "--interval", "10ms"],
    &["top", "--interval", "10ms"],
    &["routes"],
    &["routes", "--json"],
    &["set"],
    &["set", "early", "off"],
    &["set", "--json", "hold", "1ms"],
    &["reload"],
    &["reload", "--json"],
    &["config", "show"],
    &["config", "show", "--running", "--json"],
    &["config", "example"],
    &["config", "check", "/dev/null"],
    &["hugepages", "show", "--port", "udp:127.0.0.1:0"],
    &["--help"],
    &["--version"],
    &["help", "stats"],
];

const WHOLES: &[&[&str]] = &[&["key", "new"], &["completion", "bash"], &["completion", "zsh"]];

#[test]
fn what_cannot_be_printed_is_an_error_and_who_has_seen_enough_is_none() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    for arguments in TABLES.iter().chain(WHOLES) {
        let (mut reader, stderr) = std::io::pipe().unwrap();
        assert_eq!(place.run_to(arguments, full(), stderr), Some(3), "{arguments:?} on a full disk");
        let mut complaint = String::new();
        reader.read_to_string(&mut complaint).unwrap();
        assert!(complaint.starts_with("gvm-dp: cannot write to stdout: No space left"), "{arguments:?}: {complaint}");
    }
    for (commands, code) in [(TABLES, 0), (WHOLES, 3)] {
        for arguments in commands {
            let (mut reader, stderr) = std::io::pipe().unwrap();
            assert_eq!(place.run_to(arguments, closed(), stderr), Some(code), "{arguments:?} without a reader");
            let mut complaint = String::new();
            reader.read_to_string(&mut complaint).unwrap();
            assert_eq!(complaint.is_empty(), code == 0, "{arguments:?}: {complaint}");
        }
    }
}

#[test]
fn a_trace_notices_that_its_output_is_full() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let _slave = place.slave(address, 3, &["--name", "slave"]);
    place.until_registered("gateway", 1);
    // Its heartbeats are records, too.
    let code = place.run_to(&["trace", "--name", "gateway", "--slave", "3", "--count", "1"], full(), Stdio::null());
    assert_eq!(code, Some(3));
}

#[test]
fn the_exit_code_says_what_failed_also_where_nobody_can_be_told() {
    let place = Place::new();
    for (arguments, code) in [
        (&["stats"][..], 6),
        (&["config", "check", "/no/such/file"], 2),
        (&["key", "show", "--key-file", "/no/such/file"], 5),
        (&["--port", "udp:192.0.2.77:9"], 3),
        (&["--port", "udp:nonsense"], 2),
        (&["stats", "--no-such-flag"], 2),
    ] {
        for stderr in [Stdio::from(full()), closed().into()] {
            assert_eq!(place.run_to(arguments, Stdio::null(), stderr), Some(code), "{arguments:?}");
        }
        // One that stalls is given up.
        let (_reader, writer, _) = stalled();
        assert_eq!(place.run_to(arguments, Stdio::null(), writer), Some(code), "{arguments:?}");
    }
}

#[test]
fn a_process_whose_log_nobody_reads_works_and_ends_as_ever() {
    let place = Place::new();
    let (mut reader, writer, filled) = stalled();
    let port = ["--frames", "2048", "--port"];
    let gateway = place.start_mute(&[&port[..], &["udp:127.0.0.1:0", "--heartbeat", "100ms"]].concat(), writer);
    let address = until("the gateway", || {
        let stats = place.run(&["stats", "--json", "--name", "gateway"]);
        let stats: serde_json::Value = serde_json::from_str(&text(&stats.stdout)).ok()?;
        let port = stats["lcores"][0]["ports"][0]["description"].as_str()?.strip_prefix("udp:")?.to_owned();
        port.split_whitespace().next()?.parse().ok()
    });
    let _slave = place.slave(address, 5, &["--name", "slave", "--heartbeat", "100ms"]);
    place.until_registered("gateway", 1);
    // The log says each change of its own filter: a few of these are more than it has room for.
    let long = |level: &str| format!("info,{}={level}", "x".repeat(30_000));
    for level in ["warn", "info", "warn", "info", "warn", "info", "warn", "info", "warn", "info", "warn", "info"] {
        let (status, answer) =
            api::ask(&place, "gateway", "PATCH", "/v1/settings", Some(&json!({ "log": long(level) })));
        assert_eq!(status, 200, "{answer}");
    }
    let stats = place.until_stats("gateway", |stats| stats["total"]["control"]["log_lines_dropped"] != 0);
    let heartbeats = |stats: &serde_json::Value| stats["total"]["link"]["heartbeats_accepted"].as_u64();
    place.until_stats("gateway", |now| heartbeats(now) > heartbeats(&stats).map(|count| count + 3));
    assert_eq!(stats["membership"]["registered"], 1);
    let warnings = place.ask(&["stats", "--interval", "10ms", "--name", "gateway"]);
    assert!(warnings.contains(" lines of the log were lost: what reads its stderr is"), "{warnings}");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
    // What was lost is what came last. What the pipe held is as it was.
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    assert!(said.len() >= filled && said[..filled].iter().all(|byte| *byte == b'.'));
}

#[test]
fn a_log_that_is_read_again_says_what_is_missing_and_has_the_last_line() {
    let place = Place::new();
    let (reader, writer, filled) = stalled();
    let gateway = place.start_mute(&["--frames", "2048", "--port", "udp:127.0.0.1:0"], writer);
    until("the gateway", || place.run(&["stats", "--json"]).status.success().then_some(()));
    let long = "x".repeat(30_000);
    for round in 0..12 {
        let filter = format!("info,{long}{round}=warn");
        let (status, answer) = api::ask(&place, "gateway", "PATCH", "/v1/settings", Some(&json!({ "log": filter })));
        assert_eq!(status, 200, "{answer}");
    }
    place.until_stats("gateway", |stats| stats["total"]["control"]["log_lines_dropped"] != 0);
    let said = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&said);
    let reading = std::thread::spawn(move || {
        std::io::copy(&mut (&reader).take(filled as u64), &mut std::io::sink()).unwrap();
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
    let gaps = || -> u64 {
        let said = said.lock().unwrap();
        let gaps = said.iter().filter_map(|line| line.strip_prefix("-- ")?.strip_suffix(" --"));
        gaps.map(|gap| gap.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
    };
    place.until_stats("gateway", |stats| {
        let gaps = gaps();
        gaps > 0 && stats["total"]["control"]["log_lines_dropped"] == gaps
    });
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
    reading.join().unwrap();
    let said = said.lock().unwrap();
    assert!(said.iter().any(|line| line.contains("lost here: whoever reads this was too slow, or away")));
    assert!(said.last().unwrap().ends_with("drained: nothing was lost"), "{said:?}");
}

#[test]
fn a_log_file_that_may_not_grow_does_not_end_the_process() {
    let place = Place::new();
    let log = place.directory.join("log");
    // The limit is one block of 512 bytes: the first lines fit, the others do not.
    let script = format!("ulimit -f 1 && exec \"$0\" \"$@\" 2>{}", log.display());
    let gateway = place.start_by(&script, &["--frames", "2048", "--port", "udp:127.0.0.1:0"]);
    let stats = until("lost lines", || {
        let stats = place.run(&["stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_str(&text(&stats.stdout)).ok()?;
        stats["total"]["control"]["log_lines_dropped"].as_u64().filter(|lost| *lost > 0)
    });
    assert!(stats > 0 && std::fs::metadata(&log).unwrap().len() <= 1024);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_capture_that_nobody_reads_ends_when_it_is_told_to() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&["--heartbeat", "20ms"]);
    let _farm = place.slave(address, 0, &["--count", "64", "--name", "farm", "--heartbeat", "20ms"]);
    place.until_registered("gateway", 64);
    let begun = |count: usize| {
        until("the capture", || (gateway.said().matches("capture begins").count() == count).then_some(()));
    };
    // A pipe that nobody opens to read.
    let pipe = place.directory.join("pipe");
    let pipe = pipe.to_str().unwrap();
    crate::signals::pipe_at(pipe);
    let mut count = 0;
    for (signals, code, said) in [
        (&[Signal::INT][..], 3, "the capture is not whole, since nobody takes what is written to -w "),
        (&[Signal::TERM], 3, "the capture is not whole, since nobody takes what is written to -w "),
        (&[Signal::INT, Signal::TERM], 7, ": ended at once, the capture is not whole"),
    ] {
        let client = place.start(&["capture", "--name", "gateway", "-w", pipe]);
        count += 1;
        begun(count);
        until_thread(&client, "writer");
        signals.iter().for_each(|signal| client.signal(*signal));
        client.says(&[said]);
        assert_eq!(client.wait(), Some(code), "{signals:?}");
    }
    // A pipe whose reader has fallen asleep.
    let (mut reader, writer, filled) = stalled();
    let client = place.start_to(&["capture", "--name", "gateway", "-w", "-"], writer);
    begun(count + 1);
    until_thread(&client, "writer");
    client.signal(Signal::INT);
    client.says(&["the capture is not whole, since nobody takes what is written to -w -"]);
    assert_eq!(client.wait(), Some(3));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), filled);
    // A reader that is slow gets all of it, also when the capture was told to end.
    let client = place.start(&["capture", "--name", "gateway", "-w", pipe]);
    begun(count + 2);
    let mut slow = std::fs::File::open(pipe).unwrap();
    let mut content = vec![0; 64];
    slow.read_exact(&mut content).unwrap();
    client.signal(Signal::INT);
    gateway.says(&["capture ends, told to"]);
    slow.read_to_end(&mut content).unwrap();
    assert_eq!(client.wait(), Some(0));
    crate::capture::Capture::read(&content);
    // And the next one may run.
    until("another capture", || {
        let again = place.run(&["capture", "--name", "gateway", "-w", "/dev/null", "--duration", "1ms"]);
        again.status.success().then_some(())
    });
}

#[test]
fn a_capture_of_a_process_that_stands_still_ends_when_it_is_told_to() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&[]);
    gateway.signal(Signal::STOP);
    let client = place.start(&["capture", "--name", "gateway", "-w", "/dev/null"]);
    crate::signals::until_handled(&client, Signal::INT);
    client.signal(Signal::INT);
    client.says(&["SIGINT before \"gateway\" had begun to capture"]);
    assert_eq!(client.wait(), Some(6));
    gateway.signal(Signal::CONT);
    until("the next capture", || {
        let again = place.run(&["capture", "--name", "gateway", "-w", "/dev/null", "--duration", "1ms"]);
        again.status.success().then_some(())
    });
}
