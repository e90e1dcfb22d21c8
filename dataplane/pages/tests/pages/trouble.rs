//! Servers that are not there, die, lose extents, or are wrong.

use crate::support::{Folder, LONG, ended, filled, is_gone, options, pair, until};
use channel::message::{Message, MessageBody};
use pages::local::{LocalOptions, LocalServer};
use pages::{Client, ClientOptions, ExtentNotice, PagesError, Status, Work};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, recv,
    send, socket_with,
};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_server_that_is_not_there_is_named() {
    let folder = Folder::new();
    let missing = Client::connect(folder.socket(), &options());
    assert!(matches!(&missing, Err(PagesError::NoSocket(path)) if *path == folder.socket()), "{missing:?}");
    // A socket that a killed server left.
    drop(listener(&folder.socket()));
    let left = Client::connect(folder.socket(), &options());
    assert!(matches!(left, Err(PagesError::NobodyListens(_))), "{left:?}");
    // A server takes it over, and no second one does.
    let server = LocalServer::start(folder.socket(), LocalOptions::default()).unwrap();
    let second = LocalServer::start(folder.socket(), LocalOptions::default());
    assert!(matches!(&second, Err(PagesError::InUse(path)) if *path == folder.socket()), "{second:?}");
    assert!(Client::connect(folder.socket(), &options()).is_ok());
    drop(server);
    assert!(matches!(Client::connect(folder.socket(), &options()), Err(PagesError::NoSocket(_))));
    // Another kind of socket.
    let _stream = std::os::unix::net::UnixListener::bind(folder.socket()).unwrap();
    let other = Client::connect(folder.socket(), &options());
    assert!(matches!(other, Err(PagesError::OtherSocket(_))), "{other:?}");
    for options in [ClientOptions { requests: 3, ..options() }, ClientOptions { buffers: 1, ..options() }] {
        assert!(matches!(Client::connect(folder.socket(), &options), Err(PagesError::Layout(_))));
    }
}

#[test]
fn when_the_server_dies_each_request_ends_once() {
    let (_folder, server, mut client) = pair(&options());
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    server.die_after(5);
    let buffers = (0..20).map(|_| client.buffer(512).unwrap());
    let mut batch: Vec<_> =
        buffers.enumerate().map(|(at, buffer)| Work::write(extent, 0, buffer).tagged(at as u64)).collect();
    client.post(&mut batch).unwrap();
    let ends = ended(&mut client, 20);
    let tags: BTreeSet<_> = ends.iter().map(|end| end.tag).collect();
    let done = ends.iter().filter(|end| end.status == Status::DONE).count();
    let gone = ends.iter().filter(|end| end.status == Status::SERVER_GONE && end.len == 0).count();
    assert_eq!((tags.len(), done, gone, client.under_way()), (20, 5, 15, 0));
    assert!(is_gone(client.poll(&mut Vec::new())) && is_gone(client.wait(&mut Vec::new(), None)));
    assert!(is_gone(client.allocate(1, false)) && is_gone(client.free(&[extent])) && is_gone(client.state()));
    assert!(is_gone(client.notices()) && is_gone(client.arm()));
    let mut batch = vec![Work::read(extent, 0, client.buffer(8).unwrap())];
    assert!(is_gone(client.post(&mut batch)) && batch.len() == 1);
}

#[test]
fn a_client_that_never_sleeps_hears_of_the_end_too() {
    let (_folder, server, mut client) = pair(&options());
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    server.die_after(0);
    client.post(&mut vec![Work::read(extent, 0, client.buffer(8).unwrap())]).unwrap();
    let mut out = Vec::new();
    until("the end", || client.poll(&mut out).unwrap_or(1) > 0);
    assert_eq!(out[0].status, Status::SERVER_GONE);
}

/// A server process for the next test: it does its first 1,000 requests, and then takes its time.
#[test]
#[ignore = "another test runs it in a process of its own"]
fn server_process() {
    let server = LocalServer::start(std::env::var_os("PAGES_SOCKET").unwrap(), LocalOptions::default()).unwrap();
    println!("ready");
    let _ = std::io::stdin().lines().next();
    drop(server);
}

#[test]
fn a_killed_server_process_ends_all_requests() {
    let folder = Folder::new();
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trouble::server_process", "--ignored", "--nocapture"])
        .env("PAGES_SOCKET", folder.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = None;
    until("the server listens", || {
        client = Client::connect(folder.socket(), &options()).ok();
        client.is_some()
    });
    let mut client = client.unwrap();
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    let (mut posted, mut out, mut free) = (0_u64, Vec::new(), Vec::new());
    free.extend((0..64).map(|_| client.buffer(4096).unwrap()));
    let mut seen = BTreeSet::new();
    let mut gone = 0;
    while gone == 0 {
        let mut batch = Vec::new();
        for buffer in free.drain(..) {
            batch.push(Work::write(extent, 0, buffer).tagged(posted));
            posted += 1;
        }
        if client.post(&mut batch).is_err() {
            break;
        }
        if posted > 1000 {
            let _ = server.kill();
        }
        client.wait(&mut out, LONG).unwrap();
        for end in out.drain(..) {
            assert!(seen.insert(end.tag), "request {} ended twice", end.tag);
            gone += u64::from(end.status == Status::SERVER_GONE);
            assert!(end.status == Status::DONE || end.status == Status::SERVER_GONE, "{}", end.status);
            free.push(end.buffer);
        }
    }
    server.wait().unwrap();
    assert!(gone > 0 && seen.len() as u64 == posted && client.under_way() == 0);
    assert!(is_gone(client.state()));
    // The path is left, and the next server takes it over.
    let _server = LocalServer::start(folder.socket(), LocalOptions::default()).unwrap();
    assert!(Client::connect(folder.socket(), &options()).unwrap().allocate(1, false).is_ok());
}

#[test]
fn a_lost_extent_is_told_and_its_requests_have_the_status() {
    let (_folder, server, mut client) = pair(&options());
    let mine = client.allocate(2, false).unwrap();
    server.lose(mine[0], Status::SLAVE_GONE);
    let mut notices = Vec::new();
    until("the notice", || {
        notices.extend(client.notices().unwrap());
        !notices.is_empty()
    });
    assert_eq!(notices, [ExtentNotice::Lost { status: Status::SLAVE_GONE, extents: vec![mine[0]] }]);
    let mut batch: Vec<_> = mine.iter().map(|extent| Work::read(*extent, 0, client.buffer(8).unwrap())).collect();
    client.post(&mut batch).unwrap();
    let statuses: Vec<_> = ended(&mut client, 2).iter().map(|end| (end.extent, end.status)).collect();
    assert!(statuses.contains(&(mine[0], Status::SLAVE_GONE)) && statuses.contains(&(mine[1], Status::DONE)));
    assert_eq!(client.state().unwrap().extents, 2, "it is in the quota until it is freed");
}

#[test]
fn a_recalled_extent_is_told_before_it_is_lost() {
    let (_folder, server, mut client) = pair(&options());
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    let within = Duration::from_millis(20);
    server.recall(extent, within);
    let mut notices = Vec::new();
    until("both notices", || {
        notices.extend(client.notices().unwrap());
        notices.len() >= 2
    });
    let extents = vec![extent];
    let recalled = ExtentNotice::Recalled { within, extents: extents.clone() };
    assert_eq!(notices, [recalled, ExtentNotice::Lost { status: Status::RECALLED, extents }]);
}

#[test]
fn a_notice_ends_a_wait() {
    let (_folder, server, mut client) = pair(&options());
    let mine = client.allocate(2, false).unwrap();
    server.hold(true);
    client.post(&mut vec![Work::read(mine[0], 0, client.buffer(8).unwrap())]).unwrap();
    server.lose(mine[1], Status::LEASE_ENDED);
    let (mut out, mut notices) = (Vec::new(), Vec::new());
    while notices.is_empty() {
        client.wait(&mut out, LONG).unwrap();
        notices.extend(client.notices().unwrap());
    }
    assert_eq!((notices.len(), out.len()), (1, 0));
    server.hold(false);
    while out.is_empty() {
        client.wait(&mut out, LONG).unwrap();
    }
    assert_eq!((client.notices().unwrap().len(), out[0].status), (0, Status::DONE));
}

#[test]
fn wrong_bytes_are_seen_by_who_compares_and_failures_have_their_name() {
    let (_folder, server, mut client) = pair(&options());
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    client.post(&mut vec![Work::write(extent, 0, filled(&client, &[9; 64]))]).unwrap();
    ended(&mut client, 1);
    let mut read = || {
        client.post(&mut vec![Work::read(extent, 0, client.buffer(64).unwrap())]).unwrap();
        ended(&mut client, 1).remove(0)
    };
    assert_eq!(read().buffer.to_vec(), [9; 64]);
    server.flip(true);
    assert_ne!(read().buffer.to_vec(), [9; 64]);
    server.flip(false);
    server.fail_with(Some(Status::NO_ANSWER));
    let end = read();
    assert_eq!((end.status, end.len, end.buffer.len()), (Status::NO_ANSWER, 0, 64));
    server.fail_with(None);
    assert_eq!(read().buffer.to_vec(), [9; 64]);
}

fn listener(path: &Path) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&listener, 4).unwrap();
    listener
}

/// What a client says to a server that answers its HELLO so.
fn answered(answer: &[u8]) -> PagesError {
    let folder = Folder::new();
    let listener = listener(&folder.socket());
    let answer = answer.to_vec();
    let server = std::thread::spawn(move || {
        let socket = accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
        recv(&socket, &mut [0; 256], RecvFlags::empty()).unwrap();
        send(&socket, &answer, SendFlags::NOSIGNAL).unwrap();
        // Until the client has read it and gone.
        let _ = recv(&socket, &mut [0; 256], RecvFlags::empty());
    });
    let error = Client::connect(folder.socket(), &options()).unwrap_err();
    server.join().unwrap();
    error
}

#[test]
fn a_server_that_talks_nonsense_is_refused_by_name() {
    let message = |body| Message { tag: 1, body }.emit();
    let welcome = MessageBody::Welcome { capacity: 2, extents: 1, buffers: 4096 };
    assert!(matches!(answered(&message(welcome)), PagesError::Nonsense(why) if why.contains("descriptors")));
    assert!(matches!(answered(&message(MessageBody::Open)), PagesError::Nonsense(_)));
    assert!(matches!(answered(b"HTTP/1.1 400 Bad Request"), PagesError::Message(_)));
    let mut newer = message(MessageBody::Freed);
    newer[4] = 3;
    assert!(answered(&newer).to_string().contains("has version 3"));
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_only_so_long() {
    let folder = Folder::new();
    let _listener = listener(&folder.socket());
    let error = Client::connect(folder.socket(), &ClientOptions { patience: Duration::from_millis(20), ..options() });
    assert!(matches!(error, Err(PagesError::NoAnswer(_))), "{error:?}");
}
