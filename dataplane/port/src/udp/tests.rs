use super::*;
use crate::sockopt;
use frame::time::SECOND;
use frame::{Class, Datagram, Hugepages, Outbox, PoolConfig};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

pub(super) fn pool(frames: u32) -> Pool {
    Pool::new(PoolConfig { frames, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() }).unwrap()
}

fn port(pool: &Pool, address: &str) -> UdpPort {
    UdpPort::open(PortId(0), address.parse().unwrap(), pool.clone(), UdpOptions::default()).unwrap()
}

/// Says that a test cannot run here, and why.
pub(super) fn skip(why: &str) {
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {why}");
    let _ = io::Write::write_all(&mut io::stderr(), format!("SKIPPED: {why}\n").as_bytes());
}

pub(super) fn send(out: &mut Outbox, to: SocketAddr, bytes: &[u8], ce: bool) {
    let mut frame = out.alloc().unwrap();
    assert!(frame.append(bytes));
    let datagram = Datagram::new(frame, Peer::socket(PortId(0), to), Class::Down, 1);
    out.send(Datagram { ce, ..datagram });
}

/// Receives until something has come; on loopback, a sent datagram is there when the send call returns.
pub(super) fn receive(port: &mut UdpPort) -> Burst {
    let mut burst = Burst::new();
    port.rx_burst(0, &mut burst);
    burst
}

pub(super) fn flush(port: &mut UdpPort, out: &mut Outbox) -> usize {
    port.tx_burst(0, out.queue(PortId(0)).unwrap())
}

#[test]
fn datagrams_arrive_whole_in_order_and_with_their_marks() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let pool = pool(512);
        let (mut a, mut b) = (port(&pool, address), port(&pool, address));
        let mut out = Outbox::new(pool.clone(), 1);
        // More than two bursts, of all lengths down to none.
        for i in 0..150u8 {
            send(&mut out, b.local_addr(), &vec![i; usize::from(i)], i.is_multiple_of(3));
        }
        assert_eq!(flush(&mut a, &mut out), 150);
        let mut i = 0u8;
        for expected in [64, 64, 22, 0] {
            let burst = receive(&mut b);
            assert_eq!(burst.len(), expected);
            for (_, datagram) in burst.iter() {
                assert_eq!(datagram.frame.data(), vec![i; usize::from(i)]);
                assert_eq!((datagram.peer.address(), datagram.ce), (a.local_addr(), i.is_multiple_of(3)));
                i += 1;
            }
        }
        assert_eq!(out.counters().down.records_out.get(), 150);
        assert_eq!(pool.in_use() as usize, a.frames_held() + b.frames_held());
        drop((a, b));
        assert_eq!(pool.free(), pool.capacity());
    }
}

#[test]
fn an_ipv6_socket_speaks_to_ipv4_too() {
    let pool = pool(256);
    let mut six = port(&pool, "[::]:0");
    let mut four = port(&pool, "127.0.0.1:0");
    let mut out = Outbox::new(pool.clone(), 1);
    send(&mut out, four.local_addr(), b"to four", true);
    assert_eq!(flush(&mut six, &mut out), 1);
    let burst = receive(&mut four);
    assert_eq!((burst.get(0).unwrap().frame.data(), burst.get(0).unwrap().ce), (&b"to four"[..], true));
    send(&mut out, burst.get(0).unwrap().peer.address(), b"back", true);
    assert_eq!(flush(&mut four, &mut out), 1);
    let burst = receive(&mut six);
    let datagram = burst.get(0).unwrap();
    assert_eq!((datagram.frame.data(), datagram.ce), (&b"back"[..], true));
    assert_eq!(datagram.peer.address(), four.local_addr());
}

#[test]
fn what_cannot_be_sent_is_dropped_by_name_and_nothing_behind_it() {
    let pool = pool(256);
    let (mut a, mut b) = (port(&pool, "127.0.0.1:0"), port(&pool, "127.0.0.1:0"));
    let mut out = Outbox::new(pool.clone(), 1);
    send(&mut out, b.local_addr(), b"first", false);
    send(&mut out, "[::1]:9".parse().unwrap(), b"no IPv6 here", false);
    // A socket that is bound to 127.0.0.1 reaches nothing beyond; nobody has port 0.
    send(&mut out, "127.0.0.1:0".parse().unwrap(), b"no such port", false);
    send(&mut out, b.local_addr(), b"last", false);
    assert_eq!(flush(&mut a, &mut out), 4);
    let burst = receive(&mut b);
    let got: Vec<_> = (0..burst.len()).map(|number| burst.bytes(number)).collect();
    assert_eq!(got, [&b"first"[..], b"last"]);
    let counters = &a.counters;
    assert_eq!(
        (counters.tx_datagrams.get(), counters.tx_dropped_family.get(), counters.tx_dropped_other.get()),
        (2, 1, 1)
    );
    assert_eq!((out.counters().down.records_out.get(), out.counters().down.records_dropped_tx.get()), (2, 2));
}

#[test]
fn errors_of_sending_have_their_counters() {
    let pool = pool(256);
    let a = port(&pool, "127.0.0.1:0");
    let mut out = Outbox::new(pool.clone(), 1);
    let reasons = [libc::EMSGSIZE, libc::ENETUNREACH, libc::EPERM, libc::EINVAL];
    for reason in reasons {
        send(&mut out, a.local_addr(), b"x", false);
        a.drop_first(out.queue(PortId(0)).unwrap(), &io::Error::from_raw_os_error(reason));
    }
    let c = &a.counters;
    for counter in [&c.tx_dropped_too_long, &c.tx_dropped_unreachable, &c.tx_dropped_not_permitted, &c.tx_dropped_other]
    {
        assert_eq!(counter.get(), 1);
    }
    assert!(out.is_empty());
}

#[test]
fn a_datagram_longer_than_a_frame_is_counted() {
    let pool = pool(128);
    let mut a = port(&pool, "127.0.0.1:0");
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.send_to(&[1; 4000], a.local_addr()).unwrap();
    other.send_to(&[2; 100], a.local_addr()).unwrap();
    let burst = receive(&mut a);
    assert_eq!((burst.len(), burst.get(0).unwrap().frame.len()), (1, 100));
    assert_eq!((a.counters.rx_datagrams.get(), a.counters.rx_dropped_truncated.get()), (2, 1));
    // However many of them come, the poll ends.
    drop(burst);
    for _ in 0..1000 {
        other.send_to(&[1; 4000], a.local_addr()).unwrap();
    }
    assert!(receive(&mut a).is_empty());
    assert_eq!(a.counters.rx_dropped_truncated.get(), 1 + 4 * BURST as u64);
    drop(a);
    assert_eq!(pool.free(), pool.capacity());
}

#[test]
fn lost_datagrams_are_known() {
    let pool = pool(256);
    let options = UdpOptions { rcvbuf: 16 << 10, ..UdpOptions::default() };
    let mut a = UdpPort::open(PortId(0), "127.0.0.1:0".parse().unwrap(), pool.clone(), options).unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut received = 0;
    for _ in 0..200 {
        other.send_to(&[0; 1000], a.local_addr()).unwrap();
    }
    for _ in 0..4 {
        received += receive(&mut a).len() as u64;
    }
    assert!(received < 200);
    // The kernel reports it with the next datagram.
    other.send_to(&[0; 1000], a.local_addr()).unwrap();
    assert_eq!(receive(&mut a).len(), 1);
    assert_eq!(a.rx_lost(), 200 - received);
}

#[test]
fn an_empty_pool_leaves_datagrams_in_the_socket() {
    let pool = pool(4);
    let mut a = port(&pool, "127.0.0.1:0");
    let held: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.send_to(b"wait", a.local_addr()).unwrap();
    assert!(receive(&mut a).is_empty());
    assert_eq!(a.counters.rx_no_frame.get(), 1);
    drop(held);
    assert_eq!(receive(&mut a).get(0).unwrap().frame.data(), b"wait");
}

#[test]
fn a_taken_address_is_explained() {
    let pool = pool(128);
    let a = port(&pool, "127.0.0.1:0");
    let open = |address| UdpPort::open(PortId(0), address, pool.clone(), UdpOptions::default());
    let Err(error) = open(a.local_addr()) else { panic!("two sockets on one address") };
    let expected = format!("udp:{} is in use: `ss -ulpn sport = :{}`", a.local_addr(), a.local_addr().port());
    assert!(error.to_string().starts_with(&expected), "{error}");
    let Err(error) = open("192.0.2.1:9".parse().unwrap()) else { panic!("not our address") };
    assert!(error.to_string().contains("`ip -brief address` lists them"), "{error}");
}

#[test]
fn the_mtu_is_the_interfaces_or_what_a_frame_holds() {
    let pool = pool(128);
    assert_eq!(port(&pool, "0.0.0.0:0").mtu(), 1500);
    let jumbo = PoolConfig { frames: 128, chunk: 12_288, hugepages: Hugepages::Never, ..PoolConfig::default() };
    let options = UdpOptions { mtu: Some(9000), ..UdpOptions::default() };
    let open = |pool| UdpPort::open(PortId(0), "0.0.0.0:0".parse().unwrap(), pool, options).unwrap();
    assert_eq!((open(Pool::new(jumbo).unwrap()).mtu(), open(pool.clone()).mtu()), (9000, 1756));
    // The loopback would take 65535, a frame of 2048 bytes does not.
    assert_eq!(port(&pool, "127.0.0.1:0").mtu(), 2048 - 128 - 192 + 28);
    let a = port(&pool, "127.0.0.2:0");
    assert_eq!(socket::mtu(a.socket.as_fd(), a.local_addr().ip(), None), u16::MAX);
    assert_eq!(socket::mtu(a.socket.as_fd(), "127.0.0.1".parse().unwrap(), Some(9000)), u16::MAX);
    assert!(a.describe().starts_with(&format!("udp:{} (kernel socket, MTU 1500, receive buffer ", a.local_addr())));
}

#[test]
fn a_roce_socket_marks_what_comes_and_leaves_ecn_capable() {
    let pool = pool(256);
    let options = UdpOptions { roce: true, ..UdpOptions::default() };
    let mut a = UdpPort::open(PortId(0), "127.0.0.1:0".parse().unwrap(), pool.clone(), options).unwrap();
    let mut b = port(&pool, "127.0.0.1:0");
    let tos: libc::c_int = crate::sockopt::get(a.socket.as_fd(), libc::IPPROTO_IP, libc::IP_TOS).unwrap();
    assert_eq!(tos, 2);
    let mut out = Outbox::new(pool.clone(), 1);
    for (ce, to) in [(false, b.local_addr()), (true, b.local_addr())] {
        send(&mut out, to, b"x", ce);
    }
    assert_eq!(flush(&mut a, &mut out), 2);
    let burst = receive(&mut b);
    let marks: Vec<_> = burst.iter().map(|(_, datagram)| (datagram.peer.is_roce(), datagram.ce)).collect();
    assert_eq!(marks, [(false, false), (false, true)]);
    send(&mut out, a.local_addr(), b"x", true);
    assert_eq!(flush(&mut b, &mut out), 1);
    let burst = receive(&mut a);
    assert!(burst.get(0).unwrap().peer.is_roce() && burst.get(0).unwrap().ce);
}

/// A socket of the kernel that accepts answers from `to` and from nobody else.
pub(super) fn asks(to: &str, port: u16) -> UdpSocket {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    // A fault must fail the test, not block it.
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// Has a port answer the received datagrams, from the address that was asked.
fn answer_all(port: &mut UdpPort, out: &mut Outbox, ce: bool) -> usize {
    let mut burst = receive(port);
    for datagram in burst.drain() {
        out.send(Datagram { ce, ..Datagram::new(datagram.frame, datagram.peer, Class::Link, 1) });
    }
    flush(port, out)
}

#[test]
fn a_socket_for_all_addresses_answers_from_the_one_that_was_asked() {
    let pool = pool(256);
    let mut out = Outbox::new(pool.clone(), 1);
    for (bound, asked) in
        [("0.0.0.0:0", &["127.0.0.1", "127.0.0.5", "127.0.0.6"][..]), ("[::]:0", &["::1", "127.0.0.5", "127.0.0.6"])]
    {
        let mut port = port(&pool, bound);
        // With any other control messages.
        for (round, ce) in [(0u8, false), (1, true)] {
            let all: Vec<UdpSocket> = asked.iter().map(|ip| asks(ip, port.local_addr().port())).collect();
            for (i, socket) in all.iter().enumerate() {
                socket.send(&[round, i as u8]).unwrap();
            }
            assert_eq!(answer_all(&mut port, &mut out, ce), all.len());
            for (i, socket) in all.iter().enumerate() {
                let mut bytes = [0; 9];
                let len = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{bound} {}: {error}", asked[i]));
                assert_eq!(bytes[..len], [round, i as u8]);
            }
        }
        assert_eq!(port.counters.tx_datagrams.get(), 2 * asked.len() as u64);
    }
}

#[test]
fn sockets_of_one_port_give_an_address_the_same_number() {
    let pool = pool(256);
    let mut out = Outbox::new(pool.clone(), 1);
    let options = UdpOptions { roce: true, ..UdpOptions::default() };
    let [mut a, mut b] = <[UdpPort; 2]>::try_from(ports(&pool, "0.0.0.0:0", 2, options)).ok().unwrap();
    let shared = Arc::default();
    a.share_addresses(&shared);
    b.share_addresses(&shared);
    let (five, six) = (asks("127.0.0.5", a.local_addr().port()), asks("127.0.0.6", a.local_addr().port()));
    five.send(b"five").unwrap();
    six.send(b"six").unwrap();
    // The kernel chooses which of the two sockets gets which sender; each socket answers what the other one received.
    let mut heard: Vec<Datagram> =
        [receive(&mut a), receive(&mut b)].iter_mut().flat_map(|burst| burst.drain().collect::<Vec<_>>()).collect();
    let mut numbers: Vec<u8> = heard.iter().map(|datagram| datagram.peer.local).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [Peer::ROCE | 1, Peer::ROCE | 2]);
    for port in [&mut a, &mut b] {
        for datagram in &mut heard {
            let mut frame = out.alloc().unwrap();
            assert!(frame.append(datagram.frame.data()));
            out.send(Datagram::new(frame, datagram.peer, Class::Link, 1));
        }
        assert_eq!(flush(port, &mut out), 2);
    }
    for (socket, expected) in [(&five, &b"five"[..]), (&six, b"six")] {
        for _ in 0..2 {
            let mut bytes = [0; 9];
            let len = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..len], expected);
        }
    }
}

#[test]
fn an_address_that_is_gone_or_has_no_number_is_counted() {
    let pool = pool(256);
    let mut out = Outbox::new(pool.clone(), 1);
    for (bound, gone, to) in [("0.0.0.0:0", "192.0.2.1", "127.0.0.1:9"), ("[::]:0", "2001:db8::1", "[::1]:9")] {
        let mut port = port(&pool, bound);
        let own = Arc::new(OwnAddresses::default());
        port.share_addresses(&own);
        let mut frame = out.alloc().unwrap();
        assert!(frame.append(b"x"));
        let mut peer = Peer::socket(PortId(0), to.parse().unwrap());
        peer.local = own.number_of(gone.parse().unwrap()).unwrap();
        out.send(Datagram::new(frame, peer, Class::Down, 1));
        assert_eq!((flush(&mut port, &mut out), port.counters.tx_dropped_unreachable.get()), (1, 1), "{bound}");
    }
    let mut port = port(&pool, "0.0.0.0:0");
    let own = Arc::new(OwnAddresses::default());
    port.share_addresses(&own);
    for last in 1..=MAX_OWN_ADDRESSES as u8 {
        own.number_of(std::net::Ipv4Addr::new(192, 0, 2, last).into()).unwrap();
    }
    let socket = asks("127.0.0.1", port.local_addr().port());
    socket.send(b"one too many").unwrap();
    let burst = receive(&mut port);
    assert_eq!((burst.get(0).unwrap().peer.local, port.counters.rx_beyond_addresses.get()), (0, 1));
    // A socket that is bound to its address does not ask for it.
    let mut bound = super::tests::port(&pool, "127.0.0.1:0");
    asks("127.0.0.1", bound.local_addr().port()).send(b"x").unwrap();
    assert_eq!(receive(&mut bound).get(0).unwrap().peer.local, 0);
}

/// The ports of several lcores on one address.
fn ports(pool: &Pool, address: &str, lcores: usize, options: UdpOptions) -> Vec<UdpPort> {
    let (first, others) = UdpSockets::open(address.parse().unwrap(), lcores - 1, options).unwrap();
    let on = |sockets| UdpPort::on(PortId(0), sockets, pool.clone(), options).unwrap();
    std::iter::once(first).chain(others).map(on).collect()
}

#[test]
fn each_lcore_hears_its_sources_and_no_socket_apart_hears_any() {
    let pool = pool(1024);
    for (bound, asked) in
        [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.5"), ("[::1]:0", "::1"), ("[::]:0", "::1")]
    {
        for lcores in [1, 2, 5] {
            let mut ports = ports(&pool, bound, lcores, UdpOptions::default());
            let local = ports[0].local_addr();
            assert!(
                ports.iter().all(|port| (port.slow.sockets(), port.local_addr()) == (SLOW_QUEUES, local)),
                "{bound}"
            );
            let all: Vec<UdpSocket> = (0..100).map(|_| asks(asked, local.port())).collect();
            let mut who = || -> Vec<Vec<u16>> {
                all.iter().for_each(|socket| assert_eq!(socket.send(b"x").unwrap(), 1));
                let heard = |port: &mut UdpPort| {
                    let bursts = [receive(port), receive(port)];
                    let mut from: Vec<u16> = bursts
                        .iter()
                        .flat_map(|burst| burst.iter())
                        .map(|(_, datagram)| datagram.peer.udp_port)
                        .collect();
                    from.sort_unstable();
                    from
                };
                ports.iter_mut().map(heard).collect()
            };
            let first = who();
            assert_eq!(first.iter().map(Vec::len).sum::<usize>(), 100, "{bound}, {lcores}");
            assert!(first.iter().all(|sources| !sources.is_empty()), "{bound}, {lcores}: {first:?}");
            assert_eq!(first, who(), "{bound}, {lcores}: a source stays with its lcore");
            // Nobody else can have the address, whatever it says; of several lcores, a program of the same user could.
            let other = socket::make(local, UdpOptions::default()).unwrap();
            for shares in [libc::SO_REUSEADDR, libc::SO_REUSEPORT].into_iter().take(if lcores == 1 { 2 } else { 1 }) {
                sockopt::set(other.as_fd(), libc::SOL_SOCKET, shares, 1i32).unwrap();
                assert!(matches!(socket::bind_to(other.as_fd(), local), Err(UdpError::InUse(_))), "{bound}, {lcores}");
            }
            let options = UdpOptions { apart: 0, ..UdpOptions::default() };
            let others = UdpSockets::open(local, lcores - 1, options);
            assert!(matches!(others, Err(UdpError::InUse(_))), "{bound}, {lcores}");
        }
    }
    // RoCEv2 has no separate sockets.
    for options in
        [UdpOptions { roce: true, ..UdpOptions::default() }, UdpOptions { apart: 0, ..UdpOptions::default() }]
    {
        let port = UdpPort::open(PortId(0), "127.0.0.1:0".parse().unwrap(), pool.clone(), options).unwrap();
        assert_eq!(port.slow.sockets(), 0);
    }
}

#[test]
fn what_leaves_apart_leaves_in_order_and_from_the_ports_own_address() {
    let pool = pool(1024);
    let mut out = Outbox::new(pool.clone(), 1);
    for (bound, asked) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.5"),
        ("[::1]:0", "::1"),
        ("[::]:0", "::1"),
        ("[::]:0", "127.0.0.6"),
    ] {
        let mut port = port(&pool, bound);
        // They accept answers from there and from nowhere else.
        let (slow, other) = (asks(asked, port.local_addr().port()), asks(asked, port.local_addr().port()));
        slow.send(b"slow").unwrap();
        other.send(b"other").unwrap();
        let peers: Vec<Peer> = receive(&mut port).iter().map(|(_, datagram)| *datagram.peer).collect();
        port.slow.put_apart(&peers[0], 1);
        for i in 0..20u8 {
            let mut frame = out.alloc().unwrap();
            assert!(frame.append(&[i]));
            let class = if i == 7 { Class::Link } else { Class::Down };
            out.send(Datagram::new(frame, peers[usize::from(i % 2)], class, 1));
        }
        assert_eq!(flush(&mut port, &mut out), 20, "{bound}");
        for (socket, first) in [(&slow, 0), (&other, 1)] {
            let got: Vec<u8> = (0..10)
                .map(|_| {
                    let mut bytes = [0; 9];
                    assert_eq!(socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{bound}: {error}")), 1);
                    bytes[0]
                })
                .collect();
            let mut expected: Vec<u8> = (first..20).step_by(2).collect();
            if first == 1 {
                // Link control was first.
                let at = expected.iter().position(|i| *i == 7).unwrap();
                expected.remove(at);
                expected.insert(0, 7);
            }
            assert_eq!(got, expected, "{bound} to {asked}");
        }
        assert_eq!((port.counters.tx_datagrams.get(), out.counters().down.records_dropped_slow.get()), (20, 0));
        // Nothing waits in the separate socket. After a while the destination leaves it.
        port.housekeep(SECOND);
        assert!(!port.slow.has_members());
        assert_eq!(port.counters.tx_slow_destinations.get(), 0);
    }
    assert_eq!(pool.free(), pool.capacity());
}

/// The kernel delivers datagrams from UDP port 0 and from 240.0.0.0/4, and a raw socket can use our own address as its
/// source.
#[test]
fn what_no_sender_can_be_is_refused_on_sockets_too() {
    let pool = pool(64);
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut port = port(&pool, address);
        let ours = port.local_addr().port();
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_UDP) };
        if fd < 0 {
            return skip("a raw socket needs CAP_NET_RAW");
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let raw = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let to = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut from = |source: u16| {
            let header = [source.to_be_bytes(), ours.to_be_bytes(), 12u16.to_be_bytes(), [0, 0]].concat();
            raw.send_to(&[&header[..], b"abcd"].concat(), to).unwrap();
            receive(&mut port).drain().map(|datagram| datagram.peer.udp_port).collect::<Vec<_>>()
        };
        assert_eq!([from(0), from(ours), from(7)], [vec![], vec![], vec![7]], "{address}");
        assert_eq!(port.counters.rx_dropped_source.get(), 2, "{address}");
    }
}
