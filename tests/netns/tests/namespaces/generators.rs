//! The real `gvm-dp` on NIC queues with static routes alone. The generators are plain sockets, which register nowhere.

use netns::product::until;
use netns::world::{number, two_armed};
use std::net::UdpSocket;
use std::time::Duration;
use wire::record::{emit, req_id};
use wire::{HEADER_LEN, MsgType, RecordHeader, Scale, Walk};

const PAYLOAD: usize = 64;
const RECORD: usize = HEADER_LEN + PAYLOAD;

/// A record to a slave, whose payload depends on its id and number.
fn record(id: u32, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; RECORD];
    let payload = [(id as u8).wrapping_add(number as u8); PAYLOAD];
    emit(&RecordHeader::new(MsgType(0x8000), id, req_id(1, number), PAYLOAD as u32), &payload, &mut bytes).unwrap();
    bytes
}

#[test]
fn generators_load_a_gateway_without_registration() {
    let Some(world) = two_armed() else { return };
    // Each slave has an address. The gateway asks its kernel for the next hop of an address when there is cargo for it,
    // also for the master's address.
    for last in 3..=9 {
        world.farm.ip(&format!("address add 10.92.2.{last}/24 dev f"));
    }
    let file = world.place.file("routes", "master 1 10.92.1.2\nslave 0-7 10.92.2.2+\n");
    let gateway = world.gateway(&format!("--port left --port right --static-routes {file}"));
    gateway.says(&["STATIC ROUTES: 8 slaves and 1 master from"]);
    let open = |address: &str| {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    };
    let master = world.master.enter(|| open("10.92.1.2:9999"));
    let slaves: Vec<_> = (2..=9).map(|last| world.farm.enter(|| open(&format!("10.92.2.{last}:9999")))).collect();

    // Until the kernel knows all next hops, datagrams are dropped and counted.
    for id in 0..8 {
        until("the way to a slave", || {
            master.send_to(&record(id, 0), "10.92.1.1:9999").unwrap();
            slaves[id as usize].set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            slaves[id as usize].recv(&mut [0; 2048]).ok()
        });
    }
    // Datagrams behind the first one are read and discarded.
    for slave in &slaves {
        while slave.recv(&mut [0; 2048]).is_ok() {}
        slave.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    }
    const EACH: u64 = 100;
    for number in 1..=EACH {
        for id in 0..8 {
            master.send_to(&record(id, number), "10.92.1.1:9999").unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for (id, slave) in (0..).zip(&slaves) {
        let (mut bytes, mut next) = ([0; 2048], 1);
        while next <= EACH {
            let len = slave.recv(&mut bytes).unwrap();
            for item in Walk::new(&bytes[..len], Scale::default()) {
                let (_, item) = item.unwrap();
                // One of the first datagrams may be late.
                if next > 1 || item.bytes() != record(id, 0) {
                    assert_eq!(item.bytes(), record(id, next), "in order and whole");
                    next += 1;
                }
            }
        }
    }
    // Upward, from the address in the route.
    until("an answer", || {
        slaves[7].send_to(&record(7, 5), "10.92.2.1:9999").unwrap();
        master.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut bytes = [0; 2048];
        let len = master.recv(&mut bytes).ok()?;
        (bytes[..len.min(RECORD)] == record(7, 5)).then_some(())
    });
    let stats = world.assert_books_balance();
    assert_eq!(number(&stats["membership"]["registered"]), 0, "{stats:#}");
    assert!(number(&stats["directions"]["down"]["records_out"]) >= 8 * EACH, "{stats:#}");
    world.drain(gateway);
}
