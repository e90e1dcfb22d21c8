//! What a service manager sees: readiness, state, signs of life, the end; and what it has done before the start.

use crate::harness::{Place, text};
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// A manager's socket.
struct Manager(UnixDatagram);

impl Manager {
    fn new(place: &Place) -> (Self, String) {
        let path = place.directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (Self(socket), path.to_str().unwrap().to_owned())
    }

    /// The next message with this assignment; those before it are passed over.
    fn hears(&self, assignment: &str) -> String {
        let mut buffer = [0; 1024];
        loop {
            let len = self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("{assignment} never came: {error}"));
            let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if message.lines().any(|line| line.starts_with(assignment)) {
                return message;
            }
        }
    }
}

#[test]
fn a_manager_hears_when_it_is_ready_that_it_lives_and_that_it_ends() {
    let place = Place::new();
    let (manager, socket) = Manager::new(&place);
    let environment = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "200000")];
    let gateway = place.start_with(&environment, &["--port", "udp:127.0.0.1:0", "--frames", "2048"]);
    let ready = manager.hears("READY=1");
    assert_eq!(ready, "READY=1\nSTATUS=gateway: 1 lcore, 0 slaves, 0 masters\n");
    // The lcore polls by then.
    assert!(place.stats("gateway")["total"]["lcore"]["polls"].as_u64() > Some(0));
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    let slave = place.slave(gateway.address(), 3, &["--name", "slave"]);
    manager.hears("STATUS=gateway: 1 lcore, 1 slave, 0 masters");
    drop(slave);
    gateway.signal(Signal::TERM);
    assert_eq!(manager.hears("STOPPING=1"), "STOPPING=1\nSTATUS=gateway: draining\n");
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_watchdog_of_another_process_is_not_ours() {
    let place = Place::new();
    let (manager, socket) = Manager::new(&place);
    let environment = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")];
    let gateway = place.start_with(&environment, &["--port", "udp:127.0.0.1:0", "--frames", "2048"]);
    manager.hears("READY=1");
    manager.0.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1024];
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(20));
        if let Ok(len) = manager.0.recv(&mut buffer) {
            assert!(!buffer[..len].starts_with(b"WATCHDOG"), "a sign of life that nobody waits for");
        }
    }
    drop(gateway);
}

#[test]
fn what_an_arena_needs_is_known_before_the_start() {
    let place = Place::new();
    let flags = ["--port", "udp:127.0.0.1:0", "--frames", "2049"];
    let shown = place.ask(&[&["hugepages", "show"], &flags[..]].concat());
    assert!(shown.starts_with("3 hugepages of 2 MiB are needed: 1 lcore with 2049 frames of 2048 bytes\n"), "{shown}");
    assert!(shown.contains(" are free"), "{shown}");
    let file = place.file("other.toml", "port = \"udp:127.0.0.1:0\"\nframes = 1024\nmtu = 4000\n", 0o644);
    let shown = place.ask(&["hugepages", "show", "--config", &file]);
    assert!(shown.starts_with("4 hugepages of 2 MiB are needed: 1 lcore with 1024 frames of 8192 bytes"), "{shown}");
    let complaint = place.refused(2, &["hugepages", "show", "--frames", "2048"]);
    assert!(complaint.contains("no --port"), "{complaint}");
}

#[test]
fn pages_and_completions_are_made() {
    let place = Place::new();
    place.ask(&["man", "--out", place.directory.to_str().unwrap()]);
    let page = std::fs::read_to_string(place.directory.join("gvm-dp-hugepages-reserve.1")).unwrap();
    assert!(page.contains(".TH GVM-DP-HUGEPAGES-RESERVE 1"), "{page}");
    assert!(place.ask(&["completion", "bash"]).contains("complete -F _complete_gvm_dp gvm-dp"));
    assert!(place.directory.join("gvm-dp.1").exists());
}

#[test]
fn a_manager_hears_of_a_reload_and_a_bad_one_ends_nothing() {
    let place = Place::new();
    let (manager, socket) = Manager::new(&place);
    let file = place.file("other.toml", "port = \"udp:127.0.0.1:0\"\nframes = 2048\n", 0o644);
    let gateway = place.start_with(&[("NOTIFY_SOCKET", &socket)], &["gateway", "--config", &file]);
    manager.hears("READY=1");
    place.ask(&["reload", "--name", "gateway"]);
    assert!(manager.hears("RELOADING=1").contains("\nMONOTONIC_USEC="));
    manager.hears("READY=1");
    // Confined as it is, it says what is wrong and goes on; so does a slave, which looks a host name up again.
    place.file("other.toml", "frames = 2048\n", 0o644);
    let complaint = text(&place.run(&["reload", "--name", "gateway"]).stderr);
    assert!(complaint.contains("no port"), "{complaint}");
    place.stats("gateway");
    let port = gateway.address().port().to_string();
    let slave =
        format!("frames = 2048\nport = \"udp:127.0.0.1:0\"\n[slave]\nid = 1\ngateway = [\"localhost:{port}\"]\n");
    let slave_file = place.file("slave.toml", &slave, 0o644);
    let slave = place.start(&["slave", "--config", &slave_file]);
    slave.says(&["privileges: "]);
    place.run(&["reload", "--name", "slave"]);
    place.stats("slave");
    for process in [slave, gateway] {
        process.signal(Signal::TERM);
        assert_eq!(process.wait(), Some(0));
    }
}
