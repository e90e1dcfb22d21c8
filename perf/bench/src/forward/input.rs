//! Input from the kernel: one thread that keeps the generator going.

use crate::forward::world::{MASTER_SIDE, World};
use crate::input::MASTER;
use ebpf::generate::{Generator, Pattern};
use port::headers::Local;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use wire::net::{UdpSpec, emit_udp4, udp_checksum};
use wire::record::{MsgType, RecordHeader, emit, req_id};

/// Bytes of payload in a record.
pub const PAYLOAD: usize = 64;
/// Bytes of a record.
pub const RECORD: usize = wire::HEADER_LEN + PAYLOAD;

/// Packets in one call: between two calls the kernel pauses for some 40 ms.
const AT_ONCE: u32 = 1 << 18;

/// The datagram with one record that the generator numbers.
pub fn record() -> Vec<u8> {
    let mut payload = [0x5a; PAYLOAD];
    // The complements of the number and the slave id; see `Generator::send`.
    payload[3..11].fill(0xff);
    let header = RecordHeader::new(MsgType::PATTERN, 0, req_id(MASTER, 0), PAYLOAD as u32);
    let mut bytes = vec![0; RECORD];
    emit(&header, &payload, &mut bytes).expect("room was made");
    bytes
}

/// The same as an Ethernet frame.
pub fn packet(from: &Local, to: &Local) -> Vec<u8> {
    let payload = record();
    let spec = UdpSpec {
        vlan: None,
        src_mac: from.mac,
        dst_mac: to.mac,
        src_ip: from.ip,
        dst_ip: to.ip,
        src_port: from.udp_port,
        dst_port: to.udp_port,
        ecn: 0,
        checksum: udp_checksum(from.ip, to.ip, from.udp_port, to.udp_port, &payload),
    };
    let mut frame = vec![0; crate::input::HEADERS];
    emit_udp4(&spec, payload.len(), &mut frame).expect("an IPv4 header fits");
    frame.extend(payload);
    frame
}

/// Puts the calling thread on a core.
///
/// # Errors
/// There is no such core for this process.
pub fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// A thread that sends as fast as it can, until it is dropped or stopped.
pub struct Input {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Input {
    /// Starts sending a packet from the master's interface, whose index this is.
    pub fn start(world: &World, ifindex: u32, packet: &[u8], pattern: Pattern, core: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, packet) = (Arc::clone(&stop), packet.to_vec());
        let body = move || {
            pin(core)?;
            let mut generator = Generator::load(ifindex, pattern)?;
            while !stopped.load(Ordering::Relaxed) {
                generator.send(&packet, AT_ONCE)?;
            }
            Ok(())
        };
        // A thread begins in the namespace of the one that starts it.
        let thread = world.up.enter(|| std::thread::spawn(body));
        Self { stop, thread: Some(thread) }
    }

    /// Stops sending.
    ///
    /// # Errors
    /// It could not send.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.join()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => anyhow::bail!("the generator of {MASTER_SIDE} panicked"),
            None => Ok(()),
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // Its result was taken, or the benchmark has failed already.
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::record::offset;

    #[test]
    fn the_numbers_that_the_kernel_writes_leave_the_checksum_right() {
        let (a, b) = (crate::input::MASTER_AT, crate::input::GATEWAY);
        let checksum = |payload: &[u8]| udp_checksum(a.ip, b.ip, a.udp_port, b.udp_port, payload);
        let template = record();
        for (id, number) in [(0u32, 1u32), (4099, 0xffff_ffff), (8191, 0x1234_5678)] {
            let mut bytes = template.clone();
            let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            put(offset::SLAVE_ID, id);
            put(offset::SLAVE_ID + 4, number);
            put(wire::HEADER_LEN + 3, !id);
            put(wire::HEADER_LEN + 7, !number);
            assert_eq!(checksum(&bytes), checksum(&template), "{id} {number}");
        }
    }
}
