//! How long 131,072 nodes take to register, in CPU time of either end. Prints; asserts nothing.
//!
//! `cargo run --release -p gvm-link --example registration`

use frame::time::{MILLISECOND, SECOND};
use frame::{More, Peer, PortId, Vlan};
use link::{ClusterKey, Health, Node, NodeConfig, Notice, Registrar, RegistrarConfig, RouteChange, Sink};
use std::time::Instant;
use wire::Walk;
use wire::link::NodeId;

/// Heartbeats in one datagram of 1280 bytes.
const PACKED: usize = 11;

#[derive(Default)]
struct Out {
    replies: Vec<Vec<u8>>,
    routes: usize,
}

impl Sink for Out {
    fn reply(&mut self, _: &Peer, datagram: &[u8], _: u16) {
        self.replies.push(datagram.to_vec());
    }

    fn route(&mut self, _: RouteChange) {
        self.routes += 1;
    }

    fn notice(&mut self, notice: Notice, more: More) {
        println!("{notice}{more}");
    }
}

fn main() {
    for key in [None, Some(ClusterKey::from_bytes([1; 32]))] {
        println!("{}:", if key.is_some() { "with a key" } else { "without a key" });
        measure(key);
    }
}

fn measure(key: Option<ClusterKey>) {
    let config = NodeConfig { max_ip_packet: 1280, ..NodeConfig::default() };
    let gateway = Peer::ipv4(PortId(0), [10, 0, 0, 254], wire::GATEWAY_PORT, Vlan::UNTAGGED, [0; 6]);
    let mut now = 100 * SECOND;
    let start = Instant::now();
    let mut registrar =
        Registrar::new(RegistrarConfig { keys: key.clone().into(), ..RegistrarConfig::default() }, now).unwrap();
    println!("  {:>8.1} ms to make the registrar", start.elapsed().as_secs_f64() * 1e3);
    let slaves = registrar.config().scale.slaves();
    let mut nodes: Vec<Node> = (0..slaves)
        .map(|id| {
            let id = NodeId::slave(config.scale.slave_id(id).unwrap());
            Node::new(id, key.as_ref().map(|key| key.node_key(id)), gateway, &config, now)
        })
        .collect();
    let mut out = Out::default();
    for round in ["cookie", "registration", "heartbeat", "heartbeat"] {
        let (mut transmit, mut receive, mut handle) = (0, 0, 0);
        for (farm, nodes) in nodes.chunks_mut(PACKED).enumerate() {
            let [_, a, b, c] = (farm as u32).to_be_bytes();
            let from = Peer::ipv4(PortId(0), [10, a, b, c], 9999, Vlan::UNTAGGED, [0; 6]);
            let mut datagram = [0; 1252];
            let mut len = 0;
            let start = Instant::now();
            for node in &mut *nodes {
                len += node.transmit(&config, now, &mut datagram[len..]).unwrap_or(0);
            }
            transmit += start.elapsed().as_nanos();
            let start = Instant::now();
            registrar.receive(now, &from, &datagram[..len], &mut out);
            receive += start.elapsed().as_nanos();
            let start = Instant::now();
            let mut of_node = nodes.iter_mut();
            for reply in out.replies.drain(..) {
                for (_, record) in Walk::new(&reply, config.scale).flatten() {
                    let node = of_node.next().unwrap();
                    node.handle(&config, now, &gateway, &record).unwrap();
                }
            }
            handle += start.elapsed().as_nanos();
        }
        let per = |ns: u128| ns as f64 / f64::from(slaves);
        println!(
            "  {round:>12}: {:>6.0} ns to send, {:>6.0} ns in the registrar, {:>6.0} ns to take the answer; here {}",
            per(transmit),
            per(receive),
            per(handle),
            registrar.summary().here
        );
        // The first answers are prompt; then everything is due again after at most 1.25 intervals.
        now += if round == "cookie" { MILLISECOND } else { 5 * SECOND / 4 };
    }
    let start = Instant::now();
    let mut calls = 0;
    while registrar.summary().here > 0 {
        now = now.max(registrar.deadline().unwrap());
        registrar.advance(now, Health::GOOD, &mut out);
        calls += 1;
    }
    println!(
        "  {:>8.1} ms in {calls} calls until all are suspect; {} route changes",
        start.elapsed().as_secs_f64() * 1e3,
        out.routes
    );
}
