//! The files that each kind of thread may open after set-up. Landlock checks them, because a filter of system calls
//! sees no paths.
//!
//! Files that a thread has open stay open. So most kinds of threads need only the program itself, in which a backtrace
//! looks up names. On a kernel without Landlock nothing of this is done, and the line at start-up says so.

use super::thread::Thread;
use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, PathFdError, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The version of Landlock whose rights this code restricts. An older kernel restricts the rights that it knows.
const KNOWN: ABI = ABI::V5;

/// What a process opens later, in addition to what every process opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files that are read again while the process runs. Their directories may be read, since such files are replaced.
    pub reads: Vec<PathBuf>,
    /// The directories of the process's sockets, which it removes at the end.
    pub sockets: Vec<PathBuf>,
    /// Whether host names are looked up.
    pub names: bool,
}

/// What the kernel did about paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Paths are restricted.
    Restricted(ABI),
    /// The kernel has no Landlock.
    Absent,
}

/// Which paths the threads of a process may use. `None` means all.
pub(super) struct Paths {
    places: Option<Places>,
    outcome: OnceLock<Outcome>,
}

/// A directory or file, and the rights beneath it.
type Allowed = (PathBuf, BitFlags<AccessFs>);

/// The directory of a file as it is named, and the directory of the file that symbolic links lead to.
fn directories(file: &Path) -> impl Iterator<Item = PathBuf> {
    let parent = |file: &Path| match file.parent() {
        Some(parent) if parent == Path::new("") => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => PathBuf::from("/"),
    };
    let target = file.canonicalize().ok().map(|target| parent(&target));
    std::iter::once(parent(file)).chain(target)
}

/// Everything except `/proc`, through which a process could write its own code.
fn all_but_proc() -> Vec<Allowed> {
    let entries = std::fs::read_dir("/").into_iter().flatten().flatten().map(|entry| entry.path());
    let rest = entries.filter(|path| path != Path::new("/proc"));
    rest.map(|path| (path, AccessFs::from_all(KNOWN))).collect()
}

/// What a kind of thread may open.
fn allowed(thread: Thread, places: &Places) -> Vec<Allowed> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut allowed: Vec<Allowed> =
        std::env::current_exe().into_iter().map(|program| (program, AccessFs::ReadFile.into())).collect();
    match thread {
        Thread::Lcore
        | Thread::Neighbours
        | Thread::Addresses
        | Thread::Scrub
        | Thread::Applications
        | Thread::Connector
        | Thread::Log => {}
        // It names the threads that prevent the end.
        Thread::End => allowed.push(("/proc".into(), read)),
        Thread::Devices => {
            allowed.extend(all_but_proc());
            allowed.push(("/proc".into(), read));
        }
        Thread::Control => {
            allowed.extend(["/proc", "/sys"].map(|path| (path.into(), read)));
            if places.names {
                // The files hosts and resolv.conf, and the targets of their symbolic links.
                allowed.extend(["/etc", "/run"].map(|path| (path.into(), read)));
            }
            let directories = places.reads.iter().flat_map(|file| directories(file));
            allowed.extend(directories.map(|directory| (directory, read)));
            let sockets = places.sockets.iter().cloned();
            allowed.extend(sockets.map(|directory| (directory, read | AccessFs::RemoveFile)));
        }
    }
    allowed
}

impl Paths {
    /// `None` restricts nothing.
    pub(super) fn new(places: Option<Places>) -> Self {
        Self { places, outcome: OnceLock::new() }
    }

    /// Restricts the calling thread, and the threads that it starts later, for good.
    pub(super) fn apply(&self, thread: Thread) -> io::Result<()> {
        let Some(places) = &self.places else { return Ok(()) };
        let status = restrict(&allowed(thread, places))?;
        let outcome = match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, _) => Outcome::Absent,
            (_, LandlockStatus::Available { effective_abi, .. }) => Outcome::Restricted(effective_abi),
            _ => Outcome::Absent,
        };
        // The outcome is the same for every thread, because the kernel is the same.
        let _ = self.outcome.set(outcome);
        Ok(())
    }

    /// For the line at start-up, after a thread was restricted.
    pub(super) fn describe(&self) -> String {
        match (&self.places, self.outcome.get()) {
            (None, _) => "paths not restricted (landlock off)".to_owned(),
            (_, Some(Outcome::Restricted(abi))) => format!("paths restricted by Landlock, version {}", *abi as i32),
            (_, Some(Outcome::Absent) | None) => "PATHS NOT RESTRICTED: this kernel has no Landlock".to_owned(),
        }
    }
}

fn restrict(allowed: &[Allowed]) -> io::Result<RestrictionStatus> {
    let failed = |error: RulesetError| io::Error::other(error);
    let rules = Ruleset::default().handle_access(AccessFs::from_all(KNOWN)).map_err(failed)?;
    let mut rules = rules.create().map_err(failed)?;
    for (path, access) in allowed {
        let place = match PathFd::new(path) {
            Ok(place) => place,
            // A file that does not exist now, or that this user may not open, is not needed later.
            Err(PathFdError::OpenCall { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
            {
                continue;
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        // Some rights apply to directories only; a file does not get them.
        let access = if path.is_dir() { *access } else { *access & AccessFs::from_file(KNOWN) };
        rules = rules.add_rule(PathBeneath::new(place, access)).map_err(failed)?;
    }
    rules.restrict_self().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_is_found_in_its_directory() {
        let found = |file: &str| directories(Path::new(file)).collect::<Vec<_>>();
        assert_eq!(found("/no/such/key"), [PathBuf::from("/no/such")]);
        assert_eq!(found("key"), [PathBuf::from(".")]);
        assert_eq!(found("/proc/self/status")[0], PathBuf::from("/proc/self"));
        assert_eq!(found("/proc/self/status")[1], PathBuf::from(format!("/proc/{}", std::process::id())));
    }

    #[test]
    fn only_the_control_thread_and_devices_open_anything_but_the_program() {
        let places = Places { reads: vec!["/a/key".into()], sockets: vec!["/b".into()], names: false };
        let write = AccessFs::from_write(KNOWN);
        for thread in
            [Thread::Lcore, Thread::Neighbours, Thread::Addresses, Thread::Scrub, Thread::Connector, Thread::Log]
        {
            let allowed = allowed(thread, &places);
            assert_eq!(allowed, [(std::env::current_exe().unwrap(), AccessFs::ReadFile.into())]);
        }
        let of_control = allowed(Thread::Control, &places);
        let writes: Vec<_> = of_control.iter().filter(|(_, access)| access.intersects(write)).collect();
        assert_eq!(writes, [&("/b".into(), AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::RemoveFile)]);
        assert!(of_control.iter().any(|(path, _)| path == Path::new("/a")));
        assert!(!of_control.iter().any(|(path, _)| path == Path::new("/etc")));
        for thread in [Thread::Control, Thread::Devices] {
            let allowed = allowed(thread, &Places { names: true, ..places.clone() });
            let proc = allowed.iter().filter(|(path, _)| path == Path::new("/proc") || path == Path::new("/"));
            assert!(proc.clone().all(|(_, access)| !access.intersects(write)) && proc.count() == 1);
        }
    }
}
