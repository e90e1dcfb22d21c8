//! The guest's kernel: Debian's package as it is, unpacked once, with the modules that guests need.

use crate::program::run;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories of the package with modules that some guest needs.
const DIRECTORIES: [&str; 21] = [
    "drivers/virtio",
    "drivers/net/virtio_net.ko*",
    "drivers/net/net_failover.ko*",
    "drivers/char/virtio_console.ko*",
    "drivers/block/virtio_blk.ko*",
    "drivers/infiniband/core",
    "drivers/infiniband/sw/rxe",
    "net/core",
    "net/802",
    "net/8021q",
    "net/llc",
    "net/ipv4/udp_tunnel.ko*",
    "net/ipv6/ip6_udp_tunnel.ko*",
    "crypto/crc32_generic.ko*",
    "drivers/vfio",
    "virt/lib/irqbypass.ko*",
    "drivers/net/ethernet/intel/e1000e",
    "drivers/net/ethernet/intel/igb",
    "drivers/net/vmxnet3",
    "drivers/dca",
    "drivers/i2c/algos/i2c-algo-bit.ko*",
];

/// The end of the name of the unpacked package's directory. It changes when [`DIRECTORIES`] change.
const UNPACKED: &str = "unpacked-4";

/// The kernel that the guest boots.
pub struct Kernel {
    /// The uncompressed kernel, an ELF file.
    pub image: PathBuf,
    /// Its modules, each after those that it needs.
    pub modules: Vec<PathBuf>,
}

/// A module's name, as the kernel writes it.
pub fn module_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".ko")?.replace('-', "_"))
}

/// The directory of fetched files: `GVM_GUEST_CACHE`, or `gvm-dp/guest` in the user's cache.
///
/// # Errors
/// When there is no such place.
pub fn cache() -> Result<PathBuf, String> {
    let variable =
        |name| std::env::var_os(name).filter(|value: &std::ffi::OsString| !value.is_empty()).map(PathBuf::from);
    variable("GVM_GUEST_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("gvm-dp/guest")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/gvm-dp/guest")))
        .ok_or_else(|| "no place for the guest's kernel: set HOME or GVM_GUEST_CACHE".to_owned())
}

/// The newest kernel package in the cache.
///
/// # Errors
/// When there is none.
pub fn package() -> Result<PathBuf, String> {
    let cache = cache()?;
    let entries = fs::read_dir(&cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_package = |path: &PathBuf| {
        path.extension() == Some(OsStr::new("deb"))
            && path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("linux-image-"))
    };
    let age = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    entries
        .filter(is_package)
        .max_by_key(age)
        .ok_or_else(|| format!("there is no kernel for the guest in {}: scripts/setup.sh fetches it", cache.display()))
}

/// Unpacks the kernel package, with these modules and those that they depend on. Does nothing if that was done before.
///
/// # Errors
/// When a tool fails or the package is not like Debian's.
pub fn prepare(wanted: &[&str]) -> Result<Kernel, String> {
    if let Some(directory) = other() {
        return of_other(&directory, wanted);
    }
    let package = package()?;
    let unpacked = package.with_extension(UNPACKED);
    if !unpacked.exists() {
        let fresh = package.with_extension(format!("{}.tmp", std::process::id()));
        let made = unpack(&package, &fresh).and_then(|()| {
            // Another process may have been faster. Then its directory is used.
            fs::rename(&fresh, &unpacked)
                .or_else(|error| if unpacked.exists() { Ok(()) } else { Err(error) })
                .map_err(|error| format!("{}: {error}", unpacked.display()))
        });
        let _ = fs::remove_dir_all(&fresh);
        made?;
    }
    Ok(Kernel { image: unpacked.join("vmlinux"), modules: in_order(&unpacked, wanted, true)? })
}

/// Another kernel than the one in the cache: a directory into which Debian's packages of it were unpacked
/// (`dpkg-deb -x`).
pub fn other() -> Option<PathBuf> {
    std::env::var_os("GVM_GUEST_KERNEL").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The kernel in such a directory. Compressed files are decompressed there. Parts that are built into this kernel are
/// not modules.
fn of_other(directory: &Path, wanted: &[&str]) -> Result<Kernel, String> {
    let all = files(directory);
    let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let compressed = all.iter().find(named).ok_or_else(|| format!("{} has no kernel", directory.display()))?;
    let image = directory.join("vmlinux");
    if !image.exists() {
        decompress(compressed, &image)?;
    }
    let is_needed = |path: &&PathBuf| {
        let path = path.to_string_lossy();
        let inside = |place: &str| path.contains(&format!("/kernel/{}", place.trim_end_matches('*')));
        path.ends_with(".ko.xz") && DIRECTORIES.into_iter().any(inside)
    };
    for module in all.iter().filter(is_needed) {
        run(Command::new("xz").arg("--decompress").arg(module))?;
    }
    Ok(Kernel { image, modules: in_order(directory, wanted, false)? })
}

fn unpack(package: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", to.display());
    fs::create_dir_all(to).map_err(failed)?;
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("dpkg-deb: {error}"))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--wildcards", "--no-same-owner", "--directory"]).arg(to).arg("*/vmlinuz-*");
    tar.args(DIRECTORIES.map(|path| format!("*/kernel/{path}")));
    let unpacked = tar.stdin(archive.stdout.take().map_or(Stdio::null(), Stdio::from)).stderr(Stdio::null()).status();
    let read = archive.wait();
    if !read.is_ok_and(|status| status.success()) || unpacked.is_err() {
        return Err(format!("{} cannot be unpacked: remove it, and run scripts/setup.sh again", package.display()));
    }
    let files = files(to);
    let compressed = files
        .iter()
        .find(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("vmlinuz-")))
        .ok_or_else(|| format!("{} has no kernel", package.display()))?;
    decompress(compressed, &to.join("vmlinux"))?;
    for module in files.iter().filter(|path| path.extension() == Some(OsStr::new("xz"))) {
        run(Command::new("xz").arg("--decompress").arg(module))?;
    }
    Ok(())
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The compressed kernel in a boot image (`Documentation/x86/boot.rst`), and the tool that unpacks it.
fn payload(image: &[u8]) -> Option<(&[u8], [&'static str; 2])> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // 0 means 4, in very old images.
    let sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let at = (sectors + 1) * 512 + u32_at(0x248)?;
    let payload = image.get(at..at.checked_add(u32_at(0x24c)?)?)?;
    // Four bytes with the kernel's length follow the stream. They must not be taken for another stream.
    let tool = match payload {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ["xz", "--single-stream"],
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ["zstd", "--quiet"],
        [0x02, 0x21, 0x4c, 0x18, ..] => ["lz4", "--quiet"],
        _ => return None,
    };
    let len = if tool[0] == "xz" { payload.len() } else { payload.len() - 4 };
    Some((&payload[..len], tool))
}

fn decompress(compressed: &Path, to: &Path) -> Result<(), String> {
    let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", compressed.display());
    let image = fs::read(compressed).map_err(|error| failed(&error))?;
    let (payload, [tool, flag]) = payload(&image).ok_or_else(|| failed(&"no kernel image of a known format"))?;
    let packed = to.with_extension("packed");
    fs::write(&packed, payload).map_err(|error| failed(&error))?;
    let (input, output) = (File::open(&packed), File::create(to));
    let status = Command::new(tool)
        .args(["--decompress", "--stdout", flag])
        .stdin(input.map_err(|error| failed(&error))?)
        .stdout(output.map_err(|error| failed(&error))?)
        .status();
    let _ = fs::remove_file(&packed);
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(&format!("{tool}: {status}"))),
        Err(error) => Err(failed(&format!("{tool}: {error}: scripts/setup.sh installs what is needed"))),
    }
}

/// The modules that a module needs, as its own section says.
fn needs(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let at = module.windows(key.len()).position(|window| window == key);
    let value = at.map(|at| &module[at + key.len()..]).and_then(|rest| rest.split(|&byte| byte == 0).next());
    let text = String::from_utf8_lossy(value.unwrap_or_default());
    text.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// Finds a module by its name.
type Find<'a> = dyn Fn(&str) -> Option<PathBuf> + 'a;

/// The modules in the order in which they are loaded; with `all`, one that is not there is an error.
fn in_order(unpacked: &Path, wanted: &[&str], all: bool) -> Result<Vec<PathBuf>, String> {
    let files = files(unpacked);
    let mut order: Vec<PathBuf> = Vec::new();
    // Depth first. A module that is in the list is not visited again. Modules of a package have no circles.
    fn visit(wanted: &str, find: &Find<'_>, all: bool, order: &mut Vec<PathBuf>) -> Result<(), String> {
        let Some(path) = find(wanted) else {
            return if all { Err(format!("the kernel package has no module {wanted}")) } else { Ok(()) };
        };
        if order.contains(&path) {
            return Ok(());
        }
        let module = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for needed in needs(&module) {
            visit(&needed, find, all, order)?;
        }
        order.push(path);
        Ok(())
    }
    let find = |wanted: &str| files.iter().find(|path| module_name(path).as_deref() == Some(wanted)).cloned();
    for wanted in wanted {
        visit(wanted, &find, all, &mut order)?;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_of_a_boot_image_is_found() {
        let mut image = vec![0; 0x400 + 0x20];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&8_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&20_u32.to_le_bytes());
        image[0x408..0x40e].copy_from_slice(b"\xfd7zXZ\0");
        assert!(payload(&image).is_some_and(|(bytes, [tool, _])| bytes.len() == 20 && tool == "xz"));
        image[0x408..0x40c].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd]);
        assert!(payload(&image).is_some_and(|(bytes, [tool, _])| bytes.len() == 16 && tool == "zstd"));
        image[0x24c] = 25;
        assert!(payload(&image).is_none(), "it ends past the image");
    }

    #[test]
    fn a_module_says_what_it_needs() {
        assert_eq!(needs(b"\x7fELF\0depends=ib_core,udp-tunnel\0retpoline=Y"), ["ib_core", "udp_tunnel"]);
        assert_eq!(needs(b"name=a\0depends=\0"), [""; 0]);
    }
}
