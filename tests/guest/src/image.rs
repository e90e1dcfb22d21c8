//! The guest's root: busybox, the kernel's modules, and programs with their libraries.

use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::program::run;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root that grows: the paths of files in the guest, and of the same files here.
#[derive(Default)]
pub struct Root {
    content: BTreeMap<String, PathBuf>,
    /// The guest's path of each file here. A library with two names must be one file in the guest, too.
    places: BTreeMap<PathBuf, String>,
    links: BTreeMap<String, String>,
}

impl Root {
    /// A root with this first process, whose source is in the crate's directory, and busybox.
    ///
    /// # Errors
    /// When busybox is not installed.
    pub fn new(init: &str) -> Result<Self, String> {
        let mut root = Self::default();
        root.file("/init", &Path::new(env!("CARGO_MANIFEST_DIR")).join(init));
        root.file("/bin/busybox", &busybox()?);
        Ok(root)
    }

    /// Adds a file. A second name of a file that is there already becomes a link to it.
    pub fn file(&mut self, path: &str, here: &Path) {
        let real = here.canonicalize().unwrap_or_else(|_| here.to_owned());
        match self.places.get(&real) {
            Some(place) if place != path => {
                self.links.insert(path.to_owned(), place.clone());
            }
            Some(_) => {}
            None => {
                self.places.insert(real.clone(), path.to_owned());
                self.content.insert(path.to_owned(), real);
            }
        }
    }

    /// Adds a program or a library, with all libraries that it loads at its start, at the same paths as here.
    ///
    /// # Errors
    /// When `ldd` does not list the libraries.
    pub fn program(&mut self, path: &str, here: &Path) -> Result<(), String> {
        self.file(path, here);
        for library in libraries(here)? {
            self.file(&library.to_string_lossy(), &library);
        }
        Ok(())
    }

    /// The root as an archive for the kernel, with its modules in `/modules`, and in `/modules/order` the names of
    /// their files, each after those that it needs.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn archive(mut self, kernel: &Kernel) -> Result<Vec<u8>, String> {
        let module = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let order: Vec<String> = kernel.modules.iter().map(module).collect();
        for path in &kernel.modules {
            self.file(&format!("/modules/{}", module(path)), path);
        }
        let mut directories: BTreeSet<PathBuf> = ["/dev", "/proc", "/sys"].map(PathBuf::from).into();
        for name in self.content.keys().chain(self.links.keys()) {
            let above = Path::new(name).ancestors().skip(1).filter(|path| path.parent().is_some());
            directories.extend(above.map(Path::to_owned));
        }
        let mut archive = Archive::default();
        // The directories are sorted, so that parents come first.
        for directory in &directories {
            archive.directory(&directory.to_string_lossy());
        }
        for (name, path) in &self.content {
            let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            archive.file(name, &bytes);
        }
        for (name, target) in &self.links {
            archive.link(name, target);
        }
        archive.file("/modules/order", order.join("\n").as_bytes());
        Ok(archive.finish())
    }
}

/// The libraries that a program or library loads at its start, the loader among them.
fn libraries(of: &Path) -> Result<Vec<PathBuf>, String> {
    let said = run(Command::new("ldd").arg(of))?;
    let said = String::from_utf8_lossy(&said);
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(said.lines().filter_map(path).collect())
}

/// The path of a program of this machine.
///
/// # Errors
/// When it is not installed.
pub fn installed(program: &str) -> Result<PathBuf, String> {
    let found = run(Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin; command -v {program}")]))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&found).trim()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_with_two_names_is_one_file_and_a_link() {
        let directory = std::env::temp_dir().join(format!("gvm-guest-root-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("lib.so.23");
        fs::write(&file, "bytes of a library").unwrap();
        std::os::unix::fs::symlink(&file, directory.join("lib.so")).unwrap();
        let mut root = Root::default();
        root.file("/lib/lib.so.23", &file);
        root.file("/lib/drivers/lib.so", &directory.join("lib.so"));
        root.file("/lib/lib.so.23", &file);
        let kernel = Kernel { image: PathBuf::new(), modules: Vec::new() };
        let archive = root.archive(&kernel).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let text = String::from_utf8_lossy(&archive);
        assert_eq!(text.matches("bytes of a library").count(), 1);
        assert!(text.contains("lib/drivers/lib.so\0") && text.contains("/lib/lib.so.23"));
    }
}
