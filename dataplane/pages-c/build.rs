//! Gives the library the name by which programs find it when they run: it changes with every release that is not
//! compatible.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libgvm_pages.so.0");
}
