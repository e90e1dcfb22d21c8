//! Tests of the NBD protocol.

mod any_bytes;
#[path = "../../fuzz/bodies.rs"]
#[allow(unreachable_pub)] // The fuzz targets use it as a crate.
mod bodies;
mod options;
mod requests;

use nbd::Export;
use std::sync::Arc;

/// The disk of the tests: 10 MiB.
fn export() -> Arc<Export> {
    Arc::new(Export {
        name: "disk".to_owned(),
        description: "a disk for tests".to_owned(),
        size: 10 << 20,
        least: 512,
        preferred: 4096,
        most: 1 << 25,
        is_read_only: false,
    })
}
