//! `gvm-dp qp` over loopback, without privileges; over NIC queues and between hosts it is tested in `tests/netns`.

use crate::harness::{Place, Process, text, until};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Loopback addresses that no other test process uses: RoCEv2 has one UDP port.
fn addresses<const N: usize>(first: u8) -> [String; N] {
    let [.., a, b] = std::process::id().to_be_bytes();
    std::array::from_fn(|i| format!("127.{}.{b}.{}", a % 127 + 1, first + i as u8))
}

/// A server on an address from which the test's own begin, and what the flags of a client are.
fn serve(place: &Place, first: u8, more: &[&str]) -> (Process, [String; 4]) {
    let [here, there] = addresses(first);
    let port = format!("udp:{here}");
    let mut arguments = vec!["qp", "serve", "--port", &port, "--frames", "1024"];
    arguments.extend(more);
    let server = place.start(&arguments);
    server.says(&["peers set up their queue pairs at", &format!("{here}:9997")]);
    (server, ["--port".to_owned(), format!("udp:{there}"), "--peer".to_owned(), here])
}

fn client<'a>(command: &'a str, flags: &'a [String; 4], more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["qp", command, "--frames", "1024"];
    arguments.extend(flags.iter().map(String::as_str));
    arguments.extend(more);
    arguments
}

/// What the set-up answers to these bytes.
fn answer(address: &str, says: &[u8]) -> String {
    let mut stream = TcpStream::connect((address, 9997)).unwrap();
    // It may have heard enough before all is said.
    let _ = stream.write_all(says);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    text(&heard)
}

#[test]
fn a_region_is_read_written_and_measured_and_strangers_are_turned_away() {
    let place = Place::new();
    let content = "the bytes of a region, which are more than one packet can carry. ".repeat(400);
    let file = place.file("region", &content, 0o600);
    let (server, flags) = serve(&place, 1, &["--file", &file]);
    assert_eq!(place.ask(&client("read", &flags, &["--verify", &file])), "");
    let part = place.ask(&client("read", &flags, &["--offset", "4", "--length", "5"]));
    assert_eq!(part, "bytes");
    let input = place.file("input", "BYTES", 0o600);
    place.ask(&client("write", &flags, &["--in", &input, "--offset", "4", "--verify"]));
    assert!(place.refused(8, &client("read", &flags, &["--verify", &file])).contains("byte 4 of what was read"));
    let printed = place.ask(&client("bench", &flags, &["--count", "200", "--size", "1K"]));
    for part in ["read 1024 bytes, 16 at a time", "200 in", "latency  p50", "p99.9", "0 with a wrong ICRC"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }

    // Whoever speaks something else hears why, and costs nobody anything.
    let address = &flags[3];
    let silent: Vec<_> = (0..4).map(|_| TcpStream::connect((address.as_str(), 9997)).unwrap()).collect();
    for (says, part) in [
        (&b"GET / HTTP/1.1\r\n"[..], "does not begin with \"GVM-QP\""),
        (b"GVM-QP 7 qpn=17\n", "speaks version 7"),
        (b"GVM-QP 1 qpn=17 psn=0 mtu=4096 reads=1\n", "does not say ip="),
        (&[b'x'; 4096], "more than 512 bytes"),
    ] {
        let heard = answer(address, says);
        // What nobody read of a flood resets the connection, and that may overtake the answer.
        let overtaken = says.len() > 512 && heard.is_empty();
        assert!(overtaken || (heard.starts_with("GVM-QP 1 error=") && heard.contains(part)), "{heard}");
    }
    assert_eq!(place.ask(&client("read", &flags, &["--offset", "4", "--length", "5"])), "BYTES");
    drop(silent);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    let complaint = place.refused(6, &client("read", &flags, &[]));
    assert!(complaint.contains("does `gvm-dp qp serve` run there"), "{complaint}");

    let (first, _) = serve(&place, 1, &["--memory", "4K"]);
    let [here, _, third] = addresses(1);
    let (port, listen) = (format!("udp:{third}"), format!("{here}:9997"));
    let taken = place.refused(4, &["qp", "serve", "--port", &port, "--memory", "4K", "--listen", &listen]);
    assert!(taken.contains("--listen") && taken.contains("is in use: `ss -tlpn sport = :9997`"), "{taken}");
    drop(first);
}

/// Whoever calls hears this line, to its end.
fn heard(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    text(&heard)
}

#[test]
fn connections_that_say_nothing_delay_nobody() {
    let place = Place::new();
    let (server, flags) = serve(&place, 21, &["--memory", "4K"]);
    let address = (flags[3].as_str(), 9997);
    // One after the other they would be heard for 5 seconds each, and the last ones after longer than a client waits.
    let mut silent: Vec<_> = (0..400).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Half a line is as good as none.
    silent.iter_mut().skip(390).for_each(|stream| stream.write_all(b"GVM-QP 1 ip=").unwrap());
    place.ask(&client("read", &flags, &["--out", "/dev/null"]));
    // The oldest gave way to the others.
    let told = heard(&mut silent[0]);
    assert!(told.starts_with("GVM-QP 1 error=too many set-ups at the same time"), "{told}");
    // The log has it once.
    server.says(&["too many set-ups"]);
    let lines = server.said().lines().filter(|line| line.contains("too many set-ups")).count();
    assert_eq!(lines, 1, "{}", server.said());
    drop(silent);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn nothing_is_spoilt_by_what_does_not_happen() {
    let place = Place::new();
    let names = || {
        let entries = std::fs::read_dir(&place.directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".part")).collect::<Vec<_>>()
    };
    let old = place.file("old", "as it was", 0o640);
    let [_, there] = addresses(31);
    let nobody = ["--port".to_owned(), format!("udp:{there}"), "--peer".to_owned(), there];
    place.refused(6, &client("read", &nobody, &["--out", &old]));
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "as it was");

    // What cannot be saved is not lent, and nothing is saved where nothing was lent.
    let port = format!("udp:{}", addresses::<1>(31)[0]);
    let memory = ["qp", "serve", "--port", &port, "--memory", "4K", "--save"];
    let complaint = place.refused(3, &[&memory[..], &["/no/such/directory/file"]].concat());
    assert!(complaint.contains("cannot write /no/such/directory/file"), "{complaint}");
    place.refused(3, &[&memory[..], &[&old, "--listen", "192.0.2.77"]].concat());
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "as it was");

    let content = "0123456789".repeat(1000);
    let region = place.file("region", &content, 0o600);
    let (server, flags) = serve(&place, 31, &["--file", &region, "--save", &old]);
    let part = place.file("part", "as it was, too", 0o600);
    for (more, reason) in
        [(&["--rkey", "0x55"][..], "REM_ACCESS_ERR"), (&["--offset", "9K", "--length", "2K"], "are not all among them")]
    {
        let complaint = place.refused(8, &client("read", &flags, &[&["--out", &part], more].concat()));
        assert!(complaint.contains(reason), "{complaint}");
        assert_eq!(std::fs::read_to_string(&part).unwrap(), "as it was, too");
    }
    // Nothing of what is too long is written: of a file, and of what does not say how long it is.
    let long = place.file("long", &"x".repeat(10_001), 0o600);
    for (input, more, reason) in [
        (long.as_str(), &[][..], "long has 10001 bytes, and"),
        (&long, &["--offset", "5000"], "5000 of them from --offset 5000 on: nothing was written"),
        ("/dev/zero", &[], "/dev/zero has more than 10000 bytes"),
        ("/dev/null", &["--offset", "10001"], "are not all among them"),
    ] {
        let complaint = place.refused(8, &client("write", &flags, &[&["--in", input], more].concat()));
        assert!(complaint.contains(reason), "{complaint}");
    }
    place.ask(&client("read", &flags, &["--verify", &region]));
    // A pipe that is short enough is written.
    let pipe = place.directory.join("pipe");
    let (mode, no_device) = (rustix::fs::Mode::from_raw_mode(0o600), 0);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, no_device).unwrap();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, "abc").unwrap()
    });
    place.ask(&client("write", &flags, &["--in", pipe.to_str().unwrap(), "--offset", "9997", "--verify"]));
    writer.join().unwrap();
    place.ask(&client("read", &flags, &["--out", &part]));
    let expected = format!("{}abc", &content[..9997]);
    assert_eq!(std::fs::read_to_string(&part).unwrap(), expected);

    // It is saved at the end, and not before; nothing else is left.
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "as it was");
    assert_eq!(names().len(), 1);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    assert_eq!(std::fs::read_to_string(&old).unwrap(), expected);
    assert_eq!(names(), [""; 0]);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_opened() {
    let place = Place::new();
    let [here, there] = addresses(11);
    let here = format!("udp:{here}");
    let read = ["qp", "read", "--port", &here];
    for (code, more, part) in [
        (2, &["--path-mtu", "1500"][..], "write 256, 512, 1024, 2048 or 4096"),
        (2, &["--qpn", "0x1000000"], "write a number up to 16777215"),
        (2, &["--qpn", "17"], "--region"),
        (2, &["--va", "17"], "--qpn"),
        (2, &["--lcores", "0,1"], "a queue pair has one lcore"),
        (2, &["--peer=no such host!"], "no known host name"),
        (3, &["--verify", "/no/such/file"], "cannot read /no/such/file"),
        (3, &["--out", "/no/such/directory/file"], "cannot write /no/such/directory/file"),
    ] {
        let peer = if more[0].starts_with("--peer") { &[][..] } else { &["--peer", &there] };
        let complaint = place.refused(code, &[&read[..], peer, more].concat());
        assert!(complaint.contains(part), "{more:?}: {complaint}");
    }
    for (code, line, part) in [
        (2, "qp serve --port udp:127.0.0.1:9999 --memory 1K", "UDP port 4791: write udp:ADDR"),
        (2, "qp serve --port udp:[::1]:4791 --memory 1K", "one IPv4 address"),
        (2, "qp serve --port udp:127.0.0.1", "as in --memory 1G"),
        (3, "qp serve --port udp:127.0.0.1 --memory 9999999T", "there is not so much memory"),
        (2, "qp bench --port udp:127.0.0.1 --peer 127.0.0.2 --size 2M", "choose 1 to 1M"),
        (3, "qp read --port udp:192.0.2.77 --peer 127.0.0.2", "no interface of this machine has that address"),
    ] {
        let arguments: Vec<_> = line.split(' ').collect();
        let complaint = place.refused(code, &arguments);
        assert!(complaint.contains(part), "{line}: {complaint}");
    }
}

#[test]
fn a_file_that_keeps_it_waiting_holds_up_no_signal() {
    let place = Place::new();
    let [here, there] = addresses(21);
    let port = format!("udp:{here}");
    let server = place.start(&["qp", "serve", "--port", &port, "--frames", "1024", "--memory", "1M"]);
    server.says(&["peers set up their queue pairs at"]);
    let flags = ["--port".to_owned(), format!("udp:{there}"), "--peer".to_owned(), here];
    let calls = || server.said().lines().filter(|line| line.contains("; QP 0x") && !line.contains("gone")).count();

    // Whoever reads what is read has fallen asleep.
    let (_reader, writer, _) = crate::pipes::stalled();
    let reading = place.start_to(&client("read", &flags, &[]), writer);
    until("the reader's queue pair", || (calls() == 1).then_some(()));
    reading.signal(Signal::INT);
    reading.says(&["SIGINT before it was complete"]);
    assert_eq!(reading.wait(), Some(8));

    // Whoever says what is written says nothing.
    let input = place.directory.join("input").to_str().unwrap().to_owned();
    crate::signals::pipe_at(&input);
    let _silent = std::fs::File::options().read(true).write(true).open(&input).unwrap();
    let writing = place.start(&client("write", &flags, &["--in", &input]));
    until("the writer's queue pair", || (calls() == 2).then_some(()));
    writing.signal(Signal::TERM);
    writing.says(&["SIGTERM before it was complete"]);
    assert_eq!(writing.wait(), Some(8));

    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}
