//! Whom clients trust, and what others can make them print or write: nobody but this user and root, and nothing but
//! text.

use crate::harness::{Place, text, until};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// What a terminal would take for orders: colours, a title, an answer on its input, the other direction of writing.
const ORDERS: &str = "\u{1b}[31m\u{1b}]0;mine\u{7}\u{9b}6n\r\u{202e}\u{7f}";

/// Answers one request with what `answer` says to its path, with orders in every text.
fn impostor(stream: UnixStream, answer: &Value) {
    let mut request = BufReader::new(&stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if request.read_line(&mut line).unwrap() == 0 {
            // A client that only looked whether somebody is there.
            return;
        }
        if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    request.read_exact(&mut vec![0; length]).unwrap();
    let path = head.split_whitespace().nth(1).unwrap();
    let path = path.split('?').next().unwrap();
    let (status, answer) = match answer.get(path) {
        Some(answer) => ("200 OK", hostile(answer)),
        None => ("404 Not Found", json!({"code": "not_found", "message": ORDERS, "remedy": ORDERS})),
    };
    let mut body = answer.to_string();
    if path == "/v1/trace" {
        body.push('\n');
    }
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = (&stream).write_all((head + &body).as_bytes());
}

/// The same value with orders in every text, and its numbers as they are.
fn hostile(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(format!("{text}{ORDERS}")),
        Value::Array(values) => values.iter().map(hostile).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), hostile(value))).collect(),
        value => value.clone(),
    }
}

#[test]
fn no_text_of_whoever_answers_is_an_order_to_the_terminal() {
    // What an honest gateway answers, so that all of it is shown.
    let (honest, place) = (Place::new(), Place::new());
    let (_gateway, address) = honest.gateway(&[]);
    let _farm = honest.slave(address, 0, &["--count", "2", "--name", "farm"]);
    honest.until_registered("gateway", 2);
    let mut answers = json!({
        "/v1/drain": {"state": "draining"},
        "/v1/reload": {"file": "f", "changed": [{"name": "hold", "from": "1", "to": "2"}], "needs_restart": []},
    });
    for path in ["/v1/stats", "/v1/routes", "/v1/settings"] {
        answers[path] = crate::api::request(&honest, "gateway", "GET", path, None).1;
    }
    std::fs::set_permissions(&place.directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(place.directory.join("gateway.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            impostor(stream.unwrap(), &answers);
        }
    });
    let mut shown = String::new();
    for command in [
        &["stats", "--interval", "10ms"][..],
        &["stats", "--interval", "10ms", "--all"],
        &["stats", "--json"],
        &["top", "--once", "--interval", "10ms"],
        &["routes"],
        &["routes", "--json"],
        &["reload"],
        &["reload", "--json"],
        &["set"],
        &["set", "--json"],
        &["config", "show", "--running"],
        &["config", "show", "--running", "--json"],
        &["trace", "1", "--count", "1"],
        &["capture", "-w", "-", "--duration", "1ms"],
    ] {
        let output = place.run(command);
        for said in [text(&output.stdout), text(&output.stderr)] {
            let order = said.chars().find(|&c| (c.is_control() && c != '\n') || c == '\u{202e}');
            assert_eq!(order, None, "{command:?}: {said:?}");
            shown.push_str(&said);
        }
    }
    // It was shown, and not left out.
    assert!(shown.contains("\\u{1b}[31m\\u{1b}]0;mine\\u{7}\\u{9b}6n"), "{shown}");
    // Completions do not run into it either.
    std::fs::rename(place.directory.join("gateway.sock"), place.directory.join("x\u{1b}[31m.sock")).unwrap();
    let complaint = place.refused(6, &["stats"]);
    assert!(complaint.contains("no gvm-dp of this user runs"), "{complaint}");
}

#[test]
fn a_socket_of_another_user_is_told_nothing() {
    if !geteuid().is_root() {
        crate::harness::skip("only root can be another user");
        return;
    }
    let (theirs, ours) = (Place::new(), Place::new());
    theirs.give_to(NOBODY);
    let gateway = theirs.start_as(NOBODY, &["--port", "udp:127.0.0.1:0", "--frames", "512"]);
    gateway.address();
    // Root may ask the service, in the directory that belongs to the service's user.
    assert_eq!(theirs.stats("gateway")["state"], "running");
    // In a directory of root's nobody else may answer.
    std::fs::rename(theirs.directory.join("gateway.sock"), ours.directory.join("gateway.sock")).unwrap();
    let complaint = ours.refused(6, &["drain", "--name", "gateway"]);
    assert!(complaint.contains("user 65534 answers there") && complaint.contains("nothing was sent"), "{complaint}");
    let complaint = ours.refused(6, &["stats"]);
    assert!(complaint.contains("no gvm-dp of this user runs"), "{complaint}");
    std::fs::rename(ours.directory.join("gateway.sock"), theirs.directory.join("gateway.sock")).unwrap();
    assert_eq!(theirs.stats("gateway")["state"], "running", "it was not drained");
    // A user trusts no directory of another one.
    ours.give_to(12_345);
    let mut client = ours.start_as(NOBODY, &["stats", "--name", "gateway"]);
    client.says(&["is not a directory of this user or of root (it belongs to user 12345)", "GVM_DP_RUN_DIR"]);
    assert_eq!(until("its end", || client.ended()), Some(6));
}

#[test]
fn a_directory_into_which_others_can_write_is_not_asked() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let mode = |mode| std::fs::set_permissions(&place.directory, std::fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o777, 0o1777, 0o770, 0o702] {
        mode(open);
        for command in [&["stats", "--name", "gateway"][..], &["stats"], &["drain"]] {
            let complaint = place.refused(3, command);
            assert!(complaint.contains(&format!("lets other users write into it (mode {open:03o})")), "{complaint}");
        }
    }
    mode(0o755);
    assert_eq!(place.stats("gateway")["state"], "running");
}

#[test]
fn a_capture_goes_into_no_file_that_somebody_else_reads() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let (file, link) = (place.file("file", "precious", 0o644), place.directory.join("link"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let capture = |file: &str| ["capture", "-w", file, "--duration", "1ms"].map(str::to_owned);
    let complaint = place.refused(3, &capture(link.to_str().unwrap()).each_ref().map(String::as_str));
    assert!(complaint.contains("it is a symbolic link: name the file") && !complaint.contains("room"), "{complaint}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    place.ask(&capture(&file).each_ref().map(String::as_str));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let captured = std::fs::read(&file).unwrap();
    // What the process has open itself, and devices.
    let out = place.run(&["capture", "-w", "/dev/stdout", "--duration", "1ms"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(out.stdout[..4], captured[..4]);
    place.ask(&["capture", "-w", "/dev/null", "--duration", "1ms"]);
}

#[test]
fn a_key_file_of_another_user_is_refused() {
    if !geteuid().is_root() {
        crate::harness::skip("only root can give a file away");
        return;
    }
    let place = Place::new();
    let key = place.ask(&["key", "new"]);
    let file = place.file("key", &key, 0o600);
    let foreign = |arguments: &[&str]| {
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
        let complaint = place.refused(5, arguments);
        assert!(complaint.contains("belongs to user 65534, who is neither this one nor root"), "{complaint}");
        assert!(complaint.contains("chown root") && !complaint.contains(key.trim()), "{complaint}");
    };
    let port = ["--port", "udp:127.0.0.1:0", "--frames", "512"];
    foreign(&["key", "show", "--key-file", &file]);
    foreign(&["key", "derive", "--key-file", &file, "--role", "slave", "--id", "1"]);
    foreign(&[&port[..], &["--key-file", &file]].concat());
    let slave = [&["slave", "--gateway", "127.0.0.1", "--id", "1"][..], &port].concat();
    foreign(&[&slave[..], &["--key-file", &file]].concat());
    foreign(&[&slave[..], &["--cluster-key-file", &file]].concat());
    // A running process does not take it either, and goes on with the one that it has.
    chown(&file, Some(0), Some(0)).unwrap();
    let (gateway, _) = place.gateway(&["--key-file", &file]);
    // Without root's rights it reads a file only where that lets root's group do so.
    chown(&file, Some(NOBODY), Some(0)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let complaint = place.refused(2, &["reload"]);
    assert!(complaint.contains("belongs to user 65534"), "{complaint}");
    // A service reads root's file.
    chown(&file, Some(0), Some(NOBODY)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    place.ask(&["reload"]);
    drop(gateway);
}
