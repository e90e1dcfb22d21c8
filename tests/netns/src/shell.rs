//! Runs the commands of a document: its marked blocks, on a root directory of their own, with a substitute for systemd.

use crate::product::{FOR_EVER, binaries, until};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The project's root.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the project is there")
}

/// The lines of all blocks of a document that begin with "\`\`\`sh walkthrough".
pub fn walkthrough(document: &str) -> Vec<String> {
    lines_of(document, "sh walkthrough")
}

/// The lines of all blocks of a document that begin with "\`\`\`" and these words.
pub fn lines_of(document: &str, words: &str) -> Vec<String> {
    blocks_of(document, words).concat()
}

/// The same, block by block.
pub fn blocks_of(document: &str, words: &str) -> Vec<Vec<String>> {
    let begin = format!("```{words}");
    let mut blocks: Vec<Vec<String>> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match line {
            line if line == begin => {
                inside = true;
                blocks.push(Vec::new());
            }
            "```" => inside = false,
            line if inside && !line.trim().is_empty() => blocks.last_mut().expect("it has begun").push(line.to_owned()),
            _ => {}
        }
    }
    blocks
}

/// A machine in a directory: `scripts/install.sh --root` installs into it. When it is dropped, its processes are ended
/// and the directory is removed.
pub struct Machine {
    root: PathBuf,
    /// The address that replaces 127.0.0.1: another one of the loopback, so that two runs do not share it.
    address: String,
    service: Option<Child>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// An empty machine.
    ///
    /// # Panics
    /// When its directory cannot be made.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(format!("gvm-box-{pid}-{number}"));
        std::fs::create_dir_all(&root).expect("a temporary directory");
        let address = format!("127.{}.{}.{}", 101 + number, pid >> 8 & 0xff, pid & 0x7f | 1);
        Self { root, address, service: None }
    }

    /// A path of the box.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The installed files, as paths of the box, in order.
    ///
    /// # Panics
    /// When a directory cannot be read.
    pub fn files(&self) -> Vec<String> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(directory).expect("a directory of ours").flatten() {
                let path = entry.path();
                if path.is_dir() && !path.is_symlink() {
                    walk(&path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.root, &mut found);
        let name = |path: PathBuf| format!("/{}", path.strip_prefix(&self.root).expect("inside").display());
        let mut names: Vec<String> = found.into_iter().map(name).collect();
        names.sort();
        names
    }

    /// Runs `scripts/install.sh` with these arguments, the programs of this build, and this box as root.
    ///
    /// # Panics
    /// When the script does not run.
    pub fn install(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(project().join("scripts/install.sh"));
        command.arg("--root").arg(&self.root).arg("--binaries").arg(binaries()).args(arguments);
        command.stdin(Stdio::null()).output().expect("scripts/install.sh runs")
    }

    /// Runs one line of a document as a person would type it, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&mut self, line: &str) -> String {
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = match words.as_slice() {
            ["systemctl", "start", "gvm-dp"] => return self.start(),
            ["systemctl", "stop", "gvm-dp"] => return self.stop(),
            ["systemctl", "restart", "gvm-dp"] => {
                self.stop();
                return self.start();
            }
            ["scripts/install.sh", arguments @ ..] => self.install(arguments),
            _ => {
                let line =
                    line.replace("127.0.0.1", &self.address).replace("/etc/", &format!("{}/etc/", self.root.display()));
                // A background process must not hold the output of the line open.
                let line = match line.strip_suffix('&') {
                    Some(line) => format!("{line} >{}/background.log 2>&1 &", self.root.display()),
                    None => line,
                };
                self.command("bash").arg("-c").arg(&line).output().expect("bash runs")
            }
        };
        let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "`{line}`: {}\n{printed}\n{said}", output.status);
        printed.into_owned()
    }

    fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env("PATH", format!("{}:{path}", self.path("/usr/local/bin").display()))
            .env("GVM_DP_RUN_DIR", self.path("/run/gvm-dp"))
            .env("GVM_DP_CONFIG_DIR", self.path("/etc/gvm-dp"))
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        command
    }

    /// The values of a key in the installed unit.
    ///
    /// # Panics
    /// When there is no unit.
    pub fn unit(&self, key: &str) -> Vec<String> {
        let unit = std::fs::read_to_string(self.path("/usr/local/lib/systemd/system/gvm-dp.service")).expect("a unit");
        let value = |line: &str| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        unit.lines().filter_map(value).collect()
    }

    /// Runs a command line of the unit inside the box.
    fn unit_command(&self, line: &str) -> Command {
        let mut words = line.trim_start_matches(['-', '+']).split_whitespace();
        let here = |word: &str| if word.starts_with('/') { self.path(word) } else { PathBuf::from(word) };
        let program = here(words.next().expect("a command"));
        let mut command = self.command(program.to_str().expect("a plain path"));
        command.args(words.map(here));
        for variable in self.unit("Environment") {
            let (name, value) = variable.split_once('=').expect("NAME=VALUE");
            command.env(name, here(value));
        }
        command
    }

    /// Does the visible part of `systemctl start`: returns when the process reports that it is ready.
    fn start(&mut self) -> String {
        assert!(self.service.is_none(), "it runs already");
        for directory in self.unit("RuntimeDirectory") {
            std::fs::create_dir_all(self.path("/run").join(directory)).expect("room");
        }
        for line in self.unit("ExecStartPre") {
            // A test leaves the machine's hugepages alone.
            let line = line.replace("hugepages reserve", "hugepages show");
            let output = self.unit_command(&line).output().expect("it runs");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(self.unit("Type"), ["notify"]);
        let path = self.root.join("notify");
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).expect("a socket");
        manager.set_read_timeout(Some(FOR_EVER)).expect("a timeout");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.root.join("journal")).expect("a log");
        let mut command = self.unit_command(&self.unit("ExecStart")[0]);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "10000000").stderr(log);
        self.service = Some(command.spawn().expect("it starts"));
        let mut buffer = [0; 1024];
        loop {
            let len =
                manager.recv(&mut buffer).unwrap_or_else(|error| panic!("never ready: {error}\n{}", self.journal()));
            if buffer[..len].starts_with(b"READY=1") {
                break;
            }
        }
        String::new()
    }

    /// Does what `systemctl stop` does: it sends SIGTERM. The exit code must be 0.
    fn stop(&mut self) -> String {
        let mut service = self.service.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&service);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let status = until("the end of the service", || service.try_wait().ok().flatten());
        assert!(status.success(), "{status}: {}", self.journal());
        String::new()
    }

    /// The log of the service.
    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.root.join("journal")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
        // Processes that a line left in the background. In a test that passes they have ended already.
        for entry in std::fs::read_dir(self.path("/run/gvm-dp")).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".sock")) {
                let _ = self.command("gvm-dp").args(["drain", "--name", name]).output();
            }
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
