//! A guest with one disk, which QEMU has as a client of an NBD server, and a program that needs memory.
//!
//! The guest's files are on ramfs, which cannot be swapped out, and the shell uses no swap (`init-shell`). So if pages
//! in the swap are lost, only the program notices it.

use crate::image::Root;
use crate::kernel;
use crate::machine::{APPEND, accept, logs, tail};
use crate::program::run;
use crate::shell::Shell;
use netns::Namespace;
use netns::product::Place;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Modules that must be loaded, with those that they depend on.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_console", "virtio_blk"];

/// The program of `swap/needs.c`, in the guest.
pub const NEEDS: &str = "/bin/needs";

/// The disk, in the guest.
pub const DISK: &str = "/dev/vda";

/// The log of a program that [`SwapGuest::start_needs`] started: what it prints, and behind `code` its exit code.
const PRINTED: &str = "/root/needs.log";

/// A running guest. It ends when this is dropped, and when this process dies.
pub struct SwapGuest {
    qemu: Child,
    /// Its shell.
    pub shell: Shell,
}

/// How many pages the guest's kernel has swapped in and out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// Pages that came from the disk.
    pub pages_in: u64,
    /// Pages that went there.
    pub pages_out: u64,
}

impl SwapGuest {
    /// Boots a guest with this many MiB of RAM whose disk is at the socket `nbd`. Waits until it takes commands.
    ///
    /// # Panics
    /// When something is missing or it does not boot.
    pub fn boot(place: &Place, namespace: &Namespace, ram: u32, nbd: &Path) -> Self {
        let built = kernel::prepare(&MODULES).and_then(|kernel| {
            let mut root = Root::new("init-shell")?;
            root.program(NEEDS, &compile(place.directory())?)?;
            let archive = root.archive(&kernel)?;
            let initrd = place.path("initrd");
            fs::write(&initrd, archive).map_err(|error| format!("{}: {error}", initrd.display()))?;
            Ok(kernel.image)
        });
        let kernel = built.unwrap_or_else(|reason| panic!("no guest: {reason}"));
        let console = UnixListener::bind(place.path("console")).expect("room for a socket");
        let mut qemu = start(place, namespace, &kernel, ram, nbd).unwrap_or_else(|error| panic!("{error}"));
        let connected = accept(&console, &mut qemu);
        let console = connected.unwrap_or_else(|reason| panic!("{reason}\n{}", tail(&place.path("qemu.log"))));
        Self { qemu, shell: Shell::begin(console, logs(place)) }
    }

    /// Makes the disk the guest's swap, as `docs/disk.md` says, and freed pages are discarded.
    ///
    /// # Panics
    /// When the guest refuses.
    pub fn swap_on(&mut self) {
        self.shell.run(&format!(
            "echo 0 >/sys/block/vda/queue/rotational && echo 5 >/proc/sys/vm/page-cluster\n\
             mkswap {DISK} && swapon -d {DISK}"
        ));
    }

    /// KiB of a line of `/proc/meminfo`.
    ///
    /// # Panics
    /// When there is none.
    pub fn memory(&mut self, line: &str) -> u64 {
        let text = self.shell.run("cat /proc/meminfo");
        number(&text, &format!("{line}:")).unwrap_or_else(|| panic!("no {line}: {text}"))
    }

    /// Pages that were swapped since the boot.
    ///
    /// # Panics
    /// When the kernel does not say it.
    pub fn swapped(&mut self) -> Swapped {
        let text = self.shell.run("cat /proc/vmstat");
        let count = |name| number(&text, name).unwrap_or_else(|| panic!("no {name}: {text}"));
        Swapped { pages_in: count("pswpin"), pages_out: count("pswpout") }
    }

    /// Starts the program that needs memory, in the background, with these arguments.
    ///
    /// # Panics
    /// When the shell does not start it.
    pub fn start_needs(&mut self, arguments: &str) {
        // It leaves the group that must not use the swap.
        let program = format!("echo $$ >/groups/cgroup.procs; exec {NEEDS} {arguments}");
        // What an earlier program has printed must be gone before anybody waits for what this one prints.
        self.shell.run(&format!(": >{PRINTED}; {{ sh -c '{program}'; echo code $?; }} >>{PRINTED} 2>&1 &"));
    }

    /// Waits until the program has printed a line that begins so; returns all that it has printed.
    ///
    /// # Panics
    /// When it never does.
    pub fn until_printed(&mut self, line: &str) -> String {
        // A pause, so that this does not take the guest's processor from the program.
        self.shell.until(line, &format!("if grep -q '^{line}' {PRINTED}; then cat {PRINTED}; else ! sleep 0.3; fi"))
    }
}

impl Drop for SwapGuest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The number behind a word at the start of a line.
fn number(text: &str, word: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(word)).then(|| words.next()?.parse().ok())?)
}

/// Compiles the program into a directory. Returns its path.
fn compile(directory: &Path) -> Result<PathBuf, String> {
    let program = directory.join("needs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("swap/needs.c");
    run(Command::new("cc").args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// Starts QEMU; its console connects to a socket of the place.
fn start(place: &Place, namespace: &Namespace, kernel: &Path, ram: u32, nbd: &Path) -> Result<Child, String> {
    let at = |name: &str| place.path(name).display().to_string();
    let log = |error: std::io::Error| format!("{}: {error}", at("qemu.log"));
    let said = fs::File::create(place.path("qemu.log")).map_err(log)?;
    let mut command = Command::new("ip");
    // QEMU ends with the thread that started it, whatever ends that thread.
    command.args(["netns", "exec", namespace.name(), "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args("-nodefaults -no-user-config -display none -no-reboot -accel tcg -M pc -cpu qemu64 -m".split(' '));
    command.arg(ram.to_string());
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(place.path("initrd"));
    let more = "rootfstype=ramfs swaps=yes zswap.enabled=0 transparent_hugepage=never";
    command.args(["-append", &format!("{APPEND} {more}")]);
    command.args(["-serial", &format!("file:{}", at("serial.log"))]);
    // Without the last two options QEMU stops the guest when the disk has no room for a write.
    let drive =
        format!("file=nbd:unix:{},format=raw,if=virtio,discard=unmap,werror=report,rerror=report", nbd.display());
    command.args(["-drive", &drive]);
    command.args(["-chardev", &format!("socket,id=console,path={}", at("console"))]);
    command.args(["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console"]);
    let said_too = said.try_clone().map_err(log)?;
    command.stdin(Stdio::null()).stdout(said).stderr(said_too);
    command.spawn().map_err(|error| format!("qemu-system-x86_64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_behind_whole_words() {
        let text = "pswpin 12\npswpout 3456\nMemTotal:         90000 kB\n";
        assert_eq!((number(text, "pswpin"), number(text, "pswpout")), (Some(12), Some(3456)));
        assert_eq!((number(text, "MemTotal:"), number(text, "pswp")), (Some(90_000), None));
    }
}
