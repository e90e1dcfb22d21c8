//! Every block of the documents, tested by its class. Commands that can run here are run. Commands that need a device
//! must at least be accepted by the programs.

use netns::product::{binaries, until};
use netns::shell::{Machine, project};
use operator::document::{Block, all_blocks, documents, indented, spans};
use operator::typed::{wrong, wrong_usage};
use operator::words::commands;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The classes that may stand behind the language of a block. The class decides how the block is tested; see
/// CONTRIBUTING.md.
const CLASSES: [(&str, &[&str]); 11] = [
    (
        "sh",
        &[
            "walkthrough",
            "run",
            "running",
            "slow",
            "endless",
            "nics",
            "needs-root",
            "needs-device",
            "needs-cluster",
            "usage",
        ],
    ),
    ("toml", &["config"]),
    ("ini", &["unit"]),
    ("udev", &["rules"]),
    ("yaml", &["prometheus"]),
    ("promql", &["queries"]),
    ("text", &["output", "figure", "static-routes"]),
    ("rust", &["figure"]),
    ("hex", &[]),
    ("lua", &["figure"]),
    ("json", &["output"]),
];

fn fail_with(what: &[String]) {
    assert!(what.is_empty(), "\n  {}", what.join("\n  "));
}

fn of_class(language: &str, class: &str) -> Vec<Block> {
    all_blocks().into_iter().filter(|block| block.language == language && block.class == class).collect()
}

#[test]
fn every_block_has_a_class_that_says_how_it_is_tested() {
    let mut faults = Vec::new();
    for (path, text) in documents() {
        faults
            .extend(indented(&path, &text).into_iter().map(|place| format!("{place}: fence it, and give it a class")));
    }
    for block in all_blocks() {
        let known = CLASSES.iter().find(|(language, _)| *language == block.language);
        // The test of the wire format reads blocks of hex by their names.
        let fits = known.is_some_and(|(language, classes)| {
            classes.contains(&block.class.as_str()) || (*language == "hex" && !block.class.is_empty())
        });
        if !fits {
            faults.push(format!("{}: no class of blocks is called `{} {}`", block.place, block.language, block.class));
        }
    }
    fail_with(&faults);
}

/// This includes blocks that run, and blocks that need something that is missing here.
#[test]
fn every_line_of_a_shell_can_be_typed() {
    let (mut faults, mut lines) = (Vec::new(), 0);
    for block in all_blocks().iter().filter(|block| block.language == "sh" && block.class != "usage") {
        let parsed = Command::new("bash").args(["-n", "-c", &block.text]).output().unwrap();
        if !parsed.status.success() {
            faults.push(format!("{}: {}", block.place, String::from_utf8_lossy(&parsed.stderr)));
        }
        lines += commands(&block.text).len();
        faults.extend(wrong(&block.text).into_iter().map(|fault| format!("{}: {fault}", block.place)));
    }
    assert!(lines > 50, "only {lines} commands found");
    fail_with(&faults);
}

/// Checks lines of usage, in blocks and in the text.
#[test]
fn flags_and_commands_that_are_named_exist() {
    let (mut faults, mut named) = (Vec::new(), 0);
    for block in of_class("sh", "usage") {
        // An indented line continues the line before.
        let lines = block.text.replace("\n  ", " ");
        named += lines.lines().count();
        faults.extend(lines.lines().flat_map(wrong_usage).map(|fault| format!("{}: {fault}", block.place)));
    }
    for (path, text) in documents() {
        for (line, span) in
            spans(&text).into_iter().filter(|(_, span)| span.starts_with("gvm-dp ") || span.starts_with("gvm-pktgen "))
        {
            named += 1;
            faults.extend(wrong_usage(&span).into_iter().map(|fault| format!("{path}:{line}: {fault}")));
        }
    }
    assert!(named > 50, "only {named} lines found");
    fail_with(&faults);
}

/// A directory of one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gvm-documents-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs each command line of a block in a shell of its own, one after the other.
fn run(block: &Block, directory: &Path) {
    let path = format!("{}:{}", binaries().display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("set -eu\n{}", block.text);
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(directory)
        .env("PATH", path)
        .env("GVM_DP_RUN_DIR", directory)
        .env("GVM_DP_CONFIG_DIR", directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}\n{}", block.place, output.status, String::from_utf8_lossy(&said));
}

#[test]
fn blocks_that_need_nothing_run() {
    let blocks = of_class("sh", "run");
    assert!(!blocks.is_empty());
    for block in blocks {
        let directory = Directory::new("run");
        run(&block, &directory.0);
    }
}

/// A box with a gateway as the service, and beside it a farm and a master that load it.
struct Loaded {
    machine: Machine,
    beside: Vec<Child>,
    // The last field, so that the directory is removed when nobody uses it any more.
    directory: Directory,
}

impl Loaded {
    fn new() -> Self {
        let mut machine = Machine::new();
        machine.run("sudo scripts/install.sh");
        machine.run("sudo sed -i 's|^#* *port *=.*|port = \"udp:127.0.0.1:9999\"|' /etc/gvm-dp/gvm-dp.toml");
        machine.run("sudo systemctl start gvm-dp");
        let mut loaded = Self { machine, beside: Vec::new(), directory: Directory::new("beside") };
        let gateway = loaded.machine.run("echo -n 127.0.0.1");
        let port = format!("udp:{gateway}:0");
        loaded.start(&[
            "gvm-dp",
            "slave",
            "--config",
            "/dev/null",
            "--gateway",
            &gateway,
            "--id",
            "0",
            "--count",
            "64",
            "--port",
            &port,
        ]);
        loaded.start(&[
            "gvm-pktgen",
            "--gateway",
            &gateway,
            "--count",
            "64",
            "--rate",
            "2000",
            "--seconds",
            "300",
            "--quiet",
        ]);
        until("load", || {
            let stats = loaded.machine.run("gvm-dp stats --json");
            let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
            let up = |direction: &str| {
                stats["directions"][direction]["records_in"].as_u64().is_some_and(|count| count > 100)
            };
            (up("down") && up("up")).then_some(())
        });
        loaded
    }

    /// Starts a program outside the box, so that the gateway is the only process in the box.
    fn start(&mut self, line: &[&str]) {
        let mut command = Command::new(binaries().join(line[0]));
        command.args(&line[1..]).env("GVM_DP_RUN_DIR", &self.directory.0).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.beside.push(command.spawn().unwrap());
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        for process in &mut self.beside {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn blocks_about_a_running_gateway_run_beside_one() {
    let blocks = of_class("sh", "running");
    assert!(blocks.len() >= 3, "{blocks:#?}");
    for block in blocks {
        let mut loaded = Loaded::new();
        for line in block.text.lines().filter(|line| !line.trim().is_empty()) {
            let place = loaded.directory.0.display().to_string();
            let printed = loaded.machine.run(&format!("cd {place} && {line}"));
            assert!(!printed.is_empty() || line.contains("-w "), "{}: `{line}` printed nothing", block.place);
        }
    }
}

/// The examples of configuration files are valid. Both roles start from them and find each other.
#[test]
fn configurations_are_good_and_start() {
    let blocks = of_class("toml", "config");
    assert!(!blocks.is_empty());
    for block in blocks {
        let mut machine = Machine::new();
        machine.run("sudo scripts/install.sh");
        machine.run("gvm-dp key new --out /etc/gvm-dp/cluster.key");
        machine.run(
            "gvm-dp key derive --key-file /etc/gvm-dp/cluster.key --role slave --id 17 --out /etc/gvm-dp/slave-17.key",
        );
        // The text as it is written, with the box's own paths and address.
        let (etc, address) = (machine.path("/etc/").display().to_string(), machine.run("echo -n 127.0.0.1"));
        let text =
            block.text.replace("/etc/", &format!("{}/", etc.trim_end_matches('/'))).replace("127.0.0.1", &address);
        std::fs::write(machine.path("/etc/gvm-dp/gvm-dp.toml"), text).unwrap();
        let said = machine.run("gvm-dp config check");
        assert!(
            said.contains("good for a gateway\n") && said.contains("good for a slave\n"),
            "{}: {said}",
            block.place
        );
        machine.run("sudo systemctl start gvm-dp");
        machine.run("gvm-dp slave --name farm &");
        until("registration", || machine.run("gvm-dp routes --name gateway").contains("1 slave").then_some(()));
        machine.run("gvm-dp drain --name farm");
        machine.run("sudo systemctl stop gvm-dp");
    }
}

#[test]
fn static_routes_are_taken() {
    let directory = Directory::new("routes");
    for block in of_class("text", "static-routes") {
        let (routes, config) = (directory.0.join("routes"), directory.0.join("gvm-dp.toml"));
        std::fs::write(&routes, &block.text).unwrap();
        let [masters, slaves] = ["net_null0,ip=10.0.1.1/24,mtu=9000", "net_null1,ip=10.0.2.1/24,mtu=9000,vlans=0+5"];
        let ports = format!("port = [\"dpdk:{masters}\", \"dpdk:{slaves}\"]");
        std::fs::write(&config, format!("{ports}\n[gateway]\nstatic-routes = \"{}\"\n", routes.display())).unwrap();
        let output = Command::new(binaries().join("gvm-dp")).args(["config", "check"]).arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Without DPDK's plugin the ports are missing. The routes are checked all the same.
        let about_routes = said.contains(routes.to_str().unwrap());
        assert!(
            !about_routes && (output.status.success() || output.status.code() == Some(3)),
            "{}: {said}",
            block.place
        );
    }
}

/// Lines that are added to our unit. Sections and names must be those of systemd, and the whole unit must stay valid.
#[test]
fn additions_to_the_unit_are_sound() {
    let blocks = of_class("ini", "unit");
    assert!(blocks.len() >= 2, "{blocks:#?}");
    let unit = std::fs::read_to_string(project().join("control/packaging/gvm-dp.service")).unwrap();
    for block in blocks {
        let mut section = "";
        for line in block.text.lines().filter(|line| !line.is_empty()) {
            if line.starts_with('[') {
                section = line;
                continue;
            }
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", block.place));
            let ours = unit.split(section).nth(1).unwrap_or_else(|| panic!("{}: no {section}", block.place));
            // The line must change a setting that the unit has.
            assert!(ours.contains(&format!("\n{name}=")), "{}: the unit has no {name}", block.place);
            assert!(!value.contains('#'), "{}: systemd takes a comment behind a value for a part of it", block.place);
        }
    }
    for block in of_class("udev", "rules") {
        for part in block.text.lines().flat_map(|line| line.split(", ")) {
            let (name, value) = part.split_once('=').unwrap_or_else(|| panic!("{}: {part}", block.place));
            assert!(
                name.bytes().all(|byte| byte.is_ascii_uppercase()) && value.ends_with('"'),
                "{}: {part}",
                block.place
            );
        }
    }
}
