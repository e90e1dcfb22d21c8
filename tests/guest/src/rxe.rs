//! The root of the guest with `rdma_rxe`: the verbs program, compiled now, and the verbs library's part for rxe.

use crate::image::{Root, installed};
use crate::kernel::{self, Kernel};
use crate::program::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules that must be loaded, with those that they depend on.
const MODULES: [&str; 6] = ["virtio_pci", "virtio_net", "virtio_console", "crc32_generic", "ib_uverbs", "rdma_rxe"];
/// The verbs library's part for rxe, which it loads by name.
const PROVIDER: &str = "/usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav34.so";
/// The file that makes the library look for that part.
const DRIVER: &str = "/etc/libibverbs.d/rxe.driver";

/// Compiles the verbs program into a directory. Returns its path.
fn compile(directory: &Path) -> Result<PathBuf, String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("verbs");
    let program = directory.join("verbs");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    command.args(["main.c", "end.c", "content.c"].map(|name| sources.join(name))).arg("-libverbs");
    run(&mut command).map_err(|reason| format!("{reason}\n(scripts/setup.sh installs libibverbs-dev)"))?;
    Ok(program)
}

/// The kernel, and the root as an archive for it. `scratch` is a directory for compiled files.
///
/// # Errors
/// When something is not installed or does not compile.
pub fn build(scratch: &Path) -> Result<(Kernel, Vec<u8>), String> {
    let kernel = kernel::prepare(&MODULES)?;
    let mut root = Root::new("init")?;
    root.program("/bin/rdma", &installed("rdma")?)?;
    root.program("/bin/verbs", &compile(scratch)?)?;
    root.program(PROVIDER, Path::new(PROVIDER))?;
    root.file(DRIVER, Path::new(DRIVER));
    let archive = root.archive(&kernel)?;
    Ok((kernel, archive))
}
