//! The product's own programs inside namespaces: built once, started, observed, and ended in every case.
//!
//! Cargo gives a test only the binaries of its own package, and `gvm-dp` belongs to another. So the test asks cargo to
//! build them, in the profile of the test itself; when they are up to date, that takes a moment. With `GVM_BIN_DIR`
//! set, they are taken from that directory and nothing is built.

use crate::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The time after which a test gives up.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(60);

/// Waits until `look` returns a value.
///
/// # Panics
/// When it never does.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    try_until(look).unwrap_or_else(|| panic!("{what}: never came"))
}

/// The same; `None` when it never does.
fn try_until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let found = look();
        if found.is_some() || began.elapsed() >= FOR_EVER {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The directory of `gvm-dp`, `gvm-pktgen` and the plugin for DPDK ports.
///
/// # Panics
/// When they cannot be built.
pub fn binaries() -> &'static PathBuf {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        if let Some(directory) = std::env::var_os("GVM_BIN_DIR") {
            return directory.into();
        }
        // target/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("a test knows where it is");
        let directory = test.parent().and_then(|deps| deps.parent()).expect("cargo's layout").to_owned();
        let profile = directory.file_name().and_then(|name| name.to_str()).expect("cargo's layout");
        let profile = if profile == "debug" { "dev" } else { profile };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--profile",
                profile,
                "-p",
                "gvm-dp",
                "-p",
                "gvm-pktgen",
                "-p",
                "gvm-dpdk-plugin",
                "-p",
                "gvm-pages-c",
                "--target-dir",
            ])
            .arg(directory.parent().expect("cargo's layout"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        directory
    })
}

/// First part of the names of all directories; the process id and a number follow.
const PREFIX: &str = "gvm-netns";

/// Removes the directories of test runs that are dead.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| crate::is_left_behind(name, PREFIX)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A directory for the control sockets of one test, removed at its end.
pub struct Place {
    directory: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A fresh directory.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("{PREFIX}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        Self { directory }
    }

    /// A copy of a program of ours that every user may start, in a directory that now belongs to this user.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn give_to(&self, user: u32, program: &str) -> String {
        let copy = self.directory.join(program);
        std::fs::copy(binaries().join(program), &copy).expect("room for a copy");
        std::os::unix::fs::chown(&self.directory, Some(user), Some(user)).expect("root may give it away");
        copy.to_str().expect("a plain path").to_owned()
    }

    /// Writes a file that only its owner may read; returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.directory.join(name);
        std::fs::write(&path, content).expect("room for a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        path.to_str().expect("a plain path").to_owned()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn command(&self, namespace: &Namespace, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace.name()]);
        // A program of ours, or a system program that starts one of ours.
        command.args(words.by_ref().map(|word| match word {
            "gvm-dp" | "gvm-pktgen" => binaries().join(word).into_os_string(),
            word => word.into(),
        }));
        command
            .env("GVM_DP_RUN_DIR", &self.directory)
            .env("GVM_DP_CONFIG_DIR", &self.directory)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// The path of a file of this name in the directory, which need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs a command line in a namespace until it ends by itself.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, namespace: &Namespace, line: &str) -> Output {
        self.command(namespace, line).output().expect("`ip netns exec` runs")
    }

    /// Runs a command line that must fail with this exit code; returns its error message.
    ///
    /// # Panics
    /// When it does not.
    pub fn refused(&self, namespace: &Namespace, code: i32, line: &str) -> String {
        let output = self.run(namespace, line);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {complaint}");
        complaint
    }

    /// Starts a command line that runs until it gets a signal or has done its work.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, namespace: &Namespace, line: &str) -> Process {
        let mut child = self
            .command(namespace, line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`ip netns exec` runs");
        let said = Arc::new(Mutex::new(Vec::new()));
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (stderr, stdout) = (child.stderr.take(), child.stdout.take());
        let readers = vec![gather(stderr.expect("piped"), &said), gather(stdout.expect("piped"), &printed)];
        Process { child, line: line.to_owned(), said, printed, readers }
    }

    /// The counters of the process with this name.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn stats(&self, name: &str) -> Value {
        let mut command = Command::new(binaries().join("gvm-dp"));
        command.args(["stats", "--json", "--name", name]).env("GVM_DP_RUN_DIR", &self.directory);
        let output = command.output().expect("gvm-dp runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("stats are JSON")
    }

    /// Waits until the counters of the process with this name are as `wanted`, and returns them. Counters are read one
    /// after the other while the process goes on, and so are those of its XDP program. So two counters that are equal
    /// at rest differ for a moment when heartbeats come.
    ///
    /// # Panics
    /// When they never are.
    pub fn until_stats(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = try_until(|| {
            last = self.stats(name);
            wanted(&last).then_some(())
        });
        assert!(found.is_some(), "{what}: never so in {last:#}");
        last
    }

    /// The counters of the process with this name that are not zero, for the message of a failed test.
    pub fn not_zero(&self, name: &str) -> String {
        let mut command = Command::new(binaries().join("gvm-dp"));
        command.args(["stats", "--json", "--name", name]).env("GVM_DP_RUN_DIR", &self.directory);
        let answer = command.output().ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
        let Some(stats) = answer else { return format!("{name}: does not answer") };
        let mut text = format!("{name}:");
        for (set, counters) in stats["total"].as_object().into_iter().flatten() {
            for (counter, value) in counters.as_object().into_iter().flatten().filter(|(_, value)| **value != 0) {
                text.push_str(&format!(" {set}.{counter}={value}"));
            }
        }
        text
    }

    /// Waits until this many slaves are registered at the gateway `name`.
    ///
    /// # Panics
    /// When they never are.
    pub fn until_registered(&self, name: &str, count: u64) {
        until("registration", || (self.stats(name)["membership"]["registered"] == count).then_some(()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

fn gather(stream: impl std::io::Read + Send + 'static, to: &Lines) -> std::thread::JoinHandle<()> {
    let to = Arc::clone(to);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            to.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}

/// A running program; killed when dropped.
pub struct Process {
    child: Child,
    line: String,
    said: Lines,
    printed: Lines,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Waits for a line of stderr with all of these parts.
    ///
    /// # Panics
    /// When it never comes.
    pub fn says(&self, parts: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let said = self.said();
            if let Some(line) = said.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            assert!(began.elapsed() < FOR_EVER, "`{}` never says {parts:?}, only:\n{said}", self.line);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its stderr so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Its stdout so far.
    pub fn printed(&self) -> String {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Its process id: `ip netns exec` and `setpriv` become the program that they start.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// The place of each of its threads in the kernel, a line each, for the message of a failed test.
    fn threads(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let line = |task: std::fs::DirEntry| {
            let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
            format!("{} in {}, system call {}", read("comm").trim(), read("wchan"), read("syscall"))
        };
        tasks.map(line).collect()
    }

    /// Waits for its end. Returns the exit code (`None` if a signal killed it), its stdout and its stderr.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(mut self) -> (Option<i32>, String, String) {
        let Some(status) = try_until(|| self.child.try_wait().ok().flatten()) else {
            panic!("the end of `{}`: never came; it said:\n{}\n{}", self.line, self.said(), self.threads());
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        (status.code(), printed, self.said())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
