//! Areas through real processes: `gvm-dp page alloc`, `write`, `read`, `verify`, `free` and `list`.

use crate::harness::{Place, Process, skip, text, until};
use crate::pages::{QUICK, cluster, lends, master};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Stdio;

/// Bytes that occur nowhere else.
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let word = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(word).flat_map(u64::to_le_bytes).take(len).collect()
}

fn list(place: &Place) -> Vec<Value> {
    let text = place.ask(&["page", "list", "--json"]);
    serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
}

/// Runs a command with these bytes as its standard input.
fn fed(place: &Place, arguments: &[&str], bytes: &[u8]) -> (Option<i32>, String, String) {
    let mut command = place.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses reads nothing.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_one_process_writes_others_read_until_the_area_is_freed() {
    let place = Place::new();
    let (_gateway, _slaves, _master) = cluster(&place);
    assert_eq!(place.ask(&["page", "list"]), "there are no areas\n");
    assert_eq!(place.ask(&["page", "alloc", "disk-1", "7M"]), "area disk-1: 4 extents of 2 MiB, 8 MiB\n");
    let areas = list(&place);
    let me = rustix::process::geteuid().as_raw();
    assert_eq!((areas.len(), &areas[0]["area"], &areas[0]["uid"]), (1, &"disk-1".into(), &me.into()));
    assert_eq!((&areas[0]["bytes"], &areas[0]["lost_bytes"]), (&(8 << 20).into(), &0.into()));
    // An odd length at an odd byte, out of a file.
    let bytes = content(5_000_003);
    let file = place.directory.join("file");
    std::fs::write(&file, &bytes).unwrap();
    let name = file.to_str().unwrap();
    let said = place.ask(&["page", "write", "disk-1", name, "--offset", "13"]);
    assert!(said.starts_with("5000003 bytes written to area disk-1 from byte 13 on in "), "{said}");
    let said = place.ask(&["page", "verify", "disk-1", name, "--offset", "13"]);
    assert!(said.starts_with("5000003 bytes of area disk-1 from byte 13 on are those of "), "{said}");
    // Through pipes, and what is beside it stays.
    let (code, _, error) = fed(&place, &["page", "write", "disk-1", "--offset", "5000016"], b"beside");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let output = place.run(&["page", "read", "disk-1"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 8 << 20));
    let mut model = vec![0; 8 << 20];
    model[13..5_000_016].copy_from_slice(&bytes);
    model[5_000_016..5_000_022].copy_from_slice(b"beside");
    assert!(output.stdout == model, "other bytes were read");
    let back = place.directory.join("back");
    let part = ["page", "read", "disk-1", back.to_str().unwrap(), "--offset", "4999999", "--size", "100001"];
    assert!(place.ask(&part).starts_with("100001 bytes of area disk-1 read into "));
    assert!(std::fs::read(&back).unwrap() == model[4_999_999..5_100_000]);
    let (code, said, error) = fed(&place, &["page", "verify", "disk-1"], &model);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{said}");
    // What differs is named.
    model[2_097_160] ^= 0x41;
    model[6_000_000] = 9;
    let (code, _, error) = fed(&place, &["page", "verify", "disk-1"], &model);
    let (is, wrong) = (model[2_097_160] ^ 0x41, model[2_097_160]);
    let first = format!(" is {is:#04x} and not {wrong:#04x}, byte 6000000 (byte 1805696 of extent 2 of 4, ");
    let start =
        "area disk-1: 2 of 8388608 bytes are not those of the standard input: byte 2097160 (byte 8 of extent 1 ";
    assert!(code == Some(8) && error.contains(start) && error.contains(&first), "{error}");
    // A pattern, whole and in parts.
    place.ask(&["page", "write", "disk-1", "--pattern", "7"]);
    for part in [&["--offset", "3", "--size", "99999"][..], &["--offset", "2M"], &[]] {
        place.ask(&[&["page", "verify", "disk-1", "--pattern", "7"], part].concat());
    }
    let complaint = place.refused(8, &["page", "verify", "disk-1", "--pattern", "8", "--size", "64K"]);
    assert!(complaint.contains(" of 65536 bytes are not those of the pattern 8: byte 0 ("), "{complaint}");
    assert_eq!(place.ask(&["page", "free", "disk-1"]), "area disk-1: 4 extents freed, 0 of them were lost\n");
    assert_eq!(place.ask(&["page", "list"]), "there are no areas\n");
    place.until_stats("master", |stats| stats["total"]["master"]["extents_used"] == 0);
    // What was there is gone.
    place.ask(&["page", "alloc", "disk-1", "2M"]);
    let output = place.run(&["page", "read", "disk-1"]);
    assert!(output.stdout == vec![0; 2 << 20]);
}

#[test]
fn what_cannot_be_is_said_with_its_remedy() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&QUICK);
    let _slave = lends(&place, address, 1);
    place.until_registered("gateway", 1);
    let _master = master(&place, &[address], &["--clients", "2", "--quota", "32M"]);
    place.until_stats("master", |stats| stats["total"]["master"]["slaves_known"] == 1);
    let file = place.directory.join("file");
    std::fs::write(&file, content(3 << 20)).unwrap();
    let name = file.to_str().unwrap();
    for (code, arguments, expected) in [
        (8, &["page", "read", "none"][..], "no area of this name: `gvm-dp page list`"),
        (8, &["page", "free", "none"], "no area of this name"),
        (2, &["page", "alloc", "a b", "2M"], "choose such a name"),
        (2, &["page", "alloc", "a", "0"], "choose 2M or more"),
        (8, &["page", "alloc", "a", "64M"], "0 of 32 extents were there, and are freed"),
        (2, &["page", "write", "a", name, "--pattern", "1"], "cannot be used with"),
        (3, &["page", "write", "a", "/nowhere/file"], "cannot read /nowhere/file"),
    ] {
        let complaint = place.refused(code, arguments);
        assert!(complaint.contains(expected), "{complaint}");
    }
    assert_eq!(list(&place), Vec::<Value>::new(), "nothing is left of what failed");
    place.ask(&["page", "alloc", "a", "2M"]);
    for (code, arguments, expected) in [
        (4, &["page", "alloc", "a", "2M"][..], "already: choose another name"),
        (2, &["page", "read", "a", "--offset", "3M"], "--offset 3M: area a has 2097152 bytes"),
        (2, &["page", "read", "a", "--offset", "1M", "--size", "2M"], "--size 2M: area a has 1048576 bytes"),
        (8, &["page", "write", "a", name], "has 3145728 bytes, and area a has room for 2097152"),
        (8, &["page", "verify", "a", name, "--size", "4K", "--offset", "8"], " of 4096 bytes are not those of"),
        (3, &["page", "read", "a", "/nowhere/file"], "/nowhere/file"),
    ] {
        let complaint = place.refused(code, arguments);
        assert!(complaint.contains(expected), "{complaint}");
    }
    let (code, _, error) = fed(&place, &["page", "write", "a"], &content(3 << 20));
    assert!(code == Some(8) && error.contains("the standard input has more bytes, and area a has room"), "{error}");
    // One that is in use, by a writer that waits for its input.
    let mut writer =
        place.command(&["page", "write", "a"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until("it is in use", || (list(&place)[0]["state"] == "in use").then_some(()));
    assert_eq!(list(&place)[0]["pid"], writer.id());
    // The answer is as openapi.json describes it, with an application and an area.
    let (_, stats) = crate::api::ask(&place, "master", "GET", "/v1/stats", None);
    let serving = stats["serving"].clone();
    let shown = &serving["applications"][0];
    assert_eq!(
        (&shown["name"], &shown["pid"], &shown["area"]),
        (&"gvm-dp page".into(), &writer.id().into(), &"a".into())
    );
    assert_eq!((&shown["extents"], &serving["areas"][0]["state"]), (&1.into(), &"in use".into()), "{serving:#}");
    let report = place.ask(&["stats", "--name", "master"]);
    assert!(report.contains("serves   1 application with 2M, 0 areas that nobody uses with 0\n"), "{report}");
    for command in ["read", "free"] {
        let complaint = place.refused(4, &["page", command, "a"]);
        assert!(complaint.contains("another process has this area"), "{complaint}");
    }
    place.ask(&["page", "alloc", "b", "2M"]);
    let complaint = place.refused(8, &["page", "alloc", "c", "2M"]);
    assert!(complaint.contains("as many clients and areas as it takes"), "{complaint}");
    // Who is killed leaves its area.
    writer.kill().unwrap();
    writer.wait().unwrap();
    place.ask(&["page", "verify", "a", name, "--size", "2M"]);
    // Nobody else's user gets it.
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be another user");
    }
    let socket = place.directory.join("master.pages");
    std::os::unix::fs::chown(&socket, Some(4711), None).unwrap();
    let stranger = place.start_as(4711, &["page", "read", "a", "/dev/null", "--socket", socket.to_str().unwrap()]);
    stranger.says(&["the area belongs to another user: choose another name"]);
    assert_eq!(stranger.wait(), Some(8));
    drop(gateway);
}

/// A process's memory.
struct Memory(File);

impl Memory {
    fn of(process: &Process) -> Option<Self> {
        File::options().read(true).write(true).open(format!("/proc/{}/mem", process.pid())).ok().map(Self)
    }

    /// Where these bytes are in mappings of at least so many bytes: those of lent memory.
    fn find(&mut self, pid: u32, least: u64, wanted: &[u8]) -> Vec<u64> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let mut found = Vec::new();
        for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|flags| flags.starts_with("rw"))) {
            let (begin, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let [begin, end] = [begin, end].map(|number| u64::from_str_radix(number, 16).unwrap());
            if end - begin < least {
                continue;
            }
            for at in (begin..end).step_by(1 << 20) {
                // Pieces overlap, so that what is wanted is whole in one of them.
                let len = ((1 << 20) + wanted.len() as u64 - 1).min(end - at);
                let mut bytes = vec![0; len as usize];
                self.0.seek(SeekFrom::Start(at)).unwrap();
                if self.0.read_exact(&mut bytes).is_ok() {
                    let places = bytes.windows(wanted.len()).enumerate().step_by(8);
                    found.extend(places.filter(|(_, here)| *here == wanted).map(|(place, _)| at + place as u64));
                }
            }
        }
        found
    }

    fn flip(&mut self, at: u64) {
        let mut byte = [0];
        self.0.seek(SeekFrom::Start(at)).unwrap();
        self.0.read_exact(&mut byte).unwrap();
        self.0.seek(SeekFrom::Start(at)).unwrap();
        self.0.write_all(&[byte[0] ^ 0x10]).unwrap();
    }
}

#[test]
fn a_byte_that_is_flipped_in_the_memory_of_a_slave_is_found_and_named() {
    let place = Place::new();
    let (_gateway, slaves, _master) = cluster(&place);
    let bytes = content(4 << 20);
    let file = place.directory.join("file");
    std::fs::write(&file, &bytes).unwrap();
    let name = file.to_str().unwrap();
    place.ask(&["page", "alloc", "a", "4M"]);
    place.ask(&["page", "write", "a", name]);
    place.ask(&["page", "verify", "a", name]);
    // In the second extent.
    let at = 3_000_000;
    let wanted = &bytes[at..at + 64];
    let mut flipped = 0;
    for slave in &slaves {
        let Some(mut memory) = Memory::of(slave) else { return skip("the memory of processes is closed to this user") };
        for found in memory.find(slave.pid(), 128 << 20, wanted) {
            memory.flip(found + 5);
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1, "each byte is at one place");
    let complaint = place.refused(8, &["page", "verify", "a", name]);
    let (is, wrong) = (bytes[at + 5] ^ 0x10, bytes[at + 5]);
    let expected =
        format!("area a: 1 of 4194304 bytes are not those of {name}: byte 3000005 (byte 902853 of extent 1 of 2, 0x");
    assert!(complaint.contains(&expected), "{complaint}");
    assert!(complaint.contains(&format!(") is {is:#04x} and not {wrong:#04x}\n")), "{complaint}");
    // Everything else is as it was.
    place.ask(&["page", "verify", "a", name, "--size", "3000005"]);
    let read = place.run(&["page", "read", "a"]).stdout;
    assert_eq!(read.iter().zip(&bytes).filter(|(read, written)| read != written).count(), 1);
    place.ask(&["page", "write", "a", name]);
    place.ask(&["page", "verify", "a", name]);
}

#[test]
fn an_area_whose_slaves_are_gone_gives_errors_and_no_data() {
    let place = Place::new();
    let (_gateway, slaves, _master) = cluster(&place);
    place.ask(&["page", "alloc", "a", "16M"]);
    place.ask(&["page", "write", "a", "--pattern", "3"]);
    for slave in &slaves {
        slave.signal(Signal::KILL);
    }
    place.until_stats("master", |stats| stats["total"]["master"]["units_held"] == 0);
    until("the losses are known", || (list(&place)[0]["lost_bytes"] == 16 << 20).then_some(()));
    let file = place.directory.join("file");
    let complaint = place.refused(8, &["page", "read", "a", file.to_str().unwrap()]);
    assert!(
        complaint.contains("area a: 8 of its 8 extents are lost") && complaint.contains("SLAVE_GONE"),
        "{complaint}"
    );
    assert!(!file.exists());
    let output = place.run(&["page", "read", "a"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(8), 0));
    for command in [&["page", "verify", "a", "--pattern", "3"][..], &["page", "write", "a", "--pattern", "3"]] {
        assert!(place.refused(8, command).contains("extents are lost"));
    }
    // A command that has the area already, and does not know of the loss, ends at the first request.
    let (code, _, error) = fed(&place, &["page", "write", "a"], &[7; 100]);
    assert!(code == Some(8) && error.contains("area a: byte 0 (byte 0 of extent 0 of 8, "), "{error}");
    assert!(error.contains("SLAVE_GONE"), "{error}");
    assert_eq!(place.ask(&["page", "free", "a"]), "area a: 8 extents freed, 8 of them were lost\n");
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let place = Place::new();
    let (_gateway, _slaves, _master) = cluster(&place);
    place.ask(&["page", "alloc", "a", "8M"]);
    place.ask(&["page", "write", "a", "--pattern", "3"]);
    let (reader, mut out) = place.start_piped(&["page", "read", "a"]);
    out.read_exact(&mut [0; 10]).unwrap();
    drop(out);
    let said = reader.said();
    assert_eq!(reader.wait(), Some(0), "{said}");
}
