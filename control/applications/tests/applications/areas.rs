//! Areas: extents that stay when their connection ends.

use crate::trouble::{hear, raw, refused, say, works};
use crate::world::{World, until};
use channel::message::{Message, MessageBody, RefusedFor};
use channel::{AreaState, AreaUse};
use pages::{AreaOptions, Client, ClientOptions, Extent, PagesError, Status, Work, areas};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn connect(world: &World, area: AreaOptions) -> Result<Client, PagesError> {
    Client::connect(&world.path, &ClientOptions { area: Some(area), ..World::options("owner") })
}

fn refusal(result: Result<Client, PagesError>) -> RefusedFor {
    match result {
        Err(PagesError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The client that gets an area whose last connection has ended.
fn again(world: &World, name: &str) -> Client {
    connect(world, AreaOptions::existing(name)).unwrap()
}

fn states(world: &World) -> Vec<(String, AreaState)> {
    areas(&world.path, LONG).unwrap().into_iter().map(|area| (area.name.to_string(), area.state)).collect()
}

fn parked(name: &str) -> (String, AreaState) {
    (name.to_owned(), AreaState::Parked)
}

fn hello(area: Option<(&str, AreaUse)>) -> Vec<u8> {
    let area = area.map(|(name, wanted)| (name.to_owned(), wanted));
    let body = MessageBody::Hello { capacity: 4, extents: 0, buffers: 4096, name: "raw".to_owned(), area };
    Message { tag: 1, body }.emit()
}

/// A request ends, and with the status of an extent that is not there.
fn ask(client: &mut Client) {
    client.post(&mut vec![Work::read(Extent::from_number(1), 0, client.buffer(8).unwrap())]).unwrap();
    let mut ended = Vec::new();
    client.wait(&mut ended, None).unwrap();
    assert_eq!(ended[0].status, Status::NO_SUCH_EXTENT);
}

#[test]
fn an_area_has_its_place_and_one_connection_until_it_is_removed() {
    for lcores in [1, 2] {
        let world = World::with_lcores(&format!("areas-{lcores}"), lcores);
        assert_eq!(refusal(connect(&world, AreaOptions::existing("a"))), RefusedFor::NO_SUCH_AREA);
        let mut client = connect(&world, AreaOptions::new("a")).unwrap();
        assert_eq!(states(&world), [("a".to_owned(), AreaState::InUse)]);
        assert_eq!(world.register.list()[0].area.as_ref().map(|area| area.as_str()), Some("a"));
        assert_eq!(world.register.areas()[0].pid, std::process::id());
        for wanted in [AreaOptions::any("a"), AreaOptions::existing("a")] {
            assert_eq!(refusal(connect(&world, wanted)), RefusedFor::AREA_IN_USE);
        }
        assert_eq!(refusal(connect(&world, AreaOptions::new("a"))), RefusedFor::AREA_EXISTS);
        ask(&mut client);
        drop(client);
        until("it is parked", || states(&world) == [parked("a")]);
        assert!(world.names().is_empty());
        // Its place is taken: there are three.
        let others = [world.connect("b").unwrap(), world.connect("c").unwrap()];
        assert_eq!(refusal(world.connect("d")), RefusedFor::CLIENTS);
        assert_eq!(refusal(connect(&world, AreaOptions::any("new"))), RefusedFor::CLIENTS);
        for _ in 0..20 {
            ask(&mut again(&world, "a"));
        }
        let mut client = again(&world, "a");
        client.remove_area().unwrap();
        assert_eq!((states(&world), world.names()), (vec![], vec!["b".into(), "c".into(), "owner".into()]));
        ask(&mut client);
        drop(client);
        // Its place is free at once.
        drop(connect(&world, AreaOptions::new("a")).unwrap());
        drop(others);
    }
}

#[test]
fn requests_of_the_old_connection_do_not_reach_the_new_one() {
    let world = World::start("old");
    let mut old = connect(&world, AreaOptions::new("a")).unwrap();
    for round in 0..50 {
        let batch = (0..32).map(|tag| Work::read(Extent::from_number(1), 0, old.buffer(8).unwrap()).tagged(tag));
        old.post(&mut batch.collect()).unwrap();
        drop(old);
        let mut new = again(&world, "a");
        new.post(&mut vec![Work::read(Extent::from_number(1), 0, new.buffer(8).unwrap()).tagged(round)]).unwrap();
        let mut ended = Vec::new();
        new.wait(&mut ended, None).unwrap();
        assert_eq!((ended.len(), ended[0].tag), (1, round));
        until("it is counted", || new.state().unwrap().requests == 1);
        old = new;
    }
}

#[test]
fn names_that_are_rubbish_and_messages_out_of_place_are_refused() {
    let world = World::start("names");
    for name in ["", "a b", "../etc", "-a", "\u{e9}", "\x1b[2J"] {
        let socket = raw(&world);
        say(&socket, &hello(Some((name, AreaUse::Any))));
        assert_eq!(refused(&socket), RefusedFor::AREA_NAME, "{name:?}");
        assert_eq!(hear(&socket), None);
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = hello(Some(("a", AreaUse::Any)));
        bytes[at] = byte;
        bytes
    };
    // Something behind the name, an unknown use, a name without a use, bytes that are 0, bytes that are no text.
    for bytes in [with(90, 1), with(96, 9), with(96, 0), with(101, 1), with(64, 0xff), hello(None)[..64].to_vec()] {
        let socket = raw(&world);
        say(&socket, &bytes);
        assert_eq!(refused(&socket), RefusedFor::MALFORMED);
        assert_eq!(hear(&socket), None);
    }
    // HELLO as version 1 had it.
    let socket = raw(&world);
    let mut old = hello(None)[..64].to_vec();
    old[4] = 1;
    say(&socket, &old);
    assert_eq!(hear(&socket), Some(MessageBody::Refused { reason: RefusedFor::VERSION, limit: 2 }));
    for body in [MessageBody::List { from: 0 }, MessageBody::Remove] {
        let socket = raw(&world);
        say(&socket, &Message { tag: 1, body }.emit());
        assert_eq!(refused(&socket), RefusedFor::MALFORMED);
    }
    let mut client = world.connect("none").unwrap();
    assert!(matches!(client.remove_area(), Err(PagesError::Refused { reason: RefusedFor::NO_SUCH_AREA, .. })));
    assert_eq!(states(&world), []);
    works(&world);
}

#[test]
fn who_connects_all_the_time_and_dies_at_any_point_takes_one_place() {
    let world = World::start("loop");
    for round in 0..200 {
        let socket = raw(&world);
        let wanted = if round % 2 == 0 { AreaUse::Any } else { AreaUse::Existing };
        say(&socket, &hello(Some(("a", wanted))));
        if round % 3 > 0 {
            say(&socket, &Message { tag: 2, body: MessageBody::Mapped }.emit());
        }
        if round % 5 > 2 {
            hear(&socket);
        }
        if round % 7 > 4 && round % 3 > 0 {
            // Whatever came: it may have been refused, since the last one is still there.
            hear(&socket);
            say(&socket, &Message { tag: 3, body: MessageBody::Allocate { count: 1, apart: false } }.emit());
            say(&socket, &Message { tag: 4, body: MessageBody::Remove }.emit());
        }
    }
    until("all are gone", || {
        world.names().is_empty() && states(&world).iter().all(|(_, state)| *state == AreaState::Parked)
    });
    // One place is the area's, if it was not removed; the others are free.
    let mut client = connect(&world, AreaOptions::any("a")).unwrap();
    ask(&mut client);
    works(&world);
    client.remove_area().unwrap();
    drop(client);
    until("it is gone", || world.names().is_empty());
    for _ in 0..4 {
        works(&world);
    }
}

#[test]
fn an_area_whose_channel_never_came_is_none() {
    let world = World::start("never");
    let socket = raw(&world);
    say(&socket, &hello(Some(("a", AreaUse::New))));
    assert!(matches!(hear(&socket), Some(MessageBody::Welcome { .. })));
    assert_eq!((states(&world), refusal(connect(&world, AreaOptions::any("a")))), (vec![], RefusedFor::AREA_IN_USE));
    drop(socket);
    let client = connect(&world, AreaOptions::any("a")).unwrap();
    world.stopper.leave();
    drop(client);
    until("it is parked", || states(&world) == [parked("a")]);
    assert_eq!(refusal(connect(&world, AreaOptions::any("a"))), RefusedFor::LEAVING);
}
