//! The real `gvm-dp qp` on NIC queues of a tap: the test is the wire between the tap and the guest.

use super::faults::BAD;
use super::pair::{Op, Patience};
use guest::content;
use guest::fault::Faults;
use guest::machine::TAP;
use guest::verbs::{Completion, Path};
use guest::world::{Listener, Way, World};
use guest::{GUEST, HOST};
use netns::product::Process;
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// Bytes that move.
const LEN: u64 = 300_001;
/// The offset in the guest's memory.
const AT: u64 = 4097;
/// Our queue pair's number and first PSN when it is set up by hand.
const OWN: (u32, u32) = (0x0140, 0xff_fff0);
/// The guest's first PSN.
const GUEST_PSN: u32 = 0x00_1234;

/// The other end is a process, so this host does nothing.
fn nobody() -> Listener {
    Listener::default()
}

/// From now on the host is what is behind the tap.
fn tap(world: &mut World, link_mtu: u32) {
    world.machine().namespace.ip(&format!("link set dev {TAP} mtu {link_mtu}"));
    world.tap(true);
}

fn connect(world: &mut World, mtu: u32, qpn: u32, psn: u32) {
    // The guest retries for ever, so its timeout may be short.
    let Patience { timeout, retries, rnr_retries, rnr_timer } = Patience { timeout: 12, ..Patience::USUAL };
    let own_psn = GUEST_PSN;
    let path = Path { mtu, qpn, psn, own_psn, timeout, retries, rnr_retries, rnr_timer, depth: 16 };
    world.connect(&mut nobody(), &path);
}

/// Runs the wire until a process has ended. Returns its exit code and its stderr.
fn until_it_ends(world: &mut World, mut process: Process) -> (Option<i32>, String) {
    world.until("the end of gvm-dp", &mut nobody(), |_| (!process.is_running()).then_some(()));
    let (code, printed, said) = process.wait();
    (code, format!("{printed}\n{said}"))
}

/// `gvm-dp qp write` and `read` with the guest's memory, on a good and on a bad wire, and with a wrong key.
pub(crate) fn asks(world: &mut World, link_mtu: u32, mtu: u32) {
    tap(world, link_mtu);
    let place = world.machine().place();
    let bytes = content::bytes(70, LEN as usize);
    let file = place.path("content");
    std::fs::write(&file, &bytes).expect("room for a file");
    let (file, got) = (file.display().to_string(), place.path("got"));
    let [write, read] = [format!("write --in {file}"), format!("read --length {LEN} --out {}", got.display())];
    for (at, (command, faults, flip)) in [
        (&write, Faults::NONE, 0),
        (&read, Faults::NONE, 0),
        (&write, BAD, 0),
        (&read, BAD, 0),
        (&read, Faults::NONE, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let opened = world.open(&mut nobody());
        connect(world, mtu, OWN.0, OWN.1);
        if command == &write {
            world.ask(&mut nobody(), &format!("fill 0 400000 {at}"));
        }
        let line = format!(
            "gvm-dp qp {command} --offset {AT} --port xdp:{TAP} --frames 1024 --timeout 268ms --path-mtu {mtu} --peer \
             {} \
             --qpn {} --psn {GUEST_PSN} --rkey {} --va {} --region 4M --own-qpn {} --own-psn {}",
            Ipv4Addr::from(GUEST),
            opened.qpn,
            opened.rkey ^ flip,
            opened.address,
            OWN.0,
            OWN.1
        );
        world.become_bad(faults, faults, at as u64);
        let machine = world.machine();
        let process = machine.place().start(&machine.namespace, &line);
        let (code, said) = until_it_ends(world, process);
        let happened = [Way::ToGuest, Way::ToHost].map(|way| world.happened(way));
        world.become_bad_no_more();
        if flip == 1 {
            assert!(code == Some(8) && said.contains("REM_ACCESS_ERR"), "{line}: {code:?}\n{said}");
            continue;
        }
        assert_eq!(code, Some(0), "{line}\n{said}\n{happened:?}");
        // One way carries the content, and the other one only few packets.
        let packets: u64 = happened.iter().map(|way| way.packets).sum();
        assert!(packets > LEN / u64::from(mtu), "{line}: {happened:?}");
        if command == &read {
            assert!(std::fs::read(&got).expect("it wrote a file") == bytes, "{line}: content");
            std::fs::remove_file(&got).expect("it is ours");
        } else {
            let mut expected = content::bytes(at as u64, 400_000);
            expected[AT as usize..(AT + LEN) as usize].copy_from_slice(&bytes);
            assert_eq!(world.ask(&mut nobody(), "hash 0 400000"), [content::hash(&expected)], "{line}: content");
        }
    }
    world.tap(false);
}

/// The value of a key in a line of the set-up.
fn value(line: &str, key: &str) -> u64 {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let number = word.and_then(|text| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    });
    number.unwrap_or_else(|| panic!("no {key} in {line}"))
}

fn success(done: &[Completion], id: u64, op: Op) {
    let got: Vec<_> = done.iter().map(|done| (done.id, &*done.kind, &*done.status)).collect();
    assert_eq!(got, [(id, op.names().1, "SUCCESS")]);
}

/// `gvm-dp qp serve` lends memory to the guest, set up over TCP as any foreign peer would; with a bad wire.
pub(crate) fn serves(world: &mut World, link_mtu: u32, mtu: u32) {
    tap(world, link_mtu);
    let machine = world.machine();
    let saved = machine.place().path("saved");
    let line = format!(
        "gvm-dp qp serve --port xdp:{TAP} --frames 1024 --path-mtu {mtu} --memory 1M --save {}",
        saved.display()
    );
    let server = machine.place().start(&machine.namespace, &line);
    server.says(&["peers set up their queue pairs at"]);
    let opened = world.open(&mut nobody());
    let offer =
        format!("GVM-QP 1 ip={} qpn={} psn={GUEST_PSN} mtu={mtu} reads=16\n", Ipv4Addr::from(GUEST), opened.qpn);
    let (setup, answer) = world.machine().namespace.enter(|| {
        let mut stream = TcpStream::connect(SocketAddr::from((HOST, 9997))).expect("it listens");
        stream.write_all(offer.as_bytes()).expect("it reads");
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).expect("it answers");
        (stream, answer)
    });
    let [qpn, psn, rkey, address] = ["qpn", "psn", "rkey", "va"].map(|key| value(&answer, key));
    assert_eq!((value(&answer, "mtu"), value(&answer, "length")), (u64::from(mtu), 1 << 20), "{answer}");
    connect(world, mtu, qpn as u32, psn as u32);

    let mut expected = vec![0; 1 << 20];
    let bytes = content::bytes(71, LEN as usize);
    world.ask(&mut nobody(), &format!("fill 0 {LEN} 71"));
    for (id, faults) in [(1, Faults::NONE), (3, BAD)] {
        world.become_bad(faults, faults, id);
        let to = id * 1001;
        world.ask(&mut nobody(), &format!("write {id} 0 {LEN} {} {rkey} 0 0", address + to));
        success(&world.poll(&mut nobody(), 1, 60_000), id, Op::Write);
        expected[to as usize..(to + LEN) as usize].copy_from_slice(&bytes);
        world.ask(&mut nobody(), &format!("fill 1000000 {LEN} 72"));
        world.ask(&mut nobody(), &format!("read {} 1000000 {LEN} {} {rkey} 0 0", id + 1, address + to));
        success(&world.poll(&mut nobody(), 1, 60_000), id + 1, Op::Read);
        assert_eq!(
            world.ask(&mut nobody(), &format!("hash 1000000 {LEN}")),
            [content::hash(&bytes)],
            "READ {faults:?}"
        );
    }
    world.become_bad_no_more();
    world.ask(&mut nobody(), &format!("fetch_add 5 0 8 {} {rkey} 77 0", address + 16));
    success(&world.poll(&mut nobody(), 1, 60_000), 5, Op::FetchAdd);
    expected[16..24].copy_from_slice(&77_u64.to_le_bytes());
    world.ask(&mut nobody(), &format!("write 6 0 100 {} {rkey} 0 0", address + (1 << 20) - 99));
    let done = world.poll(&mut nobody(), 1, 60_000);
    assert_eq!((done[0].id, &*done[0].status), (6, "REM_ACCESS_ERR"));

    drop(setup);
    server.signal(Signal::TERM);
    let (code, said) = until_it_ends(world, server);
    assert_eq!(code, Some(0), "{said}");
    assert!(std::fs::read(&saved).expect("it saved its memory") == expected, "what was lent");
    world.ask(&mut nobody(), "close");
    world.tap(false);
}
