//! Limits of the kernel that are too low: an error that names them, or a process that works; never a panic.

use crate::harness::{Place, Process, text, until};
use rustix::process::{Signal, geteuid};

const GATEWAY: [&str; 4] = ["--port", "udp:127.0.0.1:0", "--frames", "512"];

/// A user that runs nothing.
fn stranger() -> u32 {
    1_000_000 + std::process::id()
}

/// Waits until a process runs, or has ended with the error of a limit, whose remedy is named.
fn runs(process: &mut Process, remedy: &str) -> bool {
    let end = until("a start or an end", || match process.ended() {
        Some(end) => Some(Some(end)),
        None => process.said().contains("seccomp on").then_some(None),
    });
    if let Some(code) = end {
        let complaint = process.says(&["gvm-dp: "]);
        assert!(code == Some(3) && complaint.contains(remedy), "{code:?}: {}", process.said());
    }
    end.is_none()
}

#[test]
fn too_few_open_files_are_an_error_that_says_so() {
    let place = Place::new();
    // With fewer the program cannot even be loaded.
    let mut limit = 4;
    let gateway = loop {
        let mut gateway = place.start_by(&format!("ulimit -n {limit} && exec \"$0\" \"$@\""), &GATEWAY);
        if runs(&mut gateway, "ulimit -n") {
            break gateway;
        }
        limit += 1;
    };
    assert!((30..100).contains(&limit), "{limit}");
    // One that runs also answers, and ends as ever.
    assert_eq!(place.stats("gateway")["state"], "running");
    for limit in 4..24 {
        let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        let mut client = place.start_by(&script, &["stats", "--json", "--name", "gateway"]);
        let code = until("an answer", || client.ended());
        assert!(matches!(code, Some(0 | 3 | 6)), "{limit}: {code:?} {}", client.said());
    }
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn too_few_processes_are_an_error_that_says_so() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can become a user that runs nothing");
        return;
    }
    let place = Place::new();
    place.give_to(stranger());
    let mut limit = 1;
    let gateway = loop {
        let mut gateway = place.start_as_limited(stranger(), &format!("--nproc={limit}"), &GATEWAY);
        if runs(&mut gateway, "ulimit -u") {
            break gateway;
        }
        limit += 1;
    };
    // The control thread, the log, what follows the machine's addresses and one lcore.
    assert!((3..8).contains(&limit), "{limit}");
    // There is no other one for the configuration; everything else goes on.
    let output = place.run(&["reload"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(complaint.contains("cannot start a thread to read the configuration"), "{complaint}");
    assert!(complaint.contains("ulimit -u"), "{complaint}");
    gateway.signal(Signal::HUP);
    gateway.says(&["ERROR", "SIGHUP: cannot start a thread to read the configuration"]);
    assert_eq!(place.ask(&["set", "hold", "1ms"]), "hold: 50us -> 1ms\n");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

/// A million slaves: 120 MB of tables for the lcore, and 140 MB for the registrar.
const MANY: [&str; 6] = ["--slave-bits", "20", "--gw-bits", "20", "--shards", "0"];

/// Each table in its turn is the one for which there is no memory.
#[test]
fn too_little_memory_for_tables_is_an_error_that_says_so() {
    let place = Place::new();
    // The C library reserves much for each thread unless it is told not to.
    let start = |limit: &str, more: &[&str]| {
        let script = format!("ulimit -v {limit} && MALLOC_ARENA_MAX=1 exec \"$0\" \"$@\"");
        place.start_by(&script, &[&GATEWAY, more].concat())
    };
    let mut gateway = start("unlimited", &[]);
    assert!(runs(&mut gateway, "nothing"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")?.trim().strip_suffix(" kB")?.parse().ok());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
    let (mut limit, mut ended): (u64, _) = (peak.unwrap(), 0);
    let gateway = loop {
        let mut gateway = start(&limit.to_string(), &MANY);
        if runs(&mut gateway, "ulimit -v") {
            break gateway;
        }
        // A thread between two tables may be the one that there is no memory for.
        let complaint = gateway.says(&["gvm-dp: cannot ", "LimitAS="]);
        assert!(complaint.contains("cannot map a table of") || complaint.contains("thread"), "{complaint}");
        (limit, ended) = (limit + (24 << 10), ended + 1);
    };
    assert!((5..20).contains(&ended), "{ended}");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn memory_that_may_not_be_locked_is_not_needed_by_sockets() {
    let place = Place::new();
    let gateway = place.start_by("ulimit -l 0 && exec \"$0\" \"$@\"", &GATEWAY);
    gateway.address();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_file_that_may_not_grow_is_an_error_of_the_command() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let path = |name: &str| place.directory.join(name).to_str().unwrap().to_owned();
    let (key, capture) = (path("key"), path("x.pcapng"));
    for (arguments, code) in [
        (&["key", "new", "--out", &key][..], 5),
        (&["capture", "--name", "gateway", "-w", &capture, "--duration", "1ms"], 3),
        (&["hugepages", "show", "--port", "udp:127.0.0.1:0"], 3),
    ] {
        let script = format!("ulimit -f 0 && exec \"$0\" \"$@\" >{}", path("out"));
        let mut command = place.start_by(&script, arguments);
        let ended = until("its end", || command.ended());
        let complaint = command.says(&["File too large"]);
        assert_eq!(ended, Some(code), "{complaint}");
    }
}
