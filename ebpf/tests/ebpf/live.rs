//! The program on real interfaces, in a network namespace of the test's own thread.

use crate::support::*;
use ebpf::{Config, Hook, Neighbor, Steer, SteerError, Verdict};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use wire::Shard;

/// The environment variable with the interface that this program holds when a test starts it again.
const HOLD: &str = "GVM_TEST_HOLD";

/// No step takes a second. A step that takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test of its own: [`a_killed_process_leaves_nothing_behind`] starts and kills it.
#[test]
#[ignore = "holds an interface until it is killed; another test starts it"]
fn holds_an_interface_until_it_is_killed() {
    let ifname = std::env::var(HOLD).expect("set by the test that starts this");
    let mut steer = Steer::load(&Config::new(&shards())).unwrap();
    steer.attach(&ifname, Hook::Driver).unwrap();
    steer.set_addresses(&[ADDRESS]).unwrap();
    let _socket = serve(&mut steer, 0);
    eprintln!("attached");
    // Waits until the other end of the pipe is gone, in case the parent dies first.
    let _ = std::io::stdin().read(&mut [0]);
}

fn has_program(ifname: &str) -> bool {
    ip(&format!("link show dev {ifname}")).contains("xdp")
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() || enter_own_namespace().is_none() {
        return;
    }
    ip("link add left type veth peer name right");
    ip("link set dev left up");
    ip("link set dev right up");
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "live::holds_an_interface_until_it_is_killed", "--nocapture"])
            .env(HOLD, "left")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("attached")), "the child could not attach");
        assert!(has_program("left"));
        // While the child lives, no other program can take its place.
        let mut next = Steer::load(&Config::new(&shards)).unwrap();
        assert!(matches!(next.attach("left", Hook::Driver), Err(SteerError::Busy(_))));
        // SIGKILL: no code of the child runs any more.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!has_program("left"));
        // The next process takes over at once. Nothing had to be cleaned up.
        next.attach("left", Hook::Driver).unwrap();
        assert!(has_program("left"));
        drop(next);
        assert!(!has_program("left"));
    }
}

#[test]
fn attaching_takes_packets_to_the_interfaces_own_mac() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() || enter_own_namespace().is_none() {
        return;
    }
    ip("link add left address 02:00:00:00:00:01 type veth peer name right");
    for hook in [Hook::Driver, Hook::Generic] {
        let mut steer = Steer::load(&Config::new(&shards)).unwrap();
        steer.set_addresses(&[ADDRESS]).unwrap();
        assert_eq!(run(&mut steer, PACKET).1, Verdict::PassMac);
        steer.attach("left", hook).unwrap();
        assert_eq!(run(&mut steer, PACKET).1, Verdict::DropNoSocket);
        assert!(matches!(steer.attach("right", hook), Err(SteerError::Attached(name)) if name == "left"));
    }
}

/// A thread in another network namespace. The namespace ends with the thread.
struct Outer {
    thread: i32,
    tasks: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Outer {
    fn start() -> Self {
        let (tasks, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            enter_own_namespace().unwrap();
            // SAFETY: has no arguments and cannot fail.
            tell.send(unsafe { libc::gettid() }).unwrap();
            queue.into_iter().for_each(|task| task());
        });
        Self { thread: told.recv().unwrap(), tasks }
    }

    /// Calls `f` in that thread and waits for it. Sockets that it makes belong to that namespace.
    fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.tasks.send(Box::new(move || tell.send(f()).unwrap())).unwrap();
        told.recv().unwrap()
    }
}

#[test]
fn cargo_of_another_shard_arrives_at_its_gateway_and_other_traffic_at_the_kernel() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() || enter_own_namespace().is_none() {
        return;
    }
    // A slave's machine, this gateway, and the gateway of shard 3 beyond it.
    let [slave, beyond] = [Outer::start(), Outer::start()];
    for (outer, name, number) in [(&slave, "left", 1), (&beyond, "right", 2)] {
        ip(&format!(
            "link add {name} address 02:00:00:00:00:0{number} type veth peer name outer netns {}",
            outer.thread
        ));
        ip(&format!("address add 10.0.{number}.1/24 dev {name}"));
        ip(&format!("link set dev {name} up"));
        outer.run(move || {
            ip("link set dev outer address 02:00:00:00:03:01");
            ip(&format!("address add 10.0.{number}.2/24 dev outer"));
            ip("link set dev outer up");
            // Complete checksums on the wire, and a receiving end that accepts redirected packets.
            let arguments = ["-K", "outer", "tx", "off", "gro", "on"];
            assert!(Command::new("ethtool").args(arguments).output().unwrap().status.success());
        });
    }
    let neighbor = Neighbor {
        shard: Shard(3),
        ifindex: index("right"),
        src_mac: [2, 0, 0, 0, 0, 2],
        dst_mac: [2, 0, 0, 0, 3, 1],
        dst_ip: Ipv4Addr::new(10, 0, 2, 2),
    };
    let mut steer = Steer::load(&Config { neighbors: vec![neighbor], ..Config::new(&shards) }).unwrap();
    steer.set_addresses(&[Ipv4Addr::new(10, 0, 1, 1)]).unwrap();
    steer.attach("left", Hook::Driver).unwrap();
    let kernel = UdpSocket::bind("10.0.1.1:53").unwrap();
    kernel.set_read_timeout(Some(PATIENCE)).unwrap();
    let from = slave.run(|| UdpSocket::bind("10.0.1.2:0").unwrap());
    let there = beyond.run(|| UdpSocket::bind("10.0.2.2:9999").unwrap());
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    let record = &with(PACKET, &[(SLAVE_ID, &(3u32 * 8_192).to_le_bytes())])[RECORD..];
    let mut buffer = [0; 256];
    for i in 0..20u8 {
        let record = with(record, &[(record.len() - 1, &[i])]);
        from.send_to(&record, "10.0.1.1:9999").unwrap();
        let (len, source) = there.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], source), (&record[..], from.local_addr().unwrap()));
        from.send_to(&[i], "10.0.1.1:53").unwrap();
        assert_eq!(kernel.recv_from(&mut buffer).unwrap(), (1, from.local_addr().unwrap()));
    }
    assert_eq!(steer.packets(Verdict::RedirectNeighbor).unwrap(), 20);
    assert_eq!(steer.packets(Verdict::PassPort).unwrap(), 20);
    // ARP packets passed.
    assert!(steer.packets(Verdict::PassEthertype).unwrap() > 0);
}

/// Leaves the calling thread with these of its capabilities, by number.
fn keep_capabilities(keep: &[u32]) {
    // The header of version 3: the calling thread. Then effective, permitted and inheritable, low half and high half.
    let header = [0x2008_0522u32, 0];
    let set = keep.iter().fold(0u64, |set, capability| set | 1 << capability);
    let (low, high) = (set as u32, (set >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    // SAFETY: both arrays have the layout of this version and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn the_capabilities_that_an_error_names_are_those_that_are_needed() {
    const NET_ADMIN: u32 = 12;
    const NET_RAW: u32 = 13;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let shards = shards();
    if load(&Config::new(&shards)).is_none() || enter_own_namespace().is_none() {
        return;
    }
    ip("link add left type veth peer name right");
    // A dropped capability does not come back. So each try has a thread of its own, which inherits the namespace.
    let attempt = |keep: &[u32]| {
        std::thread::scope(|scope| {
            let inside = || {
                keep_capabilities(keep);
                let mut steer = Steer::load(&Config::new(&shards))?;
                steer.set_addresses(&[ADDRESS])?;
                let _socket = serve(&mut steer, 0);
                steer.attach("left", Hook::Driver)
            };
            scope.spawn(inside).join().unwrap()
        })
    };
    attempt(&[BPF, PERFMON, NET_ADMIN, NET_RAW]).unwrap();
    for keep in [&[PERFMON, NET_ADMIN, NET_RAW][..], &[BPF, NET_ADMIN, NET_RAW], &[BPF, PERFMON, NET_RAW], &[]] {
        let error = attempt(keep).unwrap_err();
        assert!(matches!(error, SteerError::Permission(_)), "with {keep:?}: {error}");
        assert!(error.to_string().contains("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"), "{error}");
    }
}
