//! The configuration file: what it says holds, the command line wins, and what is wrong in it is named.

use crate::harness::Place;
use rustix::process::Signal;

#[test]
fn a_gateway_and_a_slave_take_their_settings_from_one_file() {
    let place = Place::new();
    place.file(
        "gvm-dp.toml",
        "port = \"udp:127.0.0.1:0\"\nframes = 2048\nmtu = 1400\n[gateway]\nhold = \"20us\"\nearly = false\n",
        0o644,
    );
    // The default file is read without being named.
    let gateway = place.start(&[]);
    gateway.says(&["hold 20us, early flush off, MTU 1400"]);
    let address = gateway.address();
    let file = place.file(
        "slave.toml",
        &format!("port = [\"udp:127.0.0.1:0\"]\nframes = 2048\n[slave]\ngateway = \"{address}\"\nid = 17\ncount = 2\n"),
        0o644,
    );
    // The command line wins.
    let slave = place.start(&["slave", "--config", &file, "--count", "3"]);
    slave.says(&["slaves 17 to 19", &address.to_string()]);
    place.until_registered("gateway", 3);
    let other = place.start(&["--name", "other", "--hold", "1ms"]);
    other.says(&["hold 1ms, early flush off"]);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_place_and_the_remedy() {
    let place = Place::new();
    let path = place.file("gvm-dp.toml", "lcore = \"0\"\n[gateway]\nhold = 20\n", 0o644);
    let complaint = place.refused(2, &["--port", "udp:127.0.0.1:0"]);
    assert!(
        complaint.contains(&format!("gvm-dp: {path}:1:1: there is no setting lcore: did you mean lcores?")),
        "{complaint}"
    );
    assert!(
        complaint.contains(&format!("gvm-dp: {path}:3:8: \"20\" is no duration: write a number and")),
        "{complaint}"
    );
    // Settings that are read well and make no sense, with the exit code that the flag has.
    place.file("gvm-dp.toml", "port = \"udp:127.0.0.1:0\"\nmtu = 100\n", 0o644);
    let complaint = place.refused(2, &[]);
    assert!(complaint.contains(&format!("{path}:2:1: --mtu 100: choose 576 to 32000")), "{complaint}");
    place.file("gvm-dp.toml", "port = \"udp:127.0.0.1:0\"\nlcores = \"1000\"\n", 0o644);
    assert!(place.refused(3, &[]).contains(&format!("{path}:2:1: --lcores: core 1000 does not exist")));
    // The command line is not blamed on the file, and repairs it.
    assert!(!place.refused(2, &["--lcores", "0", "--mtu", "100"]).contains("gvm-dp.toml"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let place = Place::new();
    let missing = place.directory.join("none.toml").to_str().unwrap().to_owned();
    let complaint = place.refused(2, &["--config", &missing]);
    assert!(complaint.contains(&format!("configuration file {missing}: No such file")), "{complaint}");
    assert!(complaint.contains("--config FILE"), "{complaint}");
    let directory = place.directory.to_str().unwrap().to_owned();
    assert!(place.refused(2, &["--config", &directory]).contains("Is a directory"));
}

#[test]
fn what_a_slave_needs_may_stand_in_the_file_and_is_missed_otherwise() {
    let place = Place::new();
    let complaint = place.refused(2, &["slave", "--gateway", "127.0.0.1", "--port", "udp:127.0.0.1:0"]);
    assert!(complaint.contains("no --id: say which slave this is, as in --id 17"), "{complaint}");
    assert!(complaint.contains("(id = 17 under [slave])"), "{complaint}");
    let complaint = place.refused(2, &["slave", "--id", "1", "--port", "udp:127.0.0.1:0"]);
    assert!(complaint.contains("no --gateway: say where its gateway is"), "{complaint}");
}
