//! Three hosts with the real `gvm-dp`: a master, a gateway and farms in network namespaces over multi-queue veth.
//!
//! `gvm-pktgen` is the master; it makes the content and checks every record that comes back. Farms and master are on
//! sockets where a test does not say otherwise.

use crate::product::{Place, Process};
use crate::{End, Namespace, join, real_checksums};
use rustix::process::Signal;
use serde_json::Value;
use std::ops::Range;

/// Queues of each end of a veth.
pub const QUEUES: u32 = 2;
/// Frames of each of the gateway's lcores.
pub const FRAMES: u64 = 4096;

/// Three hosts: each side of the gateway is a veth with two queues.
pub struct World {
    /// Their control sockets.
    pub place: Place,
    /// Where masters are.
    pub master: Namespace,
    /// Where the gateway is.
    pub gateway: Namespace,
    /// Where slaves are.
    pub farm: Namespace,
    /// The switch; only a one-armed world has it.
    _switch: Option<Namespace>,
    /// Seconds between heartbeats.
    heartbeat: u32,
}

/// `None` when this machine cannot run such tests.
pub fn two_armed() -> Option<World> {
    crate::available().then(|| {
        let (master, gateway, farm) = (Namespace::new(), Namespace::new(), Namespace::new());
        let m = End { namespace: &master, name: "m", address: "10.92.1.2/24" };
        let left = End { namespace: &gateway, name: "left", address: "10.92.1.1/24" };
        let right = End { namespace: &gateway, name: "right", address: "10.92.2.1/24" };
        let f = End { namespace: &farm, name: "f", address: "10.92.2.2/24" };
        join(&m, &left, QUEUES);
        join(&f, &right, QUEUES);
        real_checksums(&m);
        real_checksums(&f);
        World { place: Place::new(), master, gateway, farm, _switch: None, heartbeat: 1 }
    })
}

/// Everybody on one switch, the gateway with one interface. `None` when this machine cannot run such tests.
pub fn one_armed() -> Option<World> {
    crate::available().then(|| {
        let (master, gateway, farm) = (Namespace::new(), Namespace::new(), Namespace::new());
        let switch = Namespace::new();
        switch.ip("link add name bridge type bridge");
        switch.ip("link set dev bridge up");
        let hosts = [(&master, "m", "10.92.3.2/24"), (&gateway, "only", "10.92.3.1/24"), (&farm, "f", "10.92.3.3/24")];
        for (namespace, name, address) in hosts {
            let host = End { namespace, name, address };
            // Ends of the switch have addresses only because every end has one. A port of a bridge does not answer for
            // its address.
            let port = format!("to-{name}");
            join(&host, &End { namespace: &switch, name: &port, address: "192.0.2.1/32" }, QUEUES);
            switch.ip(&format!("link set dev {port} master bridge"));
            real_checksums(&host);
        }
        World { place: Place::new(), master, gateway, farm, _switch: Some(switch), heartbeat: 1 }
    })
}

impl World {
    /// The same world with this many seconds between heartbeats.
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: u32) -> Self {
        Self { heartbeat, ..self }
    }

    /// Seconds between heartbeats.
    pub fn heartbeat(&self) -> u32 {
        self.heartbeat
    }

    /// A gateway with these arguments; it serves when this returns.
    pub fn gateway(&self, arguments: &str) -> Process {
        let line = format!("gvm-dp gateway --frames {FRAMES} --heartbeat {}s {arguments}", self.heartbeat);
        let gateway = self.place.start(&self.gateway, &line);
        gateway.says(&["gateway \"", "waiting, control socket"]);
        gateway
    }

    /// A farm of `count` ids from `first` on.
    pub fn farm(&self, name: &str, gateway: &str, first: u32, count: u32, port: &str) -> Process {
        self.place.start(
            &self.farm,
            &format!(
                "gvm-dp slave --name {name} --gateway {gateway} --id {first} --count {count} --port {port} --frames \
                 2048 \
                 --heartbeat {}s",
                self.heartbeat
            ),
        )
    }

    /// A master that sends to these ids.
    pub fn pktgen(&self, gateway: &str, ids: Range<u32>, more: &str) -> Process {
        self.place.start(
            &self.master,
            &format!(
                "gvm-pktgen --gateway {gateway} --slaves {}-{} --heartbeat {} --timeout 40 -q --json - {more}",
                ids.start,
                ids.end - 1,
                self.heartbeat
            ),
        )
    }

    /// Sends records to all ids and checks that every one comes back with the right content. At most as many are on
    /// their way at once as the smallest ring between the hosts holds. So every loss is a fault.
    ///
    /// # Panics
    /// When one does not come back.
    pub fn every_record_comes_back(&self, gateway: &str, ids: Range<u32>) -> u64 {
        let (code, printed, said) = self
            .pktgen(
                gateway,
                ids,
                "--rate 4000 --window 200 --window-timeout 20 --records 4000 --seconds 50 --size imix",
            )
            .wait();
        assert_eq!(code, Some(0), "{printed}\n{said}\n{:#}\n{}", self.place.stats("gateway"), self.where_packets_go());
        let report = report(&printed);
        let sent = number(&report["down"]["records"]);
        assert_eq!(sent, 4000, "{report}");
        assert_eq!(number(&report["echo"]["ok"]), sent, "{report}");
        sent
    }

    /// The counters of all hosts' kernels, for a person who searches lost packets.
    fn where_packets_go(&self) -> String {
        let mut all = String::new();
        for (host, namespace) in [("master", &self.master), ("gateway", &self.gateway), ("farm", &self.farm)] {
            for command in ["cat /proc/net/snmp /proc/net/softnet_stat", "ss -uamn", "ip -s -s link"] {
                all += &format!("--- {host}: {command}\n{}", namespace.exec(command));
            }
        }
        all
    }

    /// Checks that every received record and every frame is accounted for.
    ///
    /// # Panics
    /// When one is not.
    pub fn assert_books_balance(&self) -> Value {
        self.place.until_stats("gateway", "balanced books", |stats| {
            let at_rest = |direction: &Value| direction["held"] == 0 && direction["unaccounted"] == 0;
            let directions = &stats["directions"];
            at_rest(&directions["down"]) && at_rest(&directions["up"]) && frames_are_conserved(stats)
        })
    }

    /// Drains the gateway, which must have lost nothing. Returns its stderr.
    ///
    /// # Panics
    /// When it has lost something.
    pub fn drain(&self, gateway: Process) -> String {
        gateway.signal(Signal::TERM);
        let (code, _, said) = gateway.wait();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("drained: nothing was lost"), "{said}");
        said
    }
}

/// A number in JSON.
///
/// # Panics
/// When it is something else.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// The JSON in the output of `gvm-pktgen`.
///
/// # Panics
/// When there is none.
pub fn report(printed: &str) -> Value {
    let json = printed.find('{').map(|at| &printed[at..]).unwrap_or(printed);
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    values.next().and_then(Result::ok).unwrap_or_else(|| panic!("no report in: {printed}"))
}

/// Whether all frames of each lcore are accounted for.
fn frames_are_conserved(stats: &Value) -> bool {
    let conserved = |lcore: &Value| {
        let pool = |name: &str| number(&lcore["sets"]["pool"][name]);
        let in_all = pool("frames_free") + pool("frames_in_ports") + pool("frames_in_outbox") + pool("frames_in_role");
        (pool("frames_capacity"), in_all) == (FRAMES, FRAMES)
    };
    let lcores = stats["lcores"].as_array().unwrap();
    !lcores.is_empty() && lcores.iter().all(conserved)
}

/// The part of `stats` about an interface.
///
/// # Panics
/// When there is no such interface.
pub fn interface<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let interfaces = stats["interfaces"].as_array().unwrap();
    interfaces.iter().find(|interface| interface["name"] == name).unwrap()
}

/// A counter of a port, summed over all lcores.
///
/// # Panics
/// When there is no such counter.
pub fn port(stats: &Value, id: usize, counter: &str) -> u64 {
    stats["lcores"].as_array().unwrap().iter().map(|lcore| number(&lcore["ports"][id]["counters"][counter])).sum()
}
