//! Starts gvm-dp, listens to what it says, and ends it whatever happens.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// For ever, as far as a test is concerned.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Says, where one sees it, that a test cannot run here, or panics with `GVM_TESTS=require`.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {reason}");
    // Past the test runner, which shows nothing that a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Waits until `look` gives something.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
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
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory for the control sockets and files of one test, removed at its end.
pub(crate) struct Place {
    pub directory: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("gvm-dp-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    /// A command that has not been started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gvm-dp"));
        command
            .args(arguments)
            .env("GVM_DP_RUN_DIR", &self.directory)
            .env("GVM_DP_CONFIG_DIR", &self.directory)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that ends by itself.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that ends by itself, with other files as its stdout and stderr; returns its exit code.
    pub(crate) fn run_to(&self, arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Option<i32> {
        let mut child = self.command(arguments).stdout(stdout).stderr(stderr).spawn().unwrap();
        until(&format!("the end of {arguments:?}"), || child.try_wait().unwrap()).code()
    }

    /// Starts a process that runs until it is told to end, with another file as its stdout.
    pub(crate) fn start_to(&self, arguments: &[&str], stdout: impl Into<Stdio>) -> Process {
        Self::spawn(self.command(arguments), stdout.into())
    }

    /// Starts a process that runs until it is told to end, with another file as its stderr: nothing is heard of it.
    pub(crate) fn start_mute(&self, arguments: &[&str], stderr: impl Into<Stdio>) -> Process {
        let child = self.command(arguments).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Process { child, said: Arc::default() }
    }

    /// Starts a process by a script of the shell, which has the program as `$0` and the arguments as `$@`.
    pub(crate) fn start_by(&self, script: &str, arguments: &[&str]) -> Process {
        let program = self.command(&[]);
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(program.get_program()).args(arguments).stdin(Stdio::null());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self::spawn(command, Stdio::null())
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The statistics of a process.
    pub(crate) fn stats(&self, name: &str) -> Value {
        serde_json::from_str(&self.ask(&["stats", "--json", "--name", name])).unwrap()
    }

    /// Waits until the statistics of a process are as they are wanted, and returns them. Its counters are read while it
    /// goes on: one that counts what came may be seen a moment before one that counts what left.
    pub(crate) fn until_stats(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = try_until(|| {
            last = self.stats(name);
            wanted(&last).then_some(())
        });
        assert!(found.is_some(), "never as wanted: {last:#}");
        last
    }

    /// Runs a command that must fail with this exit code, and returns what it complained.
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {complaint}");
        complaint
    }

    /// Runs `stats --watch` until it prints a line that is wanted, then closes its output, which ends it.
    pub(crate) fn watch(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut child =
            self.command(&["stats", "--watch", "--interval", "100ms"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let found = lines.by_ref().map_while(Result::ok).find(|line| wanted(line)).unwrap();
        drop(lines);
        let status = until("the end of stats --watch", || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        found
    }

    /// Starts a process that runs until it is told to end.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        Self::spawn(self.command(arguments), Stdio::null())
    }

    /// The same, with what it prints in a file.
    pub(crate) fn start_into(&self, arguments: &[&str], file: &std::path::Path) -> Process {
        Self::spawn(self.command(arguments), std::fs::File::create(file).unwrap().into())
    }

    /// The same, with what it prints behind a pipe.
    pub(crate) fn start_piped(&self, arguments: &[&str]) -> (Process, ChildStdout) {
        let mut process = Self::spawn(self.command(arguments), Stdio::piped());
        let stdout = process.child.stdout.take().unwrap();
        (process, stdout)
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        Self::spawn(command, Stdio::null())
    }

    /// The same as another user, from a copy of the program, which that user may reach. Needs root.
    /// Only root may start it as somebody else.
    pub(crate) fn start_as(&self, user: u32, arguments: &[&str]) -> Process {
        self.start_as_by(user, Command::new(self.program()), arguments)
    }

    /// The same with a limit, as an option of `prlimit`.
    pub(crate) fn start_as_limited(&self, user: u32, limit: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new("prlimit");
        command.arg(limit).arg(self.program());
        self.start_as_by(user, command, arguments)
    }

    /// A copy of the program where other users reach it.
    fn program(&self) -> PathBuf {
        let program = self.directory.join("program");
        if !program.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_gvm-dp"), &program).unwrap();
        }
        program
    }

    fn start_as_by(&self, user: u32, mut command: Command, arguments: &[&str]) -> Process {
        use std::os::unix::process::CommandExt;
        command.args(arguments).env("GVM_DP_RUN_DIR", &self.directory).env_remove("RUST_LOG").stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(user).gid(user);
        }
        command.current_dir("/");
        Self::spawn(command, Stdio::null())
    }

    /// Makes the directory another user's. Needs root.
    pub(crate) fn give_to(&self, user: u32) {
        std::os::unix::fs::chown(&self.directory, Some(user), Some(user)).unwrap();
    }

    fn spawn(mut command: Command, stdout: Stdio) -> Process {
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Process { child, said }
    }

    /// Starts a small gateway on a port of the kernel's choice.
    pub(crate) fn gateway(&self, more: &[&str]) -> (Process, SocketAddr) {
        let mut arguments = vec!["gateway", "--port", "udp:127.0.0.1:0", "--frames", "2048"];
        arguments.extend(more);
        let gateway = self.start(&arguments);
        let address = gateway.address();
        (gateway, address)
    }

    /// Starts a slave or a farm.
    pub(crate) fn slave(&self, gateway: SocketAddr, id: u32, more: &[&str]) -> Process {
        let (gateway, id) = (gateway.to_string(), id.to_string());
        let mut arguments = vec!["slave", "--gateway", &gateway, "--id", &id, "--port", "udp:127.0.0.1:0"];
        arguments.extend(["--frames", "2048"]);
        arguments.extend(more);
        self.start(&arguments)
    }

    /// Waits until so many slaves are registered at the gateway `name`.
    pub(crate) fn until_registered(&self, name: &str, count: u64) {
        until("registration", || (self.stats(name)["membership"]["registered"] == count).then_some(()));
    }

    /// Writes a file with this mode.
    pub(crate) fn file(&self, name: &str, content: &str, mode: u32) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running gvm-dp; killed when dropped.
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Waits for a line with all of these parts.
    pub(crate) fn says(&self, parts: &[&str]) -> String {
        until(&format!("a line with {parts:?}"), || {
            let said = self.said.lock().unwrap();
            said.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned()
        })
    }

    /// Everything it has said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// The address of port 0.
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.says(&["port 0: udp:"]);
        // Before it is set up, a signal ends it without a drain.
        self.says(&["privileges: "]);
        let (_, rest) = line.split_once("udp:").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Its exit code once it has ended; `None` as long as it runs.
    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; returns the exit code, `None` if a signal killed it.
    pub(crate) fn wait(mut self) -> Option<i32> {
        until("the end of the process", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
