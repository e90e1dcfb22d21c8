//! DPDK ports on virtual devices in this process. Frames stay in place, none is lost, and the sent packets are right.

use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Vlan};
use netns::dpdk::{CHUNK, config, device, environment, plugin, read_pcap, start, write_pcap};
use netns::product::Place;
use port::Port;
use port::dpdk::{Device, DpdkPort, Environment, EnvironmentConfig, smallest_chunk};
use port::headers::{self, Local, Verify};
use port::host::Host;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const FRAMES: u32 = 2048;
/// The port under test.
const US: Local = Local { mac: [2, 0, 0, 0, 0, 1], ip: [10, 93, 0, 1], udp_port: wire::GATEWAY_PORT };
/// A host beyond it.
const OTHER: Local = Local { mac: [2, 0, 0, 0, 0, 9], ip: [10, 93, 0, 9], udp_port: 40_000 };

fn pool_of(chunk: u32) -> Pool {
    Pool::new(PoolConfig { frames: FRAMES, chunk, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap()
}

fn pool() -> Pool {
    pool_of(CHUNK)
}

/// Asserts that every frame is free, with a port, in an outbox, or held by this test.
fn assert_conserved(pool: &Pool, ports: &[&DpdkPort], out: &Outbox, in_hand: usize) {
    let with_ports: usize = ports.iter().map(|port| port.frames_held()).sum();
    let all = pool.free() as usize + with_ports + out.frames() + in_hand;
    assert_eq!(all, FRAMES as usize, "{} free, {with_ports} with ports, {in_hand} here", pool.free());
}

fn payload(number: usize) -> Vec<u8> {
    // Lengths up to the largest datagram of an MTU of 1500.
    (0..1 + number * 37 % 1472).map(|at| (number * 7 + at) as u8).collect()
}

fn send(out: &mut Outbox, to: Peer, payload: &[u8]) {
    let mut frame = out.alloc().unwrap();
    assert!(frame.append(payload));
    out.send(Datagram::new(frame, to, Class::Down, 1));
}

fn transmit(port: &mut DpdkPort, out: &mut Outbox, now: u64) -> usize {
    let id = port.id();
    let sent = port.tx_burst(now, out.queue(id).unwrap());
    port.housekeep(now);
    sent
}

/// The value of a port's counter.
fn count(port: &DpdkPort, name: &str) -> u64 {
    let mut counted = None;
    port.counters().visit(&mut |counter, _, value| counted = if counter == name { Some(value) } else { counted });
    counted.expect("a counter of this name")
}

/// The device is a loop: each frame comes back as it was sent. The port refuses these packets, because their source is
/// its own address.
#[test]
fn frames_go_through_a_ring_in_place_and_all_come_home() {
    let Some(environment) = environment() else { return };
    let pool = pool();
    let mut out = Outbox::new(pool.clone(), 1);
    let (device, host) = device(&environment, "net_ring_place", None, "10.93.0.1/24");
    let mut port = start(&device, &host, 0, &pool);
    assert!(port.describe().contains("net_ring in place"), "{}", port.describe());
    assert_conserved(&pool, &[&port], &out, 0);
    let to = Peer::ipv4(PortId(0), US.ip, US.udp_port, Vlan::UNTAGGED, device.mac());
    let mut burst = Burst::new();
    let mut now = 0;
    for round in 0..200 {
        now += 1_000_000;
        (round * 40..round * 40 + 40).for_each(|number| send(&mut out, to, &payload(number)));
        assert_conserved(&pool, &[&port], &out, 0);
        assert_eq!(transmit(&mut port, &mut out, now), 40);
        assert_conserved(&pool, &[&port], &out, 0);
        let mut came = 0;
        while came < 40 {
            assert_eq!(port.rx_burst(now, &mut burst), 0);
            let all = count(&port, "rx_dropped_source") - round as u64 * 40;
            assert!(all > came, "{came} of round {round}");
            assert_conserved(&pool, &[&port], &out, 0);
            came = all;
        }
        port.housekeep(now);
        assert_conserved(&pool, &[&port], &out, 0);
    }
    let counted = ["tx_packets", "rx_dropped_source", "rx_copied", "rx_bad_descriptors"].map(|name| count(&port, name));
    assert_eq!(counted, [8000, 8000, 0, 0]);
    // The stock of the device is small: the frames that it got at the start came back.
    assert!(pool.free() > FRAMES * 3 / 4, "{} free", pool.free());
    device.close().unwrap();
    port.housekeep(now);
    assert_eq!((port.frames_held(), pool.free()), (0, FRAMES));
    drop(port);
}

/// What the benchmark `dpdk` relies on: a loop returns whole frames of another sender, in place and in order.
#[test]
fn whole_frames_go_through_a_ring_as_they_are() {
    let Some(environment) = environment() else { return };
    let pool = pool();
    let out = Outbox::new(pool.clone(), 1);
    let (device, host) = device(&environment, "net_ring_whole", None, "10.93.0.1/24");
    let frame = |number: usize| {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(&packet(&pool, &US, &payload(number))));
        frame
    };
    let mut port = DpdkPort::open(PortId(0), 0, &device, &pool, &host).unwrap();
    let mut frames = vec![frame(0)];
    assert_eq!((port.send_whole(&mut frames), frames.len()), (0, 1), "the device is not started");
    device.start().unwrap();
    frames.extend((1..100).map(frame));
    assert_eq!((port.send_whole(&mut frames), frames.len()), (64, 36), "a burst at most");
    assert_eq!((port.send_whole(&mut frames), frames.len()), (36, 0));
    assert_conserved(&pool, &[&port], &out, 0);
    let (mut burst, mut came) = (Burst::new(), 0);
    while came < 100 {
        port.rx_burst(0, &mut burst);
        for datagram in burst.drain() {
            assert_eq!((datagram.frame.data(), datagram.peer.ip()), (&payload(came)[..], OTHER.ip.into()));
            came += 1;
        }
    }
    assert_eq!(count(&port, "rx_copied"), 0);
    device.close().unwrap();
    port.housekeep(0);
    assert_eq!((port.frames_held(), pool.free()), (0, FRAMES));
}

/// A set with the first processor that this process may use.
fn only_processor() -> CpuSet {
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
    one
}

/// Runs one of the ignored tests in a copy of this test program; returns what it printed.
fn in_a_copy(test: &str) -> String {
    let mut copy = std::process::Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", &format!("dpdk_devices::{test}"), "--nocapture", "--ignored"]);
    let output = copy.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Sets a flag when its thread ends, also by a panic. The other thread waits for the flag.
struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The driver of shared memory unmaps it when the other end goes. It does so on a thread of its own at any moment, also
/// while the lcore copies out of that memory.
#[test]
fn the_other_end_of_shared_memory_goes_in_the_middle_of_bursts() {
    if plugin().is_some() {
        in_a_copy("the_other_end_goes");
    }
}

/// Runs where no other test starts processes: they would inherit the driver's sockets, and nobody would notice that
/// the other end has closed its own.
#[test]
#[ignore = "the_other_end_of_shared_memory_goes_in_the_middle_of_bursts runs it in a process of its own"]
fn the_other_end_goes() {
    let Some(environment) = environment() else { return };
    let place = Place::new();
    let memif = |role: &str| {
        let socket = place.path("memif.sock");
        format!("net_memif_{role},role={role},id=3,rsize=11,socket={},socket-abstract=no", socket.display())
    };
    // The thread interrupts the lcore on its processor, mostly in the middle of a burst.
    let here = only_processor();
    environment.call_interrupts(move || sched_setaffinity(None, &here)).unwrap().unwrap();
    let (server, host) = device(&environment, &memif("server"), None, "10.93.1.1/24");
    let (started, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ends = (Sets(&started), Sets(&over));
            sched_setaffinity(None, &here).unwrap();
            let pool = pool();
            let mut port = start(&server, &host, 0, &pool);
            started.store(true, Ordering::Release);
            let mut burst = Burst::new();
            while !over.load(Ordering::Acquire) {
                // Stops almost always inside a burst.
                if port.rx_burst(0, &mut burst) > 0 {
                    burst.clear();
                    port.housekeep(0);
                }
            }
            server.close().unwrap();
            drop(port);
            assert_eq!(pool.free(), FRAMES);
        });
        scope.spawn(|| {
            let _end = Sets(&over);
            while !started.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            let pool = pool();
            let mut out = Outbox::new(pool.clone(), 1);
            let to = Peer::ipv4(PortId(0), [10, 93, 1, 1], wire::GATEWAY_PORT, Vlan::UNTAGGED, server.mac());
            for _ in 0..15 {
                let (client, host) = device(&environment, &memif("client"), None, "10.93.1.2/24");
                let mut port = start(&client, &host, 0, &pool);
                // Many datagrams at once, so that the other end is still busy with them when this end goes.
                let mut left = 1200;
                for number in 0..left {
                    send(&mut out, to, &payload(number));
                }
                while left > 0 {
                    assert!(!over.load(Ordering::Acquire), "the receiver has ended, and {left} datagrams are left");
                    left -= port.tx_burst(0, out.queue(PortId(0)).unwrap());
                }
                client.close().unwrap();
                drop(port);
                assert_eq!(pool.free(), FRAMES);
            }
        });
    });
}

/// A datagram to the port under test, as a whole Ethernet frame.
fn packet(pool: &Pool, to: &Local, payload: &[u8]) -> Vec<u8> {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.append(payload));
    let peer = Peer::ipv4(PortId(0), to.ip, to.udp_port, Vlan::UNTAGGED, to.mac);
    let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
    headers::write(&mut datagram, &OTHER).unwrap();
    datagram.frame.data().to_vec()
}

/// Lets a port read a file of packets and send each datagram back in its frame, into another file. Both files must have
/// these payloads in this order. Returns the port, whose device is closed.
fn answered(device: &Device, host: &Host, pool: &Pool, to: &Path, payloads: &[Vec<u8>]) -> DpdkPort {
    let mut out = Outbox::new(pool.clone(), 1);
    let mut port = start(device, host, 0, pool);
    let mut burst = Burst::new();
    let mut received = 0;
    for now in (0..1000).map(|poll| poll * 1_000_000) {
        if received == payloads.len() {
            break;
        }
        port.rx_burst(now, &mut burst);
        for datagram in burst.drain() {
            assert_eq!(datagram.frame.data(), payloads[received]);
            assert_eq!(datagram.peer.ipv4_octets(), Some(OTHER.ip));
            received += 1;
            // The received frame leaves, to the sender of its datagram.
            out.send(Datagram::new(datagram.frame, datagram.peer, Class::Up, 1));
        }
        transmit(&mut port, &mut out, now);
        assert_conserved(pool, &[&port], &out, 0);
    }
    assert_eq!(received, payloads.len());
    device.close().unwrap();
    port.housekeep(0);
    assert_eq!((port.frames_held(), pool.free()), (0, FRAMES));
    // The packets in the file are read as a host behind the device would read them.
    let mut answers = 0;
    for packet in read_pcap(to) {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(&packet));
        let Ok(datagram) = headers::receive(frame, PortId(0), &OTHER, Verify::Software) else { continue };
        assert_eq!(datagram.frame.data(), payloads[answers]);
        assert_eq!((datagram.peer.ipv4_octets(), datagram.peer.udp_port), (Some(US.ip), US.udp_port));
        answers += 1;
    }
    assert_eq!(answers, payloads.len());
    port
}

#[test]
fn packets_of_a_file_are_read_and_answers_are_written() {
    let Some(environment) = environment() else { return };
    let (pool, place) = (pool(), Place::new());
    let (from, to) = (place.path("in.pcap"), place.path("out.pcap"));
    let mut packets: Vec<Vec<u8>> = (0..300).map(|number| packet(&pool, &US, &payload(number))).collect();
    // One packet with a wrong checksum, one to another port, and one that is cut off.
    let last = packets[10].len() - 1;
    packets[10][last] ^= 1;
    packets[20] = packet(&pool, &Local { udp_port: 9998, ..US }, &payload(20));
    packets[30].truncate(40);
    write_pcap(&from, &packets);
    let devargs = format!("net_pcap_file,rx_pcap={},tx_pcap={}", from.display(), to.display());
    let (device, host) = device(&environment, &devargs, None, "10.93.0.1/24");
    let expected: Vec<_> = (0..300).filter(|number| ![10, 20, 30].contains(number)).map(payload).collect();
    let port = answered(&device, &host, &pool, &to, &expected);
    let dropped = ["rx_dropped_checksum", "rx_dropped_not_ours", "rx_dropped_malformed"];
    assert_eq!(dropped.map(|name| count(&port, name)), [1, 1, 1]);
    assert_eq!(["rx_packets", "tx_packets", "rx_copied"].map(|name| count(&port, name)), [300, 297, 0]);
}

/// MTU 9000: one frame holds the packet, and the MTU is the device's.
#[test]
fn jumbo_frames_are_read_and_written_in_place() {
    let Some(environment) = environment() else { return };
    let (pool, place) = (pool_of(smallest_chunk(9000)), Place::new());
    let (from, to) = (place.path("in.pcap"), place.path("out.pcap"));
    let lengths = [8972, 1, 1473, 4119, 8971].into_iter().cycle().take(300).enumerate();
    let payloads: Vec<Vec<u8>> =
        lengths.map(|(number, len)| (0..len).map(|at| (at * 7 + number) as u8).collect()).collect();
    let packets: Vec<_> = payloads.iter().map(|payload| packet(&pool, &US, payload)).collect();
    write_pcap(&from, &packets);
    let devargs = format!("net_pcap_jumbo,rx_pcap={},tx_pcap={}", from.display(), to.display());
    let (device, host) = device(&environment, &devargs, Some(9000), "10.93.0.1/24");
    let port = answered(&device, &host, &pool, &to, &payloads);
    assert_eq!((device.mtu(), port.mtu(), count(&port, "rx_copied")), (9000, 9000, 0));
    // The MTU is larger than the device allows. The error names the allowed MTU.
    let small = format!("net_memif9,role=server,id=9,socket={},socket-abstract=no", place.path("memif.sock").display());
    let text = Device::open(&environment, config(&small, Some(9000))).err().unwrap().to_string();
    assert!(text.contains("9000") && text.contains("to 1500"), "{text}");
}

#[test]
fn a_packet_longer_than_a_frame_is_dropped_whole() {
    let Some(environment) = environment() else { return };
    let (pool, place) = (pool(), Place::new());
    let from = place.path("in.pcap");
    let long = [packet(&pool, &US, &[1; 1000]), vec![0; 4000]].concat();
    write_pcap(&from, &[long.clone(), packet(&pool, &US, b"short"), long]);
    // The driver has several buffers for one packet, and counts the packets that it drops itself.
    let (device, host) =
        device(&environment, &format!("net_pcap_long,rx_pcap={}", from.display()), None, "10.93.0.1/24");
    let mut port = start(&device, &host, 0, &pool);
    let mut out = Outbox::new(pool.clone(), 1);
    let mut burst = Burst::new();
    let mut received = Vec::new();
    for now in (0..20).map(|poll| poll * 10_000_000) {
        port.rx_burst(now, &mut burst);
        received.extend(burst.drain().map(|datagram| datagram.frame.data().to_vec()));
        transmit(&mut port, &mut out, now);
        assert_conserved(&pool, &[&port], &out, 0);
    }
    assert_eq!(received, [b"short"]);
    assert_eq!(count(&port, "rx_dropped_too_long"), 2);
    device.close().unwrap();
    drop(port);
    assert_eq!(pool.free(), FRAMES);
}

#[test]
fn questions_for_the_address_are_answered() {
    let Some(environment) = environment() else { return };
    let (pool, place) = (pool(), Place::new());
    let (from, to) = (place.path("in.pcap"), place.path("out.pcap"));
    let question = wire::net::arp::Arp::request(OTHER.mac, OTHER.ip, [10, 93, 0, 1]);
    let mut bytes = vec![0; 60];
    question.emit_frame(None, &mut bytes).unwrap();
    write_pcap(&from, &[bytes]);
    let devargs = format!("net_pcap_arp,rx_pcap={},tx_pcap={}", from.display(), to.display());
    let (device, host) = device(&environment, &devargs, None, "10.93.0.1/24");
    let mut port = start(&device, &host, 0, &pool);
    let mut out = Outbox::new(pool.clone(), 1);
    let mut burst = Burst::new();
    for now in (0..10).map(|poll| poll * 1_000_000) {
        assert_eq!(port.rx_burst(now, &mut burst), 0);
        transmit(&mut port, &mut out, now);
    }
    let mac = device.mac();
    device.close().unwrap();
    drop(port);
    let answer = read_pcap(&to).into_iter().find(|packet| packet.starts_with(&OTHER.mac)).expect("an answer");
    assert_eq!((&answer[6..12], &answer[12..14], &answer[28..32]), (&mac[..], &[8, 6][..], &[10, 93, 0, 1][..]));
    assert_eq!(pool.free(), FRAMES);
}

/// DPDK gives the number of a closed device to the next one. The old one's queue may still be there then.
#[test]
fn a_device_opens_while_a_queue_of_a_closed_one_is_still_there() {
    let Some(environment) = environment() else { return };
    let (pool, next_pool) = (pool(), pool());
    let (old, host) = device(&environment, "net_ring_old", None, "10.93.0.1/24");
    let port = start(&old, &host, 0, &pool);
    old.close().unwrap();
    let (next, host) = device(&environment, "net_ring_next", None, "10.93.0.1/24");
    let next_port = start(&next, &host, 0, &next_pool);
    next.close().unwrap();
    drop((port, next_port));
    assert_eq!((pool.free(), next_pool.free()), (FRAMES, FRAMES));
}

/// Runs in a copy of this test program, because EAL starts only once in a process, and this start fails.
#[test]
#[ignore = "hugepages_that_are_gone_when_it_starts_are_named runs it in a process of its own"]
fn start_without_memory() {
    let Some(plugin) = plugin() else { return };
    // Stands for hugepages that were free at a check and are gone now: no machine has this many.
    let config = EnvironmentConfig { hugepages: true, memory: 1 << 30, ..EnvironmentConfig::default() };
    match Environment::start(plugin, config) {
        Ok(_) => panic!("it started"),
        Err(error) => eprintln!("{error}"),
    }
}

#[test]
fn hugepages_that_are_gone_when_it_starts_are_named() {
    if plugin().is_none() {
        return;
    }
    let said = in_a_copy("start_without_memory");
    for part in ["DPDK does not start", "are there hugepages left? `gvm-dp hugepages show`", "hugepages reserve"] {
        assert!(said.contains(part), "{said}");
    }
}
