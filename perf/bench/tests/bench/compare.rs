//! `perf/compare.sh`: two versions in turn. The versions of these tests are directories, and revisions of a repository,
//! whose benchmarks only print.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compare.sh")
}

fn compare(arguments: &[&str]) -> Output {
    Command::new(script()).args(arguments).output().expect("bash runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A directory with versions, which is removed at the end.
struct Versions(PathBuf);

impl Versions {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gvm-compare-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A version whose `perf/run.sh` is this script.
    fn version(&self, name: &str, script: &str) -> String {
        let folder = self.0.join(name);
        fs::create_dir_all(folder.join("perf")).unwrap();
        let run = folder.join("perf/run.sh");
        fs::write(&run, format!("#!/bin/sh\n[ \"$1\" = --help ] && exit 0\n{script}\n")).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        folder.to_str().unwrap().to_owned()
    }
}

/// A repository that has the script, and a revision for each value that its benchmark prints.
struct Repository(Versions);

impl Repository {
    fn new(name: &str) -> Self {
        let repository = Self(Versions::new(name));
        repository.git(&["init", "--quiet"]);
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        // A repository of its own, whatever repository the test runs in.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(variable);
        }
        command.current_dir(&self.0.0).args(["-c", "user.name=Test", "-c", "user.email=test@example.org"]);
        let output = command.args(arguments).output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes a revision whose benchmark prints this value and notes its path and target directory. Returns its name.
    fn revision(&self, value: u32) -> String {
        let log = self.0.0.join("log");
        let note = format!("echo $0 $CARGO_TARGET_DIR >>{}", log.display());
        let say = format!("{note}\necho name=x value={value} unit=ns ratio=1");
        self.0.version(".", &say);
        fs::copy(script(), self.0.0.join("perf/compare.sh")).unwrap();
        fs::write(self.0.0.join(".gitignore"), "/perf/out/\n/log\n").unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", &value.to_string()]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn compare(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.0.0.join("perf/compare.sh"));
        // The caller's target directory must not reach the versions.
        command.env("CARGO_TARGET_DIR", "/nowhere").args(arguments).output().expect("bash runs")
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn two_versions_run_in_turn_and_their_ratios_have_a_spread() {
    let versions = Versions::new("turns");
    let log = versions.0.join("log");
    let say = |name: &str, start: u32| {
        let (log, count) = (log.display(), versions.0.join(name).join("count").display().to_string());
        format!(
            "echo {name} $* >>{log}; n=$(cat {count} 2>/dev/null || echo {start}); echo $((n + 1)) >{count}\n\
             echo 'NOT A MEASUREMENT: busy'\necho name=x value=$n.0 unit=ns/record ratio=2.0"
        )
    };
    let (a, b) = (versions.version("a", &say("a", 10)), versions.version("b", &say("b", 20)));
    let output = compare(&["--turns", "3", &a, &b, "x", "--slaves", "64"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let ran = fs::read_to_string(&log).unwrap();
    let order: Vec<_> = ran.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(order.iter().map(|(name, _)| *name).collect::<String>(), "abbaab");
    assert!(order.iter().all(|(_, options)| *options == "x --slaves 64"), "{ran}");
    // 20 / 10, 21 / 11, 22 / 12.
    assert!(text.contains("ratios: median 1.909, 1.833 to 2.000 in 3 turns"), "{text}");
    assert!(text.contains("their baselines: median 1.000, 1.000 to 1.000"), "{text}");
    assert!(text.contains("name=compare-x value=21.000 unit=ns/record ratio=1.909\n"), "{text}");
    assert_eq!(text.matches("NOT A MEASUREMENT").count(), 6, "each busy run is told: {text}");
}

#[test]
fn what_cannot_be_compared_is_an_error_that_names_it() {
    let versions = Versions::new("errors");
    let good = versions.version("good", "echo name=x value=1 unit=ns ratio=1");
    let failing = versions.version("failing", "exit 3");
    let silent = versions.version("silent", "echo SKIPPED x: no such device");
    let empty = versions.0.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&[], 2, "perf/compare.sh A B"),
        (&[&good], 2, "perf/compare.sh A B"),
        (&["--turns", "none", &good, &good], 1, "--turns needs a number, not 'none'"),
        (&["no-such-revision", &good], 1, "no-such-revision is neither a directory nor a git revision"),
        (&[empty, &good], 1, "has no perf/run.sh"),
        (&[&good, &failing, "x"], 1, "perf/run.sh x failed in"),
        (&[&good, &silent, "x"], 1, "SKIPPED x: no such device"),
    ];
    for (arguments, code, expected) in cases {
        let output = compare(arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn two_revisions_are_checked_out_measured_and_cleaned_away() {
    let repository = Repository::new("revisions");
    let root = &repository.0.0;
    let (a, b) = (repository.revision(10), repository.revision(30));
    // A checkout of which an interruption left only the folder.
    fs::create_dir_all(root.join("perf/out/compare").join(&a)).unwrap();
    for (turn, first) in [&a[..], "HEAD~1"].into_iter().enumerate() {
        let output = repository.compare(&["--turns", "1", first, "HEAD", "x"]);
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("name=compare-x value=30.000 unit=ns ratio=3.000\n"), "{text}");
        let ran = fs::read_to_string(root.join("log")).unwrap();
        let wanted = [&a, &b].map(|commit| root.join("perf/out/compare").join(commit).join("perf/run.sh"));
        let wanted = wanted.map(|script| format!("{}\n", script.display())).concat();
        assert_eq!(ran, wanted.repeat(turn + 1), "each revision in its own directory, and no target directory is set");
    }
    for commit in [&a, &b] {
        assert!(root.join("perf/out/compare").join(commit).join("perf/run.sh").exists());
    }
    // A revision, and the work tree as a directory.
    let output = repository.compare(&["--turns", "1", &a, root.to_str().unwrap(), "x"]);
    assert!(said(&output).contains("ratio=3.000\n"), "{}", said(&output));
    let output = repository.compare(&["--clean"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!root.join("perf/out/compare").exists());
    assert_eq!(repository.git(&["worktree", "list", "--porcelain"]).matches("worktree ").count(), 1);
}

#[test]
fn a_revision_from_before_the_benchmarks_is_named() {
    let repository = Repository::new("older");
    let root = &repository.0.0;
    fs::write(root.join("file"), "").unwrap();
    repository.git(&["add", "."]);
    repository.git(&["commit", "--quiet", "--message", "older"]);
    let (older, newer) = (repository.git(&["rev-parse", "HEAD"]), repository.revision(1));
    let text = said(&repository.compare(&[&older, &newer, "x"]));
    assert!(text.contains(&format!("{older} has no perf/run.sh: it is older than the benchmarks")), "{text}");
}
