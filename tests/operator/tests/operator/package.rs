//! The Debian packages are built, and the distribution's own tools check them.

use netns::product::binaries;
use netns::shell::project;
use operator::has_tool;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The maintainer for the packages of this test.
const MAINTAINER: (&str, &str) = ("Pat Builder", "pat@builder.org");

/// Runs a tool, which must succeed, and returns its output.
fn said(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    command.env("DEBFULLNAME", MAINTAINER.0).env("DEBEMAIL", MAINTAINER.1);
    let output = command.args(arguments).arg(file).current_dir(project()).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

#[test]
fn the_packages_are_whole_and_the_linter_finds_no_error() {
    if !has_tool("dpkg-shlibdeps", true) {
        return;
    }
    let directory = std::env::temp_dir().join(format!("gvm-packages-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let script = project().join("scripts/package.sh");
    let binaries = binaries().to_str().unwrap();
    said(script.to_str().unwrap(), &["--binaries", binaries, "--output"], &directory);
    let mut packages: Vec<PathBuf> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    packages.sort();
    let names: Vec<&str> = packages.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert!(names.len() == 2 && names[0].starts_with("gvm-dp-dpdk_") && names[1].starts_with("gvm-dp_"), "{names:?}");

    let (plugin, whole) = (&packages[0], &packages[1]);
    let depends = said("dpkg-deb", &["--show", "--showformat", "${Depends}"], whole);
    assert!(depends.contains("libc6 (>= ") && depends.contains("passwd") && !depends.contains("librte"), "{depends}");
    let depends = said("dpkg-deb", &["--show", "--showformat", "${Depends}"], plugin);
    assert!(
        depends.contains("gvm-dp (= ") && depends.contains("libc6 (>= ") && depends.contains("librte-eal"),
        "{depends}"
    );

    for package in [plugin, whole] {
        let maintainer = said("dpkg-deb", &["--show", "--showformat", "${Maintainer}"], package);
        assert_eq!(maintainer, "Pat Builder <pat@builder.org>");
    }

    let files = said("dpkg-deb", &["--contents"], whole);
    for wanted in [
        "usr/bin/gvm-dp",
        "usr/bin/gvm-pktgen",
        "etc/gvm-dp/gvm-dp.toml",
        "usr/lib/systemd/system/gvm-dp.service",
        "usr/lib/systemd/system/gvm-dp-slave.service",
        "usr/lib/systemd/system/gvm-dp-master.service",
        "usr/lib/systemd/system/gvm-dp-disk.service",
        "usr/lib/sysusers.d/gvm-dp.conf",
        "usr/share/man/man1/gvm-dp.1.gz",
        "usr/share/man/man1/gvm-pktgen.1.gz",
        "usr/share/bash-completion/completions/gvm-dp",
        "usr/share/bash-completion/completions/gvm-pktgen",
        "usr/share/zsh/vendor-completions/_gvm-dp",
        "usr/share/fish/vendor_completions.d/gvm-dp.fish",
        "usr/share/gvm-dp/grafana/gvm-dp.json",
        "usr/share/gvm-dp/prometheus/gvm-dp.rules.yml",
        "usr/share/gvm-dp/wireshark/gvm.lua",
        "usr/lib/libgvm_pages.so.0",
        "usr/include/gvm_pages.h",
        "usr/lib/pkgconfig/gvm-pages.pc",
        "usr/share/gvm-dp/examples/pages.c",
        "usr/share/doc/gvm-dp/copyright",
        "usr/share/doc/gvm-dp/changelog.gz",
        "usr/share/doc/gvm-dp/changelog.Debian.gz",
    ] {
        assert!(files.lines().any(|line| line.ends_with(&format!(" ./{wanted}"))), "{wanted}: {files}");
    }
    assert!(!files.contains("libgvm_dpdk") && !files.contains("/installed\n"), "{files}");

    let unpacked = directory.join("unpacked");
    said("dpkg-deb", &["--extract", whole.to_str().unwrap()], &unpacked);
    let sections = said("objdump", &["--section-headers"], &unpacked.join("usr/bin/gvm-dp"));
    assert!(sections.contains(".text") && !sections.contains(".debug_info"), "it is stripped: {sections}");
    let changes = said("gzip", &["-dc"], &unpacked.join("usr/share/doc/gvm-dp/changelog.Debian.gz"));
    assert!(changes.contains(" -- Pat Builder <pat@builder.org>  "), "{changes}");
    // The dates of the manual page and of the package are that of the release.
    assert!(said("gzip", &["-dc"], &unpacked.join("usr/share/man/man1/gvm-dp.1.gz")).contains(shell_release()));
    if has_tool("lintian", false) {
        for package in [plugin, whole] {
            let found = said("lintian", &["--allow-root", "--fail-on", "error", "--tag-display-limit", "0"], package);
            assert!(!found.lines().any(|line| line.starts_with("E:")), "{found}");
        }
    }
    let _ = std::fs::remove_dir_all(&directory);
}

#[test]
fn a_maintainer_is_somebody_with_an_address() {
    let script = project().join("scripts/package.sh");
    for wrong in ["Pat Builder", "pat@builder.org", "<pat@builder.org>", "Pat <builder>", "Pat <a@b> <c@d>"] {
        let output = Command::new(&script).args(["--output", "/nonexistent", "--maintainer", wrong]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("'NAME <ADDRESS>'"), "{wrong}: {said}");
    }
}

/// The date of the newest release, from the change log.
fn shell_release() -> &'static str {
    let changes = include_str!("../../../../CHANGELOG.md");
    changes.lines().find_map(|line| Some(line.strip_prefix("## ")?.rsplit_once(", ")?.1)).unwrap()
}
