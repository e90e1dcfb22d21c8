//! Packets for benchmarks: between one master and slaves in uniformly random order, from a fixed seed.

use frame::{Frame, Hugepages, Pool, PoolConfig};
use port::headers::Local;
use wire::Scale;
use wire::net::{UdpSpec, emit_udp4, udp_checksum};
use wire::record::{MsgType, RecordHeader, emit, req_id};

/// The id of the only master.
pub const MASTER: u16 = 1;

/// The gateway's address on the masters' side.
pub const GATEWAY: Local = Local { mac: [2, 0, 0, 0, 0, 1], ip: [10, 0, 0, 1], udp_port: 9999 };

/// The master's address.
pub const MASTER_AT: Local = Local { mac: [2, 0, 0, 0, 0, 2], ip: [10, 0, 0, 2], udp_port: 9999 };

/// The gateway's address on the slaves' side.
pub const SLAVE_SIDE: Local = Local { mac: [2, 0, 0, 0, 1, 1], ip: [10, 1, 0, 1], udp_port: 9999 };

/// The address of a slave.
pub fn slave_at(id: u32) -> Local {
    let [_, a, b, c] = id.to_be_bytes();
    Local { mac: [2, 0, 1, a, b, c], ip: [10, 2 + a, b, c], udp_port: 9999 }
}

/// Bytes of Ethernet, IPv4 and UDP headers.
pub const HEADERS: usize = 42;

/// A small generator of random numbers (SplitMix64): the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on nothing but the seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// Shape of the input.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Slaves that get records.
    pub slaves: u32,
    /// Payload bytes of a record.
    pub payload: usize,
    /// Records in an input datagram.
    pub records: usize,
    /// Datagrams before the input repeats itself.
    pub packets: usize,
    /// Whether the slaves send to the master, and not the master to them; a datagram is then of one slave.
    pub up: bool,
    /// Whether packets lie in chunks in random order, as those of a NIC do, and not one behind the other.
    pub scattered: bool,
}

/// The destinations of all records, datagram after datagram: uniformly random, but those of one datagram are of one
/// shard, as the wire format demands.
pub fn order(shape: &Shape) -> Vec<u32> {
    let mut random = Random::new(1);
    let shard = Scale::default().slaves_per_gateway();
    if shape.up {
        let ids = (0..shape.packets).map(|_| random.below(shape.slaves));
        return ids.flat_map(|id| std::iter::repeat_n(id, shape.records)).collect();
    }
    if shape.records == 1 || shape.slaves <= shard {
        return (0..shape.packets * shape.records).map(|_| random.below(shape.slaves)).collect();
    }
    let mut order = Vec::with_capacity(shape.packets * shape.records);
    for _ in 0..shape.packets {
        let first = random.below(shape.slaves) / shard * shard;
        let most = shard.min(shape.slaves - first);
        order.extend((0..shape.records).map(|_| first + random.below(most)));
    }
    order
}

/// The input as Ethernet frames.
pub fn packets(shape: &Shape) -> Vec<Vec<u8>> {
    let (mut number, up) = (0, shape.up);
    order(shape)
        .chunks(shape.records)
        .map(|ids| {
            let mut datagram = Vec::with_capacity(HEADERS + ids.len() * (wire::HEADER_LEN + shape.payload));
            datagram.resize(HEADERS, 0);
            for &id in ids {
                let at = datagram.len();
                datagram.resize(at + wire::HEADER_LEN + shape.payload, 0);
                let header = RecordHeader::new(MsgType::PATTERN, id, req_id(MASTER, number), shape.payload as u32);
                emit(&header, &vec![number as u8; shape.payload], &mut datagram[at..]).expect("room was made");
                number += 1;
            }
            let (head, payload) = datagram.split_at_mut(HEADERS);
            let from = if up { slave_at(ids[0]) } else { MASTER_AT };
            let to = if up { SLAVE_SIDE } else { GATEWAY };
            let checksum = udp_checksum(from.ip, to.ip, from.udp_port, to.udp_port, payload);
            let spec = UdpSpec {
                vlan: None,
                src_mac: from.mac,
                dst_mac: to.mac,
                src_ip: from.ip,
                dst_ip: to.ip,
                src_port: from.udp_port,
                dst_port: to.udp_port,
                ecn: 0,
                checksum,
            };
            emit_udp4(&spec, payload.len(), head).expect("an IPv4 header fits");
            datagram
        })
        .collect()
}

/// A pool of `frames` chunks that the benchmark needs, on hugepages if there are any.
///
/// # Errors
/// The machine has no memory for the pool, or `chunk` is not a size that a frame can have.
pub fn pool(frames: u32, chunk: u32) -> anyhow::Result<Pool> {
    Ok(Pool::new(PoolConfig { frames, chunk, hugepages: Hugepages::Prefer, reserve: 0 })?)
}

/// Bytes of the chunks for these packets: too few for a received frame to become a buffer, if packets are small.
pub fn chunk(packets: &[Vec<u8>]) -> u32 {
    let longest = packets.iter().map(Vec::len).max().unwrap_or(0);
    (longest + 320).next_multiple_of(64).max(512) as u32
}

/// Brings the free chunks of a pool into the order in which packets will take them: in turn, or scattered, which is
/// the same random order for each pool of this size. Returns the number of each packet's chunk.
pub fn arrange(pool: &Pool, scattered: bool) -> Vec<u32> {
    let mut frames: Vec<_> = std::iter::from_fn(|| pool.alloc_reserved()).collect();
    if scattered {
        let mut random = Random::new(2);
        for last in (1..frames.len()).rev() {
            frames.swap(last, random.below(last as u32 + 1) as usize);
        }
    }
    let chunks = frames.iter().map(Frame::index).collect();
    // The chunk that comes back last goes out first.
    frames.into_iter().rev().for_each(drop);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_lie_in_turn_or_scattered() {
        for scattered in [false, true] {
            let pool = pool(256, 512).unwrap();
            let chunks = arrange(&pool, scattered);
            let taken: Vec<_> = std::iter::from_fn(|| pool.alloc_reserved()).collect();
            assert!(taken.iter().map(Frame::index).eq(chunks.iter().copied()), "the order in which they are taken");
            assert_eq!((chunks.len(), chunks.is_sorted()), (256, !scattered), "all of them");
        }
    }

    #[test]
    fn the_records_of_a_datagram_are_of_one_shard_and_all_shards_come() {
        let shape = Shape { slaves: 131_072, payload: 64, records: 16, packets: 1_000, up: false, scattered: false };
        let order = order(&shape);
        let scale = Scale::default();
        let shard = |id: &u32| scale.shard(scale.slave_id(*id).expect("an id in range"));
        assert!(order.chunks(16).all(|ids| ids.iter().all(|id| shard(id) == shard(&ids[0]))));
        let shards: std::collections::HashSet<_> = order.iter().map(|id| shard(id).0).collect();
        assert_eq!((order.len(), shards.len()), (16_000, 16));
    }
}
