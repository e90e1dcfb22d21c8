//! The handshake, and who may have a userfaultfd.

use crate::support::{Child, Ended, available, skip};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use uffd::{FeatureSet, OpenWay, UffdError, Userfaultfd};

/// The user and group "nobody".
const NOBODY: u32 = 65_534;

#[test]
fn the_kernel_says_what_it_has() {
    let Some(_alone) = available() else { return };
    let has = Userfaultfd::available().unwrap();
    let needed = [FeatureSet::MOVE, FeatureSet::EVENT_REMOVE, FeatureSet::EVENT_REMAP, FeatureSet::EVENT_UNMAP];
    for feature in needed {
        assert!(has.has(feature), "{feature} is not in {has}");
    }
    let never = FeatureSet::from_bits(1 << 62);
    let Err(UffdError::Lacks { missing, has: said }) = Userfaultfd::open(never.with(FeatureSet::MOVE)) else {
        panic!("a feature that does not exist")
    };
    assert_eq!((missing, said), (never, has));
}

/// A userfaultfd keeps the features of its first handshake. (EPERM comes only where the second call asks for EVENT_FORK
/// without CAP_SYS_PTRACE: the answer of the first call, sent again, does.)
#[test]
fn a_second_handshake_is_refused() {
    let Some(_alone) = available() else { return };
    let (uffd, _) = Userfaultfd::open(FeatureSet::MOVE).unwrap();
    for features in [FeatureSet::MOVE, FeatureSet::EVENT_REMOVE] {
        let error = uffd.shake_hands(features).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{features}");
    }
}

/// Makes a device node with this mode, and shows it as `/dev/userfaultfd` to this process alone; then becomes nobody,
/// and asks. The answer is an exit code.
fn as_nobody(node: &CString, device: u64, mode: u32, ask: impl FnOnce() -> i32) -> i32 {
    let target = c"/dev/userfaultfd";
    let nothing = std::ptr::null();
    // SAFETY: all paths end with a zero byte, and the process is a child of its own.
    unsafe {
        let shown = libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(nothing, c"/".as_ptr(), nothing, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) == 0
            && libc::mknod(node.as_ptr(), libc::S_IFCHR | 0o600, device) == 0
            && libc::chown(node.as_ptr(), 0, NOBODY) == 0
            && libc::chmod(node.as_ptr(), mode) == 0
            && libc::mount(node.as_ptr(), target.as_ptr(), nothing, libc::MS_BIND, std::ptr::null()) == 0;
        if !shown {
            return 90;
        }
        let groups = [NOBODY];
        let became = libc::setgroups(1, groups.as_ptr()) == 0 && libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0;
        if !became {
            return 91;
        }
    }
    ask()
}

/// Runs the question as nobody, where the device has this mode and the group of nobody.
fn nobody_asks(name: &str, mode: u32, ask: impl FnOnce() -> i32) -> Option<Ended> {
    let Ok(device) = std::fs::metadata("/dev/userfaultfd") else {
        skip("this kernel has no /dev/userfaultfd (Linux 6.1)");
        return None;
    };
    let path = std::env::temp_dir().join(format!("gvmdp-uffd-{name}-{}", std::process::id()));
    let node = CString::new(Path::new(&path).as_os_str().as_bytes()).unwrap();
    let ended = Child::fork(|| as_nobody(&node, device.rdev(), mode, ask)).wait();
    std::fs::remove_file(&path).unwrap();
    Some(ended)
}

#[test]
fn a_group_of_the_device_is_enough_but_for_forks() {
    let Some(_alone) = available() else { return };
    let ended = nobody_asks("group", 0o660, || {
        let features = FeatureSet::MOVE
            .with(FeatureSet::EVENT_REMOVE)
            .with(FeatureSet::EVENT_REMAP)
            .with(FeatureSet::EVENT_UNMAP)
            .with(FeatureSet::THREAD_ID);
        let by_group = matches!(Userfaultfd::open(features), Ok((_, OpenWay::Device)));
        let fork = matches!(Userfaultfd::open(FeatureSet::EVENT_FORK), Err(UffdError::ForkNotPermitted));
        i32::from(!by_group) + 2 * i32::from(!fork)
    });
    if let Some(ended) = ended {
        assert_eq!(ended, Ended::Code(0));
    }
}

#[test]
fn without_any_privilege_the_error_says_so() {
    let Some(_alone) = available() else { return };
    if std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").is_ok_and(|text| text.trim() == "1") {
        skip("vm.unprivileged_userfaultfd is 1 here: everybody may");
        return;
    }
    let ended = nobody_asks("none", 0o600, || match Userfaultfd::open(FeatureSet::MOVE) {
        Err(UffdError::NotPermitted { device, call }) => {
            let errors = [device.raw_os_error(), call.raw_os_error()];
            i32::from(errors != [Some(libc::EACCES), Some(libc::EPERM)])
        }
        _ => 2,
    });
    if let Some(ended) = ended {
        assert_eq!(ended, Ended::Code(0));
    }
}
