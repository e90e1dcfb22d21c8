//! A guest with network cards of real kinds behind an IOMMU. QEMU emulates both, and their drivers are the real ones.
//!
//! Each card is behind a root port of its own, so that its address is 0000:01:00.0, 0000:02:00.0 and so on, and its
//! IOMMU group its own. At the other end of card N is the interface `tapN` of a namespace. The guest takes commands by
//! a shell.

use crate::image::{Root, installed};
use crate::kernel;
use crate::machine::{APPEND, accept, logs, tail};
use crate::program::run;
use crate::shell::Shell;
use crate::trunk;
use netns::Namespace;
use netns::product::{Place, binaries};
use std::fs;
use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use wire::net::ethernet::MacText;

/// Modules that must be loaded, with those that they depend on. The test itself loads `irqbypass` and `vfio`.
const MODULES: [&str; 10] = [
    "virtio_pci",
    "virtio_console",
    "virtio_net",
    "e1000e",
    "igb",
    "vmxnet3",
    "8021q",
    "irqbypass",
    "vfio_iommu_type1",
    "vfio_pci",
];

/// Parts of DPDK that are needed for these cards.
const DRIVERS: [&str; 7] =
    ["bus_pci", "bus_vdev", "mempool_ring", "net_e1000", "net_virtio", "net_vmxnet3", "net_af_packet"];

/// A kind of card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// Intel 82574L, with the kernel's `e1000e`.
    E1000e,
    /// Intel 82576, with the kernel's `igb`; QEMU has it from version 8 on.
    Igb,
    /// VMware's.
    Vmxnet3,
    /// virtio 1.0, behind the IOMMU.
    Virtio,
}

impl Card {
    /// QEMU's name of it, with its options.
    fn device(self) -> &'static str {
        match self {
            Self::E1000e => "e1000e",
            Self::Igb => "igb",
            Self::Vmxnet3 => "vmxnet3",
            // Without these two options it is not behind the IOMMU.
            Self::Virtio => "virtio-net-pci,iommu_platform=on,disable-legacy=on",
        }
    }
}

/// The configuration of the machine.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// The cards, the first at 0000:01:00.0.
    pub cards: &'a [Card],
    /// Bits of the IOMMU's addresses: 39 as in desktop processors, or 48.
    pub address_bits: u32,
    /// Whether the IOMMU confines interrupts.
    pub remaps_interrupts: bool,
    /// Whether there is one more card, an e1000e that is not behind the IOMMU, at [`UNCONFINED`].
    pub unconfined: bool,
    /// The largest IP packet at the other end of the cards, in bytes.
    pub mtu: u32,
    /// The VLAN that the cards are in, by a tag in their frames; the other ends have none. Cards have one queue then.
    pub vlan: Option<u16>,
    /// Queues that each card can have.
    pub queues: u32,
    /// Processors of the guest.
    pub processors: u32,
    /// Whether the other ends of the cards leave checksums to them, as a host does with its virtual machines: then UDP
    /// checksums come unfinished.
    pub unfinished: bool,
}

impl Default for Config<'_> {
    fn default() -> Self {
        Self {
            cards: &[Card::E1000e],
            address_bits: 48,
            remaps_interrupts: true,
            unconfined: false,
            mtu: 1500,
            vlan: None,
            queues: 1,
            processors: 1,
            unfinished: false,
        }
    }
}

/// A running guest. It ends when this is dropped, and when this process dies.
pub struct Guest {
    qemu: Child,
    shell: Shell,
    monitor: UnixStream,
    /// The other end of the cards: `tap0` with 10.0.1.1/24, `tap1` with 10.0.2.1/24, and so on.
    pub namespace: Namespace,
    place: Place,
}

/// The PCI address of the card that is not behind the IOMMU.
pub const UNCONFINED: &str = "0000:41:00.0";

/// The interface at the other end of a card.
pub fn tap(card: usize) -> String {
    format!("tap{card}")
}

/// The card's Ethernet address.
pub fn mac(card: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 9, 3, card as u8 + 1]
}

/// The Ethernet address at the other end of a card.
pub fn other_mac(card: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 9, 4, card as u8 + 1]
}

/// The card's PCI address.
pub fn address(card: usize) -> String {
    format!("0000:{:02x}:00.0", card + 1)
}

/// Whether this machine's DPDK has drivers for the cards; else the reason.
pub fn missing() -> Option<String> {
    let drivers = drivers().err()?;
    Some(format!("{drivers}: scripts/setup.sh installs dpdk"))
}

/// The directory of DPDK's drivers.
fn drivers() -> Result<PathBuf, String> {
    let library = Path::new("/usr/lib/x86_64-linux-gnu/dpdk");
    let entries = fs::read_dir(library).map_err(|error| format!("{}: {error}", library.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path());
    let is_drivers = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pmds-"));
    found.find(is_drivers).ok_or_else(|| format!("{} has no drivers", library.display()))
}

/// The root: our programs without debug information, DPDK's drivers, and ethtool.
fn root(scratch: &Path) -> Result<Root, String> {
    let mut root = Root::new("init-shell")?;
    for program in ["gvm-dp", "libgvm_dpdk.so"] {
        let stripped = scratch.join(program);
        run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(binaries().join(program)))?;
        root.program(&format!("/usr/bin/{program}"), &stripped)?;
    }
    root.program("/usr/sbin/ethtool", &installed("ethtool")?)?;
    let directory = drivers()?;
    for driver in DRIVERS {
        let name = format!("librte_{driver}.so");
        let begins = format!("{name}.");
        let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        let driver = paths
            .find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&begins)))
            .ok_or_else(|| format!("{} has no {name}", directory.display()))?;
        // The library comes first, because the driver's directory has a link to it.
        let library = driver.canonicalize().map_err(|error| format!("{}: {error}", driver.display()))?;
        root.program(&library.to_string_lossy(), &library)?;
        root.file(&directory.join(&name).to_string_lossy(), &driver);
    }
    Ok(root)
}

impl Guest {
    /// Boots a guest, and waits until it takes commands.
    ///
    /// # Panics
    /// When something is missing or it does not boot.
    pub fn boot(config: &Config<'_>) -> Self {
        let place = Place::new();
        let made = kernel::prepare(&MODULES).and_then(|kernel| {
            let archive = root(place.directory())?.archive(&kernel)?;
            let initrd = place.path("initrd");
            fs::write(&initrd, archive).map_err(|error| format!("{}: {error}", initrd.display()))?;
            Ok(kernel)
        });
        let kernel = made.unwrap_or_else(|reason| panic!("no guest: {reason}"));
        let namespace = Namespace::new();
        for card in 0..config.cards.len() {
            let tap = tap(card);
            let multi = if config.queues > 1 { " multi_queue" } else { "" };
            namespace.ip(&format!("tuntap add dev {tap} mode tap{multi}"));
            namespace.ip(&format!("link set dev {tap} address {} addrgenmode none", MacText(other_mac(card))));
            namespace.ip(&format!("link set dev {tap} mtu {}", config.mtu));
            namespace.ip(&format!("address add 10.0.{}.1/24 dev {tap}", card + 1));
            namespace.ip(&format!("link set dev {tap} up"));
        }
        let listen = |name: &str| UnixListener::bind(place.path(name)).expect("room for a socket");
        let (console, monitor) = (listen("console"), listen("monitor"));
        let trunk = |card| Some((config.vlan?, listen(&format!("card{card}")), listen(&format!("wire{card}"))));
        let trunks: Vec<_> = (0..config.cards.len()).filter_map(trunk).collect();
        let mut qemu = start(&namespace, &place, &kernel.image, config).unwrap_or_else(|error| panic!("{error}"));
        let connected = accept(&console, &mut qemu).and_then(|console| {
            for (vid, card, tap) in &trunks {
                trunk::start(accept(card, &mut qemu)?, accept(tap, &mut qemu)?, *vid)?;
            }
            Ok((console, accept(&monitor, &mut qemu)?))
        });
        let (console, monitor) =
            connected.unwrap_or_else(|reason| panic!("{reason}\n{}", tail(&place.path("qemu.log"))));
        let shell = Shell::begin(console, logs(&place));
        Self { qemu, shell, monitor, namespace, place }
    }

    /// For the processes and files of a test at the other end of the cards.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// As [`Shell::shell`].
    pub fn shell(&mut self, command: &str) -> (i32, String) {
        self.shell.shell(command)
    }

    /// As [`Shell::run`].
    pub fn run(&mut self, command: &str) -> String {
        self.shell.run(command)
    }

    /// As [`Shell::until`].
    pub fn until(&mut self, what: &str, command: &str) -> String {
        self.shell.until(what, command)
    }

    /// The name of the interface that the kernel's driver has made of a card.
    ///
    /// # Panics
    /// When there is none.
    pub fn interface(&mut self, card: usize) -> String {
        let device = format!("/sys/bus/pci/devices/{}", address(card));
        // Interfaces of virtio are one directory further down.
        self.until(
            "the interface of a card",
            &format!("ls -d {device}/net/* {device}/virtio*/net/* 2>/dev/null | grep ."),
        )
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
    }

    /// Sends QEMU's monitor a command, for example `set_link card0 off`.
    ///
    /// # Panics
    /// When QEMU is gone.
    pub fn monitor(&mut self, command: &str) {
        self.monitor.write_all(format!("{command}\n").as_bytes()).expect("QEMU listens");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Starts QEMU; its console and its monitor connect to sockets of the place.
fn start(namespace: &Namespace, place: &Place, kernel: &Path, config: &Config<'_>) -> Result<Child, String> {
    let at = |name: &str| place.path(name).display().to_string();
    let log = |error: std::io::Error| format!("{}: {error}", at("qemu.log"));
    let said = fs::File::create(place.path("qemu.log")).map_err(log)?;
    let mut command = Command::new("ip");
    // QEMU ends with the thread that started it, whatever ends that thread.
    command.args(["netns", "exec", namespace.name(), "setpriv", "--pdeathsig", "KILL"]);
    // The variable may name another QEMU and its options, for example the path of its firmware, separated by blanks.
    let other = std::env::var("GVM_GUEST_QEMU").ok().filter(|words| !words.trim().is_empty());
    command.args(other.as_deref().unwrap_or("qemu-system-x86_64").split_whitespace());
    command.args("-nodefaults -no-user-config -display none -no-reboot -m 768".split(' '));
    command.args(["-accel", if config.processors > 1 { "tcg,thread=multi" } else { "tcg" }]);
    command.args(["-smp", &config.processors.to_string()]);
    // With AVX2 and BMI2, which our programs need.
    command.args("-M q35,kernel-irqchip=split -cpu max,la57=off".split(' '));
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(place.path("initrd"));
    // On a busy machine the kernel measures its TSC wrongly, and its clock runs several times too fast: then heartbeats
    // from outside are late. QEMU's HPET has the right time.
    let more = "random.trust_cpu=on clocksource=hpet intel_iommu=on iommu=pt hugepagesz=2M hugepages=112";
    command.args(["-append", &format!("{APPEND} {more}")]);
    command.args(["-serial", &format!("file:{}", at("serial.log"))]);
    let (bits, remaps) = (config.address_bits, if config.remaps_interrupts { "on" } else { "off" });
    // QEMU requires that the IOMMU is the first device.
    command.args(["-device", &format!("intel-iommu,intremap={remaps},caching-mode=on,aw-bits={bits}")]);
    if config.unconfined {
        command.args(["-device", "pxb-pcie,id=beyond,bus=pcie.0,bus_nr=64,bypass_iommu=on"]);
        command.args(["-device", "pcie-root-port,id=unconfined,bus=beyond,chassis=64"]);
        command.args(["-device", "e1000e,bus=unconfined,romfile="]);
    }
    for (card, kind) in config.cards.iter().enumerate() {
        let (id, tap, mac) = (format!("card{card}"), tap(card), MacText(mac(card)));
        command.args([
            "-device",
            &format!("pcie-root-port,id=slot{card},bus=pcie.0,chassis={},addr={}.0", card + 1, card + 4),
        ]);
        let (queues, vectors) = match (config.queues, *kind) {
            (1, _) => (String::new(), String::new()),
            (queues, Card::Virtio) => (format!(",queues={queues}"), format!(",mq=on,vectors={}", 2 * queues + 2)),
            (queues, _) => (format!(",queues={queues}"), String::new()),
        };
        // Without virtio's header on the tap, checksums are complete there, as on a wire.
        let header = if config.unfinished { "on" } else { "off" };
        let wire = if config.vlan.is_some() { tap.clone() } else { id.clone() };
        let options = format!("ifname={tap},script=no,downscript=no,vhost=off,vnet_hdr={header}{queues}");
        command.args(["-netdev", &format!("tap,id={wire},{options}")]);
        if config.vlan.is_some() {
            // A hub joins the tap with a stream, and the card is another stream: the test is between them.
            for stream in [format!("wire{card}"), id.clone()] {
                let path = at(&stream);
                command.args(["-netdev", &format!("stream,id={stream},server=off,addr.type=unix,addr.path={path}")]);
            }
            for end in [wire, format!("wire{card}")] {
                command.args(["-netdev", &format!("hubport,id={end}-port,hubid={card},netdev={end}")]);
            }
        }
        command.args(["-device", &format!("{}{vectors},netdev={id},bus=slot{card},mac={mac},romfile=", kind.device())]);
    }
    command.args(["-chardev", &format!("socket,id=console,path={}", at("console"))]);
    command.args(["-device", "virtio-serial-pci,bus=pcie.0,addr=1e.0", "-device", "virtconsole,chardev=console"]);
    command.args(["-chardev", &format!("socket,id=monitor,path={}", at("monitor")), "-monitor", "chardev:monitor"]);
    let said_too = said.try_clone().map_err(log)?;
    command.stdin(Stdio::null()).stdout(said).stderr(said_too);
    command.spawn().map_err(|error| format!("qemu-system-x86_64: {error}"))
}
