//! Next hops from the kernel's tables. They are found, asked for on the wire, and followed when they change.

use netns::product::until;
use netns::{End, Namespace, join};
use port::neighbour::{NextHops, Resolver};
use port::xdp::Interface;

#[test]
fn a_next_hop_is_found_through_a_router_and_followed_when_it_changes() {
    if !netns::available() {
        return;
    }
    let (here, there) = (Namespace::new(), Namespace::new());
    let near = End { namespace: &here, name: "near", address: "10.93.1.1/24" };
    let far = End { namespace: &there, name: "far", address: "10.93.1.2/24" };
    join(&near, &far, 1);
    let mac = || there.enter(|| Interface::find("far").unwrap().mac);
    here.enter(|| {
        let index = Interface::find("near").unwrap().index;
        let resolver = Resolver::start(index, || Ok(())).unwrap();
        let mut neighbours = resolver.neighbours();
        // The kernel does not know this neighbour yet, and asks on the wire.
        let found = |neighbours: &mut port::neighbour::Neighbours, ip, mac| {
            until("the next hop", || (neighbours.lookup(0, ip).map(|hop| hop.mac) == Some(mac)).then_some(()));
        };
        found(&mut neighbours, [10, 93, 1, 2], mac());
        // An address behind a router that is known already, and a look-up by another poll loop.
        here.ip("route add 10.94.0.0/16 via 10.93.1.2");
        let mut other = resolver.neighbours();
        found(&mut other, [10, 94, 7, 7], mac());
        // The host has another card now. The kernel replaces the old one.
        there.ip("link set dev far address 02:00:00:00:77:01");
        assert_ne!(neighbours.lookup(0, [10, 93, 1, 2]).map(|hop| hop.mac), Some(mac()));
        here.forget_neighbours("near");
        for neighbours in [&mut neighbours, &mut other] {
            found(neighbours, [10, 93, 1, 2], [2, 0, 0, 0, 0x77, 1]);
            found(neighbours, [10, 94, 7, 7], [2, 0, 0, 0, 0x77, 1]);
        }
        // Nobody has that address.
        assert_eq!(neighbours.lookup(0, [10, 93, 1, 99]), None);
        here.ip("link delete dev near");
        until("the end of all knowledge", || neighbours.lookup(0, [10, 93, 1, 2]).is_none().then_some(()));
    });
}
