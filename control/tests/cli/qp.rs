//! `gvm-dp qp` over loopback, without privileges; over NIC queues and between hosts it is tested in `tests/netns`.

use crate::harness::{Place, Process, text};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Loopback addresses that no other test process uses: RoCEv2 has one UDP port.
fn addresses<const N: usize>(first: u8) -> [String; N] {
    let [.., a, b] = std::process::id().to_be_bytes();
    std::array::from_fn(|i| format!("127.{}.{b}.{}", a % 127 + 1, first + i as u8))
}

/// A server on the first address, and what the flags of a client are.
fn serve(place: &Place, more: &[&str]) -> (Process, [String; 4]) {
    let [here, there] = addresses(1);
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
    let (server, flags) = serve(&place, &["--file", &file]);
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

    let (first, _) = serve(&place, &["--memory", "4K"]);
    let [here, _, third] = addresses(1);
    let (port, listen) = (format!("udp:{third}"), format!("{here}:9997"));
    let taken = place.refused(4, &["qp", "serve", "--port", &port, "--memory", "4K", "--listen", &listen]);
    assert!(taken.contains("--listen") && taken.contains("is in use: `ss -tlpn sport = :9997`"), "{taken}");
    drop(first);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_opened() {
    let place = Place::new();
    let [here, there] = addresses(11);
    let here = format!("udp:{here}");
    let read = ["qp", "read", "--port", &here];
    for (code, more, part) in [
        (2, &["--path-mtu", "1500"][..], "write 256, 512, 1024, 2048 or 4096"),
        (2, &["--qpn", "0x1000000"], "write a number of 24 bits"),
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
