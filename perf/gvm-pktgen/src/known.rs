//! Which slaves are known behind which gateway, and the largest IP packet that each takes there.

use crate::check::Targets;
use wire::link::{Member, MemberState};
use wire::{Scale, UNPROVEN_MTU};

/// The slaves asked, as each uplink's gateway names them, and which uplink each shard's cargo goes to.
#[derive(Debug)]
pub struct Known {
    targets: Targets,
    scale: Scale,
    /// For each uplink, for each target; 0: not known there.
    mtus: Vec<Vec<u16>>,
    /// For each shard the uplink that its cargo goes to.
    serves: Vec<Option<usize>>,
    /// The packet that every record needs.
    need: u16,
    count: u32,
    fit: u32,
}

impl Known {
    /// Nobody is known, and no shard is served. `need` is the packet that every record needs, in bytes.
    pub fn new(targets: Targets, scale: Scale, uplinks: usize, need: u16) -> Self {
        Self {
            targets,
            scale,
            mtus: vec![vec![0; targets.count as usize]; uplinks],
            serves: vec![None; scale.shards() as usize],
            need,
            count: 0,
            fit: 0,
        }
    }

    /// Slaves asked that are known where their cargo goes.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Those among them that take the packet that every record needs.
    pub fn fit(&self) -> u32 {
        self.fit
    }

    /// The uplink that a shard's cargo goes to.
    #[inline]
    pub fn uplink(&self, shard: u32) -> Option<usize> {
        self.serves.get(shard as usize).copied().flatten()
    }

    /// A shard's cargo goes to this uplink from now on. Returns the one before.
    pub fn serve(&mut self, shard: u32, uplink: Option<usize>) -> Option<usize> {
        let slot = self.serves.get_mut(shard as usize)?;
        let was = std::mem::replace(slot, uplink);
        if was != uplink {
            self.recount();
        }
        was
    }

    /// A gateway names a slave.
    pub fn note(&mut self, uplink: usize, member: &Member) {
        let is = if member.state == MemberState::Gone { 0 } else { member.mtu.max(1) };
        let Some(target) = self.targets.index(member.id) else { return };
        let Some(mtu) = self.mtus.get_mut(uplink).and_then(|mtus| mtus.get_mut(target as usize)) else { return };
        let was = std::mem::replace(mtu, is);
        if self.uplink(member.id >> self.scale.gw_bits()) == Some(uplink) {
            self.count = self.count + u32::from(is > 0) - u32::from(was > 0);
            self.fit = self.fit + self.fits(is) - self.fits(was);
        }
    }

    /// The largest IP packet to a slave on the way that its cargo takes, in bytes; what everybody takes if it is not
    /// known.
    #[inline]
    pub fn mtu(&self, target: u32) -> u16 {
        match self.known_mtu(target) {
            0 => UNPROVEN_MTU,
            mtu => mtu,
        }
    }

    #[inline]
    fn known_mtu(&self, target: u32) -> u16 {
        let shard = (self.targets.first + target) >> self.scale.gw_bits();
        let mtus = self.uplink(shard).and_then(|uplink| self.mtus.get(uplink));
        mtus.and_then(|mtus| mtus.get(target as usize)).copied().unwrap_or(0)
    }

    fn fits(&self, mtu: u16) -> u32 {
        u32::from(mtu > 0 && mtu >= self.need)
    }

    fn recount(&mut self) {
        (self.count, self.fit) = (0, 0);
        for target in 0..self.targets.count {
            let mtu = self.known_mtu(target);
            self.count += u32::from(mtu > 0);
            self.fit += self.fits(mtu);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::link::SpeedClass;

    fn member(id: u32, state: MemberState, mtu: u16) -> Member {
        Member {
            id,
            state,
            mtu,
            vcpus: 0,
            speed_class: SpeedClass::UNKNOWN,
            domain: 0,
            epoch: 1,
            pages_total: 0,
            pages_free: 0,
        }
    }

    #[test]
    fn a_slave_is_known_where_its_cargo_goes() {
        let scale = Scale::new(4, 2).unwrap();
        let mut known = Known::new(Targets { first: 2, count: 4 }, scale, 2, 1400);
        known.note(0, &member(3, MemberState::Here, 1500));
        known.note(0, &member(4, MemberState::Here, 1280));
        known.note(1, &member(3, MemberState::Here, 1300));
        known.note(1, &member(9, MemberState::Here, 1300));
        assert_eq!((known.count(), known.fit(), known.mtu(1)), (0, 0, UNPROVEN_MTU));
        assert_eq!((known.serve(0, Some(0)), known.serve(1, Some(0))), (None, None));
        assert_eq!((known.count(), known.fit(), known.mtu(1), known.mtu(2)), (2, 1, 1500, 1280));
        assert_eq!(known.serve(0, Some(1)), Some(0));
        assert_eq!((known.count(), known.fit(), known.mtu(1)), (2, 0, 1300));
        known.note(1, &member(3, MemberState::Suspect, 1400));
        known.note(0, &member(3, MemberState::Gone, 1500));
        assert_eq!((known.count(), known.fit()), (2, 1));
        known.note(1, &member(3, MemberState::Gone, 1400));
        assert_eq!((known.count(), known.fit(), known.mtu(1)), (1, 0, UNPROVEN_MTU));
    }
}
