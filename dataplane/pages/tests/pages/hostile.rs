//! Clients that keep no rule, against a server with an honest client beside them.

use crate::support::{Folder, ended, filled, options, until};
use channel::message::{Message, MessageBody, RefusedFor};
use channel::{ChannelCompletion, ChannelLayout, ChannelRequest, ChannelStatus, ClientEnd, Lane, Transfer};
use frame::Shared;
use pages::local::{LocalOptions, LocalServer};
use pages::{Client, Extent, Status, Work};
use rustix::event::epoll;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recv, recvmsg, send, socket_with,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A connection without the library.
struct Raw {
    socket: OwnedFd,
    memory: Arc<Shared>,
    server_bell: OwnedFd,
    bell: OwnedFd,
    end: ClientEnd<Arc<Shared>>,
}

fn raw_socket(folder: &Folder) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(folder.socket()).unwrap()).unwrap();
    socket
}

fn say(socket: &OwnedFd, tag: u64, body: MessageBody) {
    send(socket, &Message { tag, body }.emit(), SendFlags::NOSIGNAL).unwrap();
}

fn answer(socket: &OwnedFd) -> MessageBody {
    let mut bytes = [0; 16384];
    let (len, _) = recv(socket, &mut bytes, RecvFlags::empty()).unwrap();
    Message::parse(&bytes[..len]).unwrap().body
}

/// Whether the server closes the connection.
fn is_closed(socket: &OwnedFd) -> bool {
    loop {
        match recv(socket, &mut [0; 16384], RecvFlags::empty()) {
            Ok((0, _)) | Err(_) => return true,
            Ok(_) => (),
        }
    }
}

impl Raw {
    fn new(folder: &Folder) -> Self {
        let socket = raw_socket(folder);
        say(&socket, 1, MessageBody::Hello { capacity: 4, extents: 0, buffers: 4096, name: String::new(), area: None });
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(found) = message {
                descriptors.extend(found);
            }
        }
        let [memory, server_bell, bell] = <[OwnedFd; 3]>::try_from(descriptors).unwrap();
        let memory = Arc::new(Shared::adopt(memory, 1 << 20).unwrap());
        say(&socket, 2, MessageBody::Mapped);
        assert_eq!(answer(&socket), MessageBody::Open);
        let end = ClientEnd::new(memory.clone(), ChannelLayout::new(4, 4096).unwrap()).unwrap();
        Self { socket, memory, server_bell, bell, end }
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.server_bell, &1u64.to_ne_bytes());
    }
}

/// A server, and an honest client of it.
fn beside() -> (Folder, LocalServer, Client, Extent) {
    let folder = Folder::new();
    let server = LocalServer::start(folder.socket(), LocalOptions::default()).unwrap();
    let mut honest = Client::connect(folder.socket(), &options()).unwrap();
    let [extent] = honest.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    honest.post(&mut vec![Work::write(extent, 0, filled(&honest, b"mine all"))]).unwrap();
    ended(&mut honest, 1);
    (folder, server, honest, extent)
}

/// The honest client still has its server and its bytes.
fn is_well(honest: &mut Client, extent: Extent) {
    honest.post(&mut vec![Work::read(extent, 0, honest.buffer(8).unwrap())]).unwrap();
    let end = ended(honest, 1).remove(0);
    assert_eq!((end.status, end.buffer.to_vec().as_slice()), (Status::DONE, b"mine all".as_slice()));
}

const READ: ChannelRequest =
    ChannelRequest { tag: 7, transfer: Transfer::Read, lane: Lane::Demand, extent: 1, offset: 0, len: 8, buffer: 0 };

#[test]
fn rubbish_instead_of_a_greeting_is_refused() {
    let (folder, server, mut honest, extent) = beside();
    let hello = |capacity| MessageBody::Hello { capacity, extents: 0, buffers: 4096, name: String::new(), area: None };
    let mut newer = Message { tag: 1, body: hello(4) }.emit();
    newer[4] = 7;
    let malformed = Message { tag: 1, body: hello(3) }.emit();
    let early = Message { tag: 1, body: MessageBody::Stat }.emit();
    let cases = [
        (newer, RefusedFor::VERSION),
        (malformed, RefusedFor::MALFORMED),
        (early, RefusedFor::MALFORMED),
        (vec![0xff; 9000], RefusedFor::MALFORMED),
    ];
    for (bytes, expected) in cases {
        let socket = raw_socket(&folder);
        send(&socket, &bytes, SendFlags::NOSIGNAL).unwrap();
        let MessageBody::Refused { reason, .. } = answer(&socket) else { panic!("it is refused") };
        assert_eq!(reason, expected);
        assert!(is_closed(&socket));
    }
    // Who dies in the middle of the set-up leaves nothing.
    let socket = raw_socket(&folder);
    say(&socket, 1, hello(4));
    drop(socket);
    until("its place is free", || server.clients() == 1);
    is_well(&mut honest, extent);
}

#[test]
fn a_client_that_breaks_the_rings_loses_its_channel_alone() {
    let (folder, _server, mut honest, extent) = beside();
    for (word, value) in [(0, 5), (0, u64::MAX), (0, 1 << 33)] {
        let raw = Raw::new(&folder);
        raw.memory[word].store(value, Ordering::Release);
        raw.ring();
        assert!(is_closed(&raw.socket));
        is_well(&mut honest, extent);
    }
}

#[test]
fn a_client_that_polls_nothing_loses_its_channel_alone() {
    let (folder, _server, mut honest, extent) = beside();
    let mut raw = Raw::new(&folder);
    raw.end.post(&[READ; 4]).unwrap();
    raw.ring();
    // The server completes the four; a fifth is one too many.
    until("the four are taken", || raw.memory[8].load(Ordering::Acquire) == 4);
    raw.memory[0].store(5, Ordering::Release);
    raw.ring();
    assert!(is_closed(&raw.socket));
    is_well(&mut honest, extent);
}

/// The bell that a client rings belongs to both processes. Whatever it does to it, the server neither stops nor spins
/// for others.
#[test]
fn a_client_that_spoils_its_bell_is_served_and_stops_nobody() {
    let (folder, _server, mut honest, extent) = beside();
    let mut raw = Raw::new(&folder);
    let flags = fcntl_getfl(&raw.server_bell).unwrap();
    fcntl_setfl(&raw.server_bell, flags - OFlags::NONBLOCK).unwrap();
    rustix::io::write(&raw.server_bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    is_well(&mut honest, extent);
    let mut out = [ChannelCompletion { tag: 0, status: ChannelStatus::DONE, len: 0 }; 4];
    for round in 0..50 {
        raw.end.post(&[READ]).unwrap();
        // It takes the number away before it rings, so that it does not stop itself.
        rustix::io::read(&raw.server_bell, &mut [0; 8]).unwrap();
        raw.ring();
        until("its completion", || raw.end.poll(&mut out).unwrap() == 1);
        assert_eq!((out[0].tag, out[0].status), (7, ChannelStatus::NO_SUCH_EXTENT), "round {round}");
    }
    is_well(&mut honest, extent);
}

/// Each instance that watches the bell is one more call in the kernel when the server rings. The kernel allows 500.
#[test]
fn a_client_whose_bell_is_watched_by_many_is_served_and_stops_nobody() {
    let (folder, _server, mut honest, extent) = beside();
    let mut raw = Raw::new(&folder);
    let mut watchers = Vec::new();
    while watchers.len() < 600 {
        // Without descriptors it has fewer watchers.
        let Ok(watcher) = epoll::create(epoll::CreateFlags::CLOEXEC) else { break };
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        if epoll::add(&watcher, &raw.bell, epoll::EventData::new_u64(0), edges).is_err() {
            break;
        }
        watchers.push(watcher);
    }
    assert!((1..=500).contains(&watchers.len()), "{} watchers", watchers.len());
    let mut out = [ChannelCompletion { tag: 0, status: ChannelStatus::DONE, len: 0 }; 4];
    for _ in 0..50 {
        assert_eq!(raw.end.sleep(), Ok(true));
        raw.end.post(&[READ]).unwrap();
        raw.ring();
        let mut events = Vec::with_capacity(1);
        epoll::wait(&raw.bell, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        raw.end.wake().unwrap();
        until("its completion", || raw.end.poll(&mut out).unwrap() == 1);
        is_well(&mut honest, extent);
    }
}

#[test]
fn a_client_that_names_extents_of_others_reaches_none() {
    let (folder, _server, mut honest, extent) = beside();
    let mut raw = Raw::new(&folder);
    say(&raw.socket, 3, MessageBody::Free(vec![extent.number()]));
    assert_eq!(answer(&raw.socket), MessageBody::Freed);
    let mut out = [ChannelCompletion { tag: 0, status: ChannelStatus::DONE, len: 0 }; 4];
    for transfer in [Transfer::Read, Transfer::Write] {
        raw.end.post(&[ChannelRequest { transfer, extent: extent.number(), ..READ }]).unwrap();
        raw.ring();
        until("its completion", || raw.end.poll(&mut out).unwrap() == 1);
        assert_eq!(out[0].status, ChannelStatus::NO_SUCH_EXTENT);
    }
    assert!(
        raw.memory[raw.end.layout().buffers_at() as usize / 8..].iter().all(|word| word.load(Ordering::Relaxed) == 0)
    );
    is_well(&mut honest, extent);
}

#[test]
fn a_client_that_reads_no_answer_loses_its_channel_alone() {
    let (folder, server, mut honest, extent) = beside();
    let raw = Raw::new(&folder);
    let stat = Message { tag: 1, body: MessageBody::Stat }.emit();
    until("the server gives up", || {
        while send(&raw.socket, &stat, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok() {}
        server.clients() == 1
    });
    is_well(&mut honest, extent);
}
