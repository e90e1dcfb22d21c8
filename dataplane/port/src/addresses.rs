//! The addresses that a raw port answers to and sends from. They may change while its queues are in use.
//!
//! Each address has a place in a small table and keeps it while the address exists. A [`frame::Peer`] refers to the
//! place, so that an answer leaves from the address that was asked. A poll loop has a copy of the table, and checks
//! with one load whether there is a newer one.

use crate::claims::Claims;
use crate::headers::{Local, Reader, Refused, Verify};
use crate::source::Filter;
use crate::vlans::Vlans;
use frame::{Burst, Frame, Peer, PortId};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use wire::net::ethernet::MacText;

/// The most addresses of one interface that are used.
pub const MAX_ADDRESSES: usize = 8;

/// A reader for each of an interface's addresses, by the address's number; that of number 0 is for the first address,
/// and reads only packets that are for no address of ours, to count why they are refused.
#[derive(Clone, Debug)]
pub struct AddressReaders {
    readers: [Option<Reader>; MAX_ADDRESSES + 1],
    /// The number of the address that the last packet was for, not 0. Most packets are for the same one, and a reader
    /// compares the address with the other headers.
    current: usize,
}

impl AddressReaders {
    /// [`Reader::usual_into`], for a packet to the same address as the last one.
    ///
    /// # Errors
    /// The frame itself comes back, unchanged, when its packet is not usual, not right, or for another address.
    #[inline(always)]
    pub fn usual_into(&mut self, frame: Frame, burst: &mut Burst) -> Result<usize, Frame> {
        match self.readers.get_mut(self.current) {
            Some(Some(reader)) => reader.usual_into(frame, burst),
            _ => Err(frame),
        }
    }

    /// [`Reader::receive_into`], for any packet. `addresses` are those that the readers were made of.
    ///
    /// # Errors
    /// See there. A packet for none of our addresses is for the reader of the first one, which says why it is refused.
    #[inline(never)]
    pub fn receive_into(&mut self, frame: Frame, addresses: &Addresses, burst: &mut Burst) -> Result<usize, Refused> {
        let asked = usize::from(addresses.asked(frame.data()));
        if asked != 0 {
            self.current = asked;
        }
        match self.readers.get_mut(asked) {
            Some(Some(reader)) => reader.receive_into(frame, burst),
            _ => Err(Refused::NotOurs),
        }
    }
}

/// An interface's Ethernet address and IPv4 addresses at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressTable {
    mac: [u8; 6],
    places: [Option<[u8; 4]>; MAX_ADDRESSES],
    /// The place of the interface's first address.
    first: usize,
}

impl AddressTable {
    /// A table of these addresses, in this order; those beyond [`MAX_ADDRESSES`] are left out.
    pub fn new(mac: [u8; 6], addresses: &[[u8; 4]]) -> Self {
        let mut table = Self { mac, places: [None; MAX_ADDRESSES], first: 0 };
        table.update(mac, addresses);
        table
    }

    /// Takes over the present addresses of the interface. Returns whether anything has changed.
    pub fn update(&mut self, mac: [u8; 6], addresses: &[[u8; 4]]) -> bool {
        let before = self.clone();
        self.mac = mac;
        let used = addresses.get(..MAX_ADDRESSES).unwrap_or(addresses);
        for place in &mut self.places {
            place.take_if(|address| !used.contains(address));
        }
        for address in used {
            if !self.places.contains(&Some(*address))
                && let Some(free) = self.places.iter_mut().find(|place| place.is_none())
            {
                *free = Some(*address);
            }
        }
        self.first = used.first().and_then(|first| self.place_of(*first)).unwrap_or(0);
        *self != before
    }

    fn place_of(&self, address: [u8; 4]) -> Option<usize> {
        self.places.iter().position(|place| *place == Some(address))
    }

    /// The Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The IPv4 addresses, the interface's first one first.
    pub fn ipv4(&self) -> impl Iterator<Item = [u8; 4]> {
        let first = self.places.get(self.first).copied().flatten();
        let others = self.places.iter().enumerate().filter(|(place, _)| *place != self.first);
        first.into_iter().chain(others.filter_map(|(_, address)| *address))
    }
}

impl fmt::Display for AddressTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MacText(self.mac).fmt(f)?;
        self.ipv4().try_for_each(|address| write!(f, " {}", Ipv4Addr::from(address)))
    }
}

/// The table, as the thread that follows the interface publishes it to poll loops.
pub(crate) struct Shown {
    /// Grows whenever the table changes.
    generation: AtomicU64,
    table: Mutex<AddressTable>,
}

impl Shown {
    pub(crate) fn new(table: AddressTable) -> Arc<Self> {
        Arc::new(Self { generation: AtomicU64::new(1), table: Mutex::new(table) })
    }

    pub(crate) fn show(&self, table: &AddressTable) {
        // Valid even if its last owner panicked: each change is one assignment.
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table.clone();
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn table(&self) -> AddressTable {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One poll loop's copy of an interface's addresses.
#[derive(Clone)]
pub struct Addresses {
    shown: Arc<Shown>,
    generation: u64,
    udp_port: u16,
    /// Entry 0 is the first address; the others are the places. `None` where there is not an address.
    locals: [Option<Local>; MAX_ADDRESSES + 1],
}

impl Addresses {
    pub(crate) fn new(shown: Arc<Shown>, udp_port: u16) -> Self {
        let mut addresses = Self { shown, generation: 0, udp_port, locals: [None; MAX_ADDRESSES + 1] };
        addresses.refresh();
        addresses
    }

    /// Addresses that never change, in this order; those beyond [`MAX_ADDRESSES`] are left out.
    pub fn fixed(mac: [u8; 6], addresses: &[[u8; 4]], udp_port: u16) -> Self {
        Self::new(Shown::new(AddressTable::new(mac, addresses)), udp_port)
    }

    /// Takes over a newer table; `false` if there is none.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        self.generation != self.shown.generation.load(Ordering::Acquire) && self.reload()
    }

    /// A poll loop waits for no lock: if the lock is held, the next refresh tries again.
    #[cold]
    fn reload(&mut self) -> bool {
        let Ok(table) = self.shown.table.try_lock() else { return false };
        self.generation = self.shown.generation.load(Ordering::Acquire);
        let local = |ip: [u8; 4]| Local { mac: table.mac, ip, udp_port: self.udp_port };
        let first = table.places.get(table.first).copied().flatten();
        for (entry, address) in self.locals.iter_mut().zip(std::iter::once(&first).chain(&table.places)) {
            *entry = address.map(local);
        }
        true
    }

    /// A reader for each address that takes packets of these VLANs. The readers take what is claimed, too.
    pub fn readers(&self, port: PortId, verify: Verify, vlans: &Arc<Vlans>, claims: &Claims) -> AddressReaders {
        let own: Vec<[u8; 4]> = self.locals.iter().skip(1).flatten().map(|local| local.ip).collect();
        let filter = Filter::new(vlans, &own);
        let readers = std::array::from_fn(|number| {
            let local = self.locals.get(number)?.as_ref()?;
            let reader = Reader::new(port, local, verify).of_address(number as u8).filtering(&filter);
            Some(reader.claiming(claims))
        });
        AddressReaders { readers, current: 1 }
    }

    /// The number of the address that a received frame is for, as in [`frame::Peer::local`]; 0 when it is for none.
    #[inline]
    pub fn asked(&self, frame: &[u8]) -> u8 {
        // Sixteen bytes of the IPv4 header after the Ethernet header, with or without a tag.
        let at = if frame.get(12..14) == Some(&[0x81, 0]) { 34 } else { 30 };
        match frame.get(at..).and_then(<[u8]>::first_chunk) {
            Some(ip) => self.number(*ip),
            None => 0,
        }
    }

    /// The number of an address; 0 when it is not ours.
    #[inline]
    pub fn number(&self, ip: [u8; 4]) -> u8 {
        let is = |local: &Option<Local>| local.as_ref().is_some_and(|local| local.ip == ip);
        self.locals.iter().skip(1).position(is).map_or(0, |place| place as u8 + 1)
    }

    /// The address with this number, or the first one when that number has none (any more); `None` when there is no
    /// address at all. The number may have [`frame::Peer::ROCE`] set.
    #[inline]
    pub fn get(&self, number: u8) -> Option<&Local> {
        let local = self.locals.get(usize::from(number & !Peer::ROCE)).and_then(Option::as_ref);
        local.or_else(|| self.locals.first()?.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers;
    use frame::{Class, Datagram, Hugepages, Pool, PoolConfig, Vlan};
    use std::net::IpAddr;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn ip(last: u8) -> [u8; 4] {
        [192, 0, 2, last]
    }

    #[test]
    fn an_address_keeps_its_place_while_it_is_there() {
        let shown = Shown::new(AddressTable::new(MAC, &[ip(1), ip(2), ip(3)]));
        let mut ours = Addresses::new(Arc::clone(&shown), 9999);
        assert_eq!([1, 2, 3, 4].map(|last| ours.number(ip(last))), [1, 2, 3, 0]);
        let mut table = shown.table();
        assert!(!table.update(MAC, &[ip(1), ip(2), ip(3)]));
        assert!(table.update([7; 6], &[ip(3), ip(4), ip(2)]));
        shown.show(&table);
        assert_eq!(ours.number(ip(1)), 1, "seen only after a refresh");
        ours.refresh();
        assert_eq!([1, 2, 3, 4].map(|last| ours.number(ip(last))), [0, 2, 3, 1]);
        // Now the third address is the interface's first: datagrams without a number, or with an unused one, leave from
        // it.
        let from = |number| ours.get(number).map(|local| (local.mac, local.ip, local.udp_port));
        assert_eq!([from(0), from(5), from(200)], [Some(([7; 6], ip(3), 9999)); 3]);
        assert_eq!([from(1), from(1 | Peer::ROCE)], [Some(([7; 6], ip(4), 9999)); 2]);
        assert_eq!(table.to_string(), "07:07:07:07:07:07 192.0.2.3 192.0.2.4 192.0.2.2");
        assert!(table.update([7; 6], &[]));
        shown.show(&table);
        ours.refresh();
        assert!((0..=9).all(|number| ours.get(number).is_none()) && ours.number(ip(3)) == 0);
    }

    #[test]
    fn there_is_room_for_so_many_and_twice_the_same_is_one() {
        let all: Vec<_> = (0..20).map(ip).collect();
        let table = AddressTable::new(MAC, &all);
        assert_eq!(table.ipv4().collect::<Vec<_>>(), all[..MAX_ADDRESSES]);
        assert_eq!(AddressTable::new(MAC, &[ip(1), ip(1)]).ipv4().count(), 1);
    }

    #[test]
    fn each_packet_is_read_for_the_address_that_it_asks() {
        let pool = Pool::new(PoolConfig { frames: 64, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let packet = |to: [u8; 4]| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"payload"));
            let peer = Peer::ipv4(PortId(0), to, 9999, Vlan::UNTAGGED, MAC);
            let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
            let local = Local { mac: [2, 0, 0, 0, 0, 9], ip: ip(9), udp_port: 5 };
            headers::write(&mut datagram, &local).unwrap();
            datagram.frame
        };
        let ours = Addresses::new(Shown::new(AddressTable::new(MAC, &[ip(1), ip(2), ip(3)])), 9999);
        let mut readers = ours.readers(PortId(4), Verify::Software, &Arc::new(Vlans::UNTAGGED), &Claims::default());
        let mut burst = Burst::new();
        // Number 4 is none of ours; after it the reader of the address before it goes on.
        for (number, usual) in
            [(1, true), (1, true), (3, false), (3, true), (4, false), (3, true), (2, false), (1, false)]
        {
            let result = readers.usual_into(packet(ip(number)), &mut burst);
            assert_eq!(result.is_ok(), usual, "{number}");
            let result = result.or_else(|frame| readers.receive_into(frame, &ours, &mut burst));
            assert_eq!(result, if number == 4 { Err(Refused::NotOurs) } else { Ok(7) }, "{number}");
        }
        let numbers: Vec<_> = (0..burst.len()).map(|at| (burst.peer(at).local, burst.peer(at).ip())).collect();
        assert_eq!(numbers, [1, 1, 3, 3, 3, 2, 1].map(|number| (number, IpAddr::from(ip(9)))));
        // A port without an address takes nothing.
        let ours = Addresses::new(Shown::new(AddressTable::new(MAC, &[])), 9999);
        let mut readers = ours.readers(PortId(4), Verify::Software, &Arc::new(Vlans::UNTAGGED), &Claims::default());
        let frame = readers.usual_into(packet(ip(1)), &mut burst).unwrap_err();
        assert_eq!(readers.receive_into(frame, &ours, &mut burst), Err(Refused::NotOurs));
        burst.clear();
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn the_address_that_was_asked_is_found_behind_a_tag_too() {
        let ours = Addresses::new(Shown::new(AddressTable::new(MAC, &[ip(1), ip(2)])), 9999);
        let mut frame = [0; 60];
        frame[30..34].copy_from_slice(&ip(2));
        assert_eq!(ours.asked(&frame), 2);
        assert_eq!(ours.asked(&frame[..33]), 0);
        frame[12..14].copy_from_slice(&[0x81, 0]);
        assert_eq!(ours.asked(&frame), 0);
        frame[34..38].copy_from_slice(&ip(1));
        assert_eq!(ours.asked(&frame), 1);
    }
}
