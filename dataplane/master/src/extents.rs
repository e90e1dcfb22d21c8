//! All extents, by number: whose they are, where they are, and what became of them.

use crate::request::{ExtentId, Loss};
use crate::units::Slot;

/// What became of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtentState {
    /// Nobody has this number.
    Free,
    /// It is being allocated. `None` while no slave is chosen.
    Promised(Option<u32>),
    /// It has a place: a path, and a slot there.
    Live(u32, Slot),
    /// It was freed, and requests on it are under way. Its place, if that is not lost, is free when they have ended.
    Leaving(Result<(u32, Slot), Loss>),
    /// It is lost. Its client has not freed it yet.
    Lost(Loss),
}

/// One extent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    generation: u32,
    /// The place of its client.
    pub(crate) client: u16,
    pub(crate) state: ExtentState,
    /// Requests on it that are not complete.
    pub(crate) pending: u32,
}

impl Extent {
    /// Why its bytes are lost, if they are.
    pub(crate) fn loss(&self) -> Option<Loss> {
        match self.state {
            ExtentState::Lost(loss) | ExtentState::Leaving(Err(loss)) => Some(loss),
            _ => None,
        }
    }
}

/// All extents.
#[derive(Debug)]
pub(crate) struct Extents {
    list: Box<[Extent]>,
    free: Vec<u32>,
}

impl Extents {
    pub(crate) fn new(count: u32) -> Self {
        let blank = Extent { generation: 0, client: 0, state: ExtentState::Free, pending: 0 };
        Self { list: vec![blank; count as usize].into(), free: (0..count).rev().collect() }
    }

    /// Numbers that nobody has.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// A number for an extent of a client that is being allocated.
    pub(crate) fn take(&mut self, client: u16) -> Option<u32> {
        let place = self.free.pop()?;
        let extent = self.list.get_mut(place as usize)?;
        (extent.client, extent.state, extent.pending) = (client, ExtentState::Promised(None), 0);
        Some(place)
    }

    /// Nobody has this number any more.
    pub(crate) fn release(&mut self, place: u32) {
        let Some(extent) = self.list.get_mut(place as usize) else { return };
        if extent.pending != 0 || extent.state == ExtentState::Free {
            return frame::never!("an extent is released that is in use, or twice");
        }
        extent.generation = extent.generation.wrapping_add(1);
        extent.state = ExtentState::Free;
        self.free.push(place);
    }

    /// The number as clients have it.
    pub(crate) fn id(&self, place: u32) -> ExtentId {
        ExtentId::new(place, self.list.get(place as usize).map_or(0, |extent| extent.generation))
    }

    /// The extent that a client names, if that client has it.
    #[inline]
    pub(crate) fn find(&mut self, client: u16, id: ExtentId) -> Option<&mut Extent> {
        let extent = self.list.get_mut(id.place() as usize)?;
        let is_held = matches!(extent.state, ExtentState::Live(..) | ExtentState::Lost(_));
        (extent.generation == id.generation() && extent.client == client && is_held).then_some(extent)
    }

    #[inline]
    pub(crate) fn get(&self, place: u32) -> Option<&Extent> {
        self.list.get(place as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut Extent> {
        self.list.get_mut(place as usize)
    }

    /// All that somebody has, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Extent)> + '_ {
        let all = self.list.iter().enumerate().map(|(place, extent)| (place as u32, extent));
        all.filter(|(_, extent)| extent.state != ExtentState::Free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_found_by_its_client_alone_and_never_under_an_old_number() {
        let mut extents = Extents::new(1);
        let place = extents.take(3).unwrap();
        assert_eq!(extents.take(3), None);
        let id = extents.id(place);
        assert!(extents.find(3, id).is_none(), "it is only promised");
        extents.get_mut(place).unwrap().state = ExtentState::Live(0, Slot { unit: 0, slot: 0 });
        assert!(extents.find(3, id).is_some() && extents.find(4, id).is_none());
        extents.release(place);
        assert_eq!((extents.find(3, id).is_none(), extents.free()), (true, 1));
        let again = extents.take(3).unwrap();
        extents.get_mut(again).unwrap().state = ExtentState::Lost(Loss::Recalled);
        assert!(extents.find(3, id).is_none() && extents.find(3, extents.id(again)).is_some());
    }

    #[test]
    #[should_panic(expected = "released that is in use, or twice")]
    fn a_number_is_released_once() {
        let mut extents = Extents::new(1);
        let place = extents.take(3).unwrap();
        extents.release(place);
        extents.release(place);
    }
}
