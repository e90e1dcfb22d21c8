//! The virtual machine with rxe: QEMU in a network namespace, its card and its console as sockets of the test.

use crate::link::Link;
use crate::{GUEST_MAC, HOST, HOST_MAC, kernel, rxe};
use netns::Namespace;
use netns::product::Place;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wire::net::ethernet::MacText;

/// The kernel's command line: the console, no waiting after a panic, and without parts that take long when emulated.
pub(crate) const APPEND: &str = "console=ttyS0 panic=-1 quiet mitigations=off nokaslr no_timer_check cryptomgr.notests \
    audit=0 \
                      apparmor=0 selinux=0 tsc=reliable";

/// How long QEMU may take until it connects.
const PATIENCE: Duration = Duration::from_secs(20);

/// The interface of the namespace that [`Machine::tap`] carries.
pub const TAP: &str = "tap0";

/// A running guest. It ends when this is dropped, and when this process dies.
pub struct Machine {
    qemu: Child,
    /// The guest's card.
    pub card: Link,
    /// Frames from and to [`TAP`] of the namespace.
    pub tap: Link,
    /// The guest's verbs program.
    pub console: UnixStream,
    /// Where QEMU runs and the tap is, with the address of the host.
    pub namespace: Namespace,
    place: Place,
}

impl Machine {
    /// Boots a guest; returns at once, while it boots.
    ///
    /// # Errors
    /// When something is missing or QEMU does not start.
    pub fn boot() -> Result<Self, String> {
        let place = Place::new();
        let initrd = place.path("initrd");
        let (kernel, archive) = rxe::build(place.directory())?;
        fs::write(&initrd, archive).map_err(|error| format!("{}: {error}", initrd.display()))?;

        let namespace = Namespace::new();
        let [a, b, c, d] = HOST;
        namespace.ip(&format!("tuntap add dev {TAP} mode tap"));
        namespace.ip(&format!("link set dev {TAP} address {} addrgenmode none", MacText(HOST_MAC)));
        namespace.ip(&format!("address add {a}.{b}.{c}.{d}/24 dev {TAP}"));
        namespace.ip(&format!("link set dev {TAP} up"));

        let listen = |name: &str| {
            let path = place.path(name);
            UnixListener::bind(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let (card, tap, console) = (listen("card")?, listen("tap")?, listen("console")?);
        let mut qemu = start(&namespace, &place, &kernel, &initrd)?;
        let connected = (|| {
            // QEMU connects in the order of its arguments.
            let console = accept(&console, &mut qemu)?;
            let (tap, card) = (accept(&tap, &mut qemu)?, accept(&card, &mut qemu)?);
            let link = |stream| Link::new(stream).map_err(|error| error.to_string());
            Ok((console, link(tap)?, link(card)?))
        })();
        match connected {
            Ok((console, tap, card)) => Ok(Self { qemu, card, tap, console, namespace, place }),
            Err(reason) => {
                let reason: String = reason;
                let _ = qemu.kill();
                let _ = qemu.wait();
                Err(format!("{reason}\n{}", tail(&place.path("qemu.log"))))
            }
        }
    }

    /// The last output of kernel and QEMU, for the message of a failed test.
    pub fn log(&self) -> String {
        logs(&self.place).iter().map(|log| tail(log)).collect()
    }

    /// For the processes and files of a test.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn start(namespace: &Namespace, place: &Place, kernel: &kernel::Kernel, initrd: &Path) -> Result<Child, String> {
    let at = |name: &str| place.path(name).display().to_string();
    let log = |error: std::io::Error| format!("{}: {error}", at("qemu.log"));
    let said = fs::File::create(place.path("qemu.log")).map_err(log)?;
    let mut command = Command::new("ip");
    // QEMU ends with the thread that started it, whatever ends that thread.
    command.args(["netns", "exec", namespace.name(), "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args("-nodefaults -no-user-config -display none -no-reboot -accel tcg -M pc -cpu qemu64 -m 256".split(' '));
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initrd).args(["-append", APPEND]);
    command.args(["-serial", &format!("file:{}", at("serial.log"))]);
    command.args(["-chardev", &format!("socket,id=console,path={}", at("console"))]);
    command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=console,nr=1"]);
    // A hub joins the tap with a stream. So the test is between the tap and the guest, too.
    command.args(["-netdev", &format!("tap,id=tap,ifname={TAP},script=no,downscript=no")]);
    command.args(["-netdev", &format!("stream,id=far,server=off,addr.type=unix,addr.path={}", at("tap"))]);
    command.args(["-netdev", "hubport,id=hub0,hubid=0,netdev=tap", "-netdev", "hubport,id=hub1,hubid=0,netdev=far"]);
    command.args(["-netdev", &format!("stream,id=card,server=off,addr.type=unix,addr.path={}", at("card"))]);
    command.args(["-device", &format!("virtio-net-pci,netdev=card,romfile=,mac={}", MacText(GUEST_MAC))]);
    let said_too = said.try_clone().map_err(log)?;
    command.stdin(Stdio::null()).stdout(said).stderr(said_too);
    command.spawn().map_err(|error| format!("qemu-system-x86_64: {error}"))
}

/// Waits until QEMU connects, unless it ends.
pub(crate) fn accept(listener: &UnixListener, qemu: &mut Child) -> Result<UnixStream, String> {
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let began = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        if let Ok(Some(status)) = qemu.try_wait() {
            return Err(format!("qemu-system-x86_64: {status}"));
        }
        if began.elapsed() > PATIENCE {
            return Err("qemu-system-x86_64 does not connect".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The files that kernel and QEMU write.
pub(crate) fn logs(place: &Place) -> Vec<PathBuf> {
    ["serial.log", "qemu.log"].map(|name| place.path(name)).into()
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].iter().map(|line| format!("  guest: {line}\n")).collect()
}
