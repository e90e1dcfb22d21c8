//! Which process is meant, and who may have a name.

use crate::harness::Place;
use rustix::process::Signal;

#[test]
fn clients_find_the_only_process_and_list_several() {
    let place = Place::new();
    let complaint = place.refused(6, &["stats"]);
    assert!(complaint.contains("no gvm-dp of this user runs (looked in"), "{complaint}");
    let (_one, _) = place.gateway(&[]);
    assert!(place.ask(&["stats"]).starts_with("gateway: gateway "));
    let (_two, _) = place.gateway(&["--name", "second"]);
    let complaint = place.refused(6, &["stats"]);
    assert!(complaint.contains("choose one with --name (gateway, second)"), "{complaint}");
    assert!(place.ask(&["stats", "--name", "second"]).starts_with("second: gateway "));
    let complaint = place.refused(6, &["drain", "--name", "third"]);
    assert!(complaint.contains("no gvm-dp named \"third\" answers"), "{complaint}");
    assert!(complaint.contains("running: gateway, second"), "{complaint}");
}

#[test]
fn a_name_in_use_is_refused_and_the_first_process_goes_on() {
    let place = Place::new();
    let (_first, _) = place.gateway(&[]);
    let complaint = place.refused(4, &["--port", "udp:127.0.0.1:0"]);
    assert!(complaint.contains("a gvm-dp named \"gateway\" runs already and answers at"), "{complaint}");
    assert!(complaint.contains("another --name"), "{complaint}");
    assert_eq!(place.stats("gateway")["state"], "running");
}

#[test]
fn the_socket_of_a_dead_process_is_taken_over() {
    let place = Place::new();
    let (first, _) = place.gateway(&[]);
    first.signal(Signal::KILL);
    assert_eq!(first.wait(), None);
    assert!(place.directory.join("gateway.sock").exists(), "a killed process leaves its socket");
    assert!(place.refused(6, &["stats"]).contains("no gvm-dp"));
    let (second, _) = place.gateway(&[]);
    assert_eq!(place.stats("gateway")["state"], "running");
    second.signal(Signal::TERM);
    assert_eq!(second.wait(), Some(0));
    assert!(!place.directory.join("gateway.sock").exists(), "a process that drained leaves nothing");
}

#[test]
fn the_socket_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let mode = std::fs::metadata(place.directory.join("gateway.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
