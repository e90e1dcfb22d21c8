//! Compiles `src/steer.bpf.c` for the kernel's BPF machine and writes the constants that it shares with Rust.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[path = "src/verdict.rs"]
#[expect(dead_code, reason = "only the names are used here")]
mod verdict;

/// Compilers that are tried, in this order, when BPF_CLANG does not name one.
const COMPILERS: [&str; 4] = ["clang-19", "clang-16", "clang-14", "clang"];

const HINT: &str = "the XDP program needs clang and the libbpf headers: \
    `apt-get install -y --no-install-recommends clang-19 libbpf-dev`, or set BPF_CLANG to a clang with a bpf target";

fn main() {
    println!("cargo::rerun-if-changed=src/steer.bpf.c");
    println!("cargo::rerun-if-changed=src/verdict.rs");
    println!("cargo::rerun-if-env-changed=BPF_CLANG");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    fs::write(out.join("steer_gen.h"), header()).expect("OUT_DIR is writable");

    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let status = Command::new(compiler())
        .args(["-O2", "-g", "-target", "bpfel", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-c", "src/steer.bpf.c"])
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .arg("-I")
        .arg(out)
        .arg("-o")
        .arg(out.join("steer.bpf.o"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => panic!("clang could not compile src/steer.bpf.c (see above); {HINT}"),
        Err(error) => panic!("cannot run clang: {error}; {HINT}"),
    }
}

fn compiler() -> String {
    if let Ok(clang) = env::var("BPF_CLANG") {
        return clang;
    }
    let works = |clang: &&str| Command::new(clang).arg("--version").output().is_ok_and(|run| run.status.success());
    match COMPILERS.into_iter().find(works) {
        Some(clang) => clang.to_owned(),
        None => panic!("no clang found; {HINT}"),
    }
}

/// Every number that the program and Rust share, as C.
fn header() -> String {
    use wire::net::{ethernet, ipv4, udp};
    let mut text = String::from("// Made by build.rs from gvm-wire and verdict.rs.\n#pragma once\n");
    for (name, value) in [
        ("GVM_GATEWAY_PORT", usize::from(wire::GATEWAY_PORT)),
        ("GVM_MAX_QUEUES", verdict::MAX_QUEUES as usize),
        ("ETHERNET_LEN", ethernet::HEADER_LEN),
        ("ETHERNET_TYPE_AT", ethernet::HEADER_LEN - 2),
        ("ETHERNET_TAG_LEN", ethernet::TAG_LEN),
        ("ETHERNET_IPV4", usize::from(ethernet::IPV4)),
        ("ETHERNET_DOT1Q", usize::from(ethernet::DOT1Q)),
        ("IPV4_LEN", ipv4::HEADER_LEN),
        ("IPV4_UDP", usize::from(ipv4::UDP)),
        ("UDP_LEN", udp::HEADER_LEN),
    ] {
        writeln!(text, "#define {name} {value}").expect("a String takes all");
    }
    text.push_str("enum verdict {\n");
    for verdict in verdict::Verdict::ALL {
        writeln!(text, "    VERDICT_{} = {},", verdict.name().to_uppercase(), verdict as u32)
            .expect("a String takes all");
    }
    writeln!(text, "    VERDICTS = {}\n}};", verdict::Verdict::ALL.len()).expect("a String takes all");
    text
}
