//! What an intruder in a thread of gvm-dp can do, for each kind of thread: tried from inside.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// Threads that start no others.
const LONE: [&str; 10] = [
    "lcore",
    "lcore-xdp",
    "lcore-dpdk",
    "lcore-bells",
    "neighbours",
    "addresses",
    "applications",
    "scrub",
    "log",
    "end",
];
/// Threads that start others.
const STARTERS: [&str; 3] = ["devices", "control", "control-names"];

/// The result of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Worked,
    Error(i32),
    /// The kernel ended the process for the call.
    Killed,
}

/// A place with a directory of keys and one of sockets.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = std::env::temp_dir().join(format!("gvm-inside-{}-{number}", std::process::id()));
        for directory in ["keys", "sockets", "other"] {
            std::fs::create_dir_all(place.join(directory)).unwrap();
            std::fs::write(place.join(directory).join("file"), directory).unwrap();
        }
        Self(place)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Runs `command` with the attempt as its last arguments.
    fn run(&self, mut command: Command, kind: &str, landlock: bool, hidden: bool, what: &[&str]) -> Came {
        let landlock = if landlock { "landlock" } else { "anywhere" };
        let hidden = if hidden { "hidden" } else { "open" };
        let output = command.args([kind, landlock, hidden, self.0.to_str().unwrap()]).args(what).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        match (said.lines().next(), output.status.signal()) {
            (Some("worked"), None) => Came::Worked,
            (Some(said), None) => Came::Error(said.strip_prefix("error ").unwrap().parse().unwrap()),
            (None, Some(libc::SIGSYS)) => Came::Killed,
            _ => panic!("{kind} {what:?}: {}: {said} {complaint}", output.status),
        }
    }

    fn tries(&self, kind: &str, what: &[&str]) -> Came {
        self.run(Command::new(env!("CARGO_BIN_EXE_gvm-inside")), kind, true, true, what)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Says that something cannot be tried here, or panics with `GVM_TESTS=require`.
fn skip(reason: &str) {
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {reason}");
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Whether this kernel has Landlock. If not, the test is skipped with a message.
fn has_landlock() -> bool {
    let place = Place::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gvm-inside"));
    command.args(["lcore", "landlock", "open", place.0.to_str().unwrap(), "signal-own"]);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let has = said.contains("paths restricted by Landlock, version ");
    assert!(has || said.contains("PATHS NOT RESTRICTED: this kernel has no Landlock"), "{said}");
    if !has {
        skip("this kernel has no Landlock");
    }
    has
}

#[test]
fn no_thread_makes_a_process_or_a_namespace() {
    let place = Place::new();
    for kind in LONE.iter().chain(&STARTERS) {
        for what in ["namespace", "process", "unshare", "setns"] {
            assert_eq!(place.tries(kind, &[what]), Came::Killed, "{kind} {what}");
        }
    }
}

#[test]
fn threads_are_started_without_a_call_whose_flags_no_filter_sees() {
    let place = Place::new();
    for kind in STARTERS {
        assert_eq!(place.tries(kind, &["clone3"]), Came::Error(libc::ENOSYS), "{kind}");
        assert_eq!(place.tries(kind, &["thread"]), Came::Worked, "{kind}");
    }
    for kind in LONE {
        assert_eq!(place.tries(kind, &["clone3"]), Came::Killed, "{kind}");
        assert_eq!(place.tries(kind, &["thread"]), Came::Killed, "{kind}");
    }
}

#[test]
fn no_thread_reaches_another_process() {
    let place = Place::new();
    for kind in LONE.iter().chain(&STARTERS) {
        for what in
            ["signal", "kill", "kill-thread", "queue", "descriptor-of-process", "owner", "owner-by-ioctl", "limits"]
        {
            assert_eq!(place.tries(kind, &[what]), Came::Killed, "{kind} {what}");
        }
        // A panic ends its own process this way.
        assert_eq!(place.tries(kind, &["signal-own"]), Came::Worked, "{kind}");
    }
}

#[test]
fn no_thread_makes_code() {
    let place = Place::new();
    for kind in LONE.iter().chain(&STARTERS) {
        assert_eq!(place.tries(kind, &["executable"]), Came::Killed, "{kind}");
    }
    for kind in LONE {
        assert_eq!(place.tries(kind, &["own-code"]), Came::Killed, "{kind}");
    }
    if has_landlock() {
        for kind in STARTERS {
            assert_eq!(place.tries(kind, &["own-code"]), Came::Error(libc::EACCES), "{kind}");
        }
    }
}

/// Without Landlock root can write its own memory through a file. Other users cannot, because that file belongs to
/// root.
#[test]
fn a_user_makes_no_code_without_landlock_either() {
    if !rustix::process::geteuid().is_root() {
        skip("only root can be another user");
        return;
    }
    let place = Place::new();
    let program = place.0.join("program");
    // Another process makes the copy. If we made it, a child of another test could have the file open for writing, and
    // then the program could not be started.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_gvm-inside")).arg(&program).status().unwrap();
    assert!(copied.success());
    std::fs::set_permissions(&place.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let own_code = |user: u32, hidden: bool| {
        let mut command = Command::new(&program);
        command.uid(user).gid(user);
        place.run(command, "control", false, hidden, &["own-code"])
    };
    assert_eq!(own_code(NOBODY, true), Came::Error(libc::EACCES));
    // `hidden` is what stops another user. Without it that user can do it, and root always can.
    assert_eq!(own_code(NOBODY, false), Came::Worked);
    assert_eq!(own_code(0, true), Came::Worked);
}

#[test]
fn threads_open_what_they_need_and_nothing_else() {
    if !has_landlock() {
        return;
    }
    let place = Place::new();
    let (key, other) = (place.file("keys/file"), place.file("other/file"));
    let socket = place.file("sockets/file");
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_gvm-inside")).unwrap();
    let denied = Came::Error(libc::EACCES);
    for kind in LONE {
        // A backtrace has the names of functions.
        assert_eq!(place.tries(kind, &["read", program.to_str().unwrap()]), Came::Worked, "{kind}");
        for file in [&key, &other, &socket, "/etc/passwd", "/proc/self/status", "/sys/kernel/mm"] {
            // The thread that ends the process reads the names of threads that do not end.
            let names_threads = kind == "end" && file.starts_with("/proc");
            let came = if names_threads { Came::Worked } else { Came::Error(libc::EACCES) };
            assert_eq!(place.tries(kind, &["read", file]), came, "{kind} {file}");
        }
        assert_eq!(place.tries(kind, &["write", &key]), Came::Killed, "{kind}");
    }
    for kind in ["control", "control-names"] {
        for file in [&key, &socket, "/proc/self/status", "/sys/kernel/mm"] {
            assert_eq!(place.tries(kind, &["read", file]), Came::Worked, "{kind} {file}");
        }
        let of_names = if kind == "control" { Came::Error(libc::EACCES) } else { Came::Worked };
        assert_eq!(place.tries(kind, &["read", "/etc/passwd"]), of_names);
        assert_eq!(place.tries(kind, &["read", &other]), denied, "{kind}");
        for file in [&key, &other, &socket, "/proc/self/comm"] {
            assert_eq!(place.tries(kind, &["write", file]), denied, "{kind} {file}");
        }
        assert_eq!(place.tries(kind, &["create", &place.file("sockets/new")]), denied, "{kind}");
        assert_eq!(place.tries(kind, &["remove", &key]), denied, "{kind}");
    }
    // This attempt is the last, because it removes the socket.
    assert_eq!(place.tries("control", &["remove", &socket]), Came::Worked);
    assert!(!Path::new(&socket).exists());
    for (what, file, came) in [
        ("write", other.as_str(), Came::Worked),
        ("read", "/proc/self/status", Came::Worked),
        ("write", "/proc/self/comm", Came::Error(libc::EACCES)),
    ] {
        assert_eq!(place.tries("devices", &[what, file]), came, "{what} {file}");
    }
}

/// A key is replaced by another file of the same name, as `mv` does. Access is by directory, and not by the file that
/// was there at the start.
#[test]
fn a_file_that_was_replaced_is_read() {
    let place = Place::new();
    let key = place.file("keys/key");
    std::fs::write(&key, "old").unwrap();
    std::fs::write(place.file("keys/new"), "new").unwrap();
    std::fs::rename(place.file("keys/new"), &key).unwrap();
    assert_eq!(place.tries("control", &["read", &key]), Came::Worked);
}
