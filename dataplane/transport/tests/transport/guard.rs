//! A region between guard pages, and a peer that writes to any address. Requests inside the region are done, and others
//! change nothing. One byte written outside would end the test with a signal.

use frame::{Guarded, Hugepages};
use proptest::prelude::*;
use transport::{
    Access, Arrival, Config, Endpoint, Local, PathId, Qpn, ReadyToReceive, ReadyToSend, Receive, Region, Room, Sink,
    State,
};
use wire::rc::packet::{self, header};
use wire::rc::{AtomicEth, Bth, IcrcSeed, Opcode, PathMtu, Psn, Reth, RnrTimer};

const LEN: u64 = 4096;

fn seed(len: usize) -> IcrcSeed {
    IcrcSeed::record(&wire::RecordHeader::new(wire::MsgType::RC, 17, 1 << 48, len as u32))
}

/// Takes packets and forgets them.
#[derive(Default)]
struct Nowhere(Vec<u8>);

impl Sink for Nowhere {
    fn open(&mut self, _: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        self.0.resize(len, 0);
        Some(Room { bytes: &mut self.0, seed: seed(len) })
    }

    fn close(&mut self) {}
}

/// One end with one region of one page between guard pages, at this virtual address.
struct Rig {
    endpoint: Endpoint<Guarded>,
    qpn: Qpn,
    key: u32,
    base: u64,
    psn: u32,
    model: Vec<u8>,
}

impl Rig {
    fn new(base: u64) -> Self {
        let mut endpoint = Endpoint::new(Config::default(), 0).unwrap();
        let memory = Guarded::new(LEN as usize, Hugepages::Never).unwrap();
        let region = Region { base, len: LEN, access: Access::ALL, domain: 1, memory };
        let key = endpoint.register(0x1357_9b00, region).unwrap();
        let qpn = endpoint.create(0x0012_3400, 1).unwrap();
        let mut rig = Self { endpoint, qpn, key, base, psn: 0, model: vec![0; LEN as usize] };
        rig.connect();
        rig
    }

    fn connect(&mut self) {
        self.endpoint.init(self.qpn).unwrap();
        let (psn, mtu, rnr_timer) = (Psn::new(0), PathMtu::B256, RnrTimer::new(1));
        let attributes = ReadyToReceive { path: PathId(0), peer: Qpn(9), psn, mtu, read_depth: 16, rnr_timer };
        self.endpoint.ready_to_receive(self.qpn, &attributes).unwrap();
        self.endpoint.ready_to_send(self.qpn, &ReadyToSend::usual(psn, 16)).unwrap();
        self.psn = 0;
    }

    fn packet(&mut self, opcode: Opcode, headers: &[u8], payload: &[u8]) {
        let bth = Bth::new(opcode, self.qpn.0, Psn::new(self.psn)).with_ack_request(true);
        let mut bytes = vec![0; packet::wire_len(opcode, payload.len())];
        packet::open(bth, [headers, &[]], payload.len(), &mut bytes).unwrap().payload.copy_from_slice(payload);
        seed(bytes.len()).seal(&mut bytes);
        let arrival = Arrival { path: PathId(0), ce: false, seed: seed(bytes.len()), bytes: &bytes };
        self.endpoint.receive(1000, &arrival);
        self.endpoint.transmit(1000, &mut Nowhere::default());
        while self.endpoint.poll().is_some() {}
        self.psn += 1;
    }

    /// The place in the model of a range of this many bytes, computed so that it cannot wrap.
    fn place(&self, address: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let start = u128::from(address).checked_sub(u128::from(self.base))?;
        let end = start + len as u128;
        (end <= u128::from(LEN)).then_some(start as usize..end as usize)
    }

    /// Makes one attempt at the endpoint and in the model.
    fn attempt(&mut self, attempt: &Attempt) {
        let Attempt { kind, address, len, said, byte } = *attempt;
        let payload = vec![byte; len];
        // A wrong length is refused, whatever the place.
        let said = if said { len as u32 } else { len as u32 + 1 };
        match kind {
            Kind::Write => {
                let reth = Reth::new(address, self.key, said);
                self.packet(Opcode::WRITE_ONLY, header(&reth), &payload);
                if let Some(place) = self.place(address, len)
                    && said as usize == len
                {
                    self.model[place].fill(byte);
                }
            }
            Kind::WriteInTwo => {
                let reth = Reth::new(address, self.key, 256 + said);
                self.packet(Opcode::WRITE_FIRST, header(&reth), &[byte; 256]);
                self.packet(Opcode::WRITE_LAST, &[], &payload);
                // The first packet's length decides about the whole message.
                if self.place(address, 256 + said as usize).is_some() && said > 0 {
                    let first = self.place(address, 256).unwrap();
                    self.model[first].fill(byte);
                    if said as usize == len && len > 0 {
                        let second = self.place(address.wrapping_add(256), len).unwrap();
                        self.model[second].fill(byte);
                    }
                }
            }
            Kind::Add => {
                let atomic = AtomicEth::new(address, self.key, u64::from(byte), 0);
                self.packet(Opcode::FETCH_ADD, header(&atomic), &[]);
                if let Some(place) = self.place(address, 8)
                    && address % 8 == 0
                {
                    let word = u64::from_le_bytes(self.model[place.clone()].try_into().unwrap());
                    self.model[place].copy_from_slice(&word.wrapping_add(byte.into()).to_le_bytes());
                }
            }
            Kind::Read => {
                let reth = Reth::new(address, self.key, said);
                self.packet(Opcode::READ_REQUEST, header(&reth), &[]);
                let packets = PathMtu::B256.packets(said);
                self.psn += packets - 1;
            }
            Kind::Send => {
                let local = Local { key: self.key, address, len: said };
                let posted = self.endpoint.post_receive(self.qpn, Receive { id: 1, local }).is_ok();
                let place = self.place(address, said as usize);
                assert_eq!(posted, place.is_some() || said == 0);
                if posted {
                    self.packet(Opcode::SEND_ONLY, &[], &payload);
                    if let Some(place) = self.place(address, len) {
                        self.model[place].fill(byte);
                    }
                }
            }
        }
        if self.endpoint.state(self.qpn) == Some(State::Error) {
            self.endpoint.reset(1000, self.qpn).unwrap();
            self.connect();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Write,
    WriteInTwo,
    Add,
    Read,
    Send,
}

#[derive(Clone, Debug)]
struct Attempt {
    kind: Kind,
    address: u64,
    len: usize,
    /// Whether the stated length is the length that comes.
    said: bool,
    byte: u8,
}

/// Addresses around both ends of the region, inside it, and anywhere.
fn attempts(base: u64) -> impl Strategy<Value = Vec<Attempt>> {
    let around = |at: u64| (-300i64..300).prop_map(move |off| at.wrapping_add_signed(off));
    let address = prop_oneof![
        4 => around(base),
        4 => around(base.wrapping_add(LEN)),
        2 => (0..LEN).prop_map(move |off| base.wrapping_add(off)),
        1 => any::<u64>(),
    ];
    let kind =
        prop_oneof![Just(Kind::Write), Just(Kind::WriteInTwo), Just(Kind::Add), Just(Kind::Read), Just(Kind::Send)];
    let aligned = (address, any::<bool>()).prop_map(|(address, aligned)| if aligned { address & !7 } else { address });
    let said = prop::bool::weighted(0.9);
    let attempt = (kind, aligned, 0usize..=256, said, any::<u8>())
        .prop_map(|(kind, address, len, said, byte)| Attempt { kind, address, len, said, byte });
    proptest::collection::vec(attempt, 1..20)
}

fn check(base: u64, attempts: &[Attempt]) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(base);
    for attempt in attempts {
        rig.attempt(attempt);
        let memory = &rig.endpoint.region(rig.key).unwrap().memory;
        prop_assert!(memory[..] == rig.model[..], "after {:?}", attempt);
    }
    prop_assert!(rig.endpoint.counters().balance());
    Ok(())
}

proptest! {
    #[test]
    fn a_responder_never_writes_outside_its_region(attempts in attempts(0x10_0000)) {
        check(0x10_0000, &attempts)?;
    }

    #[test]
    fn nor_where_addresses_begin(attempts in attempts(0)) {
        check(0, &attempts)?;
    }

    #[test]
    fn nor_where_addresses_end(attempts in attempts(u64::MAX - LEN)) {
        check(u64::MAX - LEN, &attempts)?;
    }
}
