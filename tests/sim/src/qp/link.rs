//! One connection: its two flows, and how it ends and begins anew.

use super::flow::{BASE, Flow, Keys};
use super::plan::Plan;
use crate::rng::Rng;
use frame::Time;
use transport::{Access, Endpoint, PathId, Qpn, ReadyToReceive, ReadyToSend, Region};
use wire::rc::{Psn, RnrTimer};

type End = Endpoint<Vec<u8>>;

/// A connection between the two ends.
#[derive(Debug)]
pub struct Link {
    /// The queue pairs, by end.
    pub qpns: [Qpn; 2],
    /// Requests of each end to the other.
    pub flows: [Flow; 2],
    /// When each end saw that it failed.
    pub failed: [Option<Time>; 2],
    /// All is done.
    pub over: bool,
    /// When the next receive is posted, by the end that posts it.
    pub receive_at: [Time; 2],
    domain: u32,
    path: PathId,
    lives: u32,
}

fn register(end: &mut End, rng: &mut Rng, len: usize, access: Access, domain: u32) -> Result<(u32, Vec<u8>), String> {
    let mut bytes = vec![0; len];
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&rng.bits().to_le_bytes()[..chunk.len()]));
    let region = Region { base: BASE, len: len as u64, access, domain, memory: bytes.clone() };
    let key = end.register(rng.bits() as u32, region).map_err(|error| format!("no region: {error}"))?;
    Ok((key, bytes))
}

impl Link {
    /// A connection with its memory, connected.
    ///
    /// # Errors
    /// When an endpoint refuses.
    pub fn new(plan: &Plan, rng: &mut Rng, ends: &mut [End; 2], number: u32) -> Result<Self, String> {
        let domain = 1 + number;
        let mut flow = |from: usize| {
            let to = 1 - from;
            let all = Access::REMOTE_READ.and(Access::REMOTE_WRITE).and(Access::REMOTE_ATOMIC);
            let buffers = 2 * plan.longest.max(9 << 10) as usize;
            let (local, local_bytes) = register(&mut ends[from], rng, buffers, Access::LOCAL_WRITE, domain)?;
            let (area, area_bytes) = register(&mut ends[to], rng, plan.area as usize, all, domain)?;
            let receives = plan.receive as usize * plan.ahead;
            let (receives, receive_bytes) = register(&mut ends[to], rng, receives, Access::LOCAL_WRITE, domain)?;
            // Another protection domain: all operations are allowed there, but for others.
            let (private, _) = register(&mut ends[to], rng, plan.area as usize, Access::ALL, 1000 + domain)?;
            let keys = Keys { local, area, receives, private };
            Ok::<_, String>(Flow::new(plan, keys, plan.requests[from], area_bytes, local_bytes, receive_bytes))
        };
        let flows = [flow(0)?, flow(1)?];
        let path = PathId(number % plan.paths);
        let (qpns, failed, receive_at) = ([Qpn(0); 2], [None; 2], [0; 2]);
        let mut link = Self { qpns, flows, failed, over: false, receive_at, domain, path, lives: 0 };
        link.connect(plan, rng, ends)?;
        Ok(link)
    }

    fn connect(&mut self, plan: &Plan, rng: &mut Rng, ends: &mut [End; 2]) -> Result<(), String> {
        let refused = |error| format!("no connection: {error}");
        let mut qpns = [Qpn(0); 2];
        for (end, qpn) in ends.iter_mut().zip(&mut qpns) {
            *qpn = end.create(rng.bits() as u32, self.domain).map_err(refused)?;
            // Every other connection is urgent, at both ends.
            if self.domain.is_multiple_of(2) {
                end.make_urgent(*qpn).map_err(refused)?;
            }
            end.init(*qpn).map_err(refused)?;
        }
        let psns = if self.lives == 0 { plan.psns } else { [0, 1].map(|_| Psn::new(rng.bits() as u32)) };
        for (side, end) in ends.iter_mut().enumerate() {
            let receive = ReadyToReceive {
                path: self.path,
                peer: qpns[1 - side],
                psn: psns[1 - side],
                mtu: plan.mtu,
                read_depth: plan.read_depth,
                rnr_timer: RnrTimer::new(plan.rnr_timer),
            };
            end.ready_to_receive(qpns[side], &receive).map_err(refused)?;
        }
        for (side, end) in ends.iter_mut().enumerate() {
            let Plan { read_depth, timeout, retries, rnr_retries, .. } = *plan;
            let send = ReadyToSend { psn: psns[side], read_depth, timeout, retries, rnr_retries };
            end.ready_to_send(qpns[side], &send).map_err(refused)?;
        }
        (self.qpns, self.failed) = (qpns, [None; 2]);
        self.lives += 1;
        Ok(())
    }

    /// Whether nothing is outstanding and nothing more will be asked of this connection.
    pub fn is_quiet(&self) -> bool {
        let failed = self.failed.iter().any(Option::is_some);
        self.flows.iter().all(|flow| flow.asked.is_empty() && (failed || flow.left == 0))
    }

    /// Whether the responder of a flow may have failed for a cause of the plan.
    pub fn is_spoilt(&self) -> bool {
        self.flows.iter().any(|flow| flow.spoilt)
    }

    /// Checks the memory of both ends, now that nothing is outstanding.
    ///
    /// # Errors
    /// The fault.
    pub fn check(&self, plan: &Plan, ends: &[End; 2], number: usize) -> Result<(), String> {
        let failed = self.failed.iter().any(Option::is_some);
        for (from, flow) in self.flows.iter().enumerate() {
            let bytes = |end: usize, key| ends[end].region(key).map(|region| &region.memory).ok_or("a region is gone");
            let area = bytes(1 - from, flow.keys.area)?;
            let right = match (failed, area == &flow.area.predicted) {
                (false, true) => Ok(()),
                (false, false) => Err(area.iter().zip(&flow.area.predicted).position(|(a, b)| a != b).unwrap_or(0)),
                (true, _) => flow.area.check(area, plan.mtu.bytes() as usize),
            };
            right
                .map_err(|at| format!("connection {number}, requests of end {from}: wrong byte at {at} of the area"))?;
            if bytes(from, flow.keys.local)? != &flow.buffers {
                return Err(format!("connection {number}: buffers of end {from} were changed"));
            }
            if bytes(1 - from, flow.keys.receives)? != &flow.received {
                return Err(format!("connection {number}: receives of end {} were changed", 1 - from));
            }
        }
        Ok(())
    }

    /// Ends the queue pairs, and makes new ones if there is more to ask.
    ///
    /// # Errors
    /// When an endpoint refuses.
    pub fn renew(&mut self, now: Time, plan: &Plan, rng: &mut Rng, ends: &mut [End; 2]) -> Result<(), String> {
        for (end, &qpn) in ends.iter_mut().zip(&self.qpns) {
            end.destroy(now, qpn).map_err(|error| format!("it does not end: {error}"))?;
        }
        let more = self.flows.iter().any(|flow| flow.left > 0);
        self.over = !more || plan.starved.is_some() || self.lives >= MOST_LIVES;
        if self.over {
            return Ok(());
        }
        for (from, flow) in self.flows.iter_mut().enumerate() {
            let bytes = |end: usize, key| ends[end].region(key).map(|region| &region.memory).ok_or("a region is gone");
            let area = bytes(1 - from, flow.keys.area)?;
            flow.again(area, bytes(from, flow.keys.local)?, bytes(1 - from, flow.keys.receives)?);
        }
        self.connect(plan, rng, ends)
    }
}

/// How often a connection is made anew.
const MOST_LIVES: u32 = 4;
