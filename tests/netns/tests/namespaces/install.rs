//! Installing, upgrading and removing gvm-dp by `scripts/install.sh`, and the walk-through of `docs/operating.md`,
//! whose commands are taken from the document itself. All of it in directories of their own.

use netns::product::until;
use netns::shell::{Machine, project, walkthrough};
use netns::skip;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

fn installed(machine: &Machine, arguments: &[&str]) -> String {
    let output = machine.install(arguments);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

const CONFIG: &str = "/etc/gvm-dp/gvm-dp.toml";
const SHIPPED: &str = "/usr/local/share/gvm-dp/gvm-dp.toml";

#[test]
fn installing_twice_changes_nothing_and_removing_leaves_nothing() {
    let machine = Machine::new();
    installed(&machine, &[]);
    let files = machine.files();
    for wanted in [
        "/usr/local/bin/gvm-dp",
        "/usr/local/bin/gvm-pktgen",
        CONFIG,
        SHIPPED,
        "/usr/local/lib/systemd/system/gvm-dp.service",
        "/usr/local/lib/sysusers.d/gvm-dp.conf",
        "/usr/local/share/man/man1/gvm-dp.1",
        "/usr/local/share/man/man1/gvm-dp-slave.1",
        "/usr/local/share/bash-completion/completions/gvm-dp",
        "/usr/local/share/zsh/site-functions/_gvm-dp",
        "/usr/local/share/fish/vendor_completions.d/gvm-dp.fish",
        "/usr/local/share/man/man1/gvm-pktgen.1",
        "/usr/local/share/bash-completion/completions/gvm-pktgen",
        "/usr/local/share/zsh/site-functions/_gvm-pktgen",
        "/usr/local/share/fish/vendor_completions.d/gvm-pktgen.fish",
    ] {
        assert!(files.iter().any(|file| file == wanted), "{wanted} is not among {files:#?}");
    }
    let mode = |path: &str| std::fs::metadata(machine.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("/usr/local/bin/gvm-dp"), mode(CONFIG)), (0o755, 0o644));
    // Files of an older version are removed.
    let manifest = machine.path("/usr/local/share/gvm-dp/installed");
    let old = std::fs::read_to_string(&manifest).unwrap() + "file /usr/local/bin/gvm-old\n";
    std::fs::write(&manifest, old).unwrap();
    std::fs::write(machine.path("/usr/local/bin/gvm-old"), "old").unwrap();
    assert!(installed(&machine, &[]).contains("upgrading"));
    assert_eq!(machine.files(), files);

    // A changed configuration stays. An unchanged one is replaced.
    let old = "# as an older version shipped it\n";
    std::fs::write(machine.path(CONFIG), old).unwrap();
    std::fs::write(machine.path(SHIPPED), old).unwrap();
    installed(&machine, &[]);
    let shipped = std::fs::read_to_string(machine.path(SHIPPED)).unwrap();
    assert_eq!(std::fs::read_to_string(machine.path(CONFIG)).unwrap(), shipped);
    std::fs::write(machine.path(CONFIG), "port = \"udp:127.0.0.1:9999\"\n").unwrap();
    assert!(installed(&machine, &[]).contains("was changed and stays"));
    assert_eq!(std::fs::read_to_string(machine.path(CONFIG)).unwrap(), "port = \"udp:127.0.0.1:9999\"\n");

    assert!(installed(&machine, &["--uninstall"]).contains("stays"));
    assert_eq!(machine.files(), [CONFIG]);
    assert!(!machine.install(&["--uninstall"]).status.success(), "nothing is installed");
    installed(&machine, &[]);
    installed(&machine, &["--uninstall", "--purge"]);
    assert_eq!(machine.files(), Vec::<String>::new());
    // Removing and purging also work one after the other.
    installed(&machine, &[]);
    installed(&machine, &["--uninstall"]);
    assert_eq!(machine.files(), [CONFIG]);
    assert!(installed(&machine, &["--uninstall", "--purge"]).contains("that an earlier --uninstall left"));
    assert!(!machine.install(&["--uninstall", "--purge"]).status.success(), "nothing is left");
    assert_eq!(std::fs::read_dir(machine.path("/")).unwrap().count(), 0, "{:?}", machine.files());
}

/// A machine without `systemd-sysusers`. Its path has all programs of this machine except that one, and a `useradd`
/// that records its arguments.
#[test]
fn the_user_is_made_by_useradd_where_there_is_no_systemd_at_all() {
    if !netns::available() {
        return;
    }
    let script = r#"
        mkdir "$scratch/bin"
        for directory in /usr/sbin /usr/bin /sbin /bin; do
            for program in "$directory"/*; do
                [ -e "$scratch/bin/${program##*/}" ] || ln -s "$program" "$scratch/bin/"
            done
        done
        rm -f "$scratch/bin/systemd-sysusers" "$scratch/bin/useradd"
        real=$(command -v useradd || true)
        printf '#!/bin/sh\necho "useradd $*"\n[ -z "%s" ] || exec "%s" "$@"\n' "$real" "$real" >"$scratch/bin/useradd"
        chmod 755 "$scratch/bin/useradd"
        PATH=$scratch/bin scripts/install.sh --binaries "$1"
        [ -z "$real" ] || getent passwd gvm-dp
        PATH=$scratch/bin scripts/install.sh --uninstall --purge
    "#;
    let said = in_namespace(script);
    let told =
        "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gvm-dp";
    assert_eq!(said.matches(told).count(), 1, "{said}");
    assert!(said.contains("made the user gvm-dp"), "{said}");
    if has_useradd() {
        assert!(said.contains("/nonexistent:/usr/sbin/nologin"), "{said}");
    }
}

/// Whether this machine's own `useradd` can be tried behind the one that records its arguments.
fn has_useradd() -> bool {
    Command::new("sh").args(["-c", "command -v useradd"]).output().is_ok_and(|found| found.status.success())
}

/// Runs a script in a mount namespace of its own, with the directory of our programs as its argument. Returns its
/// output. In that namespace `/etc`, `/usr/local` and `/run` are copies or empty: no systemd runs, and the user of the
/// service does not exist.
fn in_namespace(script: &str) -> String {
    let machine = r#"
        set -eu
        scratch=$(mktemp -d)
        trap 'umount "$scratch"; rmdir "$scratch"' EXIT
        mount -t tmpfs none "$scratch"
        cp -a /etc "$scratch/etc"
        mkdir "$scratch/local" "$scratch/run"
        sed -i '/^gvm-dp:/d' "$scratch"/etc/passwd "$scratch"/etc/shadow "$scratch"/etc/group "$scratch"/etc/gshadow
        for place in etc run; do mount --bind "$scratch/$place" "/$place"; done
        mount --bind "$scratch/local" /usr/local
    "#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &format!("{machine}{script}"), "sh"])
        .arg(netns::product::binaries())
        .current_dir(project());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_user_is_made_where_no_systemd_runs_as_well() {
    if !netns::available() {
        return;
    }
    let script = r#"
        scripts/install.sh --binaries "$1"
        getent passwd gvm-dp
        getent group gvm-dp
        scripts/install.sh --binaries "$1"
        scripts/install.sh --uninstall --purge
    "#;
    let said = in_namespace(script);
    assert_eq!(said.matches("made the user gvm-dp").count(), 1, "once, and not by the upgrade: {said}");
    assert!(said.contains("/nonexistent:/usr/sbin/nologin") && said.contains("the user gvm-dp stays"), "{said}");
}

#[test]
fn what_others_put_there_stays() {
    let machine = Machine::new();
    installed(&machine, &["--prefix", "/opt/gvm"]);
    for (path, content) in [("/etc/gvm-dp/cluster.key", "key"), ("/opt/gvm/bin/other", "program")] {
        std::fs::write(machine.path(path), content).unwrap();
    }
    assert!(installed(&machine, &["--uninstall", "--purge", "--prefix", "/opt/gvm"]).contains("holds keys"));
    assert_eq!(machine.files(), ["/etc/gvm-dp/cluster.key", "/opt/gvm/bin/other"]);
}

#[test]
fn the_unit_is_sound() {
    let machine = Machine::new();
    installed(&machine, &[]);
    assert_eq!(machine.unit("KillSignal"), ["SIGTERM"]);
    assert_eq!(machine.unit("Restart"), ["on-failure"]);
    let needed = "CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON CAP_IPC_LOCK";
    assert_eq!(
        (machine.unit("AmbientCapabilities"), machine.unit("CapabilityBoundingSet")),
        (vec![needed.into()], vec![needed.into()])
    );
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("`systemd-analyze` is not installed: `apt-get install -y systemd`");
    }
    for name in ["gvm-dp.service", "gvm-dp-slave.service", "gvm-dp-master.service", "gvm-dp-disk.service"] {
        let unit = std::fs::read_to_string(machine.path(&format!("/usr/local/lib/systemd/system/{name}"))).unwrap();
        assert!(!unit.contains('@'), "a place that was not filled in: {unit}");
        // The programs of the unit are in the box.
        let unit = unit.replace("/usr/local/bin", machine.path("/usr/local/bin").to_str().unwrap());
        let unit: String =
            unit.lines().filter(|line| !line.starts_with("Documentation=")).map(|l| format!("{l}\n")).collect();
        let copy = machine.path(&format!("/{name}"));
        std::fs::write(&copy, unit).unwrap();
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains(name), "{said}");
    }
}

/// Registered slaves of the gateway in the box.
fn registered(machine: &mut Machine) -> u64 {
    let stats = machine.run("sudo gvm-dp stats --name gateway --json");
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    stats["membership"]["registered"].as_u64().unwrap()
}

#[test]
fn the_walk_through_of_the_document_works_as_it_is_written() {
    let lines = walkthrough(&std::fs::read_to_string(project().join("docs/operating.md")).unwrap());
    assert!(lines.len() >= 15, "the document has its blocks: {lines:#?}");
    let mut machine = Machine::new();
    let mut restarts = 0;
    for line in &lines {
        let printed = machine.run(line);
        if line.contains("gvm-dp slave") {
            until("64 slaves", || (registered(&mut machine) == 64).then_some(()));
        } else if line.contains(" set ") {
            assert!(machine.run("gvm-dp stats --name gateway --json").contains("\"hold\":\"20us\""), "{printed}");
        } else if line.contains("routes") {
            assert!(printed.contains("64 slaves"), "{printed}");
        } else if line.contains("/metrics") {
            assert!(printed.contains("gvm_dp_"), "{printed}");
        } else if line.ends_with("restart gvm-dp") {
            restarts += 1;
            until("64 slaves again", || (registered(&mut machine) == 64).then_some(()));
        }
    }
    assert_eq!(restarts, 2);
    let journal = machine.journal();
    assert_eq!(journal.matches("drained: nothing was lost").count(), 3, "{journal}");
    let left = machine.files();
    assert!(left.iter().all(|file| !file.contains("gvm-dp")), "{left:?}");
}
