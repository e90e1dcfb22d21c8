//! One card used in one way, with a master and a farm at its other end. The tables of `matrix` and `changes` have one
//! row for each.

use super::{Outside, kill, registered, start};
use guest::nics::{Card, Config, Guest, address};
use std::fmt;
use std::panic::RefUnwindSafe;

/// The way in which the gateway uses a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// vfio-pci and DPDK.
    Vfio,
    /// Its kernel driver and AF_XDP, in this mode.
    Xdp(&'static str),
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// The kind of all cards.
    pub card: Card,
    /// The way in which the gateway uses them.
    pub way: Way,
    /// The number of cards. The master is behind the first, the farm behind the last.
    pub ports: usize,
    /// Queues of each, and processors and lcores of the guest.
    pub queues: u32,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// The VLAN that all packets are in.
    pub vlan: Option<u16>,
}

impl Row {
    /// The same in a VLAN.
    pub(crate) const fn tagged(self) -> Self {
        Self { vlan: Some(10), ..self }
    }

    /// The text behind the name of a port.
    fn vlans(&self) -> String {
        self.vlan.map_or_else(String::new, |vid| format!(",vlans={vid}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { card, way, ports, queues, mtu, .. } = self;
        let way = match way {
            Way::Vfio => "vfio-pci, DPDK".to_owned(),
            Way::Xdp(mode) => format!("AF_XDP, mode={mode}"),
        };
        write!(f, "| {card:?} | {way}{} | {ports} | {queues} | {mtu} |", self.vlans())
    }
}

/// Runs the chosen rows: those whose text has a word of `GVM_GUEST_ROWS`, or all rows without that variable. Prints a
/// line with the result of each row. Fails at the end if a row has failed.
pub(crate) fn all<T: Copy + fmt::Display + RefUnwindSafe>(
    rows: &[T],
    tried: impl Fn(&T) -> Vec<String> + RefUnwindSafe,
) {
    let words = std::env::var("GVM_GUEST_ROWS").unwrap_or_default();
    let words: Vec<&str> = words.split(';').filter(|word| !word.is_empty()).collect();
    let mut failed = Vec::new();
    for row in rows {
        let text = row.to_string();
        if !words.is_empty() && !words.iter().any(|word| text.contains(word)) {
            continue;
        }
        match std::panic::catch_unwind(|| tried(row)) {
            Ok(outcomes) => outcomes.iter().for_each(|outcome| println!("{text} {outcome}")),
            Err(_) => {
                println!("{text} FAILED, see above");
                failed.push(text);
            }
        }
    }
    assert!(failed.is_empty(), "rows that failed: {failed:#?}");
}

/// A running gateway with the cards of a row.
pub(crate) struct Trial {
    pub guest: Guest,
    pub outside: Outside,
    /// The kernel of the guest.
    pub release: String,
    /// Names of the interfaces; none on vfio.
    pub names: Vec<String>,
    /// The description of the gateway's first port.
    pub said: String,
    /// The line that starts it.
    line: String,
    masters: u32,
}

impl Trial {
    /// Boots a guest whose cards can have this many queues, starts the gateway, and waits until the farm is registered.
    pub(crate) fn begin(row: &Row, most_queues: u32) -> Self {
        let cards = vec![row.card; row.ports];
        let (queues, processors) = (row.queues.max(most_queues), row.queues);
        let config = Config { cards: &cards, mtu: row.mtu, vlan: row.vlan, queues, processors, ..Config::default() };
        let mut guest = Guest::boot(&config);
        let release = guest.run("uname -r");
        guest.run("gvm-dp key new --out /root/cluster.key");
        let cores = if row.queues > 1 { "0-1" } else { "0" };
        let mut line = format!("gvm-dp --lcores {cores} --key-file /root/cluster.key");
        let (vlans, mut names) = (row.vlans(), Vec::new());
        for card in 0..row.ports {
            let (address, ip) = (address(card), format!("10.0.{}.2", card + 1));
            match row.way {
                Way::Vfio => {
                    super::messages::bind(&mut guest, &address);
                    line += &format!(" --port {address},ip={ip}/24,mtu={}{vlans}", row.mtu);
                }
                Way::Xdp(mode) => {
                    let name = guest.interface(card);
                    guest.run(&format!("ip link set dev {name} mtu {} up", row.mtu));
                    give_address(&mut guest, &name, &ip, row.vlan);
                    // A driver that cannot change the number has one queue.
                    guest.run(&format!("ethtool -L {name} combined {} || true", row.queues));
                    line += &format!(" --port xdp:{name},mode={mode}{vlans}");
                    names.push(name);
                }
            }
        }
        let log = start(&mut guest, &line);
        let key = guest.run("cat /root/cluster.key");
        let outside = Outside::start(&guest, row.ports, row.mtu, &key);
        registered(&mut guest);
        let said = log.lines().find_map(|line| line.split_once("port 0: ")).map_or("", |(_, said)| said).to_owned();
        Self { guest, outside, release, names, said, line, masters: 0 }
    }

    /// The id of a master that was not there before.
    pub(crate) fn master(&mut self) -> u32 {
        self.masters += 1;
        self.masters
    }

    /// Sends this many records with payloads of this size, and checks each that comes back.
    pub(crate) fn records_come_back(&mut self, size: &str, records: u64) -> u64 {
        let master = self.master();
        self.outside.records_come_back(&mut self.guest, master, size, records)
    }

    /// Kills the gateway, starts it again, and waits for the farm.
    pub(crate) fn restart(&mut self) {
        kill(&mut self.guest);
        let log = start(&mut self.guest, &self.line);
        assert!(log.contains(&self.said), "not as before, {}:\n{log}", self.said);
        registered(&mut self.guest);
    }
}

/// Gives an interface its address; in a VLAN with the lines of `docs/operating.md`.
fn give_address(guest: &mut Guest, name: &str, ip: &str, vlan: Option<u16>) {
    let Some(vid) = vlan else {
        guest.run(&format!("ip address add {ip}/24 dev {name}"));
        return;
    };
    let inner = format!("{name}.{vid}");
    guest.run(&format!("ip link add link {name} name {inner} type vlan id {vid}"));
    guest.run(&format!("ip link set dev {inner} up"));
    guest.run(&format!("ip address add {ip}/24 dev {inner}"));
    guest.run(&format!("ip address add {ip}/32 dev {name}"));
}
