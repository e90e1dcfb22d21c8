//! Manual pages, checked by the distribution's tools.

use netns::product::binaries;
use operator::has_tool;
use std::path::{Path, PathBuf};
use std::process::Command;

fn pages(directory: &Path) -> Vec<PathBuf> {
    std::fs::create_dir_all(directory).unwrap();
    for (program, flags) in [("gvm-dp", ["man", "--out"].as_slice()), ("gvm-pktgen", &["--man"])] {
        let output = Command::new(binaries().join(program)).args(flags).arg(directory).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut pages: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

#[test]
fn the_linter_of_manual_pages_has_nothing_to_say() {
    if !has_tool("mandoc", true) {
        return;
    }
    let directory = std::env::temp_dir().join(format!("gvm-man-{}", std::process::id()));
    let pages = pages(&directory);
    for wanted in ["gvm-dp.1", "gvm-dp-slave.1", "gvm-dp-config-show-slave.1", "gvm-pktgen.1"] {
        assert!(pages.iter().any(|page| page.ends_with(wanted)), "{wanted}: {pages:?}");
    }
    let output = Command::new("mandoc").args(["-T", "lint", "-W", "style"]).args(&pages).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // The formatted page has the name, and a flag with its help.
    let read = Command::new("mandoc").args(["-T", "utf8"]).arg(directory.join("gvm-pktgen.1")).output().unwrap();
    let _ = std::fs::remove_dir_all(&directory);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let read = String::from_utf8_lossy(&read.stdout).replace(|c: char| !c.is_ascii(), "");
    let plain: String = read.split('\u{8}').map(|part| part.to_owned()).collect();
    assert!(plain.contains("User Commands") && plain.contains("0.1.0"), "{plain}");
}
