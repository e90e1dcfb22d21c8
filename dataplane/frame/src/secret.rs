//! Secrets: bytes that exist in one place of memory, and nowhere after they are dropped.
//!
//! They are in pages of their own, which no core dump contains. A secret is made in its place, is never moved or
//! copied, and is overwritten when it is dropped. Code that needs it twice shares it.

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a secret.
pub const SECRET_LEN: usize = 32;

/// Bytes of a page.
const PAGE: usize = 4096;

/// A place for a secret.
struct Place(NonNull<[u8; SECRET_LEN]>);

// SAFETY: a place has one owner: the list of free places, or one secret. It belongs to no thread.
unsafe impl Send for Place {}

/// Places without a secret. Their pages stay mapped for later secrets.
static FREE: Mutex<Vec<Place>> = Mutex::new(Vec::new());

fn free() -> MutexGuard<'static, Vec<Place>> {
    // A push or a pop is either complete or not begun.
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A free place, in a new page if there is none.
fn take() -> Place {
    let mut free = free();
    if free.is_empty() {
        let page = map();
        for at in 0..PAGE / SECRET_LEN {
            // SAFETY: so many secrets fit into the page, side by side.
            free.push(Place(unsafe { page.add(at) }));
        }
    }
    free.pop().unwrap_or_else(no_memory)
}

fn no_memory<T>() -> T {
    handle_alloc_error(Layout::new::<[u8; PAGE]>())
}

/// A page that core dumps leave out.
fn map() -> NonNull<[u8; SECRET_LEN]> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, access, kind, -1, 0) };
    if address == libc::MAP_FAILED {
        return no_memory();
    }
    // SAFETY: the range is the mapping just made; the advice changes no contents. A kernel that does not know the
    // advice includes this page in dumps; the process forbids dumps in addition.
    unsafe { libc::madvise(address, PAGE, libc::MADV_DONTDUMP) };
    NonNull::new(address.cast()).unwrap_or_else(no_memory)
}

/// See the module's documentation.
pub struct Secret(Place);

// SAFETY: a shared one gives out shared bytes only.
unsafe impl Sync for Secret {}

impl Secret {
    /// The secret that `fill` writes, in its place.
    ///
    /// # Errors
    /// Those of `fill`. The bytes that it wrote are overwritten then.
    pub fn new<E>(fill: impl FnOnce(&mut [u8; SECRET_LEN]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(take());
        // SAFETY: the place is mapped for ever, zeroed, and nobody else has it.
        fill(unsafe { secret.0.0.as_mut() })?;
        Ok(secret)
    }
}

impl Deref for Secret {
    type Target = [u8; SECRET_LEN];

    fn deref(&self) -> &[u8; SECRET_LEN] {
        // SAFETY: the place is mapped for ever, holds bytes, and is written only when it is made and dropped.
        unsafe { self.0.0.as_ref() }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let Place(place) = self.0;
        // SAFETY: as in `deref`, and this is the only way to it now. Volatile, since nobody reads it again.
        unsafe { place.as_ptr().write_volatile([0; SECRET_LEN]) };
        compiler_fence(Ordering::SeqCst);
        free().push(Place(place));
    }
}

impl fmt::Debug for Secret {
    /// Prints nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn filled(byte: u8) -> Secret {
        let Ok(secret) = Secret::new(|place| {
            place.fill(byte);
            Ok::<_, Infallible>(())
        });
        secret
    }

    #[test]
    fn secrets_stand_apart_and_are_overwritten() {
        let secrets: Vec<Secret> = (0..300).map(|number| filled(number as u8)).collect();
        assert!(secrets.iter().enumerate().all(|(number, secret)| **secret == [number as u8; SECRET_LEN]));
        let mut addresses: Vec<usize> = secrets.iter().map(|secret| secret.as_ptr() as usize).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[0] + SECRET_LEN <= pair[1]));
        drop(secrets);
        // The page is still there; its contents are not.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(maps.lines().any(|line| line.contains("rw-p")));
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        for address in addresses {
            use std::os::unix::fs::FileExt as _;
            let mut bytes = [1; SECRET_LEN];
            memory.read_exact_at(&mut bytes, address as u64).unwrap();
            // A secret of another test may be there; its bytes are 0xee.
            assert!(bytes == [0; SECRET_LEN] || bytes == [0xee; SECRET_LEN], "{bytes:?}");
        }
    }

    #[test]
    fn what_was_written_before_an_error_is_overwritten() {
        let mut at = 0;
        let failed = Secret::new(|place| {
            place.fill(0xee);
            at = place.as_ptr() as usize;
            Err("no")
        });
        assert_eq!(failed.map(drop), Err("no"));
        let free = super::free();
        let place = free.iter().find(|place| place.0.as_ptr() as usize == at);
        // SAFETY: the list is locked, so nobody else uses its places.
        assert!(place.is_none_or(|place| unsafe { *place.0.as_ref() } == [0; SECRET_LEN]));
    }

    #[test]
    fn core_dumps_leave_their_pages_out() {
        let secret = filled(0xee);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let address = secret.as_ptr() as usize;
        let mut inside = false;
        for line in smaps.lines() {
            if let Some((from, to)) = line.split_whitespace().next().and_then(|range| range.split_once('-'))
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&address);
            }
            if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
                return;
            }
        }
        panic!("no mapping has {address:#x}");
    }
}
