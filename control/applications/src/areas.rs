//! The areas: which there are, whose they are, and who has them.

use channel::message::RefusedFor;
use channel::{AreaName, AreaState, AreaUse};
use master::{Attachment, ClientId};
use std::collections::BTreeMap;

/// The user that may use the areas of all others.
const ROOT: u32 = 0;

/// One area.
#[derive(Debug)]
pub(crate) struct Area {
    /// Its user.
    pub(crate) user: u32,
    /// The lcore whose master has its extents.
    pub(crate) lcore: usize,
    /// The client of the master that it is; `None` until it gets its first channel.
    pub(crate) client: Option<ClientId>,
    /// The connection that has it.
    pub(crate) connection: Option<u64>,
    /// The connection for which the lcore is attaching a channel. It may have ended meanwhile.
    pub(crate) attaching: Option<u64>,
    /// Requests of an earlier connection are under way.
    pub(crate) is_ending: bool,
    /// The channel of the connection that has it, until they have ended.
    pub(crate) waiting: Option<Box<Attachment>>,
}

impl Area {
    /// Whether somebody has it.
    pub(crate) fn state(&self) -> AreaState {
        match (self.connection, self.is_ending || self.attaching.is_some()) {
            (Some(_), _) => AreaState::InUse,
            (None, true) => AreaState::Ending,
            (None, false) => AreaState::Parked,
        }
    }
}

/// All areas.
#[derive(Debug, Default)]
pub(crate) struct Areas(BTreeMap<AreaName, Area>);

impl Areas {
    /// Whether a user gets an area for this use. The answer is its lcore, or `None` for an area that is to be made.
    pub(crate) fn judge(&self, name: &AreaName, wanted: AreaUse, user: u32) -> Result<Option<usize>, RefusedFor> {
        match (self.0.get(name), wanted) {
            // The kernel did not say who it is.
            _ if user == u32::MAX => Err(RefusedFor::PERMISSION),
            (None, AreaUse::Existing) => Err(RefusedFor::NO_SUCH_AREA),
            (None, _) => Ok(None),
            (Some(area), _) if area.user != user && user != ROOT => Err(RefusedFor::AREA_USER),
            (Some(_), AreaUse::New) => Err(RefusedFor::AREA_EXISTS),
            (Some(area), _) if area.connection.is_some() => Err(RefusedFor::AREA_IN_USE),
            (Some(area), _) => Ok(Some(area.lcore)),
        }
    }

    /// A connection has an area from now on. It has been judged.
    pub(crate) fn claim(&mut self, name: &AreaName, (user, lcore): (u32, usize), connection: u64) {
        let new =
            || Area { user, lcore, client: None, connection: None, attaching: None, is_ending: false, waiting: None };
        self.0.entry(name.clone()).or_insert_with(new).connection = Some(connection);
    }

    pub(crate) fn get_mut(&mut self, name: &AreaName) -> Option<&mut Area> {
        self.0.get_mut(name)
    }

    pub(crate) fn get(&self, name: &AreaName) -> Option<&Area> {
        self.0.get(name)
    }

    /// There is no such area any more.
    pub(crate) fn remove(&mut self, name: &AreaName) {
        self.0.remove(name);
    }

    /// The area for which a channel of this connection is being attached.
    pub(crate) fn attaching(&mut self, connection: u64) -> Option<(AreaName, &mut Area)> {
        let mut all = self.0.iter_mut();
        all.find(|(_, area)| area.attaching == Some(connection)).map(|(name, area)| (name.clone(), area))
    }

    /// How many are there that no connection has: they have places, too. Of one lcore, or of all.
    pub(crate) fn kept(&self, lcore: Option<usize>) -> usize {
        let is_kept = |area: &&Area| area.connection.is_none() && lcore.is_none_or(|lcore| lcore == area.lcore);
        self.0.values().filter(is_kept).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_for_its_user_and_root_and_for_one_connection() {
        let mut areas = Areas::default();
        let name = AreaName::new("a").unwrap();
        assert_eq!(areas.judge(&name, AreaUse::Existing, 7), Err(RefusedFor::NO_SUCH_AREA));
        assert_eq!((areas.judge(&name, AreaUse::Any, 7), areas.judge(&name, AreaUse::New, 7)), (Ok(None), Ok(None)));
        assert_eq!(areas.judge(&name, AreaUse::New, u32::MAX), Err(RefusedFor::PERMISSION));
        areas.claim(&name, (7, 3), 100);
        assert_eq!(areas.judge(&name, AreaUse::Any, 7), Err(RefusedFor::AREA_IN_USE));
        assert_eq!(areas.judge(&name, AreaUse::New, 7), Err(RefusedFor::AREA_EXISTS));
        for wanted in [AreaUse::Any, AreaUse::New, AreaUse::Existing] {
            assert_eq!(areas.judge(&name, wanted, 8), Err(RefusedFor::AREA_USER));
        }
        assert_eq!((areas.kept(None), areas.get(&name).unwrap().state()), (0, AreaState::InUse));
        areas.get_mut(&name).unwrap().connection = None;
        assert_eq!((areas.kept(None), areas.kept(Some(3)), areas.kept(Some(0))), (1, 1, 0));
        assert_eq!(areas.get(&name).unwrap().state(), AreaState::Parked);
        for user in [7, ROOT] {
            assert_eq!(areas.judge(&name, AreaUse::Existing, user), Ok(Some(3)));
        }
        // Its user stays, whoever uses it.
        areas.claim(&name, (ROOT, 0), 101);
        assert_eq!((areas.get(&name).unwrap().user, areas.get(&name).unwrap().lcore), (7, 3));
        areas.remove(&name);
        assert_eq!(areas.judge(&name, AreaUse::Any, 8), Ok(None));
    }
}
