//! What a tap asks of each datagram: the filter, and which way cargo goes.

use ::capture::{Filter, Seen};
use crossbeam_queue::ArrayQueue;
use frame::{Class, Datagram};
use lcore::tap::{Wants, Way};
use link::Route;
use std::sync::Arc;
use wire::Scale;

/// Where the masters are.
type Places = Arc<[Route]>;

/// Where one lcore's tap finds where the masters are now. There is room for one word: a newer one takes its place, so that
/// nothing grows behind an lcore that receives nothing and does not look.
type News = Arc<ArrayQueue<Places>>;

/// Where the masters are, as a gateway's tap knows it. The registrar is asked now and then; what it says is handed to the
/// lcore whole, so that nothing is locked.
pub(super) struct Masters {
    news: Vec<News>,
    last: Places,
}

/// Who runs the filter, and so which way received cargo goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Cargo of masters goes down, all else up.
    Gateway,
    /// Whatever comes, comes down.
    Slave,
}

impl Masters {
    /// Nobody is known yet.
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

    /// What one lcore's tap asks.
    pub(super) fn wants(&mut self, filter: Filter, side: Side, scale: Scale) -> Wants {
        let news = self.listen();
        let mut masters = Arc::clone(&self.last);
        Box::new(move |datagram: &Datagram, way: Way| {
            let peer = &datagram.peer;
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
    use frame::{Hugepages, Peer, Pool, PoolConfig, PortId};
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
        assert!(!down(&ours, Way::Rx) && slave(&ours, Way::Rx));
        masters.tell(vec![Route { peer: ours.peer, mtu: 1500, fixed_port: true }]);
        assert!(down(&ours, Way::Rx) && !down(&other, Way::Rx));
        assert!(
            down(&datagram("192.0.2.2:5", Class::Down), Way::Tx) && !down(&datagram("192.0.2.1:5", Class::Up), Way::Tx)
        );
        assert!(!slave(&datagram("192.0.2.1:5", Class::Up), Way::Tx));
        masters.tell(Vec::new());
        assert!(!down(&ours, Way::Rx));
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
