//! Applications that are broken, hostile or dead harm nobody.

use crate::world::{World, until};
use channel::message::{MOST_BYTES, Message, MessageBody, RefusedFor};
use pages::{Extent, Status, Work};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket};
use std::os::fd::OwnedFd;

/// A connection without the library.
pub(crate) fn raw(world: &World) -> OwnedFd {
    let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(&world.path).unwrap()).unwrap();
    socket
}

pub(crate) fn say(socket: &OwnedFd, bytes: &[u8]) -> bool {
    send(socket, bytes, SendFlags::NOSIGNAL).is_ok()
}

/// The next message; `None` when the server has closed the connection.
pub(crate) fn hear(socket: &OwnedFd) -> Option<MessageBody> {
    let mut bytes = vec![0; MOST_BYTES];
    match recv(socket, &mut bytes[..], RecvFlags::empty()) {
        Ok((0, _)) | Err(_) => None,
        Ok((len, _)) => Some(Message::parse(&bytes[..len]).unwrap().body),
    }
}

pub(crate) fn refused(socket: &OwnedFd) -> RefusedFor {
    match hear(socket) {
        Some(MessageBody::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn hello() -> Vec<u8> {
    let body = MessageBody::Hello { capacity: 4, extents: 0, buffers: 4096, name: "raw\x1b[2J".to_owned(), area: None };
    Message { tag: 1, body }.emit()
}

/// An application beside the broken one still gets its answers.
pub(crate) fn works(world: &World) {
    let mut client = world.connect("good").unwrap();
    let buffer = client.buffer(8).unwrap();
    client.post(&mut vec![Work::read(Extent::from_number(1), 0, buffer)]).unwrap();
    let mut ended = Vec::new();
    client.wait(&mut ended, None).unwrap();
    assert_eq!(ended[0].status, Status::NO_SUCH_EXTENT);
    drop(client);
    until("its end", || !world.names().contains(&"good".to_owned()));
}

#[test]
fn what_is_no_message_is_refused_and_the_connection_closed() {
    let world = World::start("rubbish");
    let mut version = hello();
    version[4] = 9;
    let too_long = vec![0x47; MOST_BYTES + 1];
    let early = Message { tag: 1, body: MessageBody::Mapped }.emit();
    let answer = Message { tag: 1, body: MessageBody::Open }.emit();
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], RefusedFor::MALFORMED),
        (&hello()[..40], RefusedFor::MALFORMED),
        (&version, RefusedFor::VERSION),
        (&too_long, RefusedFor::MALFORMED),
        (&early, RefusedFor::MALFORMED),
        (&answer, RefusedFor::MALFORMED),
    ] {
        let socket = raw(&world);
        assert!(say(&socket, bytes));
        assert_eq!(refused(&socket), reason);
        assert_eq!(hear(&socket), None);
    }
    works(&world);
}

#[test]
fn two_hellos_are_one_too_many() {
    let world = World::start("twice");
    let socket = raw(&world);
    say(&socket, &hello());
    assert!(matches!(hear(&socket), Some(MessageBody::Welcome { capacity: 4, buffers: 4096, .. })));
    say(&socket, &hello());
    assert_eq!(refused(&socket), RefusedFor::MALFORMED);
    assert_eq!(hear(&socket), None);
    works(&world);
}

#[test]
fn who_dies_at_any_point_leaves_nothing() {
    let world = World::start("dies");
    for steps in 0..4 {
        let socket = raw(&world);
        if steps > 0 {
            say(&socket, &hello());
            assert!(matches!(hear(&socket), Some(MessageBody::Welcome { .. })));
        }
        if steps > 1 {
            say(&socket, &Message { tag: 2, body: MessageBody::Mapped }.emit());
        }
        if steps > 2 {
            assert_eq!(hear(&socket), Some(MessageBody::Open));
            say(&socket, &Message { tag: 3, body: MessageBody::Allocate { count: 1, apart: false } }.emit());
        }
        drop(socket);
        until("its end", || world.names().is_empty());
    }
    // As often as there are places, and more: each of them is free again.
    for _ in 0..4 {
        works(&world);
    }
}

#[test]
fn who_does_not_read_its_answers_is_sent_away() {
    let world = World::start("deaf");
    let socket = raw(&world);
    say(&socket, &hello());
    assert!(matches!(hear(&socket), Some(MessageBody::Welcome { .. })));
    say(&socket, &Message { tag: 2, body: MessageBody::Mapped }.emit());
    assert_eq!(hear(&socket), Some(MessageBody::Open));
    let stat = Message { tag: 4, body: MessageBody::Stat }.emit();
    until("it is sent away", || !say(&socket, &stat));
    until("its end", || world.names().is_empty());
    works(&world);
}

#[test]
fn a_number_of_allocations_is_under_way_and_no_more() {
    let world = World::start("eager");
    let socket = raw(&world);
    say(&socket, &hello());
    hear(&socket);
    say(&socket, &Message { tag: 2, body: MessageBody::Mapped }.emit());
    assert_eq!(hear(&socket), Some(MessageBody::Open));
    for tag in 0..80 {
        say(&socket, &Message { tag, body: MessageBody::Allocate { count: 1, apart: false } }.emit());
    }
    let reasons: Vec<RefusedFor> = (0..80).map(|_| refused(&socket)).collect();
    let of = |reason| reasons.iter().filter(|found| **found == reason).count();
    assert!(of(RefusedFor::COUNT) >= 1, "{reasons:?}");
    assert_eq!(of(RefusedFor::COUNT) + of(RefusedFor::NO_MEMORY) + of(RefusedFor::QUOTA), 80);
    works(&world);
}
