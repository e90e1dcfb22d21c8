//! A userfaultfd and its calls.

use crate::abi;
use crate::event::{MESSAGE, Message, PageFault, parse};
use crate::features::FeatureSet;
use crate::open::{OpenWay, UffdError, create};
use crate::progress::{Obstacle, Progress};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// The most events that one call reads.
const BURST: usize = 64;

/// Which faults of a range are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterMode {
    /// Those of pages that are not there.
    Missing,
    /// The same, and writes to pages that are write-protected.
    MissingAndWriteProtected,
    /// Those of pages that the shared memory has, and that are not mapped.
    Minor,
}

impl RegisterMode {
    fn bits(self) -> u64 {
        match self {
            Self::Missing => abi::MODE_MISSING,
            Self::MissingAndWriteProtected => abi::MODE_MISSING | abi::MODE_WP,
            Self::Minor => abi::MODE_MINOR,
        }
    }
}

/// Whether a call wakes the threads that wait for its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waking {
    /// It does.
    Wake,
    /// It does not: WAKE must follow, or they wait for ever.
    DontWake,
}

impl Waking {
    fn bits(self) -> u64 {
        match self {
            Self::Wake => 0,
            Self::DontWake => abi::DONTWAKE,
        }
    }
}

/// What has happened to registered memory.
#[derive(Debug)]
pub enum FaultEvent {
    /// A thread waits for a page.
    Fault(PageFault),
    /// The process has forked; this is the userfaultfd of the child, with the same ranges and features.
    Fork(Userfaultfd),
    /// Memory was moved by mremap.
    Remap {
        /// First byte before.
        from: u64,
        /// First byte now.
        to: u64,
        /// Bytes that were moved.
        len: u64,
    },
    /// The pages from `start` to before `end` are about to be dropped, for example by MADV_DONTNEED.
    Remove {
        /// First byte.
        start: u64,
        /// The byte behind the last one.
        end: u64,
    },
    /// The memory from `start` to before `end` is not mapped any more.
    Unmap {
        /// First byte.
        start: u64,
        /// The byte behind the last one.
        end: u64,
    },
    /// An event that this crate does not know.
    Unknown(u8),
}

/// A userfaultfd: of this process, or of another one that handed it over.
///
/// All addresses are those of the process whose memory it is. A copy ([`try_clone`](Self::try_clone), or the descriptor
/// sent through a socket) is the same userfaultfd: its ranges are registered until the last copy is closed.
#[derive(Debug)]
pub struct Userfaultfd {
    descriptor: OwnedFd,
}

impl AsFd for Userfaultfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// It is taken as one that [`Userfaultfd::open`] made, here or in another process. If it is something else, its calls
/// end with errors.
impl From<OwnedFd> for Userfaultfd {
    fn from(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }
}

impl From<Userfaultfd> for OwnedFd {
    fn from(uffd: Userfaultfd) -> Self {
        uffd.descriptor
    }
}

impl Userfaultfd {
    /// Makes a userfaultfd of this process, with these features. Reading it does not block.
    ///
    /// `/dev/userfaultfd` is tried first, then the system call.
    ///
    /// # Errors
    /// See [`UffdError`]: each kind has a remedy.
    pub fn open(features: FeatureSet) -> Result<(Self, OpenWay), UffdError> {
        let (descriptor, way) = create(false)?;
        let uffd = Self { descriptor };
        match uffd.shake_hands(features) {
            Ok(_) => Ok((uffd, way)),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(UffdError::ForkNotPermitted),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let has = Self::available()?;
                Err(match features.without(has) {
                    FeatureSet::NONE => UffdError::System(error),
                    missing => UffdError::Lacks { missing, has },
                })
            }
            Err(error) => Err(UffdError::System(error)),
        }
    }

    /// What this kernel's userfaultfd can do. A userfaultfd is made for the question, and closed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn available() -> Result<FeatureSet, UffdError> {
        let (descriptor, _) = create(false)?;
        Self { descriptor }.shake_hands(FeatureSet::NONE).map_err(UffdError::System)
    }

    /// The call API, which [`open`](Self::open) makes: what the kernel can do. A second one is refused, whatever it
    /// asks for: a userfaultfd keeps its features.
    ///
    /// # Errors
    /// EINVAL: a feature that the kernel does not have, or not the first call. EPERM: EVENT_FORK without
    /// CAP_SYS_PTRACE.
    pub fn shake_hands(&self, features: FeatureSet) -> io::Result<FeatureSet> {
        let mut words = [abi::VERSION, features.bits(), 0];
        self.call(abi::API, &mut words).map_err(io::Error::from_raw_os_error)?;
        Ok(FeatureSet::from_bits(words[1]))
    }

    /// Another descriptor of the same userfaultfd.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { descriptor: self.descriptor.try_clone()? })
    }

    /// Makes an ioctl with a structure of words.
    fn call<const N: usize>(&self, number: u64, words: &mut [u64; N]) -> Result<(), i32> {
        // SAFETY: the number has the length of the structure, and `abi` gives each call an array of that length, to
        // which the kernel may write. What the call does to pages is in the contracts of `register` and of the methods.
        let answer = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), number, words.as_mut_ptr()) };
        if answer < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(()) }
    }

    /// From now on, faults of this range are handled by this userfaultfd. Both numbers are multiples of a page.
    ///
    /// # Safety
    /// If the memory is this process's: until the range is registered no more, no reference points into it whose
    /// bytes must not change, since missing pages get whatever the calls of this userfaultfd bring; and a thread that
    /// touches a missing page waits for that.
    ///
    /// # Errors
    /// EINVAL: not mapped, of a kind that is not supported, or not aligned. EBUSY: another userfaultfd has it. ENOMEM.
    pub unsafe fn register(&self, start: u64, len: u64, mode: RegisterMode) -> io::Result<()> {
        self.call(abi::REGISTER, &mut [start, len, mode.bits(), 0]).map_err(io::Error::from_raw_os_error)
    }

    /// Faults of this range are handled by nobody any more: threads that wait go on, and missing pages are zeros.
    ///
    /// # Errors
    /// EINVAL: not mapped, or not aligned.
    pub fn unregister(&self, start: u64, len: u64) -> io::Result<()> {
        self.call(abi::UNREGISTER, &mut [start, len]).map_err(io::Error::from_raw_os_error)
    }

    /// Wakes the threads that wait for pages of this range. If a page is still missing, its thread faults again.
    ///
    /// # Errors
    /// EINVAL: not aligned.
    pub fn wake(&self, start: u64, len: u64) -> io::Result<()> {
        self.call(abi::WAKE, &mut [start, len]).map_err(io::Error::from_raw_os_error)
    }

    /// Fills missing pages from `to` on with these bytes.
    pub fn copy(&self, to: u64, bytes: &[u8], waking: Waking) -> Progress {
        self.copy_words(to, bytes.as_ptr().addr() as u64, bytes.len() as u64, waking.bits())
    }

    /// The same, and the pages are write-protected from the start.
    pub fn copy_protected(&self, to: u64, bytes: &[u8], waking: Waking) -> Progress {
        self.copy_words(to, bytes.as_ptr().addr() as u64, bytes.len() as u64, waking.bits() | abi::COPY_WP)
    }

    /// Fills missing pages from `to` on with `len` bytes of this process's memory at `from`, which others may write to
    /// at the same time: the kernel copies, and no reference is made.
    ///
    /// If the memory is not mapped, the call ends with EFAULT.
    pub fn copy_from(&self, to: u64, from: u64, len: u64, waking: Waking) -> Progress {
        self.copy_words(to, from, len, waking.bits())
    }

    fn copy_words(&self, to: u64, from: u64, len: u64, mode: u64) -> Progress {
        let mut words = [to, from, len, mode, 0];
        let answer = self.call(abi::COPY, &mut words);
        Progress::new(answer, words[4])
    }

    /// Fills missing pages with zeros.
    pub fn zero(&self, start: u64, len: u64, waking: Waking) -> Progress {
        let mut words = [start, len, waking.bits(), 0];
        let answer = self.call(abi::ZEROPAGE, &mut words);
        Progress::new(answer, words[3])
    }

    /// Moves pages from `from` to `to`, where there are none: no byte is copied. Both are memory of the process that
    /// makes the call; `to` is registered with this userfaultfd. With `holes`, a page that is missing counts as moved.
    ///
    /// # Safety
    /// No reference points to the pages at `from`: they are gone afterwards, and the memory there is as if it had never
    /// been touched.
    pub unsafe fn move_pages(&self, to: u64, from: u64, len: u64, holes: bool, waking: Waking) -> Progress {
        let mode = waking.bits() | if holes { abi::ALLOW_SRC_HOLES } else { 0 };
        let mut words = [to, from, len, mode, 0];
        let answer = self.call(abi::MOVE, &mut words);
        Progress::new(answer, words[4])
    }

    /// Write-protects pages, or (`false`) lets writes through and wakes who waits.
    ///
    /// # Errors
    /// [`Obstacle::Again`] as for [`copy`](Self::copy); [`Obstacle::NotFound`]: not registered for that.
    pub fn protect(&self, start: u64, len: u64, is_protected: bool) -> Result<(), Obstacle> {
        let mode = if is_protected { abi::PROTECT } else { 0 };
        self.call(abi::WRITEPROTECT, &mut [start, len, mode]).map_err(Obstacle::from_errno)
    }

    /// Maps pages that the shared memory has.
    pub fn map_existing(&self, start: u64, len: u64, waking: Waking) -> Progress {
        let mut words = [start, len, waking.bits(), 0];
        let answer = self.call(abi::CONTINUE, &mut words);
        Progress::new(answer, words[3])
    }

    /// Makes missing pages poisonous: who touches one gets SIGBUS.
    pub fn poison(&self, start: u64, len: u64, waking: Waking) -> Progress {
        let mut words = [start, len, waking.bits(), 0];
        let answer = self.call(abi::POISON, &mut words);
        Progress::new(answer, words[3])
    }

    /// Appends up to `most` events, at most 64, and returns how many: 0 if there are none now.
    ///
    /// # Errors
    /// What read(2) says, except that there is nothing.
    pub fn read(&self, events: &mut Vec<FaultEvent>, most: usize) -> io::Result<usize> {
        let mut messages = [[0_u8; MESSAGE]; BURST];
        let wanted = most.min(BURST) * MESSAGE;
        // SAFETY: the kernel writes at most `wanted` bytes, and the array has as many.
        let got = unsafe { libc::read(self.descriptor.as_raw_fd(), messages.as_mut_ptr().cast(), wanted) };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
        };
        let count = got / MESSAGE;
        events.extend(messages.iter().take(count).map(|bytes| match parse(bytes) {
            Message::Fault(fault) => FaultEvent::Fault(fault),
            // SAFETY: the kernel made this descriptor when the message was read, for its reader alone.
            Message::Fork(number) => FaultEvent::Fork(unsafe { OwnedFd::from_raw_fd(number.cast_signed()) }.into()),
            Message::Remap { from, to, len } => FaultEvent::Remap { from, to, len },
            Message::Remove { start, end } => FaultEvent::Remove { start, end },
            Message::Unmap { start, end } => FaultEvent::Unmap { start, end },
            Message::Unknown(event) => FaultEvent::Unknown(event),
        }));
        Ok(count)
    }

    /// Waits until there is an event, at most so many milliseconds; -1: as long as it takes. Whether there is one.
    ///
    /// # Errors
    /// What poll(2) says, except that a signal came, which is no event.
    pub fn wait(&self, milliseconds: i32) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, which the kernel reads and writes.
        let ready = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        Ok(poll.revents & libc::POLLIN != 0)
    }
}
