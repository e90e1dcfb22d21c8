//! Signals at any time: what ends a process drains it, and nothing else ends it.

use crate::harness::{Place, Process, until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

/// A file that whoever reads it waits for.
pub(crate) fn pipe_at(path: &str) {
    let _ = std::fs::remove_file(path);
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Waits until a process has a handler for a signal.
pub(crate) fn until_handled(process: &Process, signal: Signal) {
    until("a handler", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & (1 << (signal.as_raw() - 1)) != 0).then_some(())
    });
}

/// Waits until a process reads its configuration again, and has not ended that yet.
fn until_reading(process: &Process) {
    until_thread(process, "reload");
}

/// Waits until a process has a thread of this name.
pub(crate) fn until_thread(process: &Process, name: &str) {
    until(&format!("a thread {name}"), || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
        let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.any(|found| found.trim() == name).then_some(())
    });
}

#[test]
fn signals_for_other_programs_end_nothing() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&[]);
    let slave = place.slave(address, 3, &["--name", "slave"]);
    place.until_registered("gateway", 1);
    for (signal, name) in [
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
    ] {
        for process in [&gateway, &slave] {
            process.signal(signal);
            process.says(&[&format!("{name} means nothing to gvm-dp: ignored")]);
        }
    }
    // Many at once are handled by whatever thread the kernel chooses: none may be forbidden it.
    for _ in 0..200 {
        for signal in [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::HUP, Signal::IO] {
            gateway.signal(signal);
        }
    }
    gateway.says(&["SIGHUP: configuration read, 0 settings changed"]);
    assert_eq!(place.stats("gateway")["membership"]["registered"], 1);
    for (process, signal, name) in [(slave, Signal::POWER, "SIGPWR"), (gateway, Signal::XCPU, "SIGXCPU")] {
        process.signal(signal);
        process.says(&[&format!("{name}: draining")]);
        assert_eq!(process.wait(), Some(0), "{name}");
    }
}

#[test]
fn before_it_is_ready_a_reload_is_remembered_and_an_end_is_at_once() {
    let place = Place::new();
    let config = place.directory.join("gvm-dp.toml").to_str().unwrap().to_owned();
    let text = "port = \"udp:127.0.0.1:0\"\nframes = 2048\n";
    // Setting up waits for the file's content.
    pipe_at(&config);
    let gateway = place.start(&["--config", &config]);
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::IO] {
        until_handled(&gateway, signal);
        gateway.signal(signal);
    }
    // The file is a file by the time that it is read again.
    let pipe = std::fs::File::options().write(true).open(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    place.file("gvm-dp.toml", &format!("{text}[gateway]\nhold = \"3ms\"\n"), 0o644);
    std::io::Write::write_all(&mut &pipe, text.as_bytes()).unwrap();
    drop(pipe);
    gateway.says(&["SIGHUP: configuration read, 1 settings changed"]);
    assert_eq!(place.stats("gateway")["settings"]["hold"], "3ms");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));

    pipe_at(&config);
    let gateway = place.start(&["--config", &config]);
    until_handled(&gateway, Signal::HUP);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), None, "it holds nothing that could be drained");
}

#[test]
fn a_reload_that_hangs_holds_up_nothing_else() {
    let place = Place::new();
    let text = "port = \"udp:127.0.0.1:0\"\nframes = 2048\n";
    let config = place.file("gvm-dp.toml", text, 0o644);
    let gateway = place.start(&["--config", &config]);
    gateway.address();
    pipe_at(&config);
    let client = place.start(&["reload", "--name", "gateway"]);
    until_reading(&gateway);
    let complaint = place.refused(6, &["reload", "--name", "gateway", "--json"]);
    assert!(complaint.contains("a reload is still under way") && complaint.contains("hangs"), "{complaint}");
    // However often it is asked for, one waits.
    for _ in 0..3 {
        gateway.signal(Signal::HUP);
        gateway.says(&["SIGHUP: a reload is still under way"]);
    }
    assert_eq!(place.ask(&["set", "hold", "1ms", "--name", "gateway"]), "hold: 50us -> 1ms\n");
    let pipe = std::fs::File::options().write(true).open(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    place.file("gvm-dp.toml", &format!("{text}[gateway]\nhold = \"3ms\"\n"), 0o644);
    std::io::Write::write_all(&mut &pipe, text.as_bytes()).unwrap();
    drop(pipe);
    gateway.says(&["SIGHUP: configuration read, 1 settings changed"]);
    assert_eq!(client.wait(), Some(0));

    pipe_at(&config);
    gateway.signal(Signal::HUP);
    until_reading(&gateway);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}
