//! The distribution's DPDK, as the plugin `gvm-dpdk-plugin` uses it: bindings to a small C shim.
//!
//! DPDK's burst functions are inline C, its configuration is full of bit fields, and both change with its versions. So
//! the C is in `shim/`, compiled against the installed headers, and what Rust sees are the plain structs and functions of
//! `shim/shim.h`. Without DPDK's headers or libclang at build time this crate is empty: [`IS_THERE`] says which.

/// Whether DPDK was there when this was built.
pub const IS_THERE: bool = cfg!(dpdk);

#[cfg(dpdk)]
mod bindings {
    // Made by bindgen from names of C.
    #![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks)]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

#[cfg(dpdk)]
pub use bindings::*;
