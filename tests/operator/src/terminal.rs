//! A person at a terminal: an interactive bash behind a pseudo-terminal, and keys that are pressed.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A test that waits longer than this has failed.
const FOR_EVER: Duration = Duration::from_secs(60);

/// The text that bash shows when it waits for a line.
const PROMPT: &str = "READY>";

/// An interactive bash; ended when dropped.
pub struct Terminal {
    bash: Child,
    keys: Option<ChildStdin>,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    /// A bash in this directory with these programs first in its path.
    ///
    /// # Panics
    /// When bash does not start.
    pub fn open(directory: &Path, programs: &Path, variables: &[(&str, &str)]) -> Self {
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut bash = Command::new("script")
            .args(["--quiet", "--return", "--command", "exec env PS1=READY\\> bash --norc --noprofile -i", "/dev/null"])
            .current_dir(directory)
            .env("PATH", path)
            .env("TERM", "dumb")
            .env("INPUTRC", "/dev/null")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`script` runs");
        let keys = bash.stdin.take();
        let mut output = bash.stdout.take().expect("a pipe");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self { bash, keys, screen, shown: String::new() };
        terminal.until(PROMPT);
        terminal
    }

    /// Reads on until this was shown; returns what came before it.
    ///
    /// # Panics
    /// When it is not shown within a minute.
    pub fn until(&mut self, wanted: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(wanted) {
                let rest = self.shown.split_off(at + wanted.len());
                let mut before = std::mem::replace(&mut self.shown, rest);
                before.truncate(at);
                return before;
            }
            let more = self.screen.recv_timeout(FOR_EVER);
            let more = more.unwrap_or_else(|_| panic!("{wanted:?} never came, only {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
    }

    fn press(&mut self, keys: &str) {
        let written = self.keys.as_mut().expect("it is open").write_all(keys.as_bytes());
        written.expect("bash listens");
    }

    /// Types a command, and does not wait for its end.
    pub fn begin(&mut self, command: &str) {
        self.press(&format!("{command}\n"));
    }

    /// Types a command, and returns when it has ended.
    pub fn run(&mut self, command: &str) {
        self.press(&format!("{command}; echo 'D'ONE\n"));
        self.until("\nDONE\r\n");
        self.until(PROMPT);
    }

    /// The line after these keys. The keys are pressed, then `echo` is inserted before the line.
    fn line_after(&mut self, keys: &str) -> String {
        // Ctrl-A goes to the beginning of the line.
        self.press(&format!("{keys}\x01echo '<<<' \n"));
        // Typed text is shown as well, but never at the beginning of a line.
        self.until("\n<<< ");
        let printed = self.until("\r\n");
        self.until(PROMPT);
        printed.trim_end().to_owned()
    }

    /// The line after `line` is typed and TAB is pressed.
    pub fn tab(&mut self, line: &str) -> String {
        self.line_after(&format!("{line}\t"))
    }

    /// All completions that bash offers for the last word of a line, as readline's `insert-completions` (M-*) inserts
    /// them.
    pub fn offers(&mut self, line: &str) -> Vec<String> {
        let before = line.rsplit_once(' ').map_or("", |(before, _)| before);
        let whole = self.line_after(&format!("{line}\x1b*"));
        let added = whole.strip_prefix(before).unwrap_or_else(|| panic!("{line:?} became {whole:?}"));
        added.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // When its input ends, `script` ends bash.
        self.keys = None;
        let _ = self.bash.kill();
        let _ = self.bash.wait();
    }
}
