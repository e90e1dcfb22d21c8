//! A guest's shell on its virtio console, which takes the test's commands. The guest's first process is `init-shell`.

use crate::machine::tail;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a command, or the boot, may take: the machine may be busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The text that shows that the guest takes commands.
const READY: &str = "@@READY@@";

/// A guest's shell.
pub struct Shell {
    console: UnixStream,
    /// Text from the console that was not read yet.
    heard: String,
    commands: u32,
    /// What the guest's kernel and QEMU write.
    logs: Vec<PathBuf>,
}

impl Shell {
    /// The shell on this console, when it takes commands. `logs` are the files for messages of failed tests.
    ///
    /// # Panics
    /// When the guest does not come so far.
    pub fn begin(console: UnixStream, logs: Vec<PathBuf>) -> Self {
        console.set_nonblocking(false).expect("a stream of ours");
        console.set_read_timeout(Some(Duration::from_millis(100))).expect("a stream of ours");
        let mut shell = Self { console, heard: String::new(), commands: 0, logs };
        shell.hear(READY);
        shell
    }

    /// Runs a command. Returns its exit code, and its stdout and stderr together.
    ///
    /// # Panics
    /// When it does not end.
    pub fn shell(&mut self, command: &str) -> (i32, String) {
        self.commands += 1;
        let number = self.commands;
        // The mark is put together in the guest, so that an echo of the command is not taken for it.
        let line = format!("{{ {command}\n}} 2>&1; rc=$?; echo; echo '@@END'{number}@@ $rc @@\n");
        self.console.write_all(line.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        let printed = self.hear(&format!("@@END{number}@@"));
        let code = self.hear("@@");
        let code = code.trim().parse().unwrap_or_else(|_| panic!("`{command}`: exit code {code:?}"));
        (code, printed.replace("\r\n", "\n").trim_matches('\n').to_owned())
    }

    /// Runs a command that must succeed; returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&mut self, command: &str) -> String {
        let (code, printed) = self.shell(command);
        assert_eq!(code, 0, "in the guest: `{command}`:\n{printed}\n{}", self.log());
        printed
    }

    /// Runs a command until it succeeds; returns what it printed then.
    ///
    /// # Panics
    /// When it never does.
    pub fn until(&mut self, what: &str, command: &str) -> String {
        let began = Instant::now();
        loop {
            let (code, printed) = self.shell(command);
            if code == 0 {
                return printed;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: never came: `{command}`:\n{printed}\n{}", self.log());
        }
    }

    /// The last output of kernel and QEMU, for the message of a failed test.
    pub fn log(&self) -> String {
        self.logs.iter().map(|log| tail(log)).collect()
    }

    /// Waits for a mark; returns what came before it.
    fn hear(&mut self, mark: &str) -> String {
        let began = Instant::now();
        let mut buffer = [0; 65_536];
        loop {
            if let Some((before, after)) = self.heard.split_once(mark) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.heard = after;
                return before;
            }
            match self.console.read(&mut buffer) {
                Ok(0) => panic!("the guest has ended; it said {:?}\n{}", self.heard, self.log()),
                Ok(len) => self.heard += &String::from_utf8_lossy(&buffer[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("the guest's console: {error}\n{}", self.log()),
            }
            assert!(began.elapsed() < PATIENCE, "no {mark}; the guest said {:?}\n{}", self.heard, self.log());
        }
    }
}
