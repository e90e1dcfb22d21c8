//! Confines a thread as gvm-dp does, by the same library, and tries one thing that an intruder in it would try.
//!
//! `gvm-inside KIND LANDLOCK HIDDEN PLACE WHAT [FILE]` prints `worked` or `error NUMBER`. A call outside the thread's
//! list ends the process instead. The attempts are bare system calls, because no safe function makes them.

use host::privilege::seccomp::Mode;
use host::privilege::{Confinement, Needs, Places, Thread, hide_memory};
use rustix::thread::CapabilitySet;
use std::fs::{File, OpenOptions};
use std::io;

/// A system call with these arguments.
fn call(number: libc::c_long, arguments: [usize; 5]) -> io::Result<usize> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: these calls read and write no memory of ours. Pointers among the arguments are null, or their targets
    // outlive the call. A child process that results ends at once below.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

/// Makes a child process, which ends at once.
fn process(flags: i32) -> io::Result<()> {
    let child = call(libc::SYS_clone, [(flags | libc::SIGCHLD) as usize, 0, 0, 0, 0])?;
    if child == 0 {
        std::process::abort();
    }
    Ok(())
}

/// Makes the attempt `what`. `parent` is the id of another process; a confined thread cannot ask for it.
fn attempt(what: &str, file: &str, parent: usize) -> io::Result<()> {
    let own = std::process::id() as usize;
    let thread = rustix::thread::gettid().as_raw_pid() as usize;
    let done = match what {
        "namespace" => return process(libc::CLONE_NEWUSER),
        "process" => return process(0),
        "clone3" => call(libc::SYS_clone3, [0; 5]),
        "unshare" => call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0]),
        "setns" => call(libc::SYS_setns, [0; 5]),
        "signal" => call(libc::SYS_tgkill, [parent, parent, 0, 0, 0]),
        "signal-own" => call(libc::SYS_tgkill, [own, thread, 0, 0, 0]),
        "kill" => call(libc::SYS_kill, [parent, 0, 0, 0, 0]),
        "kill-thread" => call(libc::SYS_tkill, [parent, 0, 0, 0, 0]),
        "queue" => call(libc::SYS_rt_tgsigqueueinfo, [parent, parent, 0, 0, 0]),
        "descriptor-of-process" => call(libc::SYS_pidfd_open, [parent, 0, 0, 0, 0]),
        "owner" => call(libc::SYS_fcntl, [0, libc::F_SETOWN as usize, parent, 0, 0]),
        "owner-by-ioctl" => call(libc::SYS_ioctl, [0, 0x8901, 0, 0, 0]),
        "limits" => call(libc::SYS_prlimit64, [parent, libc::RLIMIT_NOFILE as usize, 0, 0, 0]),
        "executable" => {
            let (kind, access) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_EXEC);
            call(libc::SYS_mmap, [0, 4096, access as usize, kind as usize, usize::MAX])
        }
        "thread" => return std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join())),
        "own-code" => return OpenOptions::new().read(true).write(true).open("/proc/self/mem").map(drop),
        "read" => return File::open(file).map(drop),
        "write" => return OpenOptions::new().append(true).open(file).map(drop),
        "create" => return File::create(file).map(drop),
        "remove" => return std::fs::remove_file(file),
        _ => return Err(io::Error::other(format!("{what} is not known"))),
    };
    done.map(drop)
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, landlock, hidden, place, what, rest @ ..] = &arguments[..] else {
        return Err("gvm-inside KIND LANDLOCK HIDDEN PLACE WHAT [FILE]".to_owned());
    };
    let (thread, needs) = match kind.as_str() {
        "lcore" => (Thread::Lcore, Needs::default()),
        "lcore-xdp" => (Thread::Lcore, Needs { xdp: true, ..Needs::default() }),
        "lcore-dpdk" => (Thread::Lcore, Needs { dpdk: true, ..Needs::default() }),
        "neighbours" => (Thread::Neighbours, Needs::default()),
        "addresses" => (Thread::Addresses, Needs { xdp: true, ..Needs::default() }),
        "devices" => (Thread::Devices, Needs { dpdk: true, ..Needs::default() }),
        "end" => (Thread::End, Needs::default()),
        "lcore-bells" => (Thread::Lcore, Needs { applications: true, ..Needs::default() }),
        "applications" => (Thread::Applications, Needs { applications: true, ..Needs::default() }),
        "scrub" => (Thread::Scrub, Needs::default()),
        "log" => (Thread::Log, Needs::default()),
        "control" => (Thread::Control, Needs::default()),
        "control-names" => (Thread::Control, Needs { xdp: true, names: true, ..Needs::default() }),
        other => return Err(format!("{other} is not a kind of thread")),
    };
    if hidden == "hidden" {
        hide_memory().map_err(|failure| failure.to_string())?;
    }
    let reads = vec![format!("{place}/keys/key").into()];
    let places = Places { reads, sockets: vec![format!("{place}/sockets").into()], names: needs.names };
    let places = (landlock == "landlock").then_some(places);
    let confinement = Confinement::new(Mode::On, needs, places).map_err(|failure| failure.to_string())?;
    let parent = rustix::process::getppid().map_or(1, |parent| parent.as_raw_pid() as usize);
    let file = rest.first().map_or("", String::as_str);
    let tried = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            confinement.enter(thread, CapabilitySet::empty()).map_err(|failure| failure.to_string())?;
            Ok::<_, String>(attempt(what, file, parent))
        });
        inside.join().map_err(|_| "it panicked".to_owned())
    });
    match tried?? {
        Ok(()) => println!("worked"),
        Err(error) => println!("error {}", error.raw_os_error().unwrap_or(0)),
    }
    println!("{}", confinement.describe());
    Ok(())
}
