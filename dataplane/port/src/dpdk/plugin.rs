//! Finding, loading and checking the plugin.

use super::DpdkError;
use port_abi::{Entry, Plugin};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The plugin's file.
pub const ENTRY_FILE: &str = "libgvm_dpdk.so";

/// The command that installs everything that is needed to build the plugin.
pub const PACKAGES: &str =
    "apt-get install -y --no-install-recommends libdpdk-dev dpdk dpdk-dev libclang-dev pkg-config";

/// Where installed plugins are.
const INSTALLED: [&str; 2] = ["/usr/lib/gvm-dp", "/usr/local/lib/gvm-dp"];

/// A loaded plugin. It is never unloaded: its devices and threads may exist until the process ends.
#[derive(Clone, Copy)]
pub struct LoadedPlugin {
    pub(super) table: &'static Plugin,
}

impl LoadedPlugin {
    /// Loads the plugin: only from `GVM_DP_PLUGIN_DIR` if that is set; otherwise from beside the program, from
    /// `lib/gvm-dp` beside the program's directory, or from where packages install it.
    ///
    /// # Errors
    /// It was not found, cannot be loaded, or has another version.
    pub fn find() -> Result<Self, DpdkError> {
        let directory = std::env::var_os("GVM_DP_PLUGIN_DIR").map(PathBuf::from);
        let places = places(directory, std::env::current_exe().ok().as_deref());
        let path = places.iter().map(|place| place.join(ENTRY_FILE)).find(|path| path.exists());
        path.ok_or(DpdkError::NoPlugin(places)).and_then(|path| Self::load(&path))
    }

    /// Loads the plugin from a file.
    ///
    /// # Errors
    /// See [`LoadedPlugin::find`].
    pub fn load(path: &Path) -> Result<Self, DpdkError> {
        let not_loaded = |reason: String| DpdkError::NotLoaded { path: path.to_owned(), reason };
        let file = CString::new(path.as_os_str().as_bytes()).map_err(|_| not_loaded("its path has a zero".into()))?;
        // Its symbols stay local, and all symbols that it needs must be present.
        // SAFETY: a text that ends with a zero. Constructors of the library run: it is part of the product.
        let library = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(not_loaded(loader_error()));
        }
        let name = CString::new(port_abi::ENTRY).map_err(|_| not_loaded("no name".into()))?;
        // SAFETY: the library was opened above and is never closed.
        let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
        if symbol.is_null() {
            return Err(not_loaded(format!("it is not a plugin of gvm-dp ({})", loader_error())));
        }
        // SAFETY: a library that exports this name exports this function.
        let entry: Entry = unsafe { std::mem::transmute::<*mut libc::c_void, Entry>(symbol) };
        // SAFETY: the table is a constant of the library, or null.
        unsafe { Self::check(path, entry()) }
    }

    /// Checks a table before anything else in it is used.
    ///
    /// # Safety
    /// `table` is null, or points to a table that begins with the fields before `library` and lives for ever.
    ///
    /// # Errors
    /// The error is [`DpdkError::Empty`] when `table` is null: the plugin was built without DPDK. It is
    /// [`DpdkError::OtherVersion`] when the table begins with another magic, version or layout than this program has.
    pub unsafe fn check(path: &Path, table: *const Plugin) -> Result<Self, DpdkError> {
        if table.is_null() {
            return Err(DpdkError::Empty(path.to_owned()));
        }
        // SAFETY: these fields are there in every version.
        let (magic, version, layout) = unsafe { ((*table).magic, (*table).version, (*table).layout) };
        if (magic, version, layout) != (port_abi::MAGIC, port_abi::VERSION, port_abi::layout()) {
            let say = |version: u32, layout: u32| format!("{version}-{layout:08x}");
            let found = if magic == port_abi::MAGIC { say(version, layout) } else { "none of ours".to_owned() };
            let needed = say(port_abi::VERSION, port_abi::layout());
            return Err(DpdkError::OtherVersion { path: path.to_owned(), found, needed });
        }
        // SAFETY: a table of this very layout.
        Ok(Self { table: unsafe { &*table } })
    }

    /// The version of the plugin's library.
    pub fn library(&self) -> String {
        // SAFETY: the table's function returns a constant text.
        unsafe { CStr::from_ptr((self.table.library)()) }.to_string_lossy().into_owned()
    }

    /// For benchmarks of the cost of a call through the table: fills frames with meaningless values.
    #[inline]
    pub fn rehearse(&self, frames: &mut [port_abi::Frame]) -> usize {
        let count = frames.len().min(usize::from(u16::MAX)) as u16;
        // SAFETY: room for so many.
        usize::from(unsafe { (self.table.rehearse)(frames.as_mut_ptr(), count) })
    }
}

/// The directories to search, in this order.
fn places(directory: Option<PathBuf>, program: Option<&Path>) -> Vec<PathBuf> {
    if let Some(directory) = directory {
        return vec![directory];
    }
    let beside = program.and_then(Path::parent);
    let library = beside.and_then(Path::parent).map(|prefix| prefix.join("lib/gvm-dp"));
    let mut places: Vec<PathBuf> = beside.map(Path::to_owned).into_iter().chain(library).collect();
    for installed in INSTALLED.map(PathBuf::from) {
        if !places.contains(&installed) {
            places.push(installed);
        }
    }
    places
}

/// The loader's last error.
fn loader_error() -> String {
    // SAFETY: returns null or a text of this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader does not say why".to_owned();
    }
    // SAFETY: not null, and valid until the next call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a table, as every version has it.
    #[repr(C)]
    struct Head {
        magic: u64,
        version: u32,
        layout: u32,
    }

    fn checked(magic: u64, version: u32, layout: u32) -> DpdkError {
        let head = Head { magic, version, layout };
        // SAFETY: a table that does not match is not read any further.
        match unsafe { LoadedPlugin::check(Path::new("/x.so"), (&raw const head).cast()) } {
            Ok(_) => panic!("it should be refused"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_plugin_of_another_version_is_refused() {
        let (version, layout) = (port_abi::VERSION, port_abi::layout());
        for error in [
            checked(port_abi::MAGIC, version + 1, layout),
            checked(port_abi::MAGIC, version, layout ^ 1),
            checked(0, version, layout),
        ] {
            let text = error.to_string();
            assert!(matches!(error, DpdkError::OtherVersion { .. }) && text.contains("from one package"), "{text}");
            assert!(text.contains(&format!("this gvm-dp needs {version}-{layout:08x}")), "{text}");
        }
        assert!(checked(port_abi::MAGIC, 7, 0x1f).to_string().contains("(7-0000001f,"));
        // SAFETY: null is allowed.
        let error = unsafe { LoadedPlugin::check(Path::new("/x.so"), std::ptr::null()) };
        assert!(error.err().is_some_and(|e| e.to_string().contains("was built without DPDK: `apt-get install")));
    }

    #[test]
    fn what_is_no_plugin_is_refused() {
        let directory = std::env::temp_dir().join(format!("gvm-plugin-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join(ENTRY_FILE);
        std::fs::write(&path, "no library").unwrap();
        let error = LoadedPlugin::load(&path).err().unwrap().to_string();
        assert!(error.contains("cannot be loaded") && error.contains("`apt-get install dpdk`"), "{error}");
        std::fs::remove_dir_all(directory).unwrap();
        let error = LoadedPlugin::load(Path::new("libc.so.6")).err().unwrap().to_string();
        assert!(error.contains("not a plugin of gvm-dp"), "{error}");
    }

    #[test]
    fn it_is_looked_for_beside_the_program_and_where_packages_put_it() {
        let text = |places: Vec<PathBuf>| places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>();
        let program = Some(Path::new("/usr/bin/gvm-dp"));
        assert_eq!(text(places(None, program)), ["/usr/bin", "/usr/lib/gvm-dp", "/usr/local/lib/gvm-dp"]);
        assert_eq!(text(places(Some("/p".into()), program)), ["/p"]);
        let error = DpdkError::NoPlugin(places(Some("/p".into()), None)).to_string();
        assert!(error.contains("which is not in /p") && error.contains("gvm-dp-dpdk"), "{error}");
    }
}
