//! The guest's root: busybox, the kernel's modules, the verbs program and what it stands on.

use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::run;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The verbs library's part for rxe, which it loads by name.
const PROVIDER: &str = "/usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav34.so";
/// What makes the library look for that part.
const DRIVER: &str = "/etc/libibverbs.d/rxe.driver";

/// Compiles the verbs program into a directory; returns where it is.
fn compile(directory: &Path) -> Result<PathBuf, String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("verbs");
    let program = directory.join("verbs");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    command.args(["main.c", "end.c", "content.c"].map(|name| sources.join(name))).arg("-libverbs");
    run(&mut command).map_err(|reason| format!("{reason}\n(scripts/setup.sh installs libibverbs-dev)"))?;
    Ok(program)
}

/// The libraries that a program or library loads at its start, the loader among them.
fn libraries(of: &Path) -> Result<Vec<PathBuf>, String> {
    let said = run(Command::new("ldd").arg(of))?;
    let said = String::from_utf8_lossy(&said);
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(said.lines().filter_map(path).collect())
}

/// Makes the root as an archive for the kernel; `scratch` is a directory for what is compiled.
///
/// # Errors
/// When something is not installed or does not compile.
pub fn build(kernel: &Kernel, scratch: &Path) -> Result<Vec<u8>, String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let rdma = run(Command::new("sh").args(["-c", "command -v rdma"]))?;
    let rdma = PathBuf::from(String::from_utf8_lossy(&rdma).trim());
    // Under which name in the guest, and where it is here.
    let mut content = vec![
        ("/init".to_owned(), Path::new(env!("CARGO_MANIFEST_DIR")).join("init")),
        ("/bin/busybox".to_owned(), busybox()?),
        ("/bin/rdma".to_owned(), rdma),
        ("/bin/verbs".to_owned(), compile(scratch)?),
    ];
    content.extend([PROVIDER, DRIVER].map(|path| (path.to_owned(), PathBuf::from(path))));
    let mut needed = BTreeSet::new();
    for (_, path) in &content[2..5] {
        needed.extend(libraries(path)?);
    }
    content.extend(needed.into_iter().map(|path| (path.to_string_lossy().into_owned(), path)));
    let module = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
    content.extend(kernel.modules.iter().map(|path| (format!("/modules/{}", module(path)), path.clone())));

    let mut directories: BTreeSet<PathBuf> = ["/dev", "/proc", "/sys"].map(PathBuf::from).into();
    for (name, _) in &content {
        directories
            .extend(Path::new(name).ancestors().skip(1).filter(|path| path.parent().is_some()).map(Path::to_owned));
    }
    let mut archive = Archive::default();
    // In order, so that parents come first.
    for directory in &directories {
        archive.directory(&directory.to_string_lossy());
    }
    for (name, path) in &content {
        archive.file(name, &read(path)?);
    }
    let order: Vec<String> = kernel.modules.iter().map(module).collect();
    archive.file("/modules/order", order.join("\n").as_bytes());
    Ok(archive.finish())
}

fn busybox() -> Result<PathBuf, String> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let busybox = places.into_iter().find(|path| path.exists());
    let busybox = busybox.ok_or("busybox is not installed: scripts/setup.sh installs busybox-static")?;
    match libraries(&busybox) {
        // ldd fails for a static program.
        Err(_) => Ok(busybox),
        Ok(needed) if needed.is_empty() => Ok(busybox),
        Ok(_) => Err(format!("{} is not static: install busybox-static", busybox.display())),
    }
}
