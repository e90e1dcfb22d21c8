//! The programs with which people use NBD servers.

use crate::client::*;
use crate::life::bytes;
use crate::support::{Running, Wants, is_installed};
use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    // A program that hangs would keep the test for ever.
    let output = Command::new("timeout").arg("100").arg(program).args(arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {} {text}", output.status);
    output
}

fn uri(disk: &Running) -> String {
    format!("nbd+unix:///?socket={}", disk.path().display())
}

/// A file of 24 MiB with holes.
fn image(at: &Path) -> Vec<u8> {
    let mut content = vec![0; 24 << 20];
    for (from, len) in [(0, 3 << 20), ((8 << 20) + 4096, 100 << 10), ((22 << 20) + 512, (2 << 20) - 512)] {
        content[from..from + len].copy_from_slice(&bytes(from as u64, len));
    }
    std::fs::write(at, &content).unwrap();
    content
}

fn small() -> Running {
    Running::new(Wants { size: 24 << 20, buffers: 64 << 20, ..Wants::default() })
}

#[test]
fn libnbd_knows_what_the_disk_can_do_and_copies_it() {
    if !is_installed("nbdinfo") || !is_installed("nbdcopy") {
        return;
    }
    let disk = small();
    let info = String::from_utf8(run("nbdinfo", &["--json", &uri(&disk)]).stdout).unwrap();
    for line in [
        "\"export-size\": 25165824",
        "\"structured\": true",
        "\"can_multi_conn\": true",
        "\"can_fast_zero\": true",
        "\"can_trim\": true",
        "\"can_df\": true",
        "\"block_size_minimum\": 512",
        "\"base:allocation\"",
    ] {
        assert!(info.contains(line), "{line} in {info}");
    }
    let (from, to) = (disk.folder.0.join("from"), disk.folder.0.join("to"));
    let content = image(&from);
    run("nbdcopy", &[from.to_str().unwrap(), &uri(&disk)]);
    assert!(disk.counters().connections_accepted.get() >= 2, "several connections share the work");
    run("nbdcopy", &[&uri(&disk), to.to_str().unwrap()]);
    assert!(std::fs::read(&to).unwrap() == content);
    let map = String::from_utf8(run("nbdinfo", &["--map", &uri(&disk)]).stdout).unwrap();
    assert!(map.contains("data") && map.contains("zero"), "{map}");
}

#[test]
fn qemu_converts_compares_and_writes() {
    if !is_installed("qemu-img") || !is_installed("qemu-io") {
        return;
    }
    let disk = small();
    let from = disk.folder.0.join("from");
    image(&from);
    let (from, uri) = (from.to_str().unwrap(), uri(&disk));
    run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", from, &uri]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", from, &uri]);
    let steps = ["write -P 171 512 4k", "read -P 171 512 4k", "discard 0 8M", "read -P 0 4M 4M", "write -z 22M 1M"];
    let more = ["read -P 0 22M 1M", "write -z -u 1536 3k", "flush", "read -P 0 0 8M"];
    let arguments: Vec<&str> = steps.iter().chain(&more).flat_map(|step| ["-c", step]).collect();
    let output = run("qemu-io", &[&["-f", "raw"][..], &arguments, &[&uri]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("failed") && !text.contains("error"), "{text}");
    // What QEMU left is what this client sees.
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.read(22 << 20, 1 << 20).unwrap(), vec![0; 1 << 20]);
}
