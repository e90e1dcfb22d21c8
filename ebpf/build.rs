//! Compiles the XDP program for the kernel's BPF machine, and writes the constants that it shares with Rust.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[path = "src/layout.rs"]
#[expect(dead_code, reason = "what only the loader needs is not used here")]
#[allow(unreachable_pub, reason = "the library has the same file")]
mod layout;
#[path = "src/verdict.rs"]
#[expect(dead_code, reason = "what is for people is not used here")]
#[allow(unreachable_pub, reason = "the library has the same file")]
mod verdict;

/// The product's program, the empty one that it is measured against, and the benchmarks' own.
const SOURCES: [(&str, &str); 3] = [
    ("src/steer.bpf.c", "steer.bpf.o"),
    ("examples/empty.bpf.c", "empty.bpf.o"),
    ("src/generate.bpf.c", "generate.bpf.o"),
];

/// Compilers that are tried, in this order, when BPF_CLANG does not name one.
const COMPILERS: [&str; 4] = ["clang-19", "clang-16", "clang-14", "clang"];

const HINT: &str = "the XDP program needs clang and the libbpf headers: \
    `apt-get install -y --no-install-recommends clang-19 libbpf-dev`, or set BPF_CLANG to a clang with a bpf target";

fn main() {
    println!("cargo::rerun-if-changed=src/layout.rs");
    println!("cargo::rerun-if-changed=src/verdict.rs");
    println!("cargo::rerun-if-env-changed=BPF_CLANG");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    fs::write(out.join("steer_gen.h"), header()).expect("OUT_DIR is writable");
    let clang = compiler();
    for (source, object) in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        compile(&clang, source, out, object);
    }
}

fn compile(clang: &str, source: &str, out: &Path, object: &str) {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let status = Command::new(clang)
        .args(["-O2", "-g", "-target", "bpfel", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-c", source])
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .arg("-I")
        .arg(out)
        .arg("-o")
        .arg(out.join(object))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => panic!("clang could not compile {source} (see above); {HINT}"),
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

/// First and last `msg_type` of link control, which the program compares with.
fn link_control() -> (u16, u16) {
    let types: Vec<u16> = (0..=u16::MAX).filter(|&number| wire::MsgType(number).is_link_control()).collect();
    let (&first, &last) = types.first().zip(types.last()).expect("wire has link control");
    assert_eq!(types.len(), usize::from(last - first) + 1, "the program takes link control for one range");
    (first, last)
}

/// Every number that the program and Rust share, as C.
fn header() -> String {
    use verdict::{Fate, Verdict};
    use wire::net::{ethernet, ipv4};
    use wire::record::offset;
    let mut text = String::from("// Made by build.rs from gvm-wire, layout.rs and verdict.rs.\n#pragma once\n");
    let first = |fate| Verdict::ALL.into_iter().find(|verdict| verdict.fate() == fate).map_or(0, |first| first as u32);
    let (first_control, last_control) = link_control();
    for (name, value) in [
        ("GVM_GATEWAY_PORT", u32::from(wire::GATEWAY_PORT)),
        ("GVM_MAGIC", wire::MAGIC),
        ("LINK_CONTROL_FIRST", u32::from(first_control)),
        ("LINK_CONTROL_LAST", u32::from(last_control)),
        ("RECORD_LEN", wire::HEADER_LEN as u32),
        ("RECORD_MAGIC", offset::MAGIC as u32),
        ("RECORD_MSG_TYPE", offset::MSG_TYPE as u32),
        ("RECORD_SLAVE_ID", offset::SLAVE_ID as u32),
        ("RECORD_PAYLOAD_LEN", offset::PAYLOAD_LEN as u32),
        ("ETHERNET_LEN", ethernet::HEADER_LEN as u32),
        ("ETHERNET_TYPE", ethernet::HEADER_LEN as u32 - 2),
        ("ETHERNET_SOURCE", 6),
        ("ETHERNET_TAG_LEN", ethernet::TAG_LEN as u32),
        ("ETHERNET_IPV4", u32::from(ethernet::IPV4)),
        ("ETHERNET_DOT1Q", u32::from(ethernet::DOT1Q)),
        ("IPV4_UDP", u32::from(ipv4::UDP)),
        ("GVM_NO_PORT", layout::NO_PORT),
        ("GVM_MAX_QUEUES", layout::MAX_QUEUES),
        ("GVM_ADDRESS_BITS", layout::ADDRESS_BITS),
        ("GVM_LOCAL_WORDS", layout::LOCAL_WORDS as u32),
        ("GVM_VLAN_WORDS", layout::VLAN_WORDS as u32),
        ("GVM_NEIGHBOR_SLOTS", layout::NEIGHBOR_SLOTS),
        ("GVM_NEIGHBOR_WORDS", layout::NEIGHBOR_WORDS as u32),
        ("GVM_SHARD_NONE", layout::SHARD_NONE),
        ("GVM_SHARD_MINE", layout::SHARD_MINE),
        ("GVM_SHARD_NEIGHBORS", layout::SHARD_NEIGHBORS),
        ("VERDICTS", Verdict::ALL.len() as u32),
        ("VERDICTS_DROP", first(Fate::Dropped)),
        ("VERDICTS_REDIRECT", first(Fate::Neighbor)),
        ("VERDICTS_SOCKET", first(Fate::Socket)),
    ] {
        writeln!(text, "#define {name} {value}u").expect("a String takes all");
    }
    text.push_str("enum verdict {\n");
    for verdict in Verdict::ALL {
        writeln!(text, "    VERDICT_{} = {},", verdict.name().to_uppercase(), verdict as u32)
            .expect("a String takes all");
    }
    text.push_str("};\n");
    text
}
