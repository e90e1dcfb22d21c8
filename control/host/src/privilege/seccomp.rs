//! The system calls that each kind of thread may use after set-up. Every other call ends the process.
//!
//! A call outside the list is a fault of gvm-dp or the work of an intruder, and neither should go on: the kernel ends
//! the process with SIGSYS and names the call in its log. `--seccomp log` allows the call and only names it. Use that
//! to complete a list: `of_thread` has the lists by kind of thread, `of_need` those for other needs of the process.

use super::thread::{Needs, Thread};
use clap::ValueEnum;
use common::exit::Failure;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// What becomes of a system call outside the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The kernel ends the process with SIGSYS.
    #[default]
    On,
    /// The kernel lets it pass, and names it in its log.
    Log,
    /// There is no filter.
    Off,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Log => "log",
            Self::Off => "off",
        })
    }
}

/// A system call, and the arguments for which it is allowed.
#[derive(Clone, Copy)]
enum Rule {
    /// With any arguments.
    Any(i64),
    /// When the bits of `mask` in an argument, counted from 0, are `value`.
    If { call: i64, argument: u8, mask: u64, value: u64 },
    /// When an argument is the id of this process.
    Own { call: i64, argument: u8 },
    /// When an argument is none of these.
    Except { call: i64, argument: u8, values: &'static [u64] },
}

use Rule::Any;

impl Rule {
    const fn call(&self) -> i64 {
        match *self {
            Any(call) | Self::If { call, .. } | Self::Own { call, .. } | Self::Except { call, .. } => call,
        }
    }

    /// The conditions, all of which must hold; empty when any argument is allowed.
    fn conditions(&self) -> Result<Vec<SeccompCondition>, BackendError> {
        let condition = |argument, bits, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, bits, value);
        match *self {
            Any(_) => Ok(Vec::new()),
            Self::If { argument, mask, value, .. } => {
                Ok(vec![condition(argument, SeccompCmpOp::MaskedEq(mask), value)?])
            }
            Self::Own { argument, .. } => {
                Ok(vec![condition(argument, SeccompCmpOp::Eq, u64::from(std::process::id()))?])
            }
            Self::Except { argument, values, .. } => {
                values.iter().map(|value| condition(argument, SeccompCmpOp::Ne, *value)).collect()
            }
        }
    }
}

/// When an argument is this number.
const fn is(call: i64, argument: u8, value: u64) -> Rule {
    Rule::If { call, argument, mask: u32::MAX as u64, value }
}

/// When none of these bits is set in an argument.
const fn without(call: i64, argument: u8, bits: u64) -> Rule {
    Rule::If { call, argument, mask: bits, value: 0 }
}

/// Starts a thread of this process. It allows neither a process of its own, which would outlive this one, nor a thread
/// in a namespace of its own, where it would have every capability again.
const THREAD: Rule = {
    const THREAD: i32 = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    const NAMESPACES: i32 = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    Rule::If { call: libc::SYS_clone, argument: 0, mask: (THREAD | NAMESPACES) as u64, value: THREAD as u64 }
};

/// The answer to clone3 for threads that may start others: the kernel does not have this call. The flags of clone3 are
/// in memory, which no filter can read. After this answer the C library calls clone.
const NO_CLONE3: u32 = libc::ENOSYS as u32;

/// Arguments that make a file send signals, to any process of this user.
const OWNERS: &[u64] = &[libc::F_SETOWN as u64, F_SETOWN_EX, F_SETSIG];
const F_SETSIG: u64 = 10;
const F_SETOWN_EX: u64 = 15;

/// The same by ioctl; and requests that type text into a terminal in the name of its user.
const TERMINALS: &[u64] = &[0x8901, 0x8902, libc::TIOCSTI, libc::TIOCLINUX];

const PROT_EXEC: u64 = libc::PROT_EXEC as u64;
/// Bits of `open` that are zero when a file is only read.
const WRITES: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;

/// Memory, time, locks, the end. For messages, panics and their backtraces: stderr, and files that are only read.
const EVERY_THREAD: &[Rule] = &[
    Any(libc::SYS_brk),
    without(libc::SYS_mmap, 2, PROT_EXEC),
    without(libc::SYS_mprotect, 2, PROT_EXEC),
    Any(libc::SYS_mremap),
    Any(libc::SYS_munmap),
    Any(libc::SYS_madvise),
    Any(libc::SYS_futex),
    Any(libc::SYS_sched_yield),
    Any(libc::SYS_sched_getaffinity),
    Any(libc::SYS_getcpu),
    Any(libc::SYS_nanosleep),
    Any(libc::SYS_clock_nanosleep),
    Any(libc::SYS_clock_gettime),
    Any(libc::SYS_gettimeofday),
    Any(libc::SYS_restart_syscall),
    Any(libc::SYS_getrandom),
    Any(libc::SYS_getpid),
    Any(libc::SYS_gettid),
    Any(libc::SYS_poll),
    Any(libc::SYS_ppoll),
    Any(libc::SYS_read),
    Any(libc::SYS_pread64),
    Any(libc::SYS_write),
    Any(libc::SYS_writev),
    Any(libc::SYS_close),
    is(libc::SYS_fcntl, 1, libc::F_GETFD as u64),
    is(libc::SYS_fcntl, 1, libc::F_SETFD as u64),
    is(libc::SYS_fcntl, 1, libc::F_GETFL as u64),
    is(libc::SYS_fcntl, 1, libc::F_SETFL as u64),
    is(libc::SYS_fcntl, 1, libc::F_DUPFD_CLOEXEC as u64),
    Any(libc::SYS_lseek),
    Any(libc::SYS_fstat),
    Any(libc::SYS_newfstatat),
    Any(libc::SYS_statx),
    Any(libc::SYS_getcwd),
    Any(libc::SYS_readlink),
    without(libc::SYS_openat, 2, WRITES),
    is(libc::SYS_prctl, 0, libc::PR_SET_NAME as u64),
    is(libc::SYS_prctl, 0, libc::PR_SET_TIMERSLACK as u64),
    is(libc::SYS_prctl, 0, libc::PR_SET_VMA as u64),
    Any(libc::SYS_rt_sigaction),
    Any(libc::SYS_rt_sigprocmask),
    Any(libc::SYS_rt_sigreturn),
    Any(libc::SYS_sigaltstack),
    Rule::Own { call: libc::SYS_tgkill, argument: 0 },
    Any(libc::SYS_rseq),
    Any(libc::SYS_set_robust_list),
    Any(libc::SYS_exit),
    Any(libc::SYS_exit_group),
];

/// Bursts through sockets, the wake-ups of AF_XDP, and the counters of sockets.
const LCORE: &[Rule] = &[
    Any(libc::SYS_recvmmsg),
    Any(libc::SYS_sendmmsg),
    Any(libc::SYS_recvfrom),
    Any(libc::SYS_sendto),
    Any(libc::SYS_recvmsg),
    Any(libc::SYS_getsockopt),
];

/// After a queue is closed, it is bound once more with its own rings. That shows that the kernel released it.
const LCORE_XDP: &[Rule] = &[Any(libc::SYS_setsockopt), Any(libc::SYS_bind)];

/// What drivers of DPDK call in their bursts, in addition to sockets.
const LCORE_DPDK: &[Rule] = &[Any(libc::SYS_readv), Any(libc::SYS_epoll_wait), Any(libc::SYS_eventfd2)];

/// What drivers of DPDK do with devices: they ask for the link and the counters and close the device at the end. Some
/// talk to another process over a socket and share memory with it.
const DEVICES: &[Rule] = &[
    Rule::Except { call: libc::SYS_ioctl, argument: 1, values: TERMINALS },
    Rule::Except { call: libc::SYS_fcntl, argument: 1, values: OWNERS },
    Any(libc::SYS_socket),
    Any(libc::SYS_bind),
    Any(libc::SYS_listen),
    Any(libc::SYS_accept),
    Any(libc::SYS_accept4),
    Any(libc::SYS_connect),
    Any(libc::SYS_shutdown),
    Any(libc::SYS_getsockname),
    Any(libc::SYS_getpeername),
    Any(libc::SYS_getsockopt),
    Any(libc::SYS_setsockopt),
    Any(libc::SYS_sendto),
    Any(libc::SYS_sendmsg),
    Any(libc::SYS_recvfrom),
    Any(libc::SYS_recvmsg),
    Any(libc::SYS_readv),
    Any(libc::SYS_pwrite64),
    Any(libc::SYS_epoll_create),
    Any(libc::SYS_epoll_create1),
    Any(libc::SYS_epoll_ctl),
    Any(libc::SYS_epoll_wait),
    Any(libc::SYS_epoll_pwait),
    Any(libc::SYS_eventfd2),
    Any(libc::SYS_pipe2),
    Any(libc::SYS_timerfd_create),
    Any(libc::SYS_timerfd_settime),
    Any(libc::SYS_memfd_create),
    Any(libc::SYS_ftruncate),
    Any(libc::SYS_fallocate),
    Any(libc::SYS_mlock),
    Any(libc::SYS_munlock),
    Any(libc::SYS_openat),
    Any(libc::SYS_open),
    Any(libc::SYS_access),
    Any(libc::SYS_stat),
    Any(libc::SYS_lstat),
    Any(libc::SYS_statfs),
    Any(libc::SYS_fstatfs),
    Any(libc::SYS_flock),
    Any(libc::SYS_mkdir),
    Any(libc::SYS_getdents64),
    Any(libc::SYS_unlink),
    Any(libc::SYS_unlinkat),
    Any(libc::SYS_rmdir),
    Any(libc::SYS_bpf),
    Any(libc::SYS_uname),
    Any(libc::SYS_getuid),
    Any(libc::SYS_geteuid),
    // Only about this process itself.
    is(libc::SYS_prlimit64, 0, 0),
    Any(libc::SYS_sched_setaffinity),
    THREAD,
    Any(libc::SYS_clone3),
    Any(libc::SYS_membarrier),
];

/// This thread waits for units of memory, and gives them back to the kernel or writes zeros.
const SCRUB: &[Rule] = &[Any(libc::SYS_sendto)];

/// Accepted connections, messages with descriptors, and the memory and bells of channels.
const APPLICATIONS: &[Rule] = &[
    Any(libc::SYS_accept4),
    Any(libc::SYS_recvfrom),
    Any(libc::SYS_sendmsg),
    // A signal may be handled on this thread.
    Any(libc::SYS_sendto),
    Any(libc::SYS_getsockopt),
    Any(libc::SYS_memfd_create),
    Any(libc::SYS_ftruncate),
    Any(libc::SYS_fallocate),
    is(libc::SYS_fcntl, 1, libc::F_ADD_SEALS as u64),
    is(libc::SYS_fcntl, 1, libc::F_GET_SEALS as u64),
    Any(libc::SYS_eventfd2),
    Any(libc::SYS_epoll_create1),
    Any(libc::SYS_epoll_ctl),
];

/// A lcore that other processes wake sleeps on an epoll instance, as a disk's loop does.
const LCORE_BELLS: &[Rule] = &[Any(libc::SYS_epoll_wait), Any(libc::SYS_epoll_pwait), Any(libc::SYS_epoll_ctl)];

/// The clients of a disk and its master.
const LCORE_DISK: &[Rule] = &[
    Any(libc::SYS_accept4),
    Any(libc::SYS_sendmsg),
    Any(libc::SYS_shutdown),
    Any(libc::SYS_getpeername),
    is(libc::SYS_setsockopt, 1, libc::IPPROTO_TCP as u64),
];

/// This thread connects to the socket of a master, and takes memory and bells from it.
const CONNECTOR: &[Rule] = &[
    is(libc::SYS_socket, 0, libc::AF_UNIX as u64),
    Any(libc::SYS_connect),
    Any(libc::SYS_sendmsg),
    Any(libc::SYS_recvmsg),
    Any(libc::SYS_shutdown),
    // A signal may be handled on this thread.
    Any(libc::SYS_sendto),
    Any(libc::SYS_epoll_ctl),
    Any(libc::SYS_fstatfs),
    is(libc::SYS_fcntl, 1, libc::F_GET_SEALS as u64),
];

/// This thread waits for lines and writes them. The kernel chooses the thread that runs a signal's handler; the handler
/// wakes the control thread through a socket.
const LOG: &[Rule] = &[Any(libc::SYS_sendto)];

/// This thread waits for wake-ups on its socket, writes one line, and reads the names of threads. A signal handler may
/// wake another thread.
const END: &[Rule] = &[Any(libc::SYS_sendto), Any(libc::SYS_recvfrom), Any(libc::SYS_getdents64)];

/// Netlink.
const NEIGHBOURS: &[Rule] = &[Any(libc::SYS_recvfrom), Any(libc::SYS_sendto)];

/// Netlink.
const ADDRESSES: &[Rule] = &[Any(libc::SYS_recvfrom), Any(libc::SYS_sendto)];

/// The maps of the XDP program, and the queries about an interface.
const ADDRESSES_XDP: &[Rule] = &[
    Any(libc::SYS_bpf),
    is(libc::SYS_socket, 0, libc::AF_INET as u64),
    is(libc::SYS_ioctl, 1, libc::SIOCETHTOOL),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFNAME),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFINDEX),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFHWADDR),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFMTU),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFADDR),
];

/// The runtime, the control socket, accepted connections, messages to systemd, files, threads.
const CONTROL: &[Rule] = &[
    Any(libc::SYS_epoll_create1),
    Any(libc::SYS_epoll_ctl),
    Any(libc::SYS_epoll_wait),
    Any(libc::SYS_epoll_pwait),
    Any(libc::SYS_epoll_pwait2),
    Any(libc::SYS_eventfd2),
    Any(libc::SYS_pipe2),
    Any(libc::SYS_timerfd_create),
    Any(libc::SYS_timerfd_settime),
    Any(libc::SYS_accept4),
    Any(libc::SYS_recvfrom),
    Any(libc::SYS_recvmsg),
    Any(libc::SYS_sendto),
    Any(libc::SYS_sendmsg),
    Any(libc::SYS_shutdown),
    Any(libc::SYS_getsockname),
    Any(libc::SYS_getpeername),
    Any(libc::SYS_getsockopt),
    Any(libc::SYS_setsockopt),
    is(libc::SYS_ioctl, 1, libc::FIONBIO),
    is(libc::SYS_ioctl, 1, libc::TCGETS),
    Any(libc::SYS_openat),
    Any(libc::SYS_getdents64),
    Any(libc::SYS_readv),
    Any(libc::SYS_pwrite64),
    Any(libc::SYS_ftruncate),
    Any(libc::SYS_fsync),
    Any(libc::SYS_fdatasync),
    Any(libc::SYS_faccessat),
    Any(libc::SYS_faccessat2),
    Any(libc::SYS_flock),
    Any(libc::SYS_unlink),
    Any(libc::SYS_unlinkat),
    Any(libc::SYS_capget),
    Any(libc::SYS_uname),
    Any(libc::SYS_sysinfo),
    Any(libc::SYS_getrusage),
    // Only about this process itself.
    is(libc::SYS_prlimit64, 0, 0),
    Any(libc::SYS_getuid),
    Any(libc::SYS_geteuid),
    Any(libc::SYS_getgid),
    Any(libc::SYS_getegid),
    Any(libc::SYS_sched_setaffinity),
    // The addresses of this machine, for error messages about a configuration that is read again.
    is(libc::SYS_socket, 0, libc::AF_NETLINK as u64),
    Any(libc::SYS_bind),
    THREAD,
    Any(libc::SYS_clone3),
    Any(libc::SYS_set_tid_address),
    Any(libc::SYS_membarrier),
];

/// The maps of the XDP program; turning offloads on again; and the interfaces that lead to gateways of other shards.
const CONTROL_XDP: &[Rule] = &[
    Any(libc::SYS_bpf),
    is(libc::SYS_socket, 0, libc::AF_INET as u64),
    is(libc::SYS_ioctl, 1, libc::SIOCETHTOOL),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFNAME),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFINDEX),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFHWADDR),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFMTU),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFADDR),
    is(libc::SYS_ioctl, 1, libc::SIOCGIFFLAGS),
];

/// The C library's look-up of a host name.
const CONTROL_NAMES: &[Rule] = &[
    is(libc::SYS_socket, 0, libc::AF_UNIX as u64),
    is(libc::SYS_socket, 0, libc::AF_INET as u64),
    is(libc::SYS_socket, 0, libc::AF_INET6 as u64),
    Any(libc::SYS_connect),
    Any(libc::SYS_sendmmsg),
    is(libc::SYS_ioctl, 1, libc::FIONREAD),
];

/// All kinds of threads.
const THREADS: [Thread; 10] = [
    Thread::Lcore,
    Thread::Neighbours,
    Thread::Addresses,
    Thread::Devices,
    Thread::Scrub,
    Thread::Applications,
    Thread::Connector,
    Thread::Log,
    Thread::End,
    Thread::Control,
];

/// What each kind of thread may use in addition to [`EVERY_THREAD`].
const fn of_thread(thread: Thread) -> &'static [Rule] {
    match thread {
        Thread::Lcore => LCORE,
        Thread::Neighbours => NEIGHBOURS,
        Thread::Addresses => ADDRESSES,
        Thread::Devices => DEVICES,
        Thread::Scrub => SCRUB,
        Thread::Applications => APPLICATIONS,
        Thread::Connector => CONNECTOR,
        Thread::Log => LOG,
        Thread::End => END,
        Thread::Control => CONTROL,
    }
}

/// What it may use because of a need of the process. Each kind of port, or other need, has its list here.
fn of_need(thread: Thread, needs: Needs) -> Vec<Rule> {
    let lists: [(bool, Thread, &[Rule]); 7] = [
        (needs.xdp, Thread::Lcore, LCORE_XDP),
        (needs.dpdk, Thread::Lcore, LCORE_DPDK),
        (needs.applications || needs.disk, Thread::Lcore, LCORE_BELLS),
        (needs.disk, Thread::Lcore, LCORE_DISK),
        (needs.xdp, Thread::Addresses, ADDRESSES_XDP),
        (needs.xdp, Thread::Control, CONTROL_XDP),
        (needs.names, Thread::Control, CONTROL_NAMES),
    ];
    lists.iter().filter(|(needed, of, _)| *needed && *of == thread).flat_map(|(.., list)| *list).copied().collect()
}

/// The filters of a process, ready to be applied.
pub struct Filters {
    mode: Mode,
    of: BTreeMap<Thread, (BpfProgram, usize)>,
    /// Answers clone3, which the other filter allows.
    clone3: BpfProgram,
}

impl Filters {
    /// Makes a filter for each kind of thread.
    ///
    /// # Errors
    /// The error is [`Failure::Internal`]: the rules do not compile to a filter for this machine.
    pub fn new(mode: Mode, needs: Needs) -> Result<Self, Failure> {
        let action = match mode {
            Mode::On => SeccompAction::KillProcess,
            Mode::Log => SeccompAction::Log,
            Mode::Off => return Ok(Self { mode, of: BTreeMap::new(), clone3: BpfProgram::new() }),
        };
        let failed = |error| Failure::Internal(format!("the filter of system calls cannot be made: {error}"));
        let mut of = BTreeMap::new();
        for thread in THREADS {
            let rules = [EVERY_THREAD, of_thread(thread), &of_need(thread, needs)].concat();
            of.insert(thread, compile(&rules, action.clone()).map_err(failed)?);
        }
        Ok(Self { mode, of, clone3: without_clone3().map_err(failed)? })
    }

    /// Applies the filter for this kind to the calling thread, for good.
    pub(super) fn apply(&self, thread: Thread) -> io::Result<()> {
        match self.of.get(&thread) {
            // The strictest answer of all filters counts. The order is needed because the second filter allows no
            // further one.
            Some((filter, _)) => [&self.clone3, filter].into_iter().try_for_each(|filter| {
                seccompiler::apply_filter(filter).map_err(|error| match error {
                    seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
                    error => io::Error::other(error),
                })
            }),
            None => Ok(()),
        }
    }

    /// For the line at start-up.
    pub(super) fn describe(&self) -> String {
        let calls = |thread| self.of.get(&thread).map_or(0, |(_, calls)| *calls);
        match self.mode {
            Mode::Off => "seccomp off".to_owned(),
            mode => {
                format!(
                    "seccomp {mode}: {} system calls for lcores, {} in all",
                    calls(Thread::Lcore),
                    calls(Thread::Control)
                )
            }
        }
    }
}

/// The program that answers clone3 and does nothing else.
fn without_clone3() -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(NO_CLONE3), arch)?.try_into()
}

/// The program, and how many system calls it allows.
fn compile(rules: &[Rule], otherwise: SeccompAction) -> Result<(BpfProgram, usize), BackendError> {
    let mut of_call: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        let conditions = rule.conditions()?;
        if conditions.is_empty() {
            // A list without conditions allows every argument.
            of_call.insert(rule.call(), Vec::new());
            continue;
        }
        let pass = SeccompRule::new(conditions)?;
        match of_call.get_mut(&rule.call()) {
            // Another list allows the call with any argument.
            Some(rules) if rules.is_empty() => {}
            Some(rules) => rules.push(pass),
            None => drop(of_call.insert(rule.call(), vec![pass])),
        }
    }
    let calls = of_call.len();
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(of_call, otherwise, SeccompAction::Allow, arch)?;
    Ok((filter.try_into()?, calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lcore_may_do_far_less_than_the_control_thread() {
        for xdp in [false, true] {
            let filters = Filters::new(Mode::On, Needs { xdp, ..Needs::default() }).unwrap();
            let calls = |thread| filters.of[&thread].1;
            assert!(calls(Thread::Lcore) + 30 < calls(Thread::Control), "{}", filters.describe());
            assert!(calls(Thread::Neighbours) < calls(Thread::Lcore));
        }
        assert_eq!(Filters::new(Mode::Off, Needs::default()).unwrap().describe(), "seccomp off");
    }

    #[test]
    fn a_signal_may_be_handled_on_any_thread() {
        for thread in THREADS {
            let may = |wanted: i64| {
                [EVERY_THREAD, of_thread(thread)]
                    .concat()
                    .iter()
                    .any(|rule| matches!(rule, Any(call) if *call == wanted))
            };
            assert!(may(libc::SYS_sendto) && may(libc::SYS_rt_sigreturn), "{thread:?}");
        }
    }

    #[test]
    fn no_list_starts_a_program_or_looks_into_another_process() {
        let never = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_pidfd_send_signal,
            libc::SYS_process_madvise,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
        ];
        let lists = [
            EVERY_THREAD,
            LCORE,
            LCORE_XDP,
            LCORE_DPDK,
            LCORE_BELLS,
            LCORE_DISK,
            APPLICATIONS,
            CONNECTOR,
            NEIGHBOURS,
            ADDRESSES,
            ADDRESSES_XDP,
            DEVICES,
            SCRUB,
            LOG,
            CONTROL,
            CONTROL_XDP,
            CONTROL_NAMES,
        ];
        for rule in lists.concat() {
            assert!(!never.contains(&rule.call()), "{}", rule.call());
        }
    }
}
