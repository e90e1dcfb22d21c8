//! Pages that devices or the kernel hold: MOVE is the only call that sees a pin.

use crate::support::{available, bytes, eventually, holds, install, registered, skip};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use uffd::{FeatureSet, Obstacle, PAGE, PrivateMemory, Progress, Userfaultfd, Waking};

const REGISTER_BUFFERS: libc::c_uint = 0;
const UNREGISTER_BUFFERS: libc::c_uint = 1;

fn move_run(uffd: &Userfaultfd, to: &PrivateMemory, from: &PrivateMemory, first: u64, pages: u64) -> Progress {
    // SAFETY: no reference points into this kind of memory.
    unsafe { uffd.move_pages(to.page(first), from.page(first), pages * PAGE, false, Waking::Wake) }
}

/// An io_uring, which pins the buffers that are registered with it, as O_DIRECT pins those of a read under way.
struct Uring(OwnedFd);

impl Uring {
    fn new() -> Option<Self> {
        let mut parameters = [0_u64; 15];
        // SAFETY: the structure io_uring_params has 120 bytes, which the kernel reads and writes.
        let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, parameters.as_mut_ptr()) };
        let number = i32::try_from(made).ok().filter(|number| *number >= 0);
        let Some(number) = number else {
            skip(&format!("io_uring cannot be had: {}", std::io::Error::last_os_error()));
            return None;
        };
        // SAFETY: the kernel has just made it for us.
        Some(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    fn pin(&self, address: u64) {
        let piece = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: PAGE as usize };
        // SAFETY: one piece of memory that is mapped. Nothing is ever read into it.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.0.as_raw_fd(), REGISTER_BUFFERS, &raw const piece, 1)
        };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    fn unpin(&self) {
        let nothing = std::ptr::null::<libc::c_void>();
        // SAFETY: it takes no memory.
        let answer =
            unsafe { libc::syscall(libc::SYS_io_uring_register, self.0.as_raw_fd(), UNREGISTER_BUFFERS, nothing, 0) };
        assert_eq!(answer, 0);
    }
}

#[test]
fn move_refuses_a_pinned_page_and_says_how_far_it_came() {
    let Some(_alone) = available() else { return };
    let Some(uring) = Uring::new() else { return };
    let (uffd, memory) = registered(FeatureSet::MOVE, 16);
    let (second, staging) = registered(FeatureSet::MOVE, 16);
    install(&uffd, &memory, 0..16);
    uring.pin(memory.page(4));
    let run = move_run(&second, &staging, &memory, 0, 8);
    assert_eq!(run, Progress { bytes: 4 * PAGE, obstacle: Some(Obstacle::Again) });
    let at_it = move_run(&second, &staging, &memory, 4, 4);
    assert_eq!(at_it, Progress { bytes: 0, obstacle: Some(Obstacle::Busy) });
    assert!(move_run(&second, &staging, &memory, 5, 3).is_all(), "around it");
    assert!((0..8).all(|page| if page == 4 { holds(&memory, 4, 4) } else { holds(&staging, page, page) }));
    uring.unpin();
    // The kernel lets go of it a little later.
    eventually("the pin to go", || move_run(&second, &staging, &memory, 4, 1).is_all());
    assert!(holds(&staging, 4, 4));
}

/// vmsplice does not pin: the pipe keeps the page, and the program gets another one. Its bytes are those of the moment
/// of the call, which programs must not rely on; documentation of vmsplice(2) says so.
#[test]
fn move_does_not_see_vmsplice() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::MOVE, 2);
    let (second, staging) = registered(FeatureSet::MOVE, 2);
    install(&uffd, &memory, 0..2);
    let mut pipe = [0; 2];
    let piece = libc::iovec { iov_base: memory.page(1) as *mut libc::c_void, iov_len: PAGE as usize };
    // SAFETY: two numbers that the kernel writes; then one piece of memory that is mapped.
    let spliced = unsafe {
        assert_eq!(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC), 0);
        libc::vmsplice(pipe[1], &raw const piece, 1, 0)
    };
    assert_eq!(spliced, PAGE as isize);
    assert!(move_run(&second, &staging, &memory, 1, 1).is_all());
    assert!(uffd.copy(memory.page(1), &bytes(0, 1), Waking::Wake).is_all());
    let mut read = vec![0_u8; PAGE as usize];
    // SAFETY: the buffer has so many bytes; the descriptors are ours.
    unsafe {
        assert_eq!(libc::read(pipe[0], read.as_mut_ptr().cast(), read.len()), PAGE as isize);
        libc::close(pipe[0]);
        libc::close(pipe[1]);
    }
    assert_eq!(read, bytes(1, 1), "the pipe has the page that was moved");
    assert!(holds(&memory, 1, 0), "the program has another one");
}
