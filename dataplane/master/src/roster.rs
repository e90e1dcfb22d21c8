//! The slaves that gateways name, as the master sees them through all its gateways.

use frame::{Table, TableError};
use wire::Scale;
use wire::link::{Member, MemberState};

const NONE: u32 = u32::MAX;

/// A slave that at least one gateway names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownSlave {
    /// As the gateway named it that named it last.
    pub(crate) member: Member,
    /// Its epoch before: a gateway that has not heard of the restart yet still names that one.
    before: u64,
    /// Bit `i`: gateway `i` names it.
    gateways: u16,
}

impl KnownSlave {
    /// Whether a gateway names it.
    pub(crate) fn is_behind(&self, gateway: usize) -> bool {
        self.gateways & 1 << gateway != 0
    }

    /// What fails together with it: its failure domain, or itself if that is unknown.
    pub(crate) fn domain(&self) -> u64 {
        match self.member.domain {
            0 => 1 << 32 | u64::from(self.member.id),
            domain => domain.into(),
        }
    }
}

/// What a change in MEMBERS means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlaveNews {
    /// Nothing that ends a lease.
    Nothing,
    /// The slave has started again. Nothing of its earlier boot is left.
    Restarted,
    /// No gateway names it any more.
    Gone,
}

/// All slaves that gateways name.
pub(crate) struct Roster {
    list: Vec<KnownSlave>,
    /// For each slave id, where in the list it is.
    places: Table<u32>,
}

impl Roster {
    /// An empty roster: 4 bytes for each id of the scale.
    pub(crate) fn new(scale: Scale) -> Result<Self, TableError> {
        Ok(Self { list: Vec::new(), places: Table::new(1 << scale.slave_bits(), |_| NONE)? })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// One of them, by a number below [`len`](Self::len).
    pub(crate) fn at(&self, number: usize) -> Option<&KnownSlave> {
        self.list.get(number)
    }

    pub(crate) fn get(&self, slave: u32) -> Option<&KnownSlave> {
        self.list.get(*self.places.get(slave as usize)? as usize)
    }

    /// A gateway names a slave, or says that it is gone.
    pub(crate) fn change(&mut self, gateway: usize, member: &Member) -> SlaveNews {
        let Some(place) = self.places.get_mut(member.id as usize) else { return SlaveNews::Nothing };
        let bit = 1 << gateway;
        let is_here = member.state != MemberState::Gone;
        let Some(known) = self.list.get_mut(*place as usize) else {
            if is_here {
                *place = self.list.len() as u32;
                self.list.push(KnownSlave { member: *member, before: member.epoch, gateways: bit });
            }
            return SlaveNews::Nothing;
        };
        if !is_here {
            known.gateways &= !bit;
            if known.gateways != 0 {
                return SlaveNews::Nothing;
            }
            self.remove(member.id);
            return SlaveNews::Gone;
        }
        known.gateways |= bit;
        let epoch = known.member.epoch;
        if member.epoch == epoch {
            known.member = *member;
            return SlaveNews::Nothing;
        }
        if member.epoch == known.before {
            return SlaveNews::Nothing;
        }
        (known.member, known.before) = (*member, epoch);
        SlaveNews::Restarted
    }

    fn remove(&mut self, slave: u32) {
        let Some(place) = self.places.get_mut(slave as usize) else { return };
        let place = std::mem::replace(place, NONE);
        self.list.swap_remove(place as usize);
        if let Some(moved) = self.list.get(place as usize)
            && let Some(of_moved) = self.places.get_mut(moved.member.id as usize)
        {
            *of_moved = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::link::SpeedClass;

    fn member(id: u32, state: MemberState, epoch: u64) -> Member {
        Member {
            id,
            state,
            mtu: 1500,
            vcpus: 1,
            speed_class: SpeedClass::UNKNOWN,
            domain: 0,
            epoch,
            pages_total: 0,
            pages_free: 0,
        }
    }

    #[test]
    fn a_slave_is_gone_when_no_gateway_names_it_and_restarted_when_its_epoch_is_new() {
        use MemberState::{Gone, Here, Suspect};
        let mut roster = Roster::new(Scale::default()).unwrap();
        let mut told = |gateway, id, state, epoch| roster.change(gateway, &member(id, state, epoch));
        assert_eq!(told(0, 5, Gone, 1), SlaveNews::Nothing);
        assert_eq!(told(0, 5, Here, 1), SlaveNews::Nothing);
        assert_eq!(told(0, 6, Here, 1), SlaveNews::Nothing);
        assert_eq!(told(1, 5, Suspect, 1), SlaveNews::Nothing);
        assert_eq!(told(0, 5, Here, 2), SlaveNews::Restarted);
        assert_eq!(told(1, 5, Here, 1), SlaveNews::Nothing, "gateway 1 has not heard of the restart");
        assert_eq!(told(1, 5, Here, 2), SlaveNews::Nothing);
        assert_eq!(told(0, 5, Gone, 2), SlaveNews::Nothing, "gateway 1 still names it");
        assert_eq!(told(1, 5, Gone, 2), SlaveNews::Gone);
        assert_eq!((roster.len(), roster.get(5).is_none(), roster.get(6).unwrap().member.id), (1, true, 6));
        assert!(roster.get(6).unwrap().is_behind(0) && !roster.get(6).unwrap().is_behind(1));
    }

    #[test]
    fn a_slave_without_a_domain_is_one() {
        let mut roster = Roster::new(Scale::default()).unwrap();
        roster.change(0, &member(5, MemberState::Here, 1));
        roster.change(0, &Member { domain: 5, ..member(6, MemberState::Here, 1) });
        assert_eq!((roster.get(5).unwrap().domain(), roster.get(6).unwrap().domain()), (1 << 32 | 5, 5));
    }
}
