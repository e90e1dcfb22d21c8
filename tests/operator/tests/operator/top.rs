//! `gvm-dp top` on a real terminal. Whatever ends it, the terminal is as it was before.

use netns::product::{binaries, until};
use operator::has_tool;
use operator::terminal::Terminal;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A directory with the socket of a gateway that runs.
struct Place {
    directory: PathBuf,
    gateway: Child,
}

impl Place {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("gvm-top-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new(binaries().join("gvm-dp"));
        command.args(["gateway", "--port", "udp:127.0.0.1:0", "--frames", "1024", "--config", "/dev/null"]);
        command.args(["--name", "shown"]).env("GVM_DP_RUN_DIR", &directory).env_remove("RUST_LOG");
        let gateway = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let socket = directory.join("shown.sock");
        until("a gateway", || std::os::unix::net::UnixStream::connect(&socket).ok());
        Self { directory, gateway }
    }

    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.join(file)).ok().filter(|text| text.ends_with('\n'))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    if !has_tool("script", true) {
        return;
    }
    let place = Place::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        for file in ["before", "pid", "code", "after"] {
            let _ = std::fs::remove_file(place.directory.join(file));
        }
        let directory = place.directory.to_str().unwrap();
        let mut bash = Terminal::open(&place.directory, binaries(), &[("GVM_DP_RUN_DIR", directory)]);
        // Another shell runs around it, because an interactive shell resets its terminal after a program was killed.
        let top = r#"sh -c "echo \$\$ >pid; exec gvm-dp top --name shown""#;
        bash.begin(&format!("sh -c 'stty -g >before; {top}; echo $? >code; stty -g >after'"));
        let pid: i32 = until("its process id", || place.read("pid")).trim().parse().unwrap();
        // When the alternate screen is shown, the program has the terminal.
        bash.until("\x1b[?1049h");
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        bash.until("\x1b[?1049l");
        let after = until("its end", || place.read("after"));
        assert_eq!((place.read("code").as_deref(), Some(after)), (Some("0\n"), place.read("before")), "{signal:?}");
    }
}
