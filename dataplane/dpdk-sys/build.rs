//! Compiles the shim against the distribution's DPDK, and writes the bindings to its header.
//!
//! Without DPDK's headers or libclang the crate is empty and reports that: everything but DPDK ports is still built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The shim's sources.
const SOURCES: [&str; 6] = ["shim/pool.c", "shim/burst.c", "shim/gate.c", "shim/device.c", "shim/flow.c", "shim/log.c"];

/// The libraries that the shim calls. Drivers are loaded by DPDK itself.
const LIBRARIES: [&str; 6] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal", "rte_net"];

const HINT: &str = "DPDK ports are left out of this build; `apt-get install -y --no-install-recommends libdpdk-dev \
    dpdk \
                    dpdk-dev libclang-dev pkg-config` and build again for them";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(dpdk)");
    for input in SOURCES.iter().chain(&["shim/shim.h", "shim/inside.h"]) {
        println!("cargo::rerun-if-changed={input}");
    }
    for variable in ["GVM_DP_WITHOUT_DPDK", "PKG_CONFIG_PATH", "LIBCLANG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    match build() {
        Ok(()) => {
            println!("cargo::rustc-cfg=dpdk");
            // For the crates that use this one: DEP_DPDK_FOUND.
            println!("cargo::metadata=found=yes");
        }
        Err(reason) => println!("cargo::warning={reason}: {HINT}"),
    }
}

fn build() -> Result<(), String> {
    if env::var_os("GVM_DP_WITHOUT_DPDK").is_some_and(|value| value != "0") {
        return Err("GVM_DP_WITHOUT_DPDK is set".to_owned());
    }
    let flags = pkg_config(&["--cflags"])?;
    let directories = pkg_config(&["--libs-only-L"])?;
    bindings()?;
    // Raw flags: they contain `-include rte_config.h` and the machine type that DPDK was built for. Without them its
    // headers do not compile.
    let mut shim = cc::Build::new();
    shim.files(SOURCES).include("shim").flag("-std=gnu11").warnings(true).extra_warnings(true);
    // DPDK's own headers do not follow our warning rules.
    shim.flag("-Wno-unused-parameter").define("ALLOW_EXPERIMENTAL_API", None);
    for flag in flags.split_whitespace() {
        shim.flag(flag.replacen("-I", "-isystem", 1));
    }
    shim.try_compile("gvm_dpdk_shim").map_err(|error| format!("the shim does not compile: {error}"))?;
    for directory in directories.split_whitespace().filter_map(|flag| flag.strip_prefix("-L")) {
        println!("cargo::rustc-link-search=native={directory}");
    }
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    Ok(())
}

fn pkg_config(what: &[&str]) -> Result<String, String> {
    let output = Command::new("pkg-config").args(what).arg("libdpdk").output();
    let output = output.map_err(|error| format!("pkg-config does not run ({error})"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err("DPDK is not installed".to_owned())
    }
}

/// The shim's header uses nothing of DPDK, so that libclang reads plain structs and no inline function.
fn bindings() -> Result<(), String> {
    choose_libclang();
    let generate = || {
        bindgen::Builder::default()
            .header("shim/shim.h")
            .allowlist_function("shim_.*")
            .allowlist_type("shim_.*")
            .allowlist_var("SHIM_.*")
            .use_core()
            .derive_default(true)
            .generate_comments(true)
            .generate()
    };
    // Without libclang bindgen panics.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let generated = std::panic::catch_unwind(generate);
    std::panic::set_hook(hook);
    let generated = generated.map_err(|_| "libclang is not installed".to_owned())?;
    let text = generated.map_err(|error| format!("no bindings: {error}"))?.to_string();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?).join("bindings.rs");
    fs::write(out, text).map_err(|error| format!("cannot write the bindings: {error}"))
}

/// With several LLVMs, library and compiler must be from the same one: takes the first with both its library and its
/// headers.
fn choose_libclang() {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return;
    }
    let Ok(entries) = fs::read_dir("/usr/lib") else { return };
    let mut roots: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_whole(path)).collect();
    roots.sort();
    if let Some(root) = roots.first() {
        // SAFETY: a build script has one thread here.
        unsafe {
            env::set_var("LIBCLANG_PATH", root.join("lib"));
            if root.join("bin/clang").exists() {
                env::set_var("CLANG_PATH", root.join("bin/clang"));
            }
        }
    }
}

fn is_whole(root: &Path) -> bool {
    let is_llvm = root.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-"));
    is_llvm && root.join("lib/libclang.so").exists() && root.join("lib/clang").exists()
}
