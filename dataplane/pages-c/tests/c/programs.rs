//! The header, the pkg-config file and the example.

use crate::support::Folder;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A tree as scripts/install.sh lays it out.
fn installed(folder: &Folder) -> PathBuf {
    let prefix = folder.path().join("usr");
    let (lib, include) = (prefix.join("lib"), prefix.join("include"));
    std::fs::create_dir_all(lib.join("pkgconfig")).unwrap();
    std::fs::create_dir_all(&include).unwrap();
    // The library is built beside the tests.
    let built = std::env::current_exe().unwrap().with_file_name("libgvm_pages.so");
    assert!(built.exists(), "{} is not built", built.display());
    std::os::unix::fs::symlink(&built, lib.join("libgvm_pages.so.0")).unwrap();
    std::os::unix::fs::symlink("libgvm_pages.so.0", lib.join("libgvm_pages.so")).unwrap();
    std::fs::copy(home().join("include/gvm_pages.h"), include.join("gvm_pages.h")).unwrap();
    let template = std::fs::read_to_string(home().join("gvm-pages.pc.in")).unwrap();
    let file = template.replace("@PREFIX@", prefix.to_str().unwrap()).replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    std::fs::write(lib.join("pkgconfig/gvm-pages.pc"), file).unwrap();
    prefix
}

/// Compiles the example with what pkg-config says.
fn compiled(folder: &Folder) -> (PathBuf, PathBuf) {
    let prefix = installed(folder);
    let pkg_config = |what: &str| {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args([what, "gvm-pages"]);
        run(&mut command)
    };
    assert_eq!(pkg_config("--modversion").trim(), env!("CARGO_PKG_VERSION"));
    let program = folder.path().join("pages");
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-o"]);
    command.arg(&program).arg(home().join("examples/pages.c"));
    command.args((pkg_config("--cflags") + " " + &pkg_config("--libs")).split_whitespace());
    run(&mut command);
    (program, prefix.join("lib"))
}

#[test]
fn the_header_is_what_cbindgen_makes() {
    let config = cbindgen::Config::from_file(home().join("cbindgen.toml")).unwrap();
    let sources = ["src/lib.rs", "src/connection.rs", "src/types.rs"].map(|file| home().join(file));
    let builder = sources.iter().fold(cbindgen::Builder::new(), |builder, source| builder.with_src(source));
    let mut made = Vec::new();
    builder.with_config(config).generate().unwrap().write(&mut made);
    let (made, path) = (String::from_utf8(made).unwrap(), home().join("include/gvm_pages.h"));
    if std::env::var_os("GVM_PAGES_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let header = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(header == made, "include/gvm_pages.h is old: run this test with GVM_PAGES_HEADER=write\n{made}");
}

#[test]
fn the_example_compiles_and_moves_pages() {
    let folder = Folder::new();
    let (program, lib) = compiled(&folder);
    let _server = folder.serve();
    let text = run(Command::new(program).arg(folder.socket()).env("LD_LIBRARY_PATH", lib));
    assert_eq!(text, "written 64 of 64 pages\nread 64 of 64 pages, wrong bytes 0\n");
}

#[test]
fn the_example_says_what_is_wrong() {
    let folder = Folder::new();
    let (program, lib) = compiled(&folder);
    let example = || {
        let output = Command::new(&program).arg(folder.socket()).env("LD_LIBRARY_PATH", &lib).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (code, text) = example();
    assert!(code == Some(1) && text.contains("connect: there is no socket"), "{text}");
    let server = folder.serve();
    server.flip(true);
    let (code, text) = example();
    assert!(code == Some(1) && text.contains("wrong bytes 64"), "{text}");
    server.die_after(80);
    let (code, text) = example();
    assert!(code == Some(1) && text.contains(": SERVER_GONE\n"), "{text}");
}

#[test]
fn the_header_is_good_for_cpp_too() {
    if Command::new("c++").arg("--version").output().is_err() {
        println!("SKIPPED: there is no c++");
        return;
    }
    let header = home().join("include/gvm_pages.h");
    run(Command::new("c++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++"])
        .arg(header));
}
