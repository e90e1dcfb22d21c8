//! Trains on real sockets: from a sender that makes them by hand, and between two ports.

use super::tests::{asks, flush, pool, receive, send, skip};
use super::*;
use crate::sockopt;
use frame::{Class, Datagram, Outbox};
use proptest::prelude::*;

/// Whether this kernel has trains; says so if it has not.
fn has_trains() -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let trains = Trains::enable(socket.as_fd(), true, true);
    let has = trains.receives && trains.sends;
    if !has {
        skip("this kernel has no UDP_GRO or no UDP_SEGMENT");
    }
    has
}

/// A socket whose sends are trains of datagrams of `each` bytes.
fn sender(to: SocketAddr, each: usize) -> UdpSocket {
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    socket.connect(to).unwrap();
    sockopt::set(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, each as libc::c_int).unwrap();
    socket
}

/// The bytes of so many datagrams of `each` bytes, which begin with their numbers, and of one of `rest` bytes.
fn numbered(from: u16, count: u16, each: usize, rest: usize) -> Vec<u8> {
    let one = |number: u16, len: usize| {
        let mut bytes = vec![number as u8; len];
        for (byte, of) in bytes.iter_mut().zip(number.to_be_bytes()) {
            *byte = of;
        }
        bytes
    };
    let mut bytes: Vec<u8> = (from..from + count).flat_map(|number| one(number, each)).collect();
    bytes.extend(one(from + count, rest));
    bytes
}

/// A port that hands over trains, or not.
fn opened(pool: &Pool, address: &str, coalesce: bool) -> UdpPort {
    let options = UdpOptions { coalesce, segment: true, ..UdpOptions::default() };
    UdpPort::open(PortId(0), address.parse().unwrap(), pool.clone(), options).unwrap()
}

#[test]
fn trains_are_cut_up_in_order_with_the_marks_and_addresses_of_the_whole() {
    if !has_trains() {
        return;
    }
    let pool = pool(512);
    for (bound, asked) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("0.0.0.0:0", "127.0.0.5"), ("[::]:0", "127.0.0.5")]
    {
        for coalesce in [true, false] {
            let mut port = opened(&pool, bound, coalesce);
            let to = SocketAddr::new(asked.parse().unwrap(), port.local_addr().port());
            let sender = sender(to, 87);
            // Two trains, the second with a mark; each is more than a burst has room for, together with a datagram
            // between them. The last datagram of each is shorter.
            let first = numbered(0, 60, 87, 40);
            assert_eq!(sender.send(&first).unwrap(), first.len());
            sender.send(&numbered(61, 0, 87, 9)).unwrap();
            let ce: libc::c_int = 3;
            if asked == "::1" {
                sockopt::set(sender.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_TCLASS, ce).unwrap();
            } else {
                sockopt::set(sender.as_fd(), libc::IPPROTO_IP, libc::IP_TOS, ce).unwrap();
            }
            sender.send(&numbered(62, 60, 87, 86)).unwrap();
            let mut number = 0u16;
            for expected in [64, 59, 0] {
                let burst = receive(&mut port);
                assert_eq!(burst.len(), expected, "{bound}, {coalesce}");
                for (_, datagram) in burst.iter() {
                    let len = match number {
                        60 => 40,
                        61 => 9,
                        122 => 86,
                        _ => 87,
                    };
                    assert_eq!(datagram.frame.data(), numbered(number, 0, 0, len), "{bound}, {coalesce}: {number}");
                    assert_eq!(datagram.ce, number >= 62, "{bound}, {coalesce}: {number}");
                    assert_eq!(datagram.peer.address(), sender.local_addr().unwrap());
                    assert_eq!(datagram.peer.local, u8::from(asked.ends_with(".5")));
                    number += 1;
                }
                // The rest of the second train waits in the port, and is not received yet.
                assert_eq!(port.has_received(), coalesce && expected == 64);
                let counters = &port.counters;
                assert_eq!(counters.rx_datagrams.get(), u64::from(number));
                assert_eq!(counters.rx_trains.get(), if coalesce { 2 } else { 0 });
                assert_eq!(pool.in_use() as usize, burst.len() + port.frames_held());
            }
            assert_eq!(port.counters.rx_bytes.get(), (2 * 60 * 87 + 40 + 9 + 86) as u64);
            drop(port);
            assert_eq!(pool.free(), pool.capacity());
        }
    }
}

#[test]
fn a_full_socket_of_trains_is_received_to_the_last_datagram() {
    if !has_trains() {
        return;
    }
    let pool = pool(8192);
    let mut out = Outbox::new(pool.clone(), 1);
    let (mut a, mut b) = (opened(&pool, "127.0.0.1:0", true), opened(&pool, "127.0.0.1:0", true));
    let mut c = opened(&pool, "127.0.0.1:0", true);
    for _ in 0..3 {
        for number in 0..64u8 {
            for _ in 0..64 {
                send(&mut out, b.local_addr(), &[number; 87], false);
            }
            assert_eq!(flush(&mut a, &mut out), 64);
        }
        let mut count = 0;
        loop {
            let burst = receive(&mut b);
            if burst.is_empty() {
                break;
            }
            for (_, datagram) in burst.iter() {
                assert_eq!(datagram.frame.data(), [(count / 64) as u8; 87]);
                assert_eq!(datagram.peer.address(), a.local_addr());
                count += 1;
            }
            // A gateway sends while trains wait in its port.
            for number in 0..10u8 {
                send(&mut out, c.local_addr(), &vec![number; 9 + usize::from(number)], true);
            }
            assert_eq!((flush(&mut b, &mut out), receive(&mut c).len()), (10, 10));
        }
        assert_eq!((count, b.has_received()), (64 * 64, false));
    }
    assert_eq!((a.counters.tx_trains.get(), b.counters.rx_trains.get()), (3 * 64, 3 * 64));
}

#[test]
fn a_train_waits_for_frames() {
    if !has_trains() {
        return;
    }
    let pool = pool(40);
    let mut port = opened(&pool, "127.0.0.1:0", true);
    sender(port.local_addr(), 500).send(&numbered(0, 60, 500, 500)).unwrap();
    let mut held: Vec<Frame> = Vec::new();
    let mut number = 0;
    while number <= 60 {
        let mut burst = receive(&mut port);
        // The train stays where it landed, in a frame of the port.
        assert_eq!(port.has_received(), number + burst.len() as u16 <= 60);
        assert_eq!(pool.in_use() as usize, held.len() + burst.len() + port.frames_held());
        for datagram in burst.drain() {
            assert_eq!(datagram.frame.data(), numbered(number, 0, 0, 500));
            held.push(datagram.frame);
            number += 1;
        }
        if pool.free() == 0 {
            assert!(port.has_received() && receive(&mut port).is_empty(), "there is no frame");
            assert!(port.counters.rx_no_frame.get() > 0);
            held.clear();
        }
    }
    assert_eq!((port.counters.rx_datagrams.get(), port.has_received()), (61, false));
}

#[test]
fn datagrams_of_a_train_that_have_no_room_in_a_frame_are_counted_one_by_one() {
    if !has_trains() {
        return;
    }
    let pool = pool(256);
    let mut port = opened(&pool, "127.0.0.1:0", true);
    let sender = sender(port.local_addr(), 2100);
    // The last one has room.
    sender.send(&numbered(0, 3, 2100, 1000)).unwrap();
    sender.send(&numbered(4, 0, 2100, 10)).unwrap();
    // Alone: there is room beyond its frame, and it is still too long.
    sender.send(&numbered(5, 0, 2100, 2000)).unwrap();
    let burst = receive(&mut port);
    assert_eq!(
        (burst.len(), burst.bytes(0), burst.bytes(1)),
        (2, &numbered(3, 0, 0, 1000)[..], &[0, 4, 4, 4, 4, 4, 4, 4, 4, 4][..])
    );
    let counters = &port.counters;
    assert_eq!((counters.rx_datagrams.get(), counters.rx_dropped_truncated.get()), (6, 4));
    assert_eq!(counters.rx_bytes.get(), 3 * 2100 + 1000 + 10 + 2000);
}

#[test]
fn a_train_from_an_impossible_source_is_counted_one_by_one() {
    if !has_trains() {
        return;
    }
    let pool = pool(256);
    let mut port = opened(&pool, "127.0.0.1:0", true);
    let mut out = Outbox::new(pool.clone(), 1);
    // From the port to itself.
    for _ in 0..20 {
        send(&mut out, port.local_addr(), &[1; 50], false);
    }
    assert_eq!((flush(&mut port, &mut out), port.counters.tx_trains.get()), (20, 1));
    assert!(receive(&mut port).is_empty());
    let counters = &port.counters;
    assert_eq!((counters.rx_datagrams.get(), counters.rx_dropped_source.get()), (20, 20));
    assert_eq!((counters.rx_trains.get(), port.has_received()), (1, false));
}

#[test]
fn neighbours_of_one_size_leave_as_a_train_and_all_others_alone() {
    if !has_trains() {
        return;
    }
    let pool = pool(512);
    for (bound, coalesce) in [("127.0.0.1:0", true), ("127.0.0.1:0", false), ("[::1]:0", true)] {
        let mut a = opened(&pool, bound, true);
        let (mut b, mut c) = (opened(&pool, bound, coalesce), opened(&pool, bound, coalesce));
        let mut out = Outbox::new(pool.clone(), 1);
        let (to_b, to_c) = (b.local_addr(), c.local_addr());
        // Trains: 3 with a shorter last one; 2 with a mark; none of two receivers in turn; 2.
        let plan: &[(SocketAddr, usize, bool)] = &[
            (to_b, 100, false),
            (to_b, 100, false),
            (to_b, 60, false),
            (to_b, 60, true),
            (to_b, 60, true),
            (to_c, 60, true),
            (to_b, 60, false),
            (to_c, 60, false),
            (to_b, 0, false),
            (to_b, 0, false),
            (to_b, 80, false),
            (to_b, 80, false),
            (to_b, 90, false),
        ];
        for (number, &(to, len, ce)) in plan.iter().enumerate() {
            send(&mut out, to, &vec![number as u8; len], ce);
        }
        assert_eq!(flush(&mut a, &mut out), plan.len());
        assert_eq!((a.counters.tx_datagrams.get(), a.counters.tx_trains.get()), (plan.len() as u64, 3));
        for (port, address) in [(&mut b, to_b), (&mut c, to_c)] {
            let burst = receive(port);
            let got: Vec<_> = burst.iter().map(|(_, datagram)| (datagram.frame.data().to_vec(), datagram.ce)).collect();
            let sent = plan.iter().enumerate().filter(|(_, (to, ..))| *to == address);
            let expected: Vec<_> = sent.map(|(number, &(_, len, ce))| (vec![number as u8; len], ce)).collect();
            assert_eq!(got, expected);
        }
        assert_eq!(b.counters.rx_trains.get(), if coalesce { 3 } else { 0 });
        let lone = UdpOptions { segment: false, ..UdpOptions::default() };
        let mut lone = UdpPort::open(PortId(0), bound.parse().unwrap(), pool.clone(), lone).unwrap();
        for number in 0..5 {
            send(&mut out, to_b, &[number; 20], false);
        }
        assert_eq!((flush(&mut lone, &mut out), lone.counters.tx_trains.get(), receive(&mut b).len()), (5, 0, 5));
    }
}

/// A socket without checksums cannot send trains: the kernel says `EINVAL`, as it does where a device has no checksums.
#[test]
fn a_refused_train_leaves_one_by_one_and_the_next_ones_too_for_a_while() {
    if !has_trains() {
        return;
    }
    let pool = pool(512);
    let mut out = Outbox::new(pool.clone(), 1);
    for bound in ["127.0.0.1:0", "0.0.0.0:0"] {
        let (mut a, mut b) = (opened(&pool, bound, true), opened(&pool, "127.0.0.1:0", true));
        let asks = asks("127.0.0.5", a.local_addr().port());
        let mut peer = Peer::socket(PortId(0), b.local_addr());
        if bound.starts_with('0') {
            // With an address to leave from, in a control message before that of the train.
            asks.send(b"x").unwrap();
            peer.local = receive(&mut a).get(0).unwrap().peer.local;
        }
        let no_check: libc::c_int = 1;
        sockopt::set(a.socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, no_check).unwrap();
        let (mut sent, mut rounds) = (0u64, 0);
        while a.counters.tx_trains_refused.get() < 2 {
            for number in 0..50u8 {
                let mut frame = out.alloc().unwrap();
                assert!(frame.append(&[number; 30]));
                out.send(Datagram { ce: true, ..Datagram::new(frame, peer, Class::Down, 1) });
            }
            assert_eq!(flush(&mut a, &mut out), 50, "{bound}");
            let burst = receive(&mut b);
            let from = if bound.starts_with('0') { "127.0.0.5" } else { "127.0.0.1" };
            assert_eq!(burst.len(), 50, "{bound}");
            for (number, datagram) in burst.iter() {
                assert_eq!((datagram.frame.data(), datagram.ce), (&[number as u8; 30][..], true));
                assert_eq!(datagram.peer.ip().to_string(), from);
            }
            sent += 50;
            rounds += 1;
        }
        assert_eq!((a.counters.tx_datagrams.get(), a.counters.tx_trains.get()), (sent, 0));
        assert_eq!(rounds, 1 + 4096u64.div_ceil(50), "it tries again after 4,096 datagrams");
        // What the kernel takes again is a train again.
        sockopt::set(a.socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 0i32).unwrap();
        for _ in 0..2 * 4096 {
            send(&mut out, b.local_addr(), &[1; 30], false);
            assert_eq!(flush(&mut a, &mut out), 1);
            assert_eq!(receive(&mut b).len(), 1);
        }
        send(&mut out, b.local_addr(), &[1; 30], false);
        send(&mut out, b.local_addr(), &[1; 30], false);
        assert_eq!((flush(&mut a, &mut out), a.counters.tx_trains.get(), receive(&mut b).len()), (2, 1, 2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent to whom, each port receives what was sent to it, whole and in order, however small the pools
    /// are; and every frame is somewhere.
    #[test]
    fn ports_receive_what_others_send(
        runs in proptest::collection::vec((0usize..2, 0usize..1400, 1usize..90, any::<bool>()), 1..12),
        coalesce in any::<bool>(),
        frames in 20u32..100,
    ) {
        let (from, to) = (pool(1024), pool(frames));
        let mut a = opened(&from, "127.0.0.1:0", true);
        let mut others = [opened(&to, "127.0.0.1:0", coalesce), opened(&to, "127.0.0.1:0", true)];
        let mut out = Outbox::new(from.clone(), 1);
        let mut number = 0u32;
        let mut expected = [Vec::new(), Vec::new()];
        for (which, len, count, ce) in runs {
            for _ in 0..count {
                let mut bytes = vec![number as u8; len];
                bytes.extend(number.to_be_bytes());
                number += 1;
                send(&mut out, others[which].local_addr(), &bytes, ce);
                expected[which].push((bytes, ce));
            }
            a.tx_burst(0, out.queue(PortId(0)).unwrap());
            let mut got = [Vec::new(), Vec::new()];
            // Until everything is there: a burst may be empty while the other port has all frames.
            for (port, got) in others.iter_mut().zip(&mut got) {
                loop {
                    let burst = receive(port);
                    prop_assert_eq!(burst.len() + port.frames_held(), to.in_use() as usize);
                    if burst.is_empty() && !port.has_received() {
                        break;
                    }
                    got.extend(burst.iter().map(|(_, datagram)| (datagram.frame.data().to_vec(), datagram.ce)));
                }
                // It gives its empty frames to the next one.
                port.fill.clear();
            }
            prop_assert_eq!(&got, &expected);
            expected = [Vec::new(), Vec::new()];
        }
        prop_assert_eq!(out.counters().down.records_dropped_tx.get(), 0);
        drop((a, others));
        prop_assert_eq!((from.in_use(), to.in_use()), (0, 0));
    }
}
