//! The test of a tap for each datagram: the filter, and the direction of cargo.

use ::capture::{Filter, Seen};
use crossbeam_queue::ArrayQueue;
use frame::{Class, DatagramView};
use lcore::tap::{Wants, Way};
use link::Route;
use std::sync::Arc;
use wire::Scale;

/// Where the masters are.
type Places = Arc<[Route]>;

/// Gives one lcore's tap the current addresses of the masters. It has room for one message: a newer one replaces it. So
/// nothing accumulates when an lcore receives nothing and does not look.
type News = Arc<ArrayQueue<Places>>;

/// The addresses of the masters, as a gateway's tap knows them. The registrar is asked now and then. The lcore gets its
/// complete answer, so that no lock is needed.
pub(super) struct Masters {
    news: Vec<News>,
    last: Places,
}

/// The role that runs the filter. It decides the direction of received cargo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Cargo from masters goes down, all other cargo up.
    Gateway,
    /// All received cargo goes down.
    Slave,
}

impl Masters {
    /// No master is known yet.
    pub(super) fn new() -> Self {
        Self { news: Vec::new(), last: Arc::new([]) }
    }

    /// Tells the taps where the masters are now.
    pub(super) fn tell(&mut self, masters: Vec<Route>) {
        if masters[..] != self.last[..] {
            self.last = masters.into();
            self.news.iter().for_each(|news| drop(news.force_push(Arc::clone(&self.last))));
        }
    }

    fn listen(&mut self) -> News {
        let news = News::new(ArrayQueue::new(1));
        self.news.push(Arc::clone(&news));
        news
    }

    /// The test of one lcore's tap.
    pub(super) fn wants(&mut self, filter: Filter, side: Side, scale: Scale) -> Wants {
        let news = self.listen();
        let mut masters = Arc::clone(&self.last);
        Box::new(move |datagram: &DatagramView<'_>, way: Way| {
            let peer = datagram.peer;
            let direction = match (way, side) {
                (Way::Tx, _) => Some(datagram.class),
                (Way::Rx, Side::Slave) => Some(Class::Down),
                (Way::Rx, Side::Gateway) if !filter.asks_direction() => None,
                (Way::Rx, Side::Gateway) => {
                    if let Some(now) = news.pop() {
                        masters = now;
                    }
                    let is_master = |route: &Route| peer.is_same_origin(&route.peer, route.fixed_port);
                    Some(if masters.iter().any(is_master) { Class::Down } else { Class::Up })
                }
            };
            filter.picks(scale, &Seen { received: way == Way::Rx, direction, peer }, datagram.frame.data())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Datagram, Hugepages, Peer, Pool, PoolConfig, PortId};
    use wire::record::emit;
    use wire::{MsgType, RecordHeader};

    #[test]
    fn a_gateway_tells_directions_by_its_masters() {
        let pool = PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let pool = Pool::new(pool).unwrap();
        let datagram = |address: &str, class| {
            let mut bytes = [0; 23];
            emit(&RecordHeader::new(MsgType::ECHO, 1, 1, 0), &[], &mut bytes).unwrap();
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(&bytes));
            Datagram::new(frame, Peer::socket(PortId(0), address.parse().unwrap()), class, 1)
        };
        let mut masters = Masters::new();
        let filter = |text: &str| text.parse::<Filter>().unwrap();
        let mut down = masters.wants(filter("down"), Side::Gateway, Scale::default());
        let mut slave = masters.wants(filter("down"), Side::Slave, Scale::default());
        let (ours, other) = (datagram("192.0.2.1:5", Class::Link), datagram("192.0.2.2:5", Class::Link));
        assert!(!down(&(&ours).into(), Way::Rx) && slave(&(&ours).into(), Way::Rx));
        masters.tell(vec![Route { peer: ours.peer, mtu: 1500, fixed_port: true }]);
        assert!(down(&(&ours).into(), Way::Rx) && !down(&(&other).into(), Way::Rx));
        assert!(
            down(&(&datagram("192.0.2.2:5", Class::Down)).into(), Way::Tx)
                && !down(&(&datagram("192.0.2.1:5", Class::Up)).into(), Way::Tx)
        );
        assert!(!slave(&(&datagram("192.0.2.1:5", Class::Up)).into(), Way::Tx));
        masters.tell(Vec::new());
        assert!(!down(&(&ours).into(), Way::Rx));
    }

    #[test]
    fn what_nobody_looked_at_makes_room_for_what_is_newer() {
        let mut masters = Masters::new();
        let _tap = masters.wants("down".parse().unwrap(), Side::Gateway, Scale::default());
        let route =
            |mtu| Route { peer: Peer::socket(PortId(0), "192.0.2.1:5".parse().unwrap()), mtu, fixed_port: true };
        let mut told = Vec::new();
        for mtu in 1500..1600 {
            masters.tell(vec![route(mtu)]);
            told.push(Arc::downgrade(&masters.last));
        }
        let kept = told.iter().filter(|places| places.strong_count() > 0).count();
        assert_eq!(kept, 1, "a tap that does not look keeps the last word alone");
    }
}
