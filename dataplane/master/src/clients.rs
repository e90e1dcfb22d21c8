//! The clients of a master, and what each may have.

use crate::request::{BufferKey, ClientId};

/// What one client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientQuota {
    /// Extents, those that are lost and not freed included.
    pub extents: u32,
    /// Requests that are under way, or complete and not polled.
    pub requests: u32,
    /// Local memories.
    pub buffers: u16,
}

/// One place for a client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    generation: u16,
    /// `None` if nobody has the place.
    quota: Option<ClientQuota>,
    /// It is being removed.
    is_leaving: bool,
    /// Extents that it has.
    pub(crate) extents: u32,
    /// Requests that are under way, or complete and not polled.
    pub(crate) requests: u32,
    /// Requests that are under way.
    pub(crate) under_way: u32,
    pub(crate) buffers: Vec<BufferKey>,
}

impl Client {
    /// What it may have.
    pub(crate) fn quota(&self) -> ClientQuota {
        self.quota.unwrap_or(ClientQuota { extents: 0, requests: 0, buffers: 0 })
    }
}

/// All clients.
#[derive(Debug)]
pub(crate) struct Clients {
    list: Box<[Client]>,
    leaving: u16,
}

impl Clients {
    pub(crate) fn new(count: u16) -> Self {
        // One place less than there are numbers: the last one means nobody.
        Self { list: (0..count.min(u16::MAX - 1)).map(|_| Client::default()).collect(), leaving: 0 }
    }

    pub(crate) fn add(&mut self, quota: ClientQuota) -> Option<ClientId> {
        let place = self.list.iter().position(|client| client.quota.is_none())?;
        let client = self.list.get_mut(place)?;
        client.quota = Some(quota);
        Some(ClientId::new(place as u16, client.generation))
    }

    /// A client that is there and not being removed.
    #[inline]
    pub(crate) fn find(&mut self, id: ClientId) -> Option<&mut Client> {
        let client = self.list.get_mut(id.place())?;
        (client.generation == id.generation() && client.quota.is_some() && !client.is_leaving).then_some(client)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: u16) -> Option<&mut Client> {
        self.list.get_mut(usize::from(place))
    }

    /// How many places for clients there are.
    pub(crate) fn places(&self) -> u16 {
        self.list.len() as u16
    }

    pub(crate) fn get(&self, place: u16) -> Option<&Client> {
        self.list.get(usize::from(place))
    }

    /// The number of the client at a place.
    pub(crate) fn id(&self, place: u16) -> ClientId {
        ClientId::new(place, self.list.get(usize::from(place)).map_or(0, |client| client.generation))
    }

    /// Whether a client is there and not being removed.
    pub(crate) fn is_there(&self, place: u16) -> bool {
        let client = self.list.get(usize::from(place));
        client.is_some_and(|client| client.quota.is_some() && !client.is_leaving)
    }

    /// A client is to be removed. Returns whether it was there.
    pub(crate) fn leave(&mut self, id: ClientId) -> bool {
        let Some(client) = self.find(id) else { return false };
        client.is_leaving = true;
        self.leaving += 1;
        true
    }

    /// How many are being removed.
    pub(crate) fn leaving(&self) -> u16 {
        self.leaving
    }

    /// A client that is being removed and has no request under way any more.
    pub(crate) fn quiet(&self) -> Option<u16> {
        let is_quiet = |client: &Client| client.is_leaving && client.under_way == 0;
        self.list.iter().position(is_quiet).map(|place| place as u16)
    }

    /// A client that has nothing any more is removed.
    pub(crate) fn remove(&mut self, place: u16) {
        let Some(client) = self.get_mut(place) else { return };
        *client = Client { generation: client.generation.wrapping_add(1), ..Client::default() };
        self.leaving -= 1;
    }

    /// All clients are to be removed.
    pub(crate) fn leave_all(&mut self) {
        for place in 0..self.list.len() {
            let id = self.id(place as u16);
            self.leave(id);
        }
    }

    /// How many there are, those that are being removed included.
    pub(crate) fn len(&self) -> usize {
        self.list.iter().filter(|client| client.quota.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: ClientQuota = ClientQuota { extents: 1, requests: 2, buffers: 3 };

    #[test]
    fn a_number_is_given_to_one_client() {
        let mut clients = Clients::new(1);
        let one = clients.add(QUOTA).unwrap();
        assert_eq!((clients.find(one).unwrap().quota(), clients.add(QUOTA)), (QUOTA, None));
        assert!(clients.leave(one) && !clients.leave(one));
        assert!(clients.find(one).is_none() && !clients.is_there(0));
        assert_eq!((clients.quiet(), clients.leaving(), clients.len()), (Some(0), 1, 1));
        clients.remove(0);
        let two = clients.add(QUOTA).unwrap();
        assert!(two != one && clients.find(one).is_none() && clients.find(two).is_some());
        assert_eq!((clients.id(0), clients.leaving()), (two, 0));
    }
}
