//! The output of the generator may have no reader. The exit code stays the same.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::{Command, Stdio};

/// Nobody answers there, so that it gives up after a second.
const NOBODY: [&str; 10] =
    ["--gateway", "127.0.0.1:9", "--port", "udp:127.0.0.1:0", "--timeout", "1", "--count", "1", "--frames", "1024"];

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn run(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gvm-pktgen"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    command.status().unwrap().code()
}

/// A pipe whose other end does not read, with no room for another byte.
fn stalled() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn what_cannot_be_printed_is_an_error_and_who_has_seen_enough_is_none() {
    for arguments in [&["--help"][..], &["--version"], &["--completion", "bash"]] {
        let (mut reader, stderr) = std::io::pipe().unwrap();
        assert_eq!(run(arguments, full(), stderr), Some(1), "{arguments:?}");
        let mut complaint = String::new();
        reader.read_to_string(&mut complaint).unwrap();
        assert!(complaint.contains("cannot write to stdout: No space left"), "{arguments:?}: {complaint}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(&["--help"], writer, Stdio::null()), Some(0));
}

#[test]
fn the_exit_code_is_the_same_where_nobody_can_be_told() {
    for stderr in [Stdio::null(), full().into()] {
        assert_eq!(run(&NOBODY, Stdio::null(), stderr), Some(3));
    }
    let (_reader, writer) = stalled();
    assert_eq!(run(&NOBODY, Stdio::null(), writer), Some(3));
    assert_eq!(run(&["--no-such-flag"], Stdio::null(), full()), Some(2));
}
