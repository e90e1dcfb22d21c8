//! Capabilities: which ones a port needs at start, and how a thread drops those that nothing needs later.

use common::exit::Failure;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};
use std::io;

/// What a port on NIC queues needs: number, name, and purpose.
const NEEDED: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "to attach the XDP program"),
    (13, "CAP_NET_RAW", "for AF_XDP sockets"),
    (BPF, "CAP_BPF", "to load the XDP program"),
    (PERFMON, "CAP_PERFMON", "for its reads at computed offsets"),
];

/// CAP_SYS_ADMIN, which loads XDP programs too.
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Checks that this process may use NIC queues.
///
/// # Errors
/// The error is [`Failure::Machine`], which names the capabilities that are missing and how to grant them.
pub fn check_xdp(port: &str) -> Result<(), Failure> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Without /proc nothing is known. Then the kernel refuses what is missing.
    effective(&status).map_or(Ok(()), |effective| check(port, effective))
}

/// Drops every capability of the calling thread except `keep`: effective, permitted, inheritable, ambient. The bounding
/// set becomes empty if the kernel lets this thread do that (CAP_SETPCAP); otherwise "no new privileges" has the same
/// effect.
///
/// # Errors
/// The error is the kernel's, which does not give or does not set the capabilities of this thread. Some may be dropped
/// by then.
pub fn keep_only(keep: CapabilitySet) -> io::Result<()> {
    for number in 0..u64::BITS {
        // This fails for numbers that this kernel does not have, and without CAP_SETPCAP.
        let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number));
    }
    // Kernels before 4.3 have no ambient set.
    let _ = clear_ambient_capability_set();
    let kept = capabilities(None)?.permitted & keep;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    Ok(())
}

/// Whether `attempt` succeeds in this thread without these capabilities.
///
/// # Errors
/// The error is the kernel's, which does not give or does not set the capabilities of this thread. A failed `attempt`
/// is not an error.
pub fn works_without(capabilities: CapabilitySet, attempt: impl FnOnce() -> bool) -> io::Result<bool> {
    let before = rustix::thread::capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: before.effective - capabilities, ..before })?;
    let works = attempt();
    set_capabilities(None, before)?;
    Ok(works)
}

/// The effective capabilities of the calling thread, as text: `none`, or their names.
pub fn describe() -> String {
    let Ok(sets) = capabilities(None) else { return "unknown".to_owned() };
    let names: Vec<String> = sets.effective.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// The effective capabilities in the text of `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn check(port: &str, effective: u64) -> Result<(), Failure> {
    let has = |number: u32| effective & (1 << number) != 0;
    let may = |number: u32| has(number) || (matches!(number, BPF | PERFMON) && has(SYS_ADMIN));
    let missing: Vec<_> = NEEDED.iter().filter(|(number, ..)| !may(*number)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what: Vec<String> = missing.iter().map(|(_, name, what)| format!("{name} ({what})")).collect();
    Err(Failure::Machine(format!(
        "--port {port}: this process lacks {}. Run it as root; or grant it for good:\n  sudo setcap \
         cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep \"$(command -v gvm-dp)\"\nor in a systemd \
             unit:\n  \
         AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON CAP_IPC_LOCK\nor use a udp: port, which \
             needs none",
        what.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_way_to_grant_it() {
        let all = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
        assert!(check("xdp:eth0", all).is_ok());
        // An older capability that allows loading programs.
        assert!(check("xdp:eth0", 1 << 12 | 1 << 13 | 1 << SYS_ADMIN).is_ok());
        let complaint = check("xdp:eth0", all & !(1 << 38)).unwrap_err().to_string();
        assert!(complaint.contains("lacks CAP_PERFMON"), "{complaint}");
        let complaint = check("xdp:eth0", 1 << 12).unwrap_err().to_string();
        assert!(complaint.contains("lacks CAP_NET_RAW (for AF_XDP sockets), CAP_BPF"), "{complaint}");
        assert!(
            complaint.contains("setcap cap_net_admin") && complaint.contains("AmbientCapabilities="),
            "{complaint}"
        );
        assert!(!complaint.contains("lacks CAP_NET_ADMIN"), "{complaint}");
    }

    #[test]
    fn what_is_given_up_is_gone_for_this_thread_alone() {
        let before = capabilities(None).unwrap();
        let inside = std::thread::spawn(|| {
            assert!(works_without(CapabilitySet::all(), || describe() == "none").unwrap());
            keep_only(CapabilitySet::NET_ADMIN).unwrap();
            let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            (capabilities(None).unwrap(), effective(&text).unwrap(), describe())
        });
        let (sets, shown, text) = inside.join().unwrap();
        let kept = before.permitted & CapabilitySet::NET_ADMIN;
        assert_eq!((sets.effective, sets.permitted, sets.inheritable), (kept, kept, CapabilitySet::empty()));
        assert_eq!(shown, kept.bits());
        assert_eq!(text, if kept.is_empty() { "none" } else { "CAP_NET_ADMIN" });
        assert_eq!(capabilities(None).unwrap(), before);
    }

    #[test]
    fn the_kernels_text_is_read() {
        assert_eq!(effective("Name:\tx\nCapPrm:\t1\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
        assert!(effective(&std::fs::read_to_string("/proc/self/status").unwrap()).is_some());
    }
}
