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

/// Who has a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nobody.
    #[default]
    Free,
    /// A client.
    Here,
    /// A client that is being removed.
    Leaving,
    /// A client that is being parked: its requests end.
    Parking,
    /// A client without requests and buffers. It keeps its extents.
    Parked,
}

/// One place for a client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    generation: u16,
    standing: Standing,
    quota: Option<ClientQuota>,
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
    /// How many are being removed or parked.
    ending: u16,
}

/// A client of which nothing is under way any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quiet {
    /// The client at this place can be removed.
    Leaving(u16),
    /// The client at this place can be parked.
    Parking(u16),
}

impl Clients {
    pub(crate) fn new(count: u16) -> Self {
        // Two places less than there are numbers: the last ones mean nobody, see `units`.
        Self { list: (0..count.min(u16::MAX - 1)).map(|_| Client::default()).collect(), ending: 0 }
    }

    pub(crate) fn add(&mut self, quota: ClientQuota) -> Option<ClientId> {
        let place = self.list.iter().position(|client| client.standing == Standing::Free)?;
        let client = self.list.get_mut(place)?;
        (client.standing, client.quota) = (Standing::Here, Some(quota));
        Some(ClientId::new(place as u16, client.generation))
    }

    /// A client that is there, and neither being removed nor parked.
    #[inline]
    pub(crate) fn find(&mut self, id: ClientId) -> Option<&mut Client> {
        self.known(id).filter(|client| client.standing == Standing::Here)
    }

    /// The client with this number, whatever becomes of it.
    #[inline]
    fn known(&mut self, id: ClientId) -> Option<&mut Client> {
        let client = self.list.get_mut(id.place())?;
        (client.generation == id.generation() && client.standing != Standing::Free).then_some(client)
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

    /// Whether a client is there, and neither being removed nor parked.
    pub(crate) fn is_there(&self, place: u16) -> bool {
        self.list.get(usize::from(place)).is_some_and(|client| client.standing == Standing::Here)
    }

    /// A client is to be removed. Returns whether it was there.
    pub(crate) fn leave(&mut self, id: ClientId) -> bool {
        let Some(client) = self.known(id).filter(|client| client.standing != Standing::Leaving) else { return false };
        let was_parking = std::mem::replace(&mut client.standing, Standing::Leaving) == Standing::Parking;
        self.ending += u16::from(!was_parking);
        true
    }

    /// A client is to be parked. Returns whether it was there.
    pub(crate) fn park(&mut self, id: ClientId) -> bool {
        let Some(client) = self.find(id) else { return false };
        client.standing = Standing::Parking;
        self.ending += 1;
        true
    }

    /// How many are being removed or parked.
    pub(crate) fn ending(&self) -> u16 {
        self.ending
    }

    /// A client that is being removed or parked, and has no request under way any more.
    pub(crate) fn quiet(&self) -> Option<Quiet> {
        let mut quiet = self.list.iter().enumerate().filter(|(_, client)| client.under_way == 0);
        quiet.find_map(|(place, client)| match client.standing {
            Standing::Leaving => Some(Quiet::Leaving(place as u16)),
            Standing::Parking => Some(Quiet::Parking(place as u16)),
            Standing::Free | Standing::Here | Standing::Parked => None,
        })
    }

    /// A client that has nothing any more is removed.
    pub(crate) fn remove(&mut self, place: u16) {
        let Some(client) = self.get_mut(place) else { return };
        *client = Client { generation: client.generation.wrapping_add(1), ..Client::default() };
        self.ending -= 1;
    }

    /// A client that has only its extents any more is parked. Returns its new number: completions that nobody has
    /// polled have the old one.
    pub(crate) fn rest(&mut self, place: u16) -> ClientId {
        if let Some(client) = self.get_mut(place) {
            let generation = client.generation.wrapping_add(1);
            *client = Client { generation, standing: Standing::Parked, extents: client.extents, ..Client::default() };
            self.ending -= 1;
        }
        self.id(place)
    }

    /// A parked client is a client again, with what it may have from now on. Returns whether it was there.
    pub(crate) fn resume(&mut self, id: ClientId, quota: ClientQuota) -> bool {
        let Some(client) = self.known(id).filter(|client| client.standing == Standing::Parked) else { return false };
        (client.standing, client.quota) = (Standing::Here, Some(quota));
        true
    }

    /// All clients are to be removed.
    pub(crate) fn leave_all(&mut self) {
        for place in 0..self.list.len() {
            let id = self.id(place as u16);
            self.leave(id);
        }
    }

    /// How many there are, those that are being removed or parked included.
    pub(crate) fn len(&self) -> usize {
        self.list.iter().filter(|client| client.standing != Standing::Free).count()
    }

    /// How many of them are parked.
    pub(crate) fn parked(&self) -> usize {
        self.list.iter().filter(|client| client.standing == Standing::Parked).count()
    }

    /// Whether the client at a place has no requests and no buffers, because it is parked or nobody is there.
    pub(crate) fn is_at_rest(&self, place: u16) -> bool {
        let client = self.list.get(usize::from(place));
        client.is_some_and(|client| matches!(client.standing, Standing::Free | Standing::Parked))
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
        assert_eq!((clients.quiet(), clients.ending(), clients.len()), (Some(Quiet::Leaving(0)), 1, 1));
        clients.remove(0);
        let two = clients.add(QUOTA).unwrap();
        assert!(two != one && clients.find(one).is_none() && clients.find(two).is_some());
        assert_eq!((clients.id(0), clients.ending()), (two, 0));
    }

    #[test]
    fn a_parked_client_keeps_its_place_and_its_extents_under_a_new_number() {
        let mut clients = Clients::new(1);
        let one = clients.add(QUOTA).unwrap();
        let client = clients.find(one).unwrap();
        (client.extents, client.requests, client.under_way) = (1, 2, 1);
        assert!(clients.park(one) && !clients.park(one) && clients.find(one).is_none());
        assert_eq!((clients.quiet(), clients.resume(one, QUOTA)), (None, false), "a request is under way");
        clients.get_mut(0).unwrap().under_way = 0;
        assert_eq!(clients.quiet(), Some(Quiet::Parking(0)));
        let parked = clients.rest(0);
        assert!(parked != one && clients.is_at_rest(0) && !clients.is_there(0));
        assert_eq!((clients.ending(), clients.parked(), clients.len(), clients.add(QUOTA)), (0, 1, 1, None));
        assert!(!clients.resume(one, QUOTA) && clients.find(parked).is_none());
        assert!(clients.resume(parked, QUOTA) && !clients.resume(parked, QUOTA));
        let again = clients.find(parked).unwrap();
        assert_eq!((again.extents, again.requests), (1, 0));
        // It can be removed while it is parked, and while it is being parked.
        assert!(clients.park(parked) && clients.leave(parked));
        assert_eq!((clients.quiet(), clients.ending()), (Some(Quiet::Leaving(0)), 1));
        clients.remove(0);
        let two = clients.add(QUOTA).unwrap();
        clients.park(two);
        let parked = clients.rest(0);
        assert!(!clients.leave(two) && clients.leave(parked));
        assert_eq!((clients.quiet(), clients.ending()), (Some(Quiet::Leaving(0)), 1));
    }
}
