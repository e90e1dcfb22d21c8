//! Keys in the memory of running processes: each in one place, and nothing of it anywhere else.

use crate::harness::{Place, Process, skip, until};
use rustix::process::{Signal, geteuid};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// A mapping of a process: where it is, and its line in `/proc/PID/smaps`.
#[derive(Clone)]
struct Mapping {
    from: u64,
    to: u64,
    line: String,
    flags: String,
}

fn mappings(process: &Process) -> Vec<Mapping> {
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", process.pid())).unwrap();
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        if let Some((Some(from), Some(to))) = range.map(|(from, to)| (number(from), number(to))) {
            mappings.push(Mapping { from, to, line: line.to_owned(), flags: String::new() });
        } else if let (Some(flags), Some(mapping)) = (line.strip_prefix("VmFlags:"), mappings.last_mut()) {
            mapping.flags = flags.to_owned();
        }
    }
    mappings
}

/// For each of these texts the mappings in which it stands, once for each time.
fn found(process: &Process, texts: &[&[u8]]) -> Vec<Vec<Mapping>> {
    let memory = File::open(format!("/proc/{}/mem", process.pid())).unwrap();
    let mut found: Vec<Vec<Mapping>> = texts.iter().map(|_| Vec::new()).collect();
    let mut begins = [false; 256];
    texts.iter().for_each(|text| begins[usize::from(text[0])] = true);
    let (mut read, mut piece) = (0, vec![0; 1 << 20]);
    for mapping in mappings(process) {
        let mut at = mapping.from;
        while at < mapping.to {
            // What cannot be read (guard pages, pages of devices) holds no key of ours.
            let room = piece.len().min((mapping.to - at) as usize);
            let Ok(len) = memory.read_at(&mut piece[..room], at) else { break };
            if len == 0 {
                break;
            }
            read += len;
            for start in (0..len).filter(|start| begins[usize::from(piece[*start])]) {
                for (text, found) in texts.iter().zip(&mut found) {
                    if piece[start..len].starts_with(text) {
                        found.push(mapping.clone());
                    }
                }
            }
            at += len as u64;
        }
    }
    assert!(read > 1 << 20, "only {read} bytes of memory could be read");
    found
}

fn bytes(key: &str) -> Vec<u8> {
    let digits = key.trim().as_bytes();
    digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Neither half of the key, nor of its text, stands anywhere but in `places` places, which no core dump contains.
fn assert_places(process: &Process, what: &str, key: &str, places: usize) {
    let (raw, text) = (bytes(key), key.trim().as_bytes());
    let found = found(process, &[&raw[..16], &raw[16..], &text[..32], &text[32..]]);
    for (half, (found, places)) in found.iter().zip([places, places, 0, 0]).enumerate() {
        let lines: Vec<_> = found.iter().map(|mapping| &mapping.line).collect();
        assert_eq!(found.len(), places, "{what}, half {half} of the key and of its text: {lines:#?}");
        assert!(found.iter().all(|mapping| mapping.flags.split_whitespace().any(|flag| flag == "dd")), "{what}");
    }
}

/// Waits until heartbeats have come and gone.
fn heartbeats(place: &Place) {
    let accepted = || place.stats("gateway")["total"]["link"]["heartbeats_accepted"].as_u64().unwrap();
    let before = accepted();
    until("heartbeats", || (accepted() > before + 20).then_some(()));
}

#[test]
fn a_key_stands_in_one_place_and_an_old_one_nowhere() {
    if !geteuid().is_root() {
        skip("only root can look into the memory of a process that hides it");
        return;
    }
    let place = Place::new();
    let new_key = || place.ask(&["key", "new"]);
    let (old, new) = (new_key(), new_key());
    let file = place.file("key", &old, 0o600);
    let often = ["--heartbeat", "100ms"];
    let (gateway, address) = place.gateway(&[&often[..], &["--key-file", &file]].concat());
    let own = place.ask(&["key", "derive", "--key-file", &file, "--role", "slave", "--id", "100"]);
    let own_file = place.file("own", &own, 0o600);
    let farm = [&often[..], &["--count", "8", "--name", "farm", "--cluster-key-file", &file]].concat();
    let farm = place.slave(address, 0, &farm);
    let slave = place.slave(address, 100, &[&often[..], &["--name", "slave", "--key-file", &own_file]].concat());
    place.until_registered("gateway", 9);
    heartbeats(&place);
    assert_places(&gateway, "the gateway's cluster key", &old, 1);
    // A farm derives the keys of its nodes, and does not keep the cluster's.
    assert_places(&farm, "the farm's cluster key", &old, 0);
    assert_places(&slave, "the slave's own key", &own, 1);
    assert_places(&slave, "the cluster key at a slave", &old, 0);
    // Once it was changed, the old one is gone.
    place.file("key", &new, 0o600);
    for name in ["gateway", "farm"] {
        place.ask(&["reload", "--name", name]);
    }
    heartbeats(&place);
    for (process, what, places) in [(&gateway, "the gateway", 1), (&farm, "the farm", 0)] {
        assert_places(process, &format!("{what}'s old key"), &old, 0);
        assert_places(process, &format!("{what}'s new key"), &new, places);
    }
    // Its memory is not for other processes of its user.
    assert_eq!(std::fs::metadata(format!("/proc/{}/mem", gateway.pid())).unwrap().uid(), 0);
    for process in [farm, slave, gateway] {
        process.signal(Signal::TERM);
        assert_eq!(process.wait(), Some(0));
    }
}

#[test]
fn a_user_does_not_look_into_its_own_gateway() {
    if !geteuid().is_root() {
        skip("only root can be another user");
        return;
    }
    let place = Place::new();
    place.give_to(65_534);
    let gateway = place.start_as(65_534, &["--port", "udp:127.0.0.1:0", "--frames", "512"]);
    gateway.address();
    let look = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "cat"])
        .arg(format!("/proc/{}/environ", gateway.pid()))
        .output()
        .unwrap();
    assert!(!look.status.success() && look.stdout.is_empty(), "it reads another process of its user");
}
