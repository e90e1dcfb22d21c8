//! A disk over a real master and real slaves.

use crate::api::ask;
use crate::harness::{Place, Process, until};
use crate::nbd_client::*;
use crate::pages::{cluster, lends};
use rustix::process::Signal;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const EXTENT: u64 = 2 << 20;

fn disk(place: &Place) -> (Process, String) {
    let path = place.directory.join("disk.nbd").display().to_string();
    let disk = place.start(&["disk", "--size", "64M", "--buffers", "8M", "--listen", &format!("unix:{path}")]);
    disk.says(&["a disk of 64M at unix:"]);
    disk.says(&["privileges: "]);
    (disk, path)
}

fn client(path: &str) -> NbdClient {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    NbdClient::new(stream, true)
}

/// Bytes that tell where they are.
fn bytes(turn: u8, slot: u64) -> Vec<u8> {
    (0..64 << 10).map(|at: u32| (at / 256) as u8 ^ turn.wrapping_add(slot as u8)).collect()
}

fn write(client: &mut NbdClient, turn: u8) {
    for slot in 0..8 {
        assert_eq!(client.write(slot * EXTENT, &bytes(turn, slot)), 0, "slot {slot}");
    }
}

/// Each slot has what was written, or says that it is lost. Returns how many are lost.
fn lost(client: &mut NbdClient, turn: u8) -> usize {
    let brings = |slot: u64| match client.read(slot * EXTENT, 64 << 10) {
        Ok(data) => {
            assert!(data == bytes(turn, slot), "slot {slot} has other bytes");
            false
        }
        Err(error) => {
            assert_eq!(error, 5);
            true
        }
    };
    (0..8).map(brings).filter(|is_lost| *is_lost).count()
}

#[test]
fn two_slaves_start_again_and_so_does_the_master_and_no_byte_is_wrong() {
    let place = Place::new();
    let (gateway, slaves, master_of) = cluster(&place);
    let (disk, path) = disk(&place);
    let mut nbd = client(&path);
    write(&mut nbd, 1);
    assert_eq!(lost(&mut nbd, 1), 0);
    let held = |stats: &serde_json::Value, name: &str| stats["total"]["disk"][name].as_u64().unwrap();
    place.until_stats("disk", |stats| held(stats, "extents_held") == 8);
    // What it has is as the control API describes it, and people see it.
    let (_, shown) = ask(&place, "disk", "GET", "/v1/stats", None);
    let shown = &shown["disk"];
    assert_eq!((&shown["size_bytes"], &shown["extents"]), (&(64 << 20).into(), &8.into()), "{shown}");
    assert_eq!((&shown["present_bytes"], &shown["lost_bytes"]), (&(8 * (64 << 10)).into(), &0.into()), "{shown}");
    assert_eq!((&shown["connections"], &shown["master_connected"]), (&1.into(), &true.into()), "{shown}");
    let said = place.ask(&["stats", "--name", "disk"]);
    assert!(said.contains("disk     64M at unix:") && said.contains("has 16M of "), "{said}");
    assert!(said.lines().any(|line| line.starts_with("WRITE")), "{said}");

    slaves.iter().for_each(|slave| slave.signal(Signal::KILL));
    for slave in slaves {
        assert_eq!(slave.wait(), None);
    }
    let _slaves = [1, 2].map(|id| lends(&place, gateway.address(), id));
    place.until_stats("disk", |stats| held(stats, "extents_lost") == 8);
    disk.says(&["ERROR", "of the disk are lost"]);
    assert_eq!(lost(&mut nbd, 1), 8);
    let said = place.ask(&["stats", "--name", "disk"]);
    assert!(said.contains("512 KiB of the disk are lost: READs of them fail"), "{said}");
    assert_eq!(nbd.read(20 << 20, 4096).unwrap(), [0; 4096], "what was never written");
    until("slaves have memory again", || {
        let written = nbd.write(0, &bytes(2, 0));
        assert!(matches!(written, 0 | 28), "{written}");
        (written == 0).then_some(())
    });
    write(&mut nbd, 2);
    assert_eq!(lost(&mut nbd, 2), 0);

    master_of.signal(Signal::KILL);
    assert_eq!(master_of.wait(), None);
    disk.says(&["the master is gone"]);
    assert_eq!(lost(&mut nbd, 2), 8);
    assert_eq!(nbd.write(0, &bytes(3, 0)), 5);
    // Leases of the master that is gone last for a minute: it is another one.
    let at = gateway.address().to_string();
    let other = ["master", "--id", "2", "--port", "udp:127.0.0.1:0", "--gateway", &at, "--heartbeat", "100ms"];
    let _other = place.start(&other);
    disk.says(&["a master serves the disk again"]);
    until("slaves have memory for the other master", || (nbd.write(0, &bytes(3, 0)) == 0).then_some(()));
    write(&mut nbd, 3);
    assert_eq!(lost(&mut nbd, 3), 0);
    assert_eq!(nbd.plain(TRIM, 0, 0, 64 << 20), 0);
    place.until_stats("disk", |stats| held(stats, "extents_held") == 0);
    assert_eq!(nbd.read(0, 64 << 10).unwrap(), vec![0; 64 << 10]);

    assert_eq!(place.ask(&["drain", "--name", "disk"]), "disk: drained\n");
    assert_eq!(disk.wait(), Some(0));
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn a_disk_in_an_area_outlives_a_process_that_is_killed_in_the_middle_of_writes() {
    let place = Place::new();
    let (_gateway, _slaves, _master) = cluster(&place);
    let path = place.directory.join("disk.nbd").display().to_string();
    let listen = format!("unix:{path}");
    let arguments = ["disk", "--size", "64M", "--buffers", "8M", "--listen", &listen, "--area", "d"];
    let mut known: Vec<u8> = vec![0; 16];
    for round in 0..4u8 {
        let disk = place.start(&arguments);
        disk.says(&["a disk of 64M at unix:", if round == 0 { "new in area d" } else { "found in area d" }]);
        let mut nbd = client(&path);
        for (slot, turn) in (0..).zip(&known).filter(|(_, turn)| **turn > 0) {
            assert!(nbd.read(slot * EXTENT, 64 << 10).unwrap() == bytes(*turn, slot), "round {round}, slot {slot}");
        }
        // Half of the slots were written before; the others are written now for the first time.
        let slots: Vec<u64> = (0..8).map(|at| (at * 3 + u64::from(round) * 5) % 16).collect();
        let sent: Vec<(u64, u64)> = slots
            .iter()
            .map(|slot| (*slot, nbd.send(WRITE, 0, slot * EXTENT, 64 << 10, &bytes(round + 1, *slot))))
            .collect();
        assert_eq!(nbd.wait(sent[usize::from(round)].1).error, 0);
        disk.signal(Signal::KILL);
        assert_eq!(disk.wait(), None);
        let disk = place.start(&arguments);
        disk.says(&["found in area d"]);
        let mut after = client(&path);
        for (at, (slot, cookie)) in sent.iter().enumerate() {
            let is_sure = at == usize::from(round) || nbd.try_wait(*cookie).is_some_and(|answer| answer.error == 0);
            let now = after.read(slot * EXTENT, 64 << 10).unwrap();
            let old = known[*slot as usize];
            if is_sure {
                assert!(now == bytes(round + 1, *slot), "round {round}, slot {slot}");
            } else {
                // Each block is old or new.
                let (new, old) = (bytes(round + 1, *slot), if old > 0 { bytes(old, *slot) } else { vec![0; 64 << 10] });
                let fits = |((now, new), old): ((&[u8], &[u8]), &[u8])| now == new || now == old;
                assert!(now.chunks(4096).zip(new.chunks(4096)).zip(old.chunks(4096)).all(fits), "slot {slot}");
                assert_eq!(after.write(slot * EXTENT, &bytes(round + 1, *slot)), 0);
            }
            known[*slot as usize] = round + 1;
        }
        let shown = place.stats("disk");
        assert_eq!((&shown["disk"]["area"], &shown["disk"]["lost_bytes"]), (&"d".into(), &0.into()), "{shown}");
        assert_eq!(place.ask(&["drain", "--name", "disk"]), "disk: drained\n");
        assert_eq!(disk.wait(), Some(0));
    }
    let complaint = place.refused(2, &["disk", "--size", "32M", "--listen", &listen, "--area", "d"]);
    assert!(complaint.contains("area d has a disk of 64M, not of 32M"), "{complaint}");
    let complaint = place.refused(2, &["disk", "--size", "5T", "--listen", &listen, "--area=-d"]);
    assert!(complaint.contains("--area -d: choose") && complaint.contains("at most 4T"), "{complaint}");
    assert!(place.ask(&["page", "list"]).contains("d.map"));
}

#[test]
fn what_a_disk_needs_is_said() {
    let place = Place::new();
    let complaint = place.refused(2, &["disk", "--size", "5000", "--buffers", "1M", "--connections", "0"]);
    for part in ["--size 5000: choose a multiple of 4K", "no --listen", "--buffers 1M", "--connections 0"] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    let listen = format!("unix:{}", place.directory.join("d").display());
    let complaint = place.refused(6, &["disk", "--size", "1G", "--listen", &listen]);
    assert!(complaint.contains("start gvm-dp master"), "{complaint}");
    let complaint = place.refused(2, &["disk", "--size", "1G", "--listen", "/d"]);
    assert!(complaint.contains("write unix:PATH"), "{complaint}");
    place.file("taken", "", 0o600);
    let taken = format!("unix:{}", place.directory.join("taken").display());
    let complaint = place.refused(3, &["disk", "--size", "1G", "--listen", &taken]);
    assert!(complaint.contains("is not a socket"), "{complaint}");
}
