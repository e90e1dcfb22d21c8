//! A guest whose swap is a disk of slaves' memory (`docs/disk.md`): a program needs twice the guest's RAM, and then the
//! slaves start again while a part of the program is only in their memory.

use guest::swapping::{SwapGuest, Swapped};
use netns::Namespace;
use netns::product::{Place, Process, until};
use netns::world::number;
use rustix::process::Signal;
use std::time::Instant;

/// MiB of the guest's RAM.
const RAM: u32 = 128;

/// MiB that the program needs when nothing fails, and when the slaves start again.
const TWICE: u32 = 2 * RAM;
const MORE: u32 = RAM + RAM / 4;

/// Passes over all of the memory.
const PASSES: u32 = 2;

/// A gateway, two slaves, a master and a disk, all on the loopback of a namespace.
struct Cluster {
    place: Place,
    host: Namespace,
    slaves: Vec<Process>,
    _others: [Process; 3],
}

impl Cluster {
    fn start() -> Self {
        let (place, host) = (Place::new(), Namespace::new());
        let common = "--heartbeat 250ms --rx-mode adaptive";
        let gateway = format!("gvm-dp gateway --name gateway --port udp:127.0.0.1:9999 --frames 4096 {common}");
        let gateway = place.start(&host, &gateway);
        gateway.says(&["gateway \"", "control socket"]);
        let slaves = [1, 2].map(|id| slave(&place, &host, id)).into();
        place.until_registered("gateway", 2);
        let master = format!(
            "gvm-dp master --name master --id 1 --gateway 127.0.0.1 --port udp:127.0.0.1:0 --frames 4096 {common}"
        );
        let master = place.start(&host, &master);
        master.says(&["applications at"]);
        place.until_stats("master", "the master knows the slaves", |stats| {
            stats["total"]["master"]["slaves_known"] == 2
        });
        let nbd = place.path("disk.nbd");
        let disk = format!("gvm-dp disk --name disk --size 384M --listen unix:{} --rx-mode adaptive", nbd.display());
        let disk = place.start(&host, &disk);
        disk.says(&["a disk of 384M at unix:"]);
        Self { place, host, slaves, _others: [gateway, master, disk] }
    }

    fn disk(&self, counter: &str) -> u64 {
        number(&self.place.stats("disk")["total"]["disk"][counter])
    }

    /// Kills both slaves, and starts them again, when the master and the disk know that.
    fn slaves_start_again(&mut self) {
        for slave in self.slaves.drain(..) {
            slave.signal(Signal::KILL);
            assert_eq!(slave.wait().0, None);
        }
        self.slaves = [1, 2].map(|id| slave(&self.place, &self.host, id)).into();
        until("all extents are lost", || (self.disk("extents_held") == 0).then_some(()));
        self.place.until_stats("master", "the master knows the slaves again", |stats| {
            stats["total"]["master"]["slaves_known"] == 2
        });
    }
}

fn slave(place: &Place, host: &Namespace, id: u32) -> Process {
    let slave = place.start(
        host,
        &format!(
            "gvm-dp slave --name slave-{id} --gateway 127.0.0.1 --id {id} --port udp:127.0.0.1:0 --domain {id} \
             --memory 256M --memory-pages ordinary --keep-free 0 --heartbeat 250ms --rx-mode adaptive --frames 4096"
        ),
    );
    slave.says(&["control socket"]);
    slave
}

/// The program's exit code; no byte was wrong.
fn code(printed: &str) -> i32 {
    assert!(!printed.contains("WRONG"), "{printed}");
    let code = printed.lines().find_map(|line| line.strip_prefix("code ")?.trim().parse().ok());
    code.unwrap_or_else(|| panic!("no exit code: {printed}"))
}

fn since(began: Instant, what: &str) {
    eprintln!("{what}: {:.1} s", began.elapsed().as_secs_f64());
}

#[test]
fn a_guest_swaps_to_memory_of_slaves_and_lost_pages_are_never_wrong() {
    if !guest::available() {
        return;
    }
    let began = Instant::now();
    let mut cluster = Cluster::start();
    let mut guest = SwapGuest::boot(&cluster.place, &cluster.host, RAM, &cluster.place.path("disk.nbd"));
    guest.swap_on();
    since(began, "boot");

    let usable = guest.memory("MemTotal") / 4;
    let before = guest.swapped();
    guest.start_needs(&format!("{TWICE} 1 {PASSES}"));
    let printed = guest.until_printed("code");
    assert_eq!(code(&printed), 0, "{printed}");
    assert!(printed.contains(&format!("pass {PASSES}\n")), "{printed}");
    let after = guest.swapped();
    let swapped = Swapped { pages_in: after.pages_in - before.pages_in, pages_out: after.pages_out - before.pages_out };
    since(began, &format!("{PASSES} passes over {TWICE} MiB in {} MiB, {swapped:?}", usable / 256));
    // At the start of each pass at least this many pages are on the disk alone, and the pass reads them. Each pass but
    // the last one changes all pages, and ends with as many on the disk.
    let beyond = u64::from(TWICE) * 256 - usable;
    assert!(swapped.pages_in >= u64::from(PASSES) * beyond, "{swapped:?}, {beyond} pages have no room");
    assert!(swapped.pages_out >= u64::from(PASSES) * beyond, "{swapped:?}, {beyond} pages have no room");
    // The disk saw the same, and could keep it on slaves alone.
    let written = cluster.disk("disk_bytes_written");
    assert!(written >= 4096 * swapped.pages_out, "{written} bytes: {}", cluster.place.not_zero("disk"));
    assert_eq!(cluster.disk("requests_failed_io") + cluster.disk("requests_failed_no_space"), 0);
    // Freed pages are discarded, and slaves get their memory back.
    until("the memory is given back", || {
        (cluster.disk("extents_trimmed") > 0 && cluster.disk("blocks_present") < beyond / 2).then_some(())
    });

    guest.start_needs(&format!("{MORE} 2 1 /root/go"));
    guest.until_printed("filled");
    let beyond = u64::from(MORE) * 256 - usable;
    // The figures of the disk are as of a moment before they are asked for.
    until("what has no room is on the disk", || (cluster.disk("blocks_present") >= beyond).then_some(()));
    cluster.slaves_start_again();
    guest.shell.run("touch /root/go");
    let printed = guest.until_printed("code");
    // SIGBUS: the kernel could not read a page.
    assert_eq!(code(&printed), 128 + 7, "{printed}\n{}", guest.shell.log());
    let errors = guest.shell.run("dmesg | grep -c 'Read-error on swap-device'");
    assert!(cluster.disk("requests_failed_io") > 0 && errors.trim() != "0", "{}", cluster.place.not_zero("disk"));
    since(began, "the slaves have started again");

    // What is lost is good again when it was trimmed, or written.
    guest.shell.run("swapoff /dev/vda && blkdiscard /dev/vda");
    assert_eq!(cluster.disk("blocks_lost"), 0);
    guest.swap_on();
    guest.start_needs(&format!("{MORE} 3 1"));
    let printed = guest.until_printed("code");
    assert_eq!(code(&printed), 0, "{printed}\n{}", guest.shell.log());
    since(began, "once more");
}
