//! The channels of applications: fairness, sleep, and what a broken client costs.

use crate::world::{gateway_peer, outbox};
use channel::{ChannelCompletion, ChannelLayout, ChannelRequest, ChannelStatus, ClientEnd, Lane, ServerEnd, Transfer};
use frame::time::SECOND;
use frame::{Hugepages, Outbox, Role, Shared, Time};
use master::{
    Attachment, ClientId, ClientTotals, Master, MasterCommand, MasterConfig, MasterEvent, MasterServer, ServingCommand,
    ServingEvent,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

/// A master without slaves, and what it told.
struct Host {
    serving: MasterServer,
    out: Outbox,
    now: Time,
    told: mpsc::Receiver<ServingEvent>,
    master_told: mpsc::Receiver<MasterEvent>,
}

/// An application with its channel.
struct Application {
    client: ClientId,
    end: ClientEnd<Arc<Shared>>,
    shared: Arc<Shared>,
    layout: ChannelLayout,
    rings: Arc<AtomicU32>,
    totals: Arc<ClientTotals>,
}

impl Host {
    fn new(clients: u16, requests: u32) -> Self {
        let config = MasterConfig { clients, requests, ..MasterConfig::new(1, vec![gateway_peer(0)]) };
        let (tell, told) = mpsc::channel();
        let (tell_master, master_told) = mpsc::channel();
        let master = Master::new(config, 0, move |event| tell_master.send(event).unwrap()).unwrap();
        let serving = MasterServer::new(master, clients, move |event| tell.send(event).unwrap());
        Self { serving, out: outbox(), now: SECOND, told, master_told }
    }

    fn try_attach(&mut self, capacity: u32) -> Option<Application> {
        self.attach_as(capacity, None, false)
    }

    fn attach_as(&mut self, capacity: u32, resume: Option<ClientId>, keep: bool) -> Option<Application> {
        let layout = ChannelLayout::new(capacity, 8192).unwrap();
        let shared = Arc::new(Shared::new(layout.bytes() as usize, Hugepages::Never).unwrap());
        let (rings, totals) = (Arc::new(AtomicU32::new(0)), Arc::new(ClientTotals::default()));
        let rung = Arc::clone(&rings);
        let attachment = Attachment {
            tag: 7,
            extents: 4,
            shared: Arc::clone(&shared),
            end: ServerEnd::new(Arc::clone(&shared), layout).unwrap(),
            bell: Box::new(move || {
                rung.fetch_add(1, Ordering::Relaxed);
            }),
            totals: Arc::clone(&totals),
            resume,
            keep,
        };
        self.serving.command(self.now, ServingCommand::Attach(Box::new(attachment)), &mut self.out);
        let ServingEvent::Attached(7, client) = self.told.try_recv().unwrap() else { panic!("another event") };
        let end = ClientEnd::new(Arc::clone(&shared), layout).unwrap();
        client.map(|client| Application { client, end, shared, layout, rings, totals })
    }

    fn attach(&mut self, capacity: u32) -> Application {
        self.try_attach(capacity).unwrap()
    }

    /// The number of a client that was parked since the last call.
    fn parked(&mut self, of: ClientId) -> Option<ClientId> {
        self.master_told.try_iter().find_map(|event| match event {
            MasterEvent::ClientParked { client, parked } if client == of => Some(parked),
            _ => None,
        })
    }

    fn poll(&mut self) {
        self.now += 1000;
        self.serving.advance(self.now, &mut self.out);
        while self.out.queue(frame::PortId(0)).is_some_and(|queue| queue.take().is_some()) {}
    }
}

/// A READ of an extent that nobody has.
fn read(tag: u64) -> ChannelRequest {
    ChannelRequest { tag, transfer: Transfer::Read, lane: Lane::Demand, extent: 9, offset: 0, len: 8, buffer: 0 }
}

impl Application {
    fn post(&mut self, tags: std::ops::Range<u64>) -> bool {
        let burst: Vec<ChannelRequest> = tags.map(read).collect();
        let posted = self.end.post(&burst).unwrap();
        assert_eq!(posted.count, burst.len());
        posted.ring
    }

    fn completions(&mut self) -> Vec<ChannelCompletion> {
        let mut burst = [ChannelCompletion { tag: 0, status: ChannelStatus::DONE, len: 0 }; 64];
        let count = self.end.poll(&mut burst).unwrap();
        burst[..count].to_vec()
    }
}

#[test]
fn each_request_ends_once_with_its_tag_and_the_totals_say_so() {
    let mut host = Host::new(2, 64);
    let mut one = host.attach(16);
    one.post(0..3);
    let malformed = ChannelRequest { offset: 4, ..read(3) };
    one.end.post(&[malformed]).unwrap();
    host.poll();
    let mut done = one.completions();
    done.sort_by_key(|completion| completion.tag);
    let statuses: Vec<_> = done.iter().map(|completion| (completion.tag, completion.status)).collect();
    let none = ChannelStatus::NO_SUCH_EXTENT;
    assert_eq!(statuses, [(0, none), (1, none), (2, none), (3, ChannelStatus::MALFORMED)]);
    assert_eq!((one.totals.requests.get(), one.totals.failures.get(), one.totals.bytes_read.get()), (4, 4, 0));
    host.poll();
    assert!(one.completions().is_empty());
    assert_eq!(host.serving.deadline().map(|at| at > 0), Some(true), "only heartbeats are due");
}

#[test]
fn a_full_channel_does_not_take_the_turn_of_others_and_all_of_it_is_served() {
    // Room for 64 requests of both together.
    let mut host = Host::new(2, 64);
    let (mut greedy, mut small) = (host.attach(256), host.attach(16));
    for part in 0..4 {
        greedy.post(64 * part..64 * part + 64);
    }
    small.post(0..1);
    let (mut of_greedy, mut polls) = (0, 0);
    let mut of_small = 0;
    while of_greedy < 256 || of_small < 1 {
        host.poll();
        polls += 1;
        of_greedy += greedy.completions().len();
        of_small += small.completions().len();
        assert!(polls < 3 || of_small == 1, "it waits for the greedy one");
        assert!(polls < 100);
    }
}

#[test]
fn a_client_that_sleeps_is_woken_once_for_all_that_it_gets() {
    let mut host = Host::new(1, 64);
    let mut one = host.attach(16);
    one.post(0..4);
    assert!(one.end.sleep().unwrap(), "nothing is there yet");
    host.poll();
    assert_eq!(one.rings.load(Ordering::Relaxed), 1);
    assert_eq!(one.completions().len(), 4);
    one.post(4..6);
    host.poll();
    assert_eq!(one.rings.load(Ordering::Relaxed), 1, "it is awake");
}

#[test]
fn the_lcore_is_rung_only_while_it_dozes_and_finds_what_came_before() {
    let mut host = Host::new(1, 64);
    let mut one = host.attach(16);
    assert!(!one.post(0..1), "it is awake");
    host.serving.doze();
    host.poll();
    assert_eq!(one.completions().len(), 1, "the last poll before sleep finds it");
    assert_eq!(host.serving.deadline(), Some(0), "it must not sleep: the next request would not ring");
    assert!(!one.post(1..2));
    host.serving.wake();
    host.poll();
    assert_eq!(one.completions().len(), 1);
    host.serving.doze();
    host.poll();
    assert!(host.serving.deadline() != Some(0), "it may sleep");
    assert!(one.post(2..3), "and is rung");
    assert!(!one.post(3..4), "once");
    host.serving.wake();
    host.poll();
    assert_eq!(one.completions().len(), 2);
    assert!(!one.post(4..5), "it is awake again");
}

#[test]
fn a_broken_client_is_removed_and_the_other_one_goes_on() {
    let mut host = Host::new(2, 64);
    let (broken, mut good) = (host.attach(16), host.attach(16));
    good.post(0..2);
    // Its number of posted requests is further than the ring is long.
    broken.shared[broken.layout.requests_at()].store(99, Ordering::Release);
    host.poll();
    assert!(matches!(host.told.try_recv(), Ok(ServingEvent::Broken(client, _)) if client == broken.client));
    host.poll();
    let removed = |event: MasterEvent| event == MasterEvent::ClientRemoved(broken.client);
    assert!(host.master_told.try_iter().any(removed), "all that it had is free");
    assert_eq!(good.completions().len(), 2);
    good.post(2..4);
    host.poll();
    assert_eq!(good.completions().len(), 2);
    assert!(host.told.try_recv().is_err());
    // Its place is free again.
    let again = host.attach(16);
    assert!(again.client != broken.client);
}

#[test]
fn a_client_that_breaks_its_channel_while_the_lcore_falls_asleep_is_removed_too() {
    let mut host = Host::new(1, 64);
    let one = host.attach(16);
    one.shared[one.layout.requests_at()].store(99, Ordering::Release);
    host.serving.doze();
    assert!(matches!(host.told.try_recv(), Ok(ServingEvent::Broken(client, _)) if client == one.client));
    host.serving.wake();
    host.poll();
}

#[test]
fn a_client_that_is_gone_gets_nothing_any_more() {
    let mut host = Host::new(1, 64);
    let mut one = host.attach(16);
    assert!(host.try_attach(16).is_none(), "there is room for one");
    one.post(0..4);
    host.serving.command(host.now, ServingCommand::Detach(one.client), &mut host.out);
    host.poll();
    assert!(one.completions().is_empty());
    host.serving.command(host.now, ServingCommand::Detach(one.client), &mut host.out);
    host.poll();
    let removed = host.master_told.try_iter().filter(|event| *event == MasterEvent::ClientRemoved(one.client)).count();
    assert_eq!(removed, 1, "it is removed once");
    assert!(host.try_attach(16).is_some());
}

#[test]
fn a_client_that_is_parked_and_comes_back_gets_nothing_of_its_old_channel() {
    let mut host = Host::new(1, 64);
    let mut old = host.attach_as(16, None, true).unwrap();
    old.post(0..4);
    host.serving.command(host.now, ServingCommand::Park(old.client), &mut host.out);
    assert!(host.attach_as(16, Some(old.client), true).is_none(), "it is not parked yet");
    host.poll();
    let parked = host.parked(old.client).unwrap();
    assert!(host.try_attach(16).is_none(), "it keeps its place");
    let mut new = host.attach_as(16, Some(parked), true).unwrap();
    assert!(host.attach_as(16, Some(parked), true).is_none(), "it is there once");
    assert_eq!(new.client, parked);
    // Neither the old channel nor orders for the old number reach the new one.
    old.post(4..8);
    host.serving.command(host.now, ServingCommand::Park(old.client), &mut host.out);
    host.serving.command(host.now, ServingCommand::Detach(old.client), &mut host.out);
    new.post(100..102);
    host.poll();
    let tags: Vec<u64> = new.completions().iter().map(|completion| completion.tag).collect();
    assert_eq!((tags, old.completions().len()), (vec![100, 101], 0));
    assert_eq!((new.totals.requests.get(), old.totals.requests.get()), (2, 0));
}

#[test]
fn a_client_with_an_area_that_breaks_its_channel_is_parked() {
    let mut host = Host::new(1, 64);
    let one = host.attach_as(16, None, true).unwrap();
    one.shared[one.layout.requests_at()].store(99, Ordering::Release);
    host.poll();
    assert!(matches!(host.told.try_recv(), Ok(ServingEvent::Broken(client, _)) if client == one.client));
    host.poll();
    let parked = host.parked(one.client).unwrap();
    host.serving.command(host.now, ServingCommand::Detach(parked), &mut host.out);
    host.poll();
    assert!(host.master_told.try_iter().any(|event| event == MasterEvent::ClientRemoved(parked)));
    assert!(host.try_attach(16).is_some());
}

#[test]
fn a_client_that_comes_and_goes_all_the_time_is_one_client() {
    let mut host = Host::new(2, 64);
    let mut client = None;
    for round in 0..1000 {
        let mut one = host.attach_as(4, client, true).unwrap();
        one.post(0..round % 4);
        host.serving.command(host.now, ServingCommand::Park(one.client), &mut host.out);
        host.poll();
        client = host.parked(one.client);
        assert!(client.is_some() && client != Some(one.client));
    }
    assert_eq!(host.serving.master().stats().counters.clients.get(), 1);
    host.serving.master().check().unwrap();
    host.attach(16);
}

#[test]
fn a_master_that_drains_has_no_clients_left() {
    let mut host = Host::new(2, 64);
    let mut one = host.attach(16);
    one.post(0..2);
    host.serving.command(host.now, ServingCommand::Master(MasterCommand::Drain), &mut host.out);
    assert!(!host.serving.is_drained());
    for _ in 0..10 {
        host.poll();
    }
    assert!(host.serving.is_drained());
    let statuses: Vec<_> = one.completions().iter().map(|completion| completion.status).collect();
    assert_eq!(statuses, [ChannelStatus::NO_SUCH_CLIENT; 2]);
}
