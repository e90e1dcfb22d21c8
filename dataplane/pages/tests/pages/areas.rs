//! Extents that have a name, and stay when the connection ends.

use crate::support::{Folder, ended, filled, options, until};
use pages::local::{LocalOptions, LocalServer};
use pages::{
    AreaOptions, AreaState, Client, ClientOptions, Extent, ExtentNotice, PagesError, RefusedFor, Status, Work, areas,
};
use std::path::Path;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

fn with(area: AreaOptions) -> ClientOptions {
    ClientOptions { area: Some(area), ..options() }
}

fn refused(result: Result<Client, PagesError>) -> RefusedFor {
    match result {
        Err(PagesError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The client that gets an area when its last one has gone.
fn again(path: &Path, name: &str) -> Client {
    let mut found = None;
    until("the area is free", || {
        found = match Client::connect(path, &with(AreaOptions::existing(name))) {
            Err(PagesError::Refused { reason: RefusedFor::AREA_IN_USE, .. }) => None,
            other => Some(other.unwrap()),
        };
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn an_area_comes_back_with_its_extents_in_their_order_and_what_was_written() {
    let folder = Folder::new();
    let path = folder.socket();
    // More than one message has.
    let server = LocalServer::start(&path, LocalOptions { extents: 3000, ..LocalOptions::default() }).unwrap();
    assert_eq!(refused(Client::connect(&path, &with(AreaOptions::existing("a")))), RefusedFor::NO_SUCH_AREA);
    let mut client = Client::connect(&path, &with(AreaOptions::new("a"))).unwrap();
    assert!(client.extents().is_empty());
    let mut all: Vec<Extent> = (0..3).flat_map(|_| client.allocate(1000, false).unwrap()).collect();
    client.free(&[all.remove(5), all.remove(2000)]).unwrap();
    client.post(&mut vec![Work::write(all[2500], 0, filled(&client, b"it stays"))]).unwrap();
    ended(&mut client, 1);
    assert_eq!(refused(Client::connect(&path, &with(AreaOptions::any("a")))), RefusedFor::AREA_IN_USE);
    assert_eq!(refused(Client::connect(&path, &with(AreaOptions::new("a")))), RefusedFor::AREA_EXISTS);
    let listed = areas(&path, LONG).unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), listed[0].state), (1, "a", AreaState::InUse));
    assert_eq!(listed[0].pid, std::process::id());
    drop(client);
    let mut client = again(&path, "a");
    assert_eq!(client.extents(), all);
    client.post(&mut vec![Work::read(all[2500], 0, client.buffer(8).unwrap())]).unwrap();
    let end = ended(&mut client, 1).remove(0);
    assert_eq!((end.status, end.buffer.to_vec().as_slice()), (Status::DONE, b"it stays".as_slice()));
    assert!(client.notices().unwrap().is_empty());
    drop(client);
    until("it is parked", || areas(&path, LONG).unwrap()[0].state == AreaState::Parked);
    assert_eq!(areas(&path, LONG).unwrap()[0].extents, 2998);
    // What is lost meanwhile is known when the next one has connected.
    server.lose(all[7], Status::SLAVE_GONE);
    assert_eq!(areas(&path, LONG).unwrap()[0].lost, 1);
    let mut client = again(&path, "a");
    let lost = ExtentNotice::Lost { status: Status::SLAVE_GONE, extents: vec![all[7]] };
    assert_eq!(client.notices().unwrap(), [lost]);
    client.remove_area().unwrap();
    assert!(matches!(client.remove_area(), Err(PagesError::Refused { reason: RefusedFor::NO_SUCH_AREA, .. })));
    // Its extents are those of the connection, and the name is free.
    assert_eq!(client.state().unwrap().extents, 2998);
    assert!(areas(&path, LONG).unwrap().is_empty());
    let other = Client::connect(&path, &with(AreaOptions::new("a"))).unwrap();
    drop(client);
    assert!(other.extents().is_empty());
}

#[test]
fn many_areas_are_listed_by_name() {
    let folder = Folder::new();
    let path = folder.socket();
    let _server = LocalServer::start(&path, LocalOptions { clients: 400, ..LocalOptions::default() }).unwrap();
    assert!(areas(&path, LONG).unwrap().is_empty());
    let names: Vec<String> = (0..300).map(|number| format!("area-{number:03}")).collect();
    let small = |name: &String| ClientOptions { buffers: 4096, requests: 2, ..with(AreaOptions::any(name)) };
    for name in names.iter().rev() {
        drop(Client::connect(&path, &small(name)).unwrap());
    }
    let listed: Vec<String> = areas(&path, LONG).unwrap().iter().map(|area| area.name.to_string()).collect();
    assert_eq!(listed, names);
}

#[test]
fn a_name_that_no_area_can_have_is_refused_before_the_server_hears_it() {
    let folder = Folder::new();
    for name in ["", "a b", "../x", "-a", &"x".repeat(33)] {
        let error = Client::connect(folder.socket(), &with(AreaOptions::any(name)));
        assert_eq!(refused(error), RefusedFor::AREA_NAME, "{name}");
    }
}
