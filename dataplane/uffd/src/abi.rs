//! Numbers and layouts of `include/uapi/linux/userfaultfd.h`, Linux 6.18.
//!
//! | call | structure (each field has 64 bits) | bytes |
//! |---|---|---|
//! | API | api, features, ioctls | 24 |
//! | REGISTER | start, len, mode, ioctls | 32 |
//! | UNREGISTER, WAKE | start, len | 16 |
//! | COPY | dst, src, len, mode, copied (signed) | 40 |
//! | ZEROPAGE | start, len, mode, zeroed (signed) | 32 |
//! | MOVE | dst, src, len, mode, moved (signed) | 40 |
//! | WRITEPROTECT | start, len, mode | 24 |
//! | CONTINUE | start, len, mode, mapped (signed) | 32 |
//! | POISON | start, len, mode, updated (signed) | 32 |
//!
//! All fields are 64-bit words, so a structure is an array of words here.

/// Number of an ioctl: direction (1 the kernel reads, 2 it writes), bytes of the structure, type, number.
const fn number(direction: u32, words: u32, nr: u32) -> u64 {
    ((direction << 30) | ((words * 8) << 16) | (0xaa << 8) | nr) as u64
}

const READS: u32 = 1;
const WRITES: u32 = 2;
const BOTH: u32 = READS | WRITES;

/// `USERFAULTFD_IOC_NEW`, on `/dev/userfaultfd`; its argument is flags.
pub(crate) const NEW: u64 = number(0, 0, 0x00);
/// `UFFDIO_API`.
pub(crate) const API: u64 = number(BOTH, 3, 0x3f);
/// `UFFDIO_REGISTER`.
pub(crate) const REGISTER: u64 = number(BOTH, 4, 0x00);
/// `UFFDIO_UNREGISTER`. The header calls it one that is only read by the user; the kernel reads the range.
pub(crate) const UNREGISTER: u64 = number(WRITES, 2, 0x01);
/// `UFFDIO_WAKE`, the same.
pub(crate) const WAKE: u64 = number(WRITES, 2, 0x02);
/// `UFFDIO_COPY`.
pub(crate) const COPY: u64 = number(BOTH, 5, 0x03);
/// `UFFDIO_ZEROPAGE`.
pub(crate) const ZEROPAGE: u64 = number(BOTH, 4, 0x04);
/// `UFFDIO_MOVE`.
pub(crate) const MOVE: u64 = number(BOTH, 5, 0x05);
/// `UFFDIO_WRITEPROTECT`.
pub(crate) const WRITEPROTECT: u64 = number(BOTH, 3, 0x06);
/// `UFFDIO_CONTINUE`.
pub(crate) const CONTINUE: u64 = number(BOTH, 4, 0x07);
/// `UFFDIO_POISON`.
pub(crate) const POISON: u64 = number(BOTH, 4, 0x08);

/// `UFFD_API`: the version of the interface.
pub(crate) const VERSION: u64 = 0xaa;

/// `UFFD_USER_MODE_ONLY`: faults of the kernel, for example in read(2), are not handled.
pub(crate) const USER_MODE_ONLY: i32 = 1;

/// `UFFDIO_REGISTER_MODE_MISSING`, `_WP`, `_MINOR`.
pub(crate) const MODE_MISSING: u64 = 1;
pub(crate) const MODE_WP: u64 = 2;
pub(crate) const MODE_MINOR: u64 = 4;

/// `DONTWAKE` of COPY, ZEROPAGE, MOVE, CONTINUE and POISON.
pub(crate) const DONTWAKE: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`: the page is write-protected from the start.
pub(crate) const COPY_WP: u64 = 2;
/// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`: a hole is not an error, and counts as moved.
pub(crate) const ALLOW_SRC_HOLES: u64 = 2;
/// `UFFDIO_WRITEPROTECT_MODE_WP`: protect; without it: unprotect and wake.
pub(crate) const PROTECT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that gcc makes of the header.
    #[test]
    fn the_numbers_are_those_of_the_header() {
        let all = [API, REGISTER, UNREGISTER, WAKE, COPY, ZEROPAGE, MOVE, WRITEPROTECT, CONTINUE, POISON, NEW];
        let header = [
            0xc018_aa3f,
            0xc020_aa00,
            0x8010_aa01,
            0x8010_aa02,
            0xc028_aa03,
            0xc020_aa04,
            0xc028_aa05,
            0xc018_aa06,
            0xc020_aa07,
            0xc020_aa08,
            0xaa00,
        ];
        assert_eq!(all, header);
    }
}
