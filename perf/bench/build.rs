//! Compiles the bare loop (`bare/`), the baseline of `aggregate`: a program of its own, since it is written in C.
//!
//! It is always optimized, for the processors that the product is built for.

use std::path::PathBuf;
use std::{env, process};

const SOURCES: [&str; 2] = ["bare/main.c", "bare/loop.c"];

fn main() {
    for input in SOURCES.iter().chain(&["bare/loop.h"]) {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut build = cc::Build::new();
    build.std("gnu11").opt_level(3).debug(false).warnings(true).extra_warnings(true).pic(false);
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "avx2") {
        build.flag("-march=x86-64-v3");
    }
    let mut compiler = build.get_compiler().to_command();
    let status = compiler.args(SOURCES).arg("-o").arg(out.join("bare")).status();
    if !status.as_ref().is_ok_and(process::ExitStatus::success) {
        println!("cargo::error=the bare loop does not compile: {compiler:?} ended with {status:?}");
    }
}
