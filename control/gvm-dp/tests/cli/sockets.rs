//! The control socket's place: what is there before, meanwhile and afterwards.

use crate::harness::{Place, until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

const GATEWAY: [&str; 4] = ["--port", "udp:127.0.0.1:0", "--frames", "2048"];

fn mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_process_that_ends_leaves_its_successor_its_socket() {
    let place = Place::new();
    let (first, _) = place.gateway(&[]);
    let socket = place.directory.join("gateway.sock");
    std::fs::remove_file(&socket).unwrap();
    first.says(&["WARN", "gateway.sock was removed or replaced", &format!("(kill {})", first.pid())]);
    let (second, _) = place.gateway(&[]);
    first.signal(Signal::TERM);
    assert_eq!(first.wait(), Some(0));
    assert_eq!(place.stats("gateway")["pid"], second.pid());
    assert!(!second.said().contains("removed or replaced"), "{}", second.said());
    assert_eq!(place.ask(&["drain"]), "gateway: drained\n");
    assert_eq!(second.wait(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn what_is_no_socket_stays_where_it_is() {
    let place = Place::new();
    let socket = place.directory.join("gateway.sock");
    let refused = || {
        let complaint = place.refused(3, &GATEWAY);
        let expected = format!("{} is not a socket", socket.display());
        assert!(complaint.contains(&expected) && complaint.contains("move it away"), "{complaint}");
    };
    std::fs::write(&socket, "precious").unwrap();
    refused();
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir(&socket).unwrap();
    refused();
    std::fs::remove_dir(&socket).unwrap();
    // A link to a socket that nobody answers: neither the link nor the socket is ours.
    let other = place.directory.join("other");
    drop(UnixListener::bind(&other).unwrap());
    symlink(&other, &socket).unwrap();
    refused();
    assert!(std::fs::symlink_metadata(&socket).unwrap().is_symlink() && other.exists());
    std::fs::remove_file(&socket).unwrap();
    // What a crash left behind is taken over.
    std::fs::rename(&other, &socket).unwrap();
    let (gateway, _) = place.gateway(&[]);
    let metadata = std::fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket() && metadata.permissions().mode() & 0o777 == 0o600);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_directory_that_others_can_write_into_is_refused() {
    let place = Place::new();
    for open in [0o777, 0o1777, 0o770, 0o702] {
        mode(&place.directory, open);
        let complaint = place.refused(3, &GATEWAY);
        let expected = format!("lets other users write into it (mode {open:03o}): `chmod 700");
        assert!(complaint.contains(&expected) && complaint.contains("GVM_DP_RUN_DIR"), "{complaint}");
    }
    for private in [0o700, 0o755, 0o750] {
        mode(&place.directory, private);
        let (gateway, _) = place.gateway(&[]);
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.wait(), Some(0), "{private:o}");
    }
}

#[test]
fn of_two_that_start_at_once_one_is_refused() {
    let place = Place::new();
    let mut both: Vec<_> = (0..2).map(|_| place.start(&GATEWAY)).collect();
    let loser = until("one to be refused", || {
        let at = both.iter_mut().position(|process| process.ended().is_some())?;
        Some(both.swap_remove(at))
    });
    loser.says(&["a gvm-dp named \"gateway\" runs already"]);
    assert_eq!(loser.wait(), Some(4));
    let winner = both.pop().unwrap();
    winner.address();
    assert_eq!(place.stats("gateway")["pid"], winner.pid());
}

#[test]
fn slow_clients_keep_nobody_from_asking() {
    let place = Place::new();
    // So few descriptors that 200 clients would take them all.
    let arguments = ["--port", "udp:127.0.0.1:0", "--frames", "512"];
    let gateway = place.start_by("ulimit -n 128 && exec \"$0\" \"$@\"", &arguments);
    gateway.address();
    let socket = place.directory.join("gateway.sock");
    let slow = |number: usize| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // Some are given up before they have said it.
        let _ = stream.write_all(&b"POST /v1/drain HTTP/1.1\r\nhost: "[..number % 32]);
        stream
    };
    let mut clients: Vec<UnixStream> = (0..200).map(slow).collect();
    for (round, client) in clients.iter_mut().enumerate().take(5) {
        assert_eq!(place.stats("gateway")["state"], "running");
        *client = slow(round);
    }
    let counted = |counter: &str| place.stats("gateway")["total"]["control"][counter].as_u64().unwrap();
    assert!(counted("socket_connections_displaced") > 0);
    until("the others to be given up", || (counted("socket_timeouts") > 0).then_some(()));
    // A body that does not come ends the same way.
    let mut stream = UnixStream::connect(&socket).unwrap();
    let head = "PATCH /v1/settings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("did not come"), "{answer}");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
    drop(clients);
}
