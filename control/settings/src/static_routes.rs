//! Routes from a file, for generators that cannot register: `--static-routes FILE`.
//!
//! A line for each node or range of slaves; `#` begins a comment:
//!
//! ```text
//! master 1        10.0.1.2                            # a record's req_id names its master: 1 in its top 16 bits
//! slave  0-63     10.0.2.2:9999  mtu=9000             # 64 ids at one address
//! slave  64-8191  10.0.3.1+      mac=02:00:00:00:00:09  # one address each, counted up with the ids, behind one router
//! slave  17       10.0.2.7       port=1 vlan=5 fixed-port
//! ```
//!
//! These nodes prove nothing, so a gateway with a cluster key refuses such a file.

use crate::neighbor::read_mac;
use crate::plan::PortPlan;
use common::address;
use common::exit::Failure;
use common::place::{Place, Problem};
use frame::{Peer, PortId, Vlan};
use link::{Route, RouteChange};
use port::neighbour::MAX_PEERS;
use port::vlans::Vlans;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wire::{GATEWAY_PORT, MIN_MTU, Scale, ShardSet, SlaveId};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 << 20;
/// How many problems are reported at once.
const NAMED: usize = 20;

/// The properties of a gateway's port that matter for routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Whether this process writes the Ethernet addresses of its datagrams.
    pub is_raw: bool,
    /// The VLANs that it takes packets from.
    pub vlans: Vlans,
}

impl PortFacts {
    /// The properties of a port that takes packets of at most `mtu` bytes.
    pub fn new(plan: &PortPlan, mtu: u16) -> Self {
        let (is_raw, vlans) = match plan {
            PortPlan::Udp(_) => (false, Vlans::UNTAGGED),
            PortPlan::Xdp(spec) => (true, spec.vlans.clone()),
            PortPlan::Dpdk(spec) => (true, spec.host.vlans.clone()),
        };
        Self { mtu, is_raw, vlans }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Slaves { first: u32, last: u32 },
    Master(u16),
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    number: usize,
    who: Who,
    address: SocketAddr,
    /// The address is counted up with the ids.
    counts: bool,
    port: Option<u8>,
    mtu: Option<u16>,
    vlan: Vlan,
    mac: Option<[u8; 6]>,
    fixed_port: bool,
}

/// A line in the form that people are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// slave or master.
    pub role: &'static str,
    /// The first id.
    pub first: u32,
    /// The last id.
    pub last: u32,
    /// IP address and UDP port. If each node has its own address: those of the first.
    pub address: SocketAddr,
    /// Whether each node has its own address, counted up with the ids.
    pub counts: bool,
    /// The gateway's port that leads to them.
    pub port: u8,
    /// Their VLAN id, if they are tagged.
    pub vlan: Option<u16>,
    /// Largest IP packet to them, in bytes, if it differs from the port's.
    pub mtu: Option<u16>,
}

/// The routes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRoutes {
    path: Arc<Path>,
    lines: Vec<Line>,
}

/// A word of a line, and the column of its first character.
type Word<'a> = (usize, &'a str);

fn words(line: &str) -> impl Iterator<Item = Word<'_>> {
    let text = line.split('#').next().unwrap_or("");
    text.split(char::is_whitespace)
        .filter(|word| !word.is_empty())
        .map(move |word| (line[..word.as_ptr() as usize - line.as_ptr() as usize].chars().count() + 1, word))
}

/// Why a word cannot be used: its column, and what to write.
type Wrong = (usize, String);

fn who(role: Word<'_>, ids: Option<Word<'_>>, scale: Scale) -> Result<Who, Wrong> {
    let what = match role.1 {
        "slave" => "its id, or FIRST-LAST",
        "master" => "its id",
        other => return Err((role.0, format!("`{other}` is neither slave nor master"))),
    };
    let Some((column, text)) = ids else {
        return Err((role.0 + role.1.len(), format!("behind `{}` stands {what}", role.1)));
    };
    let wrong = |text: String| Err((column, text));
    if role.1 == "master" {
        return match text.parse() {
            Ok(id) => Ok(Who::Master(id)),
            Err(_) => wrong(format!("`{text}` is not a master's id: 0 to 65535")),
        };
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u32>(), last.parse::<u32>()) {
        (Ok(first), Ok(last)) if first <= last && scale.slave_id(last).is_some() => Ok(Who::Slaves { first, last }),
        _ => wrong(format!("`{text}` is not a slave's id nor FIRST-LAST: ids are 0 to {}", scale.slaves() - 1)),
    }
}

/// `ADDR` or `ADDR:PORT`, and optionally `+` behind it.
fn address((column, text): Word<'_>) -> Result<(SocketAddr, bool), Wrong> {
    let plain = text.strip_suffix('+').unwrap_or(text);
    let counts = plain.len() < text.len();
    match address::read(plain, GATEWAY_PORT) {
        Some(address) if counts && address.is_ipv6() => {
            Err((column, format!("`{text}`: only IPv4 addresses are counted up")))
        }
        Some(address) if address.port() > 0 && !address.ip().is_unspecified() && !address.ip().is_multicast() => {
            Ok((address, counts))
        }
        _ => Err((column, format!("`{text}` is not an address: write 10.0.2.2 or 10.0.2.2:{GATEWAY_PORT}"))),
    }
}

impl Line {
    fn read(number: usize, text: &str, scale: Scale) -> Result<Option<Self>, Wrong> {
        let mut words = words(text);
        let Some(role) = words.next() else { return Ok(None) };
        let ids = words.next();
        let who = who(role, ids, scale)?;
        let end = ids.map_or(role.0, |(column, word)| column + word.len());
        let (address, counts) = address(words.next().ok_or_else(|| (end, "its address is missing".to_owned()))?)?;
        let mut line = Self {
            number,
            who,
            address,
            counts,
            port: None,
            mtu: None,
            vlan: Vlan::UNTAGGED,
            mac: None,
            fixed_port: false,
        };
        for (column, word) in words {
            line.take(word).map_err(|text| (column, text))?;
        }
        Ok(Some(line))
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("`{word}`: {what}"));
        match word.split_once('=') {
            None if word == "fixed-port" => self.fixed_port = true,
            Some(("port", value)) => match value.parse() {
                Ok(port) => self.port = Some(port),
                Err(_) => return wrong("the gateway's ports are 0 and 1"),
            },
            Some(("mtu", value)) => match value.parse() {
                Ok(mtu) if mtu >= MIN_MTU => self.mtu = Some(mtu),
                _ => return wrong("an MTU is 576 or more"),
            },
            Some(("vlan", value)) => match value.parse() {
                Ok(vid @ 0..=4094) => self.vlan = Vlan::tagged(vid),
                _ => return wrong("a VLAN id is 0 to 4094"),
            },
            Some(("mac", value)) => match read_mac(value) {
                Some(mac) => self.mac = Some(mac),
                None => return wrong("write six bytes, as in mac=02:00:00:00:00:09"),
            },
            _ => return wrong("options are port=N, mtu=BYTES, vlan=ID, mac=MAC and fixed-port"),
        }
        Ok(())
    }

    /// The ids of its slaves.
    fn slaves(&self) -> std::ops::RangeInclusive<u32> {
        match self.who {
            Who::Slaves { first, last } => first..=last,
            #[expect(clippy::reversed_empty_ranges, reason = "a master is no slave")]
            Who::Master(_) => 1..=0,
        }
    }

    /// The address of the node with this number, counted from the first.
    fn address_of(&self, number: u32) -> SocketAddr {
        match self.address.ip() {
            IpAddr::V4(ip) if self.counts => {
                SocketAddr::new(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(number)).into(), self.address.port())
            }
            _ => self.address,
        }
    }

    /// Its port. The default is the first port for masters, and the last one for slaves.
    fn port(&self, ports: usize) -> u8 {
        self.port.unwrap_or(match self.who {
            Who::Slaves { .. } => ports.saturating_sub(1) as u8,
            Who::Master(_) => 0,
        })
    }
}

impl StaticRoutes {
    /// Reads a file for a gateway of these shards, with this many ports and at most `masters` masters.
    ///
    /// # Errors
    /// The file cannot be read, or lines cannot be used. Each such line is named, with its column.
    pub fn read(path: &Path, shards: &ShardSet, ports: usize, masters: u16) -> Result<Self, Failure> {
        let failed = |source: std::io::Error| Failure::Setting {
            text: format!("{}: {source}; check the path and that this user may read it", path.display()),
            name: "static-routes",
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(file, LONGEST), &mut text).map_err(failed)?;
        Self::parse(path, &text, shards, ports, masters).map_err(Failure::ConfigText)
    }

    fn parse(path: &Path, text: &str, shards: &ShardSet, ports: usize, masters: u16) -> Result<Self, Vec<Problem>> {
        let path: Arc<Path> = path.into();
        let (mut lines, mut problems) = (Vec::new(), Vec::new());
        let (mut known, mut known_masters) = (BTreeSet::new(), BTreeSet::new());
        for (at, text) in text.lines().enumerate() {
            let number = at + 1;
            let read = Line::read(number, text, shards.scale()).and_then(|line| {
                let Some(line) = line else { return Ok(None) };
                let first = words(text).nth(1).map_or(1, |(column, _)| column);
                for id in line.slaves() {
                    if shards.index_of(id).is_none() {
                        return Err((first, format!("slave {id} is of a shard that is not served here: see --shards")));
                    }
                    if !known.insert(id) {
                        return Err((first, format!("slave {id} has a route already, further up")));
                    }
                }
                if let Who::Master(id) = line.who {
                    if !known_masters.insert(id) {
                        return Err((first, format!("master {id} has a route already, further up")));
                    }
                    if known_masters.len() > usize::from(masters) {
                        return Err((first, format!("a gateway has at most {masters} masters")));
                    }
                }
                if usize::from(line.port(ports)) >= ports {
                    let text =
                        format!("there is no port {}: this gateway has {ports}, the first is 0", line.port(ports));
                    return Err((first, text));
                }
                Ok(Some(line))
            });
            match read {
                Ok(line) => lines.extend(line),
                Err((column, text)) => {
                    problems.push(Problem { place: Place { path: Arc::clone(&path), line: number, column }, text });
                }
            }
            if problems.len() == NAMED {
                break;
            }
        }
        if lines.is_empty() && problems.is_empty() {
            let text = "no route in it: write lines like `slave 0-63 10.0.2.2` and `master 1 10.0.1.2`".to_owned();
            problems.push(Problem { place: Place { path: Arc::clone(&path), line: 1, column: 1 }, text });
        }
        if problems.is_empty() { Ok(Self { path, lines }) } else { Err(problems) }
    }

    /// The file that the routes come from.
    pub fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    /// The routes, for ports like these.
    ///
    /// # Errors
    /// A line asks for what its port cannot do.
    pub fn changes(&self, ports: &[PortFacts], scale: Scale) -> Result<Vec<RouteChange>, Failure> {
        let mut changes = Vec::new();
        let mut asked = vec![BTreeSet::new(); ports.len()];
        for line in &self.lines {
            let id = line.port(ports.len());
            let wrong = |text: String| {
                let place = Place { path: Arc::clone(&self.path), line: line.number, column: 1 };
                Err(Failure::ConfigText(vec![Problem { place, text }]))
            };
            let Some(port) = ports.get(usize::from(id)) else { return wrong(format!("there is no port {id}")) };
            let mtu = line.mtu.unwrap_or(port.mtu);
            if mtu > port.mtu {
                return wrong(format!("mtu={mtu}: port {id} takes no packets above {}", port.mtu));
            }
            if !port.vlans.has(line.vlan.vid()) {
                let vlans = &port.vlans;
                return wrong(match line.vlan.vid() {
                    Some(vid) => format!(
                        "vlan={vid}: port {id} takes no packets of that VLAN, so that nobody there is heard: a port on \
                         an \
                         interface takes it with ,vlans={vlans}+{vid} behind its name"
                    ),
                    None => {
                        format!("port {id} takes packets of VLANs {vlans} alone: say vlan=ID, or add 0 to its vlans=")
                    }
                });
            }
            let route = |number: u32| {
                let address = line.address_of(number);
                let peer = match address.ip() {
                    IpAddr::V4(ip) if port.is_raw => {
                        let mac = line.mac.unwrap_or([0; 6]);
                        Some(Peer::ipv4(PortId(id), ip.octets(), address.port(), line.vlan, mac))
                    }
                    _ if port.is_raw => None,
                    _ => Some(Peer::socket(PortId(id), address)),
                };
                peer.map(|peer| Route { peer, mtu, fixed_port: line.fixed_port })
            };
            if route(0).is_none() {
                return wrong(format!("{}: port {id} speaks IPv4; use a udp: port for IPv6", line.address));
            }
            if port.is_raw && line.vlan != Vlan::UNTAGGED && line.mac.is_none() {
                return wrong("behind a tag nobody is asked for: give mac=, of the node or of its router".to_owned());
            }
            if port.is_raw && line.mac.is_none() {
                let count = line.slaves().count().max(1) as u32;
                asked[usize::from(id)]
                    .extend((0..count).map(|number| line.address_of(number).ip()).take(MAX_PEERS + 1));
                if asked[usize::from(id)].len() > MAX_PEERS {
                    return wrong(format!(
                        "more than {MAX_PEERS} addresses behind port {id} have no mac=, and no more are asked for: \
                         give it, \
                         of the nodes or of the router that they are behind"
                    ));
                }
            }
            match line.who {
                Who::Master(id) => changes.push(RouteChange::Master { id, route: route(0) }),
                Who::Slaves { .. } => changes.extend(line.slaves().zip(0..).filter_map(|(id, number)| {
                    let id: SlaveId = scale.slave_id(id)?;
                    Some(RouteChange::Slave { id, route: route(number) })
                })),
            }
        }
        Ok(changes)
    }

    /// How many slaves and masters have a route.
    fn count(&self) -> (usize, usize) {
        let slaves = self.lines.iter().map(|line| line.slaves().count()).sum();
        (slaves, self.lines.iter().filter(|line| matches!(line.who, Who::Master(_))).count())
    }

    /// The routes in the form that people are shown.
    pub fn shown(&self, ports: usize) -> Vec<Shown> {
        let show = |line: &Line| {
            let (role, first, last) = match line.who {
                Who::Slaves { first, last } => ("slave", first, last),
                Who::Master(id) => ("master", id.into(), id.into()),
            };
            Shown {
                role,
                first,
                last,
                address: line.address,
                counts: line.counts,
                port: line.port(ports),
                vlan: line.vlan.vid(),
                mtu: line.mtu,
            }
        };
        self.lines.iter().map(show).collect()
    }
}

impl std::fmt::Display for StaticRoutes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (slaves, masters) = self.count();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(
            f,
            "{slaves} slave{} and {masters} master{} from {}",
            plural(slaves),
            plural(masters),
            self.path.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, ports: usize) -> Result<StaticRoutes, Vec<String>> {
        let shards = ShardSet::parse(Scale::default(), "0-1").unwrap();
        StaticRoutes::parse(Path::new("r"), text, &shards, ports, 2)
            .map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    const SOCKET: (u16, bool, &str) = (1500, false, "0");
    const RAW: (u16, bool, &str) = (9000, true, "any");
    const TRUNK: (u16, bool, &str) = (9000, true, "7-9");

    fn routes(text: &str, ports: &[(u16, bool, &str)]) -> Result<Vec<RouteChange>, String> {
        let facts =
            |&(mtu, is_raw, vlans): &(u16, bool, &str)| PortFacts { mtu, is_raw, vlans: vlans.parse().unwrap() };
        let ports: Vec<_> = ports.iter().map(facts).collect();
        parse(text, ports.len()).unwrap().changes(&ports, Scale::default()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn lines_become_routes() {
        let text = "# generators\n\nmaster 1  10.0.1.2:7777 fixed-port # there\nslave 0-1 10.0.2.2\n\
                    slave 8-10 10.0.3.255+ mac=02:00:00:00:00:09 mtu=1500 vlan=5\n";
        let all = routes(text, &[SOCKET, RAW]).unwrap();
        assert_eq!(all.len(), 6);
        let RouteChange::Master { id: 1, route: Some(master) } = all[0] else { panic!("{all:?}") };
        assert_eq!(master.peer, Peer::socket(PortId(0), "10.0.1.2:7777".parse().unwrap()));
        assert_eq!((master.mtu, master.fixed_port), (1500, true));
        let slave = |at: usize| match all[at] {
            RouteChange::Slave { id, route: Some(route) } => (id.get(), route),
            other => panic!("{other:?}"),
        };
        let plain = Peer::ipv4(PortId(1), [10, 0, 2, 2], 9999, Vlan::UNTAGGED, [0; 6]);
        for at in [1, 2] {
            assert_eq!(slave(at), (at as u32 - 1, Route { peer: plain, mtu: 9000, fixed_port: false }));
        }
        let tagged = |ip| Peer::ipv4(PortId(1), ip, 9999, Vlan::tagged(5), [2, 0, 0, 0, 0, 9]);
        assert_eq!((slave(3).0, slave(3).1.peer, slave(3).1.mtu), (8, tagged([10, 0, 3, 255]), 1500));
        assert_eq!((slave(5).0, slave(5).1.peer), (10, tagged([10, 0, 4, 1])));
        let parsed = parse(text, 2).unwrap();
        assert_eq!(parsed.to_string(), "5 slaves and 1 master from r");
        let shown = &parsed.shown(2)[2];
        assert_eq!((shown.role, shown.first, shown.last, shown.counts, shown.port), ("slave", 8, 10, true, 1));
    }

    #[test]
    fn what_is_wrong_has_its_line_and_column() {
        for (text, expected) in [
            ("", "r:1:1: no route in it"),
            ("slave 1 10.0.0.1\n\n  salve 2 10.0.0.1", "r:3:3: `salve` is neither slave nor master"),
            ("slave", "r:1:6: behind `slave` stands its id, or FIRST-LAST"),
            ("slave 5-2 10.0.0.1", "r:1:7: `5-2` is not a slave's id nor FIRST-LAST: ids are 0 to 131071"),
            ("slave 131072 10.0.0.1", "r:1:7: `131072` is not a slave's id"),
            ("slave 16384 10.0.0.1", "r:1:7: slave 16384 is of a shard that is not served here"),
            ("master 65536 10.0.0.1", "r:1:8: `65536` is not a master's id"),
            ("master 1", "r:1:9: its address is missing"),
            ("slave 1 host", "r:1:9: `host` is not an address: write 10.0.2.2"),
            ("slave 1 10.0.0.1:0", "r:1:9: `10.0.0.1:0` is not an address"),
            ("slave 1 ::1+", "r:1:9: `::1+`: only IPv4 addresses are counted up"),
            ("slave 1 10.0.0.1 mtu=100", "r:1:18: `mtu=100`: an MTU is 576 or more"),
            ("slave 1 10.0.0.1 vlan=4095", "r:1:18: `vlan=4095`: a VLAN id is 0 to 4094"),
            ("slave 1 10.0.0.1 mac=02:00", "r:1:18: `mac=02:00`: write six bytes"),
            ("slave 1 10.0.0.1 fixed", "r:1:18: `fixed`: options are port=N"),
            ("slave 1 10.0.0.1 port=2", "r:1:7: there is no port 2: this gateway has 2, the first is 0"),
            ("slave 1-4 10.0.0.1\nslave 3 10.0.0.1", "r:2:7: slave 3 has a route already"),
            ("master 1 10.0.0.1\nmaster 1 10.0.0.2", "r:2:8: master 1 has a route already"),
            ("master 1 10.0.0.1\nmaster 2 10.0.0.2\nmaster 3 10.0.0.3", "r:3:8: a gateway has at most 2 masters"),
        ] {
            let problems = parse(text, 2).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{text:?}: {problems:?}");
        }
        let many: String = (0..50).map(|i| format!("x {i}\n")).collect();
        assert_eq!(parse(&many, 1).unwrap_err().len(), NAMED);
    }

    #[test]
    fn what_a_port_cannot_do_is_refused() {
        for (text, ports, expected) in [
            ("slave 1 10.0.0.1 mtu=9000", &[SOCKET][..], "r:1:1: mtu=9000: port 0 takes no packets above 1500"),
            ("slave 1 ::1", &[RAW], "r:1:1: [::1]:9999: port 0 speaks IPv4"),
            ("slave 1 10.0.0.1 vlan=3", &[SOCKET], "r:1:1: vlan=3: port 0 takes no packets of that VLAN"),
            ("slave 1 10.0.0.1 vlan=3 mac=02:00:00:00:00:09", &[TRUNK], "r:1:1: vlan=3: port 0 takes no packets"),
            ("slave 1 10.0.0.1", &[TRUNK], "r:1:1: port 0 takes packets of VLANs 7-9 alone"),
            ("slave 1 10.0.0.1 vlan=3", &[RAW], "r:1:1: behind a tag nobody is asked for: give mac="),
            ("slave 0-64 10.0.0.1+", &[RAW], "r:1:1: more than 64 addresses behind port 0 have no mac="),
        ] {
            let complaint = routes(text, ports).unwrap_err();
            assert!(complaint.starts_with(expected), "{text}: {complaint}");
        }
        assert_eq!(routes("slave 0-64 10.0.0.1+ mac=02:00:00:00:00:09", &[RAW]).unwrap().len(), 65);
        assert_eq!(routes("slave 0-8191 10.0.0.1+", &[SOCKET]).unwrap().len(), 8192);
        assert_eq!(routes("slave 0-8191 10.0.0.1", &[RAW]).unwrap().len(), 8192);
    }
}
