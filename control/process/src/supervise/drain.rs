//! Draining: hand over everything that is held, lose nothing, exit 0. Each stage has a time limit, also the end of the
//! lcores.

use crate::assemble::devices::Devices;
use crate::ending;
use api::stats::Direction;
use common::exit::Failure;
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use lcore::thread::{End, LcoreHandle};
use serve::board::Board;
use std::collections::BTreeSet;
use std::time::Duration;

/// Under load NIC queues never become empty. After this time the XDP program leaves packets to the kernel. The packets
/// that are then in the rings are the last ones, and are received.
const TAKE_FOR: u64 = SECOND - 200 * MILLISECOND;

/// Under load a role never becomes idle. After this time nothing is received any more, and what is held leaves.
const RECEIVE_FOR: u64 = SECOND;

/// After this time something is stuck (a link that is down, a port that does not accept packets), and the process ends
/// with what it still holds.
const GIVE_UP_AFTER: u64 = 5 * SECOND;

/// An lcore that was told to end does so after its poll. If it has not ended after this time, it is in a call of its
/// port that does not return: the process ends without it.
const LEAVE_AFTER: u64 = 2 * SECOND;

/// The sum of the limits above, the 5.5 seconds of `gateway::leave` before them, and a reserve for a busy machine.
const DRAIN_WITHIN: Duration = Duration::from_secs(16);

/// How often it is checked whether nodes have moved and cargo still comes.
pub(super) const LOOK: u64 = 10 * MILLISECOND;

/// A drain in progress.
pub(super) struct Drain {
    /// When held records began to leave; before that nodes move.
    began: Option<Time>,
    takes: bool,
    /// When lcores were told to end at once.
    hurried: Option<Time>,
}

impl Drain {
    /// A drain that begins now. `longer` is how long the role may take in addition before held records leave, in
    /// nanoseconds.
    pub(super) fn begin(longer: Time) -> Self {
        let late = "the control thread does not come back from a call while it drains: ended without having drained; \
            what it held \
                    is lost";
        ending::step(DRAIN_WITHIN.saturating_add(Duration::from_nanos(longer)), &Failure::Lost(late.to_owned()));
        Self { began: None, takes: true, hurried: None }
    }

    /// Whether nodes are still moving, or masters still have memory.
    pub(super) fn is_moving(&self) -> bool {
        self.began.is_none()
    }

    /// From now on held records leave.
    pub(super) fn flush(&mut self, now: Time) {
        self.began.get_or_insert(now);
    }

    /// Does what is due at this time. Doing it twice changes nothing.
    pub(super) fn advance(&mut self, now: Time, lcores: &[LcoreHandle], devices: &Devices) {
        let Some(began) = self.began else { return };
        let age = now.saturating_sub(began);
        if age >= TAKE_FOR && std::mem::replace(&mut self.takes, false) {
            for nic in &devices.nics {
                if let Err(failure) = nic.leave_packets() {
                    tracing::warn!("packets still arrive while draining: {failure}");
                }
            }
        }
        if age >= GIVE_UP_AFTER {
            self.hurry(now, lcores);
        } else if age >= RECEIVE_FOR {
            lcores.iter().for_each(LcoreHandle::stop_receiving);
        }
    }

    /// Ends at once.
    pub(super) fn hurry(&mut self, now: Time, lcores: &[LcoreHandle]) {
        self.hurried.get_or_insert(now);
        lcores.iter().for_each(LcoreHandle::stop);
    }

    /// Whether lcores that have not ended by now will never end.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.hurried.is_some_and(|since| now.saturating_sub(since) >= LEAVE_AFTER)
    }
}

/// The message about an lcore that does not end.
fn stands(lcore: &LcoreHandle) -> String {
    let view = lcore.view();
    let (index, stage) = (view.index, view.pulse.stage());
    let port = view.ports.iter().find(|port| Some(port.id) == stage.port());
    let port = port.map_or_else(String::new, |port| format!(" ({})", port.about.describe()));
    format!("lcore {index} does not come back {stage}{port}")
}

/// Leaves the lcores behind that have not ended, and the devices that they may still use. The error names them.
fn leave(lcores: Vec<LcoreHandle>, ended: &BTreeSet<u16>, devices: &Devices) -> Result<Vec<LcoreHandle>, Failure> {
    let (lcores, stuck): (Vec<_>, Vec<_>) = lcores.into_iter().partition(|lcore| ended.contains(&lcore.view().index));
    if stuck.is_empty() {
        return Ok(lcores);
    }
    let all: Vec<String> = stuck.iter().map(stands).collect();
    devices.dpdk.iter().for_each(|device| device.leave_open());
    ending::leave_threads();
    stuck.into_iter().for_each(LcoreHandle::leave);
    Err(Failure::Lost(format!(
        "ended without having drained: {}, and the process ends without it: what it held is lost. A driver or the \
         kernel keeps it \
         waiting: `dmesg` may say why; a device that is still in use at the next start needs its driver bound again \
         (dpdk-devbind.py), or the machine restarted",
        all.join(", ")
    )))
}

/// The result for the process from the ends of all lcores. Lcores that have not ended are left behind.
pub(super) fn verdict(lcores: Vec<LcoreHandle>, ended: &BTreeSet<u16>, devices: &Devices) -> Result<(), Failure> {
    let lcores = leave(lcores, ended, devices)?;
    let (mut held, mut queued) = (0, 0);
    let mut panic = None;
    for (index, lcore) in lcores.into_iter().enumerate() {
        match lcore.join() {
            End::Drained => {}
            End::Stopped { role_frames, outbox_frames } => {
                held += role_frames;
                queued += outbox_frames;
            }
            End::Panicked { stage, message } => {
                panic = Some(Failure::Internal(format!("lcore {index} panicked {stage}: {message}")));
            }
        }
    }
    match panic {
        Some(failure) => Err(failure),
        None if held + queued > 0 => Err(Failure::Lost(format!(
            "ended without having drained: {held} aggregation buffers and {queued} datagrams are lost; look at the \
             ports' tx counters for why they could not leave"
        ))),
        None => Ok(()),
    }
}

/// Checks the final accounts: nothing moves any more, so every record that came in must be accounted for.
pub(super) fn balance(board: &Board) -> Result<(), Failure> {
    let stats = board.stats(None);
    for (name, direction) in &stats.directions {
        let Direction { records_in, records_out, held, consumed, unaccounted, .. } = direction;
        let dropped: u64 = direction.dropped.values().sum();
        tracing::info!(
            "{name}: {records_in} records in, {records_out} out, {dropped} dropped for reasons in the stats"
        );
        if *unaccounted != 0 || *held != 0 {
            return Err(Failure::Internal(format!(
                "after draining the records {name} do not add up: {records_in} in, {records_out} out, {held} held, \
                 {consumed} consumed, {dropped} dropped"
            )));
        }
    }
    tracing::info!("drained: nothing was lost");
    Ok(())
}
