//! Settings that change while a process runs: `set`, `reload`, SIGHUP, and the same over the control socket.

use crate::api;
use crate::harness::{Place, until};
use crate::master::Master;
use rustix::process::Signal;
use serde_json::{Value, json};

/// One setting of a running process, as `config show` shows it.
fn running(place: &Place, name: &str, setting: &str) -> Value {
    let text = place.ask(&["config", "show", "--running", "--name", name, "--json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    let found = answer["settings"].as_array().unwrap().iter().find(|one| one["name"] == setting);
    found.unwrap_or_else(|| panic!("no {setting} in {answer}")).clone()
}

#[test]
fn a_new_hold_reaches_the_poll_loops() {
    let place = Place::new();
    let (gateway, address) = place.gateway(&["--hold", "inf", "--early", "off"]);
    let _farm = place.slave(address, 5, &["--name", "farm"]);
    place.until_registered("gateway", 1);
    let mut master = Master::register(1, address);
    master.echo(&[5], 0);
    until("a held record", || (place.stats("gateway")["directions"]["down"]["held"] == 1).then_some(()));
    assert_eq!(place.ask(&["set", "hold", "1ms", "--name", "gateway"]), "hold: inf -> 1ms\n");
    gateway.says(&["INFO", "hold is now 1ms"]);
    until("the answer", || {
        master.poll();
        (master.answered.len() == 1).then_some(())
    });
    assert_eq!(place.stats("gateway")["settings"]["hold"], "1ms");
    let shown = running(&place, "gateway", "hold");
    assert_eq!((&shown["value"], &shown["from"], &shown["changes"]), (&json!("1ms"), &json!("set"), &json!("live")));
    assert_eq!(place.ask(&["set", "hold", "1000us", "--name", "gateway"]), "it is so already\n");
    assert_eq!(place.ask(&["set", "--reset", "hold", "--name", "gateway"]), "hold: 1ms -> inf\n");
    assert_eq!(running(&place, "gateway", "hold")["from"], "command line");
}

#[test]
fn what_can_be_set_is_listed_and_the_rest_is_refused_with_the_remedy() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&[]);
    let list = place.ask(&["set"]);
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["rx-mode", "log", "hold", "early"]);
    assert!(list.contains("hold       50us       The longest time"), "{list}");
    assert!(place.ask(&["set", "early"]).starts_with("early      on "));
    assert_eq!(place.ask(&["set", "early", "off"]), "early: on -> off\n");
    assert_eq!(place.ask(&["set", "rx-mode", "polling"]), "rx-mode: adaptive -> polling\n");
    gateway.says(&["rx-mode is now polling"]);
    for (arguments, parts) in [
        (&["set", "hold", "20"][..], ["hold: \"20\" is not a duration", "as in 50us"]),
        (&["set", "hodl", "20us"], ["a gateway has no setting hodl", "did you mean hold?"]),
        (&["set", "mtu", "9000"], ["mtu does not change while the process runs", "restart"]),
        (&["set", "mtu"], ["\"mtu\" does not change", "gvm-dp set alone"]),
        (&["set", "key-file", "k"], ["key-file does not change", "gvm-dp reload"]),
        (&["set", "log", "loud"], ["\"loud\" is not a log filter", "as in info,lcore=debug"]),
        (&["set", "id", "5"], ["a gateway has no setting id", "gvm-dp"]),
    ] {
        let complaint = place.refused(2, arguments);
        assert!(parts.iter().all(|part| complaint.contains(part)), "{arguments:?}: {complaint}");
    }
    assert_eq!(running(&place, "gateway", "mtu")["changes"], "restart");
}

#[test]
fn the_log_filter_changes_what_is_said() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&["--log", "warn,process=info"]);
    place.ask(&["set", "log", "warn"]);
    place.ask(&["set", "hold", "1ms"]);
    place.ask(&["set", "log", "info"]);
    gateway.says(&["INFO", "log is now info"]);
    assert!(!gateway.said().contains("hold is now 1ms"), "{}", gateway.said());
}

#[test]
fn a_farm_is_told_to_send_and_to_stop() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let _master = Master::register(7, address);
    let _farm = place.slave(address, 0, &["--count", "4", "--name", "farm"]);
    place.until_registered("gateway", 4);
    place.ask(&["set", "traffic", "master=7,rate=1000", "--name", "farm"]);
    let sent = || place.stats("farm")["total"]["farm"]["traffic_records"].as_u64().unwrap();
    until("traffic", || (sent() > 10).then_some(()));
    place.ask(&["set", "--reset", "traffic", "--name", "farm"]);
    until("silence", || {
        let before = sent();
        std::thread::sleep(std::time::Duration::from_millis(100));
        (sent() == before).then_some(())
    });
    let complaint = place.refused(2, &["set", "hold", "1ms", "--name", "farm"]);
    assert!(complaint.contains("a slave has no setting hold"), "{complaint}");
}

#[test]
fn a_reload_takes_over_what_it_can_and_says_what_needs_a_restart() {
    let place = Place::new();
    let file = |more: &str| {
        let text = format!("port = \"udp:127.0.0.1:0\"\nframes = 2048\n{more}");
        place.file("gvm-dp.toml", &text, 0o644)
    };
    let path = file("[gateway]\nhold = \"1ms\"\n");
    let gateway = place.start(&["--early", "off"]);
    gateway.address();
    assert_eq!(place.ask(&["reload"]), format!("gateway: read {path}\nnothing changed\n"));
    place.ask(&["set", "rx-mode", "polling"]);
    file("mtu = 1400\n[gateway]\nhold = \"2ms\"\nearly = true\n");
    let said = place.ask(&["reload"]);
    let expected = "rx-mode: polling -> adaptive\nhold: 1ms -> 2ms\nneeds a restart: mtu: - -> 1400\n";
    assert_eq!(said, format!("gateway: read {path}\n{expected}"), "what was set is forgotten, the command line wins");
    assert_eq!(place.stats("gateway")["settings"]["hold"], "2ms");
    let mtu = running(&place, "gateway", "mtu");
    assert_eq!((&mtu["value"], &mtu["after_restart"]), (&Value::Null, &json!("1400")));
    assert!(place.ask(&["config", "show", "--running"]).contains("; 1400 after a restart"));

    // A bad file changes nothing: one that cannot be read, one that makes no sense, one with a missing key.
    for (text, parts) in [
        ("mtu = 9000\n[gateway]\nhold = 3\n", ["gvm-dp.toml:5:8: \"3\" is not a duration", "gvm-dp config check"]),
        (
            "mtu = 9\n[gateway]\nhold = \"3ms\"\n",
            ["gvm-dp.toml:3:1: --mtu 9: choose 576 to 32000", "nothing was changed"],
        ),
        ("[gateway]\nhold = \"3ms\"\nkey-file = \"/no/such/key\"\n", ["key file /no/such/key", "nothing was changed"]),
    ] {
        file(text);
        let complaint = place.refused(2, &["reload"]);
        assert!(parts.iter().all(|part| complaint.contains(part)), "{complaint}");
        assert_eq!(running(&place, "gateway", "hold")["value"], "2ms");
    }
    place.file("gvm-dp.toml", "frames = 2048\n", 0o644);
    assert!(place.refused(2, &["reload"]).contains("no port: keep the one"));

    file("[gateway]\nhold = \"5ms\"\n");
    gateway.signal(Signal::HUP);
    gateway.says(&["SIGHUP: configuration read, 1 settings changed, 0 need a restart"]);
    assert_eq!(running(&place, "gateway", "hold")["value"], "5ms");
    file("hold = \"6ms\"\n");
    gateway.signal(Signal::HUP);
    gateway.says(&["ERROR", "SIGHUP: ", "gvm-dp.toml:3:1: hold is a setting of one role"]);
    assert_eq!(running(&place, "gateway", "hold")["value"], "5ms");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_reload_takes_over_other_keys() {
    let place = Place::new();
    let path = |name: &str| place.directory.join(name).to_str().unwrap().to_owned();
    let (old, new) = (path("old"), path("new"));
    for key in [&old, &new] {
        place.ask(&["key", "new", "--out", key]);
    }
    let fingerprint = |key: &str| place.ask(&["key", "show", "--key-file", key]).trim().to_owned();
    let (old_print, new_print) = (fingerprint(&old), fingerprint(&new));
    let file = |name: &str, keys: &[&str]| {
        let role = if name == "farm" { "slave" } else { "gateway" };
        let flag = if name == "farm" { "cluster-key-file" } else { "key-file" };
        place.file(&format!("{name}.toml"), &format!("[{role}]\n{flag} = {keys:?}\n"), 0o644)
    };
    let config = file("gateway", &[&old]);
    let (gateway, address) = place.gateway(&["--config", &config]);
    let config = file("farm", &[&old]);
    let _farm = place.slave(address, 0, &["--count", "3", "--name", "farm", "--config", &config]);
    place.until_registered("gateway", 3);

    file("gateway", &[&old, &new]);
    let said = place.ask(&["reload", "--name", "gateway"]);
    let both = format!("{old_print} (old) and {new_print} (new)");
    assert!(said.contains(&format!("key-file: {old_print} -> {both}")), "{said}");
    assert_eq!(place.stats("gateway")["settings"]["key_fingerprint"], both);
    file("farm", &[&new]);
    let said = place.ask(&["reload", "--name", "farm"]);
    assert!(said.contains(&format!("cluster-key-file: {old_print} -> {new_print}")), "{said}");
    file("gateway", &[&new]);
    place.ask(&["reload", "--name", "gateway"]);
    let accepted = || place.stats("gateway")["total"]["link"]["heartbeats_accepted"].as_u64().unwrap();
    let before = accepted();
    until("heartbeats with the new key", || (accepted() >= before + 3).then_some(()));
    assert_eq!(place.stats("gateway")["membership"]["registered"], 3);
    assert_eq!(place.stats("gateway")["settings"]["key_fingerprint"], new_print);
    assert!(!gateway.said().contains("refused"));
}

#[test]
fn the_control_socket_sets_and_reloads_as_described() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let patch = |body: &Value| api::ask(&place, "gateway", "PATCH", "/v1/settings", Some(body));
    let (status, answer) = patch(&json!({"hold": "20us", "early": false}));
    assert_eq!((status, answer["changed"].as_array().unwrap().len()), (200, 2));
    let (status, answer) = patch(&json!({"hold": null}));
    assert_eq!((status, &answer["changed"][0]["to"]), (200, &json!("50us")));
    for (body, status, code) in [
        (json!({"hold": "20us", "mtu": 9000}), 409, "needs_restart"),
        (json!({"hold": true}), 422, "bad_value"),
        (json!({"hodl": "1us"}), 404, "unknown_setting"),
        (json!({}), 400, "bad_request"),
        (json!([1]), 400, "bad_request"),
    ] {
        let (answered, error) = patch(&body);
        assert_eq!((answered, &error["code"]), (status, &json!(code)), "{body}: {error}");
    }
    let (status, error) = api::request(&place, "gateway", "PATCH", "/v1/settings", Some("{\"hold\": "));
    assert_eq!((status, &error["code"]), (400, &json!("bad_request")), "{error}");
    assert_eq!(running(&place, "gateway", "hold")["value"], "50us", "all is set, or nothing");
    let (status, answer) = api::ask(&place, "gateway", "POST", "/v1/reload", None);
    assert_eq!((status, &answer["file"]), (200, &Value::Null));
    assert_eq!(answer["changed"][0], json!({"name": "early", "from": "off", "to": "on"}));
    place.file("gvm-dp.toml", "nonsense", 0o644);
    let (status, error) = api::ask(&place, "gateway", "POST", "/v1/reload", None);
    assert_eq!((status, &error["code"]), (422, &json!("bad_file")));
}
