//! The distribution's DPDK, as the plugin `gvm-dpdk-plugin` uses it: bindings to a small C shim.
//!
//! DPDK's burst functions are inline C, its configuration is full of bit fields, and both change with its versions. So
//! the C is in `shim/`, compiled against the installed headers, and Rust sees only the plain structs and functions of
//! `shim/shim.h`. Without DPDK's headers or libclang at build time this crate is empty; [`IS_THERE`] tells which is the
//! case.

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

#[cfg(test)]
mod tests {
    /// `rte_errno` keeps the error of an earlier call. If it is read after a call that does not set it, a failure could
    /// look like a success, or name another cause.
    #[test]
    fn an_error_is_read_only_where_it_was_forgotten_before_the_call() {
        let files = [
            ("burst.c", include_str!("../shim/burst.c")),
            ("device.c", include_str!("../shim/device.c")),
            ("flow.c", include_str!("../shim/flow.c")),
            ("gate.c", include_str!("../shim/gate.c")),
            ("log.c", include_str!("../shim/log.c")),
            ("pool.c", include_str!("../shim/pool.c")),
        ];
        let mut reads = 0;
        for (name, text) in files {
            assert!(!text.contains("rte_errno;") && !text.contains("rte_errno)"), "{name}: ask last_error()");
            let lines: Vec<&str> = text.lines().collect();
            for at in (0..lines.len()).filter(|at| lines[*at].contains("last_error()")) {
                reads += 1;
                // The call is in the same line, or in a condition a few lines above.
                let above = &lines[at.saturating_sub(3)..at];
                assert!(above.iter().any(|line| line.trim() == "forget_error();"), "{name}:{}: {}", at + 1, lines[at]);
            }
        }
        assert!(reads >= 7, "only {reads} found");
    }
}
