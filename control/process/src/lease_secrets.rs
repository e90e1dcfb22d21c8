//! The file that lets a master which starts again resume its leases: a seed, from which all secrets of leases follow,
//! and the number of the start.
//!
//! It is written once at each start, before the process gives up its privileges, and never while it runs. It has two
//! places, which starts use in turn, each with a checksum. So it is written in place: the lock that keeps a second
//! process away belongs to the file, which a file renamed over it would not have; and a write that a crash cut off
//! leaves the place of the start before.
//!
//! | bytes of a place | what |
//! |---|---|
//! | 0 to 7 | `GVMLEAS1` |
//! | 8 to 39 | the seed, random: the same in both places |
//! | 40 to 47 | the number of the start, from 0 on, little-endian |
//! | 48 to 59 | 0 |
//! | 60 to 63 | CRC-32 of the bytes before, little-endian |

use common::exit::Failure;
use frame::Secret;
use lease::LeaseSecrets;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: &[u8; 8] = b"GVMLEAS1";

/// Bytes of a place.
const PLACE: usize = 64;

/// Where its checksum is.
const SUM: usize = PLACE - 4;

/// The permission bits of others than the owner.
const OTHERS: u32 = 0o077;

/// The seed and the number of this start. The file is locked for as long as this exists.
pub struct StartSeed {
    seed: Secret,
    start: u64,
    /// Its lock keeps other processes away.
    _file: Option<File>,
}

impl StartSeed {
    /// A seed for this start alone: leases of it are found by no other.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn of_one_start() -> Result<Self, Failure> {
        Ok(Self { seed: fresh()?, start: 0, _file: None })
    }

    /// The seed of a file, which is made if it does not exist, with the number of this start.
    ///
    /// # Errors
    /// The error is [`Failure::LeaseSecretsInUse`] when another process has it, and [`Failure::LeaseSecrets`] when it
    /// is no file of this kind, belongs to or is open to others, or cannot be read or written.
    pub fn of_file(path: &Path) -> Result<Self, Failure> {
        let wrong = |text: String| Failure::LeaseSecrets { path: path.to_owned(), text };
        let failed = |error: io::Error| wrong(format!("{error}; {}", remedy(&error)));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(failed)?;
        // The metadata of the open file, so that nobody can replace it between the check and the use.
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(wrong("it is no regular file: name another one".to_owned()));
        }
        let (owner, this) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != this && owner != 0 {
            return Err(wrong(format!(
                "it belongs to user {owner}, who is neither this one nor root and could resume the leases of this \
                 master: name another file, or remove it"
            )));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(wrong(format!(
                "it is open to other users (mode {mode:03o}), who could resume the leases of this master: remove it, \
                 since they may have read it; it is made anew"
            )));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Failure::LeaseSecretsInUse(path.to_owned())),
            Err(error) => return Err(failed(error.into())),
        }
        // It may have been written until it was locked.
        let len = file.metadata().map_err(failed)?.len();
        let (seed, start) = match len {
            // It was just made, or the start that made it ended before it had a lease.
            0 => (fresh()?, 0),
            _ => match newest(&file, len).map_err(failed)? {
                Some((seed, last)) => (seed, last.saturating_add(1)),
                None => {
                    return Err(wrong(format!(
                        "it is no file of lease secrets, or damaged ({len} bytes): if it is one, remove it; slaves \
                         that have leases of earlier starts lend to this master again after a minute then"
                    )));
                }
            },
        };
        write(&file, &seed, start).map_err(failed)?;
        Ok(Self { seed, start, _file: Some(file) })
    }

    /// The secrets of leases of this start.
    pub fn secrets(&self) -> LeaseSecrets {
        LeaseSecrets::new(&self.seed, self.start)
    }

    /// How many starts with this seed there were before.
    pub fn starts_before(&self) -> u64 {
        self.start
    }
}

fn fresh() -> Result<Secret, Failure> {
    Secret::new(|place| getrandom::fill(place))
        .map_err(|error| Failure::Machine(format!("no random numbers for secrets of leases: {error}")))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "its directory must exist",
        io::ErrorKind::PermissionDenied => "this user must be able to read and to write it: name another file",
        io::ErrorKind::IsADirectory => "name a file",
        _ => "check its directory, and that there is room",
    }
}

/// The checksum of a place.
fn sum(place: &[u8; PLACE]) -> [u8; 4] {
    frame::crc::copy(0, &place[..SUM], &mut [0; SUM]).to_le_bytes()
}

/// The place of the last start; `None` if no place is whole.
fn newest(file: &File, len: u64) -> io::Result<Option<(Secret, u64)>> {
    if len > 2 * PLACE as u64 {
        return Ok(None);
    }
    let mut best: Option<(Secret, u64)> = None;
    for at in [0, PLACE as u64].into_iter().take_while(|at| at + PLACE as u64 <= len) {
        let mut place = [0; PLACE];
        file.read_exact_at(&mut place, at)?;
        let mut start = [0; 8];
        start.copy_from_slice(&place[40..48]);
        let start = u64::from_le_bytes(start);
        if place[..8] == *MAGIC && place[SUM..] == sum(&place) && best.as_ref().is_none_or(|(_, last)| start > *last) {
            let Ok(seed) = Secret::new(|seed| {
                seed.copy_from_slice(&place[8..40]);
                Ok::<_, std::convert::Infallible>(())
            });
            best = Some((seed, start));
        }
    }
    Ok(best)
}

/// Writes the place of this start. The kernel has written it to the disk when this returns.
fn write(file: &File, seed: &Secret, start: u64) -> io::Result<()> {
    let mut place = [0; PLACE];
    place[..8].copy_from_slice(MAGIC);
    place[8..40].copy_from_slice(&**seed);
    place[40..48].copy_from_slice(&start.to_le_bytes());
    let sum = sum(&place);
    place[SUM..].copy_from_slice(&sum);
    file.write_all_at(&place, start % 2 * PLACE as u64)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    struct TestDirectory(PathBuf);

    impl TestDirectory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gvm-lease-secrets-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("leases")
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What is said when the file cannot be used.
    fn refused(path: &Path) -> String {
        let failure = StartSeed::of_file(path).err().expect("it is refused");
        assert_eq!(failure.code(), 5, "{failure}");
        failure.to_string()
    }

    #[test]
    fn each_start_has_the_seed_and_the_next_number() {
        let directory = TestDirectory::new("starts");
        let path = directory.file();
        let first = StartSeed::of_file(&path).unwrap();
        let seed = *first.seed;
        assert_eq!((first.starts_before(), fs::metadata(&path).unwrap().mode() & 0o7777), (0, 0o600));
        drop(first);
        for number in 1..6 {
            let start = StartSeed::of_file(&path).unwrap();
            assert_eq!((*start.seed, start.starts_before()), (seed, number));
            assert_eq!(start.secrets().has_earlier_starts(), number > 0);
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * PLACE as u64);
        assert_ne!(*StartSeed::of_one_start().unwrap().seed, *StartSeed::of_one_start().unwrap().seed);
    }

    #[test]
    fn one_process_has_it_at_a_time() {
        let directory = TestDirectory::new("lock");
        let path = directory.file();
        let held = StartSeed::of_file(&path).unwrap();
        let failure = StartSeed::of_file(&path).err().expect("it is locked");
        assert!(failure.code() == 4 && failure.to_string().contains("another process"), "{failure}");
        drop(held);
        assert_eq!(StartSeed::of_file(&path).unwrap().starts_before(), 1);
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_the_start_before() {
        let directory = TestDirectory::new("cut");
        let path = directory.file();
        (0..4).for_each(|_| drop(StartSeed::of_file(&path).unwrap()));
        // Start 4 would use the first place.
        let whole = fs::read(&path).unwrap();
        for cut in 0..PLACE {
            let mut torn = whole.clone();
            torn[cut] ^= 0x5a;
            fs::write(&path, &torn).unwrap();
            assert_eq!(StartSeed::of_file(&path).unwrap().starts_before(), 4, "byte {cut}");
        }
        // A first start that ended before it had written anything.
        fs::write(&path, b"").unwrap();
        assert_eq!(StartSeed::of_file(&path).unwrap().starts_before(), 0);
    }

    #[test]
    fn a_file_that_is_damaged_or_something_else_is_refused_and_stays() {
        let directory = TestDirectory::new("damaged");
        let path = directory.file();
        drop(StartSeed::of_file(&path).unwrap());
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[20] ^= 1;
        let long = [&whole[..], &whole, &whole].concat();
        for content in [&whole[..PLACE - 1], &changed, &long, b"x", &[0; 128], &"0".repeat(64).into_bytes()] {
            fs::write(&path, content).unwrap();
            let said = refused(&path);
            assert!(said.contains(&format!("({} bytes)", content.len())) && said.contains("remove it"), "{said}");
            assert_eq!(fs::read(&path).unwrap(), content, "it is not overwritten");
        }
    }

    #[test]
    fn a_file_of_others_is_refused() {
        let directory = TestDirectory::new("others");
        let path = directory.file();
        drop(StartSeed::of_file(&path).unwrap());
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let said = refused(&path);
            assert!(said.contains(&format!("mode {mode:03o}")) && said.contains("made anew"), "{said}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert!(refused(&path).contains("belongs to user 65534"));
        }
        assert!(refused(&directory.0).contains("name a file"));
        assert!(refused(Path::new("/dev/null")).contains("no regular file"));
        assert!(refused(&directory.0.join("none").join("leases")).contains("its directory must exist"));
        symlink(directory.0.join("target"), directory.0.join("link")).unwrap();
        assert_eq!(StartSeed::of_file(&directory.0.join("link")).unwrap().starts_before(), 0);
    }
}
