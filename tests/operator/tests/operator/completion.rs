//! Completions in a real, interactive bash. The scripts are loaded, lines are typed, and TAB is pressed.

use netns::product::{binaries, until};
use operator::has_tool;
use operator::terminal::Terminal;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A directory with files and running processes, and a bash in it that has loaded both scripts.
struct Desk {
    directory: PathBuf,
    processes: Vec<Child>,
}

impl Desk {
    fn new(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("gvm-completion-{test}-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("keys")).unwrap();
        for file in ["cluster.key", "keys/slave 17.key", "image"] {
            std::fs::write(directory.join(file), "").unwrap();
        }
        Self { directory, processes: Vec::new() }
    }

    fn gateway(&mut self, name: &str) {
        let mut command = Command::new(binaries().join("gvm-dp"));
        command.args(["gateway", "--port", "udp:127.0.0.1:0", "--frames", "1024", "--config", "/dev/null"]);
        command.args(["--name", name]).env("GVM_DP_RUN_DIR", &self.directory).env_remove("RUST_LOG");
        let null = || (Stdio::null(), Stdio::null());
        let ((stdin, stdout), (stderr, _)) = (null(), null());
        self.processes.push(command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap());
        let socket = self.directory.join(format!("{name}.sock"));
        until("a gateway", || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    fn bash(&self) -> Terminal {
        let place = self.directory.to_str().unwrap();
        let mut terminal = Terminal::open(&self.directory, binaries(), &[("GVM_DP_RUN_DIR", place)]);
        terminal.run("source <(gvm-dp completion bash); source <(gvm-pktgen --completion bash)");
        terminal
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn commands_options_and_their_values_are_offered_at_every_depth() {
    if !has_tool("script", true) {
        return;
    }
    let desk = Desk::new("words");
    let mut bash = desk.bash();
    let offered = bash.offers("gvm-dp ");
    for wanted in ["gateway", "slave", "stats", "config"] {
        assert!(offered.iter().any(|offer| offer == wanted), "{wanted}: {offered:?}");
    }
    assert!(offered.iter().all(|offer| !offer.starts_with('-')), "options come with a dash: {offered:?}");
    let offered = bash.offers("gvm-dp --");
    for wanted in ["--port", "--hold", "--config"] {
        assert!(offered.iter().any(|offer| offer == wanted), "{wanted}: {offered:?}");
    }
    assert_eq!(bash.tab("gvm-dp sta"), "gvm-dp stats");
    // The second word. The library's own script offered nothing here.
    assert_eq!(bash.offers("gvm-dp config "), ["check", "example", "help", "show"].map(String::from));
    assert_eq!(bash.tab("gvm-dp config ex"), "gvm-dp config example");
    assert_eq!(bash.tab("gvm-dp slave --cluster"), "gvm-dp slave --cluster-key-file");
    // The third word.
    assert_eq!(bash.tab("gvm-dp config show sl"), "gvm-dp config show slave");
    assert_eq!(bash.tab("gvm-dp qp bench --rnr"), "gvm-dp qp bench --rnr-retries");
    assert_eq!(bash.tab("gvm-dp config show slave --cou"), "gvm-dp config show slave --count");
    // Values, also behind `=`, and after a word that bash splits.
    assert_eq!(bash.offers("gvm-dp --rx-mode "), ["adaptive", "polling"]);
    assert_eq!(bash.offers("gvm-dp slave --seccomp "), ["log", "off", "on"]);
    assert_eq!(bash.tab("gvm-dp --rx-mode=po"), "gvm-dp --rx-mode=polling");
    assert_eq!(
        bash.tab("gvm-dp --port udp:127.0.0.1:9999 --rx-mode po"),
        "gvm-dp --port udp:127.0.0.1:9999 --rx-mode polling"
    );
    assert_eq!(bash.offers("gvm-dp qp bench --op "), ["fetch-add", "read", "write"]);
    assert_eq!(bash.tab("gvm-dp key derive --role m"), "gvm-dp key derive --role master");
    assert_eq!(bash.offers("gvm-dp set --reset "), ["early", "hold", "keep-free", "log", "rx-mode", "traffic"]);
    assert_eq!(bash.offers("gvm-dp set early "), ["off", "on"]);
    assert_eq!(bash.tab("gvm-dp set rx-mode p"), "gvm-dp set rx-mode polling");
    assert_eq!(bash.tab("gvm-dp --port xdp:l"), "gvm-dp --port xdp:lo");
    assert_eq!(bash.tab("gvm-dp --port xdp:lo,vlans=7,ra"), "gvm-dp --port xdp:lo,vlans=7,rate=");
    assert_eq!(bash.tab("gvm-dp capture --direction r"), "gvm-dp capture --direction rx");
    // The generator.
    assert_eq!(bash.tab("gvm-pktgen --expect"), "gvm-pktgen --expect-members");
    assert_eq!(bash.tab("gvm-pktgen --down pa"), "gvm-pktgen --down pattern");
    assert_eq!(bash.tab("gvm-pktgen --distribution zi"), "gvm-pktgen --distribution zipf:");
}

#[test]
fn names_of_running_processes_and_files_are_offered() {
    if !has_tool("script", true) {
        return;
    }
    let mut desk = Desk::new("names");
    desk.gateway("east");
    let mut bash = desk.bash();
    assert_eq!(bash.tab("gvm-dp stats --name "), "gvm-dp stats --name east");
    assert_eq!(bash.tab("gvm-dp top --name=e"), "gvm-dp top --name=east");
    desk.gateway("west");
    assert_eq!(bash.offers("gvm-dp drain --name "), ["east", "west"]);
    assert_eq!(bash.offers("gvm-dp capture --name "), ["east", "west"]);

    assert_eq!(bash.tab("gvm-dp --key-file clu"), "gvm-dp --key-file cluster.key");
    assert_eq!(bash.tab("gvm-dp config check ima"), "gvm-dp config check image");
    assert_eq!(bash.tab("gvm-dp qp write --in=im"), "gvm-dp qp write --in=image");
    // `echo` takes the backslash away.
    assert_eq!(bash.tab("gvm-pktgen --key-file keys/"), "gvm-pktgen --key-file keys/slave 17.key");
    assert_eq!(bash.tab("gvm-dp --key-file ke"), "gvm-dp --key-file keys/");
}

/// The scripts of the other shells name the completions. Each is accepted by its shell, if that is installed.
#[test]
fn every_shell_has_a_script_that_it_takes() {
    for (program, arguments) in [("gvm-dp", ["completion"]), ("gvm-pktgen", ["--completion"])] {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let output = Command::new(binaries().join(program)).args(arguments).arg(shell).output().unwrap();
            assert!(output.status.success(), "{program} {shell}");
            let script = String::from_utf8(output.stdout).unwrap();
            assert!(script.contains(program) && script.contains("GVM_COMPLETE"), "{program} {shell}: {script}");
            if !matches!(shell, "bash" | "zsh" | "fish") || (shell != "bash" && !has_tool(shell, false)) {
                continue;
            }
            let parsed = Command::new(shell).args(["-n", "-c", &script]).output().unwrap();
            assert!(parsed.status.success(), "{program} {shell}: {}", String::from_utf8_lossy(&parsed.stderr));
        }
    }
}
