//! Passes on whether `gvm-dpdk-sys` found DPDK, which decides what is built here.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(dpdk)");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("DEP_DPDK_FOUND").is_some() {
        println!("cargo::rustc-cfg=dpdk");
    }
}
