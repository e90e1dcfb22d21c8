//! The areas of a local server.

use channel::message::{MOST_AREAS, MOST_EXTENTS, MessageBody, RefusedFor};
use channel::{AreaInfo, AreaName, AreaState, AreaUse, ChannelStatus};
use rustix::net::sockopt::socket_peercred;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of an extent, or why they are lost.
pub(super) type Content = Result<Vec<u64>, ChannelStatus>;

/// Extents by number. Numbers only grow, so this is the order in which they were allocated.
pub(super) type Held = BTreeMap<u64, Content>;

/// One area.
struct Kept {
    user: u32,
    /// The process that has it. It has the extents meanwhile, so that nobody else can say how many there are.
    pid: Option<u32>,
    /// While nobody has it.
    held: Held,
}

/// Process and user at the other end of a socket.
fn who(socket: &OwnedFd) -> (u32, u32) {
    let who = socket_peercred(socket);
    who.map_or((0, u32::MAX), |who| (who.pid.as_raw_pid().try_into().unwrap_or(0), who.uid.as_raw()))
}

/// All areas of a server.
#[derive(Default)]
pub(super) struct LocalAreas(Mutex<BTreeMap<AreaName, Kept>>);

impl LocalAreas {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<AreaName, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection wants an area, and gets its extents.
    pub(super) fn claim(&self, socket: &OwnedFd, name: &str, wanted: AreaUse) -> Result<(AreaName, Held), RefusedFor> {
        let name = AreaName::new(name)?;
        let (pid, user) = who(socket);
        let mut areas = self.locked();
        match (areas.get(&name), wanted) {
            (None, AreaUse::Existing) => return Err(RefusedFor::NO_SUCH_AREA),
            (Some(kept), _) if kept.user != user && user != 0 => return Err(RefusedFor::AREA_USER),
            (Some(_), AreaUse::New) => return Err(RefusedFor::AREA_EXISTS),
            (Some(kept), _) if kept.pid.is_some() => return Err(RefusedFor::AREA_IN_USE),
            _ => (),
        }
        let kept = areas.entry(name.clone()).or_insert_with(|| Kept { user, pid: None, held: Held::new() });
        kept.pid = Some(pid);
        Ok((name, std::mem::take(&mut kept.held)))
    }

    /// The connection that had an area has ended.
    pub(super) fn keep(&self, name: &AreaName, held: Held) {
        if let Some(kept) = self.locked().get_mut(name) {
            (kept.pid, kept.held) = (None, held);
        }
    }

    /// An area is to be none any more.
    pub(super) fn remove(&self, name: &AreaName) {
        self.locked().remove(name);
    }

    /// The bytes of an extent that nobody uses now are lost.
    pub(super) fn lose_kept(&self, number: u64, status: ChannelStatus) {
        let mut areas = self.locked();
        let content = areas.values_mut().find_map(|kept| kept.held.get_mut(&number));
        if let Some(content) = content.filter(|content| content.is_ok()) {
            *content = Err(status);
        }
    }

    /// Which areas there are.
    pub(super) fn list(&self, socket: &OwnedFd, after: &str) -> MessageBody {
        let (_, user) = who(socket);
        let areas = self.locked();
        let behind = areas.iter().filter(|(name, kept)| name.as_str() > after && (user == 0 || kept.user == user));
        let mut areas: Vec<AreaInfo> = behind
            .take(MOST_AREAS + 1)
            .map(|(name, kept)| AreaInfo {
                name: name.clone(),
                user: kept.user,
                state: if kept.pid.is_some() { AreaState::InUse } else { AreaState::Parked },
                pid: kept.pid.unwrap_or(0),
                extents: kept.held.len() as u32,
                lost: kept.held.values().filter(|content| content.is_err()).count() as u32,
            })
            .collect();
        let more = areas.len() > MOST_AREAS;
        areas.truncate(MOST_AREAS);
        MessageBody::AreaList { more, areas }
    }
}

/// Extents behind a number, with what is to be said of them before.
pub(super) fn page(held: &Held, from: u64) -> (Vec<MessageBody>, MessageBody) {
    let mut rest = held.range((Excluded(from), Unbounded));
    let page: Vec<_> = rest.by_ref().take(MOST_EXTENTS).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map_or(0, |(number, _)| **number);
    let lost = page.iter().filter_map(|(number, content)| Some((**number, content.as_ref().err()?.number())));
    let notices = lost.map(|(number, status)| MessageBody::Lost { status, extents: vec![number] }).collect();
    (notices, MessageBody::Listed { next, extents: page.iter().map(|(number, _)| **number).collect() })
}
