//! A node sends fewer heartbeats than the budget of gateways allows, whatever happens on the way.

use crate::common;

use common::*;
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use link::budget::Budget;
use link::{ClusterKey, KeyRing, NodeConfig, RegistrarConfig};
use proptest::prelude::*;
use wire::link::NodeId;

/// The rest of a budget, as the nanoseconds in which it would refill.
struct Bucket {
    budget: Budget,
    level: u64,
    at: Time,
}

impl Bucket {
    fn new(budget: Budget, now: Time) -> Self {
        Self { budget, level: budget.every * u64::from(budget.burst), at: now }
    }

    /// Whether one more heartbeat is within the budget.
    fn spend(&mut self, now: Time) -> bool {
        let most = self.budget.every * u64::from(self.budget.burst);
        self.level = (self.level + (now - self.at)).min(most);
        self.at = now;
        let has = self.level >= self.budget.every;
        self.level -= if has { self.budget.every } else { 0 };
        has
    }
}

/// What happens to a node in one step of time.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Nothing,
    /// The gateway loses its state.
    GatewayRestarts,
    /// The gateway says that it leaves.
    Drains,
    /// From now on the gateway's ports take packets of this many bytes.
    GatewayMtu(u16),
    /// From now on the node claims packets of this many bytes.
    NodeMtu(u16),
    /// The gateway takes a second key.
    NewKey,
    /// For a master: this many slaves come or go.
    Members(u8),
    /// The node does nothing for this many milliseconds.
    Sleeps(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        12 => Just(Happens::Nothing),
        1 => Just(Happens::GatewayRestarts),
        1 => Just(Happens::Drains),
        1 => prop_oneof![Just(576), Just(1280), Just(1500), Just(9000)].prop_map(Happens::GatewayMtu),
        1 => prop_oneof![Just(1280), Just(1500), Just(9000)].prop_map(Happens::NodeMtu),
        1 => Just(Happens::NewKey),
        12 => (1u8..16).prop_map(Happens::Members),
        1 => (1u16..5000).prop_map(Happens::Sleeps),
    ]
}

/// Runs a node against a gateway. Fails when the node sends a heartbeat beyond its budget from its registered address.
fn stays_below(id: NodeId, interval: u64, steps: &[(Happens, u64)], lost: &[bool]) -> Result<u64, TestCaseError> {
    let gateway_config = RegistrarConfig { interval, mtu: 9000, ..config() };
    let mut gateway = Gateway::new(gateway_config.clone(), START);
    let node_config = NodeConfig { interval, max_ip_packet: 9000, ..node_config() };
    let mut client = Client::with(id, address(1), node_config.clone(), Some(key()), START);
    let is_master = id == NodeId::master(1);
    let budget = if is_master { Budget::master(interval) } else { Budget::slave(interval) };
    // The slaves send heartbeats often, so that the membership changes often.
    let often = NodeConfig { interval: 20 * MILLISECOND, ..node_config };
    let other = |id: u32| Client::with(slave(id), address(id as u8), often.clone(), Some(key()), START);
    let mut others: Vec<Client> = (18..31).map(other).collect();
    let mut bucket = Bucket::new(budget, START);
    let (mut now, mut said, mut sleeps_until) = (START, 0, START);
    let mut losses = lost.iter().cycle();
    for (happens, until_next) in steps {
        match *happens {
            Happens::Nothing => {}
            Happens::GatewayRestarts => {
                let epoch = gateway.registrar.config().epoch + 1;
                let secret = [epoch as u8; 32];
                gateway = Gateway::new(RegistrarConfig { epoch, secret, ..gateway_config.clone() }, now);
                // The gateway's lcores are new, too: nobody is registered, and no budget is spent.
                bucket = Bucket::new(budget, now);
            }
            Happens::Drains => gateway.registrar.leave(now),
            Happens::GatewayMtu(mtu) => gateway.registrar.set_port_mtus(&[mtu], &mut gateway.out),
            Happens::NodeMtu(mtu) => {
                client.config.max_ip_packet = mtu;
                client.node.probe_again(&client.config);
            }
            Happens::NewKey => {
                let keys = KeyRing::changing(key(), ClusterKey::from_bytes([0x43; 32]));
                client.node.set_keys(keys.node_keys(id));
                gateway.registrar.set_keys(keys);
            }
            Happens::Members(count) => {
                for other in others.iter_mut().take(usize::from(count)) {
                    other.config.vcpus = other.config.vcpus.wrapping_add(1);
                    other.exchange(&mut gateway, now);
                }
            }
            Happens::Sleeps(ms) => sleeps_until = now + u64::from(ms) * MILLISECOND,
        }
        let end = now + until_next * MILLISECOND;
        while now < end {
            let answers = gateway.advance(now);
            client.take(now, &answers);
            // Sends all that is due now in the order of a farm: the padded heartbeat first.
            for turn in 0..20 {
                if now < sleeps_until {
                    break;
                }
                let Some(datagram) = client.probe(now).or_else(|| client.heartbeat(now)) else { break };
                prop_assert!(turn < 19, "it never ends");
                let here = gateway.registrar.summary();
                let is_known = if is_master {
                    here.masters > 0
                } else {
                    gateway.registrar.peer(scale().slave_id(id.id).unwrap()) == Some(client.peer)
                };
                if *losses.next().unwrap() {
                    continue;
                }
                if is_known {
                    said += 1;
                    prop_assert!(bucket.spend(now), "heartbeat {said} at {} ms", (now - START) / MILLISECOND);
                }
                let answers = gateway.receive(now, &client.peer, &datagram);
                if !losses.next().unwrap() {
                    client.take(now, &answers);
                }
            }
            client.node.poll_event(&client.config, now);
            now += MILLISECOND;
        }
    }
    Ok(said)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_slave_never_says_more_than_its_budget(
        steps in proptest::collection::vec((happens(), 0u64..900), 5..25),
        lost in prop_oneof![Just(vec![false]), proptest::collection::vec(any::<bool>(), 1..50)],
        interval in prop_oneof![Just(SECOND), Just(100 * MILLISECOND), Just(300 * MILLISECOND)],
    ) {
        stays_below(slave(17), interval, &steps, &lost)?;
    }

    #[test]
    fn a_master_never_says_more_than_its_budget(
        steps in proptest::collection::vec((happens(), 0u64..60), 5..60),
        lost in prop_oneof![Just(vec![false]), proptest::collection::vec(any::<bool>(), 1..50)],
        interval in prop_oneof![Just(SECOND), Just(100 * MILLISECOND), Just(300 * MILLISECOND)],
    ) {
        stays_below(NodeId::master(1), interval, &steps, &lost)?;
    }
}

#[test]
fn a_master_whose_membership_changes_all_the_time_stays_below_its_budget() {
    for interval in [50 * MILLISECOND, 100 * MILLISECOND, SECOND, 10 * SECOND] {
        let steps = [(Happens::Members(15), 3); 1000];
        let said = stays_below(NodeId::master(1), interval, &steps, &[false]).unwrap();
        // In these 3 s the master has many changes to confirm.
        assert!(said > 100, "{said} in intervals of {interval} ns");
    }
}
