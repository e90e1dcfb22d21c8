//! `gvm-dp` on NIC queues as a user that has the named capabilities and nothing else: it starts, serves, keeps only
//! what it needs, and leaves nothing behind.

use netns::product::{Place, Process, until};
use netns::{End, Namespace, join, real_checksums};
use rustix::process::Signal;
use std::collections::BTreeMap;

/// A user that owns nothing.
const NOBODY: u32 = 65_534;
/// The only capability that is kept. It is needed to make the kernel ask for neighbours, and to turn offloads on again.
const NET_ADMIN: u64 = 1 << 12;
const BPF: u64 = 1 << 39;

/// The privileges of each thread, by its name.
fn threads(process: &Process) -> Vec<(String, BTreeMap<String, String>)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let status = |entry: std::fs::DirEntry| {
        // A thread that has ended meanwhile has no status.
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let fields = status.lines().filter_map(|line| line.split_once(":\t"));
        let fields: BTreeMap<String, String> =
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some((fields["Name"].clone(), fields))
    };
    tasks.filter_map(|entry| status(entry.ok()?)).collect()
}

fn assert_confined(process: &Process, uid: u32) {
    let said = process.says(&["privileges: uid ", "no new privileges; seccomp on"]);
    assert!(said.contains(&format!("uid {uid}, capabilities of the control thread CAP_NET_ADMIN")), "{said}");
    assert!(said.contains("of lcores none"), "{said}");
    let mut seen = Vec::new();
    for (name, status) in threads(process) {
        let has_none = name.starts_with("lcore-") || ["stderr", "end"].contains(&name.as_str());
        let kept = if has_none || name == "addresses" { 0 } else { NET_ADMIN };
        // Older kernels require CAP_BPF at each use of a map.
        let besides = if has_none { 0 } else { BPF };
        for set in ["CapEff", "CapPrm"] {
            let has = u64::from_str_radix(&status[set], 16).unwrap();
            assert_eq!(has & !besides, kept, "{name}: {set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status[set], 16), Ok(0), "{name}: {set}");
        }
        assert_eq!(status["Uid"].split('\t').next(), Some(uid.to_string().as_str()), "{name}");
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{name}");
        seen.push(name);
    }
    for name in ["lcore-0", "neighbours", "addresses", "stderr", "end"] {
        assert!(seen.iter().any(|seen| seen == name), "{seen:?}");
    }
}

fn serves_and_ends_cleanly(place: &Place, gateway_at: &Namespace, farm_at: &Namespace, gateway: Process, slave: &str) {
    // The slave has got no packet of its gateway yet. It finds the next hop through netlink while it is confined.
    let slave = place.start(farm_at, slave);
    place.until_registered("gateway", 1);
    let interfaces = || place.stats("gateway")["interfaces"][0]["verdicts"]["redirect_control"].as_u64();
    until("verdicts", || (interfaces() > Some(1)).then_some(()));
    for process in [slave, gateway] {
        process.signal(Signal::TERM);
        let (code, _, said) = process.wait();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("drained: nothing was lost") && !said.contains("cannot turn"), "{said}");
    }
    for (namespace, name) in [(gateway_at, "g"), (farm_at, "f")] {
        assert!(!namespace.ip(&format!("link show dev {name}")).contains("xdp"));
        assert!(namespace.exec(&format!("ethtool -k {name}")).contains("rx-vlan-offload: on"));
    }
}

fn world() -> Option<(Place, Namespace, Namespace)> {
    netns::available().then(|| {
        let (gateway, farm) = (Namespace::new(), Namespace::new());
        let g = End { namespace: &gateway, name: "g", address: "10.93.1.1/24" };
        let f = End { namespace: &farm, name: "f", address: "10.93.1.2/24" };
        join(&g, &f, 1);
        real_checksums(&g);
        real_checksums(&f);
        (Place::new(), gateway, farm)
    })
}

#[test]
fn root_gives_up_what_is_not_needed() {
    let Some((place, gateway_at, farm_at)) = world() else { return };
    let gateway = place.start(&gateway_at, "gvm-dp --port xdp:g --frames 2048");
    assert_confined(&gateway, 0);
    let slave = "gvm-dp slave --gateway 10.93.1.1 --id 3 --port xdp:f --frames 2048";
    serves_and_ends_cleanly(&place, &gateway_at, &farm_at, gateway, slave);
}

#[test]
fn a_user_with_the_named_capabilities_runs_nic_queues() {
    let Some((place, gateway_at, farm_at)) = world() else { return };
    let program = place.give_to(NOBODY, "gvm-dp");
    let capabilities = ["net_admin", "net_raw", "bpf", "perfmon", "ipc_lock"].map(|name| format!("+{name}")).join(",");
    let nobody = format!(
        "setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps {capabilities} --ambient-caps \
         {capabilities} \
         {program}"
    );
    let gateway = place.start(&gateway_at, &format!("{nobody} --port xdp:g --frames 2048"));
    assert_confined(&gateway, NOBODY);
    let slave = format!("{nobody} slave --gateway 10.93.1.1 --id 3 --port xdp:f --frames 2048");
    serves_and_ends_cleanly(&place, &gateway_at, &farm_at, gateway, &slave);
}
