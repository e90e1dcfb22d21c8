//! A master that is killed and started again: with the file of its lease secrets slaves lend to it at once.

use crate::harness::{Place, Process};
use crate::pages::{QUICK, master};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

/// A gateway, and a slave that lends one unit of 64 MiB: a master that has it has all memory of the cluster.
fn cluster(place: &Place) -> (Process, SocketAddr, Process) {
    let (gateway, address) = place.gateway(&QUICK);
    let more = ["--memory", "64M", "--memory-pages", "ordinary", "--keep-free", "0"];
    let slave = place.slave(address, 1, &[&more[..], &QUICK].concat());
    place.until_registered("gateway", 1);
    (gateway, address, slave)
}

/// Leases of the slave that were opened, resumed and expired.
fn leases(place: &Place) -> [u64; 3] {
    let lender = place.stats("slave")["total"]["lender"].clone();
    ["leases_opened", "leases_resumed", "leases_expired"].map(|name| lender[name].as_u64().unwrap())
}

#[test]
fn a_master_that_is_killed_and_started_again_has_its_memory_at_once() {
    let place = Place::new();
    let (_gateway, address, slave) = cluster(&place);
    let file = place.directory.join("leases");
    let with_file = ["--lease-secrets", file.to_str().unwrap()];
    let mut running = master(&place, &[address], &with_file);
    running.says(&["secrets of leases from", "had 0 starts before this one"]);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    for start in 1..4 {
        place.until_stats("master", |stats| stats["total"]["master"]["slaves_known"] == 1);
        // All memory that there is.
        place.ask(&["page", "alloc", "disk", "64M"]);
        place.ask(&["page", "write", "disk", "--pattern", "3", "--size", "4M"]);
        running.signal(Signal::KILL);
        assert_eq!(running.wait(), None);
        running = master(&place, &[address], &with_file);
        running.says(&["secrets of leases from", &format!("had {start} starts before this one")]);
        place.until_stats("master", |stats| stats["total"]["master"]["slaves_known"] == 1);
        // An allocation waits for 10 s at most, and a lease lasts 60 s.
        place.ask(&["page", "alloc", "disk", "64M"]);
        let output = place.run(&["page", "read", "disk", "--size", "4M"]);
        assert!(output.stdout == vec![0; 4 << 20], "what the first process wrote was scrubbed");
        assert_eq!(place.stats("master")["total"]["master"]["leases_found"], 1);
        let [_, resumed, expired] = leases(&place);
        assert_eq!((resumed, expired), (start, 0));
        place.ask(&["page", "free", "disk"]);
        place.until_stats("master", |stats| stats["total"]["master"]["units_held"] == 0);
    }
    drop(slave);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_before_anything_runs() {
    let place = Place::new();
    let (_gateway, address, _slave) = cluster(&place);
    let file = place.directory.join("leases");
    let with_file = ["--lease-secrets", file.to_str().unwrap()];
    let _running = master(&place, &[address], &with_file);
    let gateway = address.to_string();
    let other = ["master", "--name", "other", "--id", "2", "--gateway", &gateway, "--port", "udp:127.0.0.1:0"];
    let refused = |code, path: &str| place.refused(code, &[&other[..], &["--lease-secrets", path]].concat());
    let complaint = refused(4, with_file[1]);
    assert!(
        complaint.contains("another process has this file") && complaint.contains("--lease-secrets"),
        "{complaint}"
    );
    let complaint = refused(5, &place.file("key", &"0".repeat(64), 0o600));
    assert!(complaint.contains("no file of lease secrets, or damaged (64 bytes)"), "{complaint}");
    let open = place.directory.join("open");
    std::fs::copy(&file, &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let complaint = refused(5, open.to_str().unwrap());
    assert!(complaint.contains("mode 644") && complaint.contains("remove it"), "{complaint}");
    let complaint = refused(5, "/no/such/directory/file");
    assert!(complaint.contains("its directory must exist"), "{complaint}");
}

#[test]
fn a_service_with_a_directory_for_its_state_has_the_file_there() {
    let place = Place::new();
    let (_gateway, address, _slave) = cluster(&place);
    let (gateway, directory) = (address.to_string(), place.directory.join("state"));
    std::fs::create_dir(&directory).unwrap();
    let environment = [("STATE_DIRECTORY", directory.to_str().unwrap())];
    let arguments = ["master", "--id", "1", "--gateway", &gateway, "--port", "udp:127.0.0.1:0"];
    let running = place.start_with(&environment, &arguments);
    running.says(&["secrets of leases from", "state/master.leases"]);
    running.says(&["privileges: "]);
    assert_eq!(std::fs::metadata(directory.join("master.leases")).unwrap().len(), 64);
    assert_eq!(place.ask(&["drain", "--name", "master"]), "master: drained\n");
    assert_eq!(running.wait(), Some(0));
}
