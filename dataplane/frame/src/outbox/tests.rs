use super::*;
use crate::{Hugepages, Peer, PoolConfig};

fn outbox() -> Outbox {
    let config = PoolConfig { frames: 16, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    Outbox::new(Pool::new(config).unwrap(), 1)
}

fn datagram(out: &Outbox, port: u8, class: Class, records: u16) -> Datagram {
    let peer = Peer::socket(PortId(port), "127.0.0.1:1".parse().unwrap());
    let mut frame = out.alloc().unwrap();
    assert!(frame.append(b"12345"));
    Datagram::new(frame, peer, class, records)
}

#[test]
fn link_control_leaves_before_cargo_and_all_is_accounted() {
    let mut out = outbox();
    out.send(datagram(&out, 0, Class::Down, 3));
    out.send(datagram(&out, 0, Class::Up, 4));
    out.send(datagram(&out, 0, Class::Link, 1));
    let counters = Arc::clone(out.counters());
    assert_eq!((counters.down.records_queued.get(), counters.up.records_queued.get()), (3, 4));
    let queue = out.queue(PortId(0)).unwrap();
    assert_eq!(queue.take().unwrap().class, Class::Link);
    assert_eq!(queue.take().unwrap().class, Class::Down);
    assert_eq!(queue.fail().unwrap().class, Class::Up);
    assert!(out.is_empty());
    assert_eq!((counters.down.records_out.get(), counters.down.bytes_out.get()), (3, 5));
    assert_eq!((counters.up.records_out.get(), counters.up.records_dropped_tx.get()), (0, 4));
    assert_eq!((counters.down.records_queued.get(), counters.up.records_queued.get()), (0, 0));
    assert_eq!(out.pool().in_use(), 0);
}

#[test]
fn what_is_lent_leaves_in_the_same_order_or_comes_back() {
    let mut out = outbox();
    for (class, records) in [(Class::Down, 3), (Class::Up, 4), (Class::Link, 1), (Class::Down, 5), (Class::Link, 2)] {
        out.send(datagram(&out, 0, class, records));
    }
    let counters = Arc::clone(out.counters());
    let queue = out.queue(PortId(0)).unwrap();
    let mut lent = queue.sibling();
    queue.lend(&mut lent);
    let order = |queue: &TxQueue| queue.iter().map(|datagram| datagram.records).collect::<Vec<_>>();
    assert_eq!((order(&lent), queue.len()), (vec![1, 2, 3, 4, 5], 0));
    assert!(lent.take().is_some() && lent.fail().is_some() && lent.take().is_some());
    assert_eq!(queue.take_back(&mut lent), (3, 0b010));
    assert_eq!((order(queue), lent.len()), (vec![4, 5], 0));
    assert_eq!((counters.down.records_out.get(), counters.link_records_dropped_tx.get()), (3, 2));
    queue.lend(&mut lent);
    assert_eq!(queue.take_back(&mut lent), (0, 0));
    assert_eq!(order(queue), [4, 5]);
    assert!(queue.fail().is_some() && queue.take().is_some());
    assert_eq!(out.pool().in_use(), 0);
}

fn order(queue: &TxQueue, number: usize) -> (Vec<u16>, Vec<u16>) {
    let slow = queue.slow[number].iter().map(|datagram| datagram.records).collect();
    (queue.iter().map(|datagram| datagram.records).collect(), slow)
}

#[test]
fn what_is_set_aside_waits_in_order_and_holds_up_nobody() {
    let config = PoolConfig { frames: 64, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    let mut out = Outbox::new(Pool::new(config).unwrap(), 1);
    let counters = Arc::clone(out.counters());
    // With a pool of 64 frames, a slow queue has room for four datagrams.
    for records in 1..=7 {
        let class = if records == 2 { Class::Up } else { Class::Down };
        out.send(datagram(&out, 0, class, records));
    }
    let queue = out.queue(PortId(0)).unwrap();
    assert!(queue.set_aside(1) && queue.take().is_some());
    assert!((0..3).all(|_| queue.set_aside(1)));
    assert!(!queue.set_aside(1), "there was no more room: the datagram was dropped");
    assert_eq!(order(queue, 1), (vec![7], vec![1, 3, 4, 5]));
    assert_eq!((queue.len(), queue.backlog(), queue.is_empty()), (5, 1, false));
    assert_eq!((counters.down.records_dropped_slow.get(), counters.down.records_dropped_tx.get()), (6, 0));
    assert!(!queue.set_aside(SLOW_QUEUES), "there is no such queue");

    // Link control stays where it is.
    assert!(queue.take().is_some() && queue.backlog() == 0 && !queue.is_empty());
    out.send(datagram(&out, 0, Class::Link, 8));
    assert!(!out.queue(PortId(0)).unwrap().set_aside(0));
    assert_eq!((out.backlog(PortId(0)), out.waiting(PortId(0)), out.frames()), (1, 5, 5));

    let queue = out.queue(PortId(0)).unwrap();
    assert_eq!(queue.take_slow(1).unwrap().records, 1);
    assert_eq!(queue.fail_slow(1).unwrap().records, 3);
    assert_eq!((queue.slow_len(1), queue.slow_iter_mut(1).next().unwrap().records), (2, 4));
    assert_eq!((counters.down.records_dropped_tx.get(), counters.down.records_queued.get()), (3, 4 + 5));
    assert_eq!((counters.down.records_out.get(), counters.up.records_out.get()), (1 + 7, 2));
    while queue.take_slow(1).is_some() {}
    assert!(queue.take().is_some() && out.is_empty());
    assert_eq!((counters.down.records_queued.get(), out.pool().in_use()), (0, 0));
}

#[test]
fn one_destination_has_its_bound_in_a_slow_queue_and_leaves_room_to_others() {
    let config = PoolConfig { frames: 8192, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    let mut out = Outbox::new(Pool::new(config).unwrap(), 1);
    let to = |out: &Outbox, port: u16| {
        let peer = Peer::socket(PortId(0), ([127, 0, 0, 1], port).into());
        Datagram { peer, ..datagram(out, 0, Class::Up, 1) }
    };
    for port in [7, 8] {
        for _ in 0..2 * SLOW_DATAGRAMS {
            out.send(to(&out, port));
            out.queue(PortId(0)).unwrap().set_aside(0);
        }
    }
    assert_eq!(out.queue(PortId(0)).unwrap().slow_len(0), 2 * SLOW_DATAGRAMS);
    assert_eq!(out.counters().up.records_dropped_slow.get(), 2 * SLOW_DATAGRAMS as u64);
}

#[test]
fn what_is_lent_may_be_set_aside() {
    let mut out = outbox();
    for records in 1..=4 {
        out.send(datagram(&out, 0, Class::Down, records));
    }
    let queue = out.queue(PortId(0)).unwrap();
    assert!(queue.set_aside(2));
    let mut lent = queue.sibling();
    queue.lend(&mut lent);
    assert!(lent.take_slow(2).is_some(), "the slow queues are lent, too");
    assert!(lent.take().is_some() && lent.set_aside(2) && lent.fail().is_some());
    // The second datagram did not fail: it waits.
    assert_eq!(queue.take_back(&mut lent), (3, 0b100));
    assert_eq!(order(queue, 2), (vec![], vec![3]));
    assert_eq!(queue.take_slow(2).unwrap().records, 3);
    assert_eq!(out.pool().in_use(), 0);
}

#[test]
fn a_port_is_contended_and_then_full() {
    let config = PoolConfig { frames: 400, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    let mut out = Outbox::new(Pool::new(config).unwrap(), 2);
    let mut seen = Vec::new();
    for waiting in 0..=300 {
        let at = (out.crowding(PortId(1)), out.is_contended());
        if seen.last().is_none_or(|(_, last)| *last != at) {
            seen.push((waiting, at));
        }
        out.send(datagram(&out, 1, Class::Down, 1));
    }
    let expected = [(0, (Crowding::Free, false)), (101, (Crowding::Contended, true)), (201, (Crowding::Full, true))];
    assert_eq!(seen, expected);
    assert_eq!((out.crowding(PortId(0)), out.crowding(PortId(9))), (Crowding::Free, Crowding::Free));
    // Waiting link control does not cause a drop of cargo.
    while out.queue(PortId(1)).unwrap().take().is_some() {}
    for _ in 0..300 {
        out.send(datagram(&out, 1, Class::Link, 1));
    }
    assert_eq!(out.crowding(PortId(1)), Crowding::Free);
    // Few frames are left, so a contended port is full.
    while out.queue(PortId(1)).unwrap().take().is_some() {}
    let held: Vec<_> = std::iter::from_fn(|| out.alloc()).take(250).collect();
    for _ in 0..101 {
        out.send(datagram(&out, 1, Class::Down, 1));
    }
    assert_eq!(out.crowding(PortId(1)), Crowding::Full);
    drop(held);
    assert_eq!(out.crowding(PortId(1)), Crowding::Contended);
}

#[test]
fn queues_never_grow_and_use_no_more_memory_than_they_need() {
    let config = PoolConfig { frames: 3000, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    let mut out = Outbox::new(Pool::new(config).unwrap(), 2);
    let rooms = |out: &Outbox| -> Vec<_> {
        out.queues.iter().map(|queue| (queue.link.capacity(), queue.cargo.capacity())).collect()
    };
    let before = rooms(&out);
    // All frames are queued, of each class, after some have passed through the queue.
    for class in [Class::Link, Class::Down] {
        for waiting in [1000, 3000] {
            for _ in 0..waiting {
                out.send(datagram(&out, 1, class, 1));
            }
            assert!(out.alloc().is_some() == (waiting < 3000) && out.frames() == waiting);
            let queue = out.queue(PortId(1)).unwrap();
            while queue.take().is_some() {}
        }
        out.queue(PortId(1)).unwrap().rewind();
    }
    assert_eq!(rooms(&out), before);
    // The next datagram lies where the first one was.
    let address = |queue: &TxQueue| queue.cargo.as_slices().0.as_ptr();
    out.send(datagram(&out, 1, Class::Down, 1));
    let first = address(out.queue(PortId(1)).unwrap());
    for _ in 0..3 {
        let queue = out.queue(PortId(1)).unwrap();
        queue.rewind();
        assert!(queue.take().is_some(), "the waiting datagram stays");
        queue.rewind();
        out.send(datagram(&out, 1, Class::Down, 1));
        assert_eq!(address(out.queue(PortId(1)).unwrap()), first);
    }
}

#[test]
fn a_port_that_does_not_exist_costs_only_the_datagram() {
    let mut out = outbox();
    out.send(datagram(&out, 7, Class::Down, 2));
    assert_eq!(out.counters().down.records_dropped_tx.get(), 2);
    assert_eq!((out.counters().down.records_queued.get(), out.pool().in_use()), (0, 0));
}

#[test]
fn the_way_to_the_registrar_is_bounded_for_each_precedence_by_itself() {
    let config = PoolConfig { frames: 1024, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    let mut out = Outbox::new(Pool::new(config).unwrap(), 1);
    let counters = Arc::clone(out.counters());
    let mut waiting = 0;
    // Mail with the first precedence comes last, and it still has room: the flood of the others took none of its
    // places.
    for precedence in [Precedence::Excess, Precedence::Stranger, Precedence::Member] {
        for records in 0..precedence.backlog(1024) as u16 + 3 {
            out.control(precedence, datagram(&out, 0, Class::Link, records));
        }
        waiting += precedence.backlog(1024);
        assert_eq!((out.frames(), out.pool().in_use() as usize), (waiting, waiting));
    }
    let dropped = [&counters.link_dropped_mailbox_full, &counters.link_dropped_stranger, &counters.link_dropped_excess];
    assert_eq!(dropped.map(|counter| counter.get()), [3, 3, 3]);
    for precedence in Precedence::ALL {
        let first = out.next_control(precedence).unwrap();
        assert_eq!(first.records, 0);
        out.unget_control(precedence, first);
        let all = std::iter::from_fn(|| out.next_control(precedence)).map(|datagram| datagram.records);
        assert!(all.eq(0..precedence.backlog(1024) as u16), "in order, the oldest kept");
    }
    assert!(out.is_empty() && out.pool().in_use() == 0);
}

#[test]
fn what_waits_behind_a_quarter_of_the_bound_for_a_slow_destination_is_marked() {
    let config = PoolConfig { frames: 8192, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    let mut out = Outbox::new(Pool::new(config).unwrap(), 1);
    for port in [7, 8] {
        for _ in 0..SLOW_DATAGRAMS / 2 {
            let peer = Peer::socket(PortId(0), ([127, 0, 0, 1], port).into());
            out.send(Datagram { peer, ..datagram(&out, 0, Class::Up, 1) });
            assert!(out.queue(PortId(0)).unwrap().set_aside(0));
        }
    }
    // A quarter of 64 wait before the 17th, and more than a quarter before the 18th, whatever waits for others.
    let queue = out.queue(PortId(0)).unwrap();
    let marked: Vec<bool> = queue.slow_iter_mut(0).map(|datagram| datagram.ce).collect();
    let expected: Vec<bool> = (0..32).chain(0..32).map(|before| before > 16).collect();
    assert_eq!(marked, expected);
    assert_eq!(out.counters().up.ce_marked.get(), 2 * 15);
}
