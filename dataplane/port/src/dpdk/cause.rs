//! Why DPDK failed, according to its log: its calls return little more than "operation not permitted".

use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::Mutex;

/// How many lines are kept: one failure has fewer.
const KEPT: usize = 32;

/// The errors in EAL's log since [`forget`], the oldest first.
static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Notes an error line of the log.
pub(super) fn note(line: &str) {
    let mut errors = lock(&ERRORS);
    if errors.len() == KEPT {
        errors.pop_front();
    }
    errors.push_back(line.to_owned());
}

/// Clears the noted lines: earlier ones have nothing to do with the next call.
pub(super) fn forget() {
    lock(&ERRORS).clear();
}

/// Explains the call that just failed with this reason: returns the reason with the lines of the log, and the cause.
pub(super) fn of(reason: String) -> (String, Cause) {
    let lines: Vec<String> = lock(&ERRORS).drain(..).collect();
    explain(reason, &lines)
}

fn explain(reason: String, lines: &[String]) -> (String, Cause) {
    let known = lines.iter().find_map(|line| Some((line, Cause::of_line(line)?)));
    let (line, cause) = match known {
        Some((line, cause)) => (Some(line), cause),
        None => (lines.first(), Cause::Unknown),
    };
    let said = line.map(|line| line.trim_start_matches("EAL: ").trim_end_matches('.'));
    (said.map_or_else(|| reason.clone(), |line| format!("{reason} (DPDK says: {line})")), cause)
}

/// What prevented DPDK from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Another process uses the device.
    Held,
    /// This user may not open the device.
    Forbidden,
    /// The kernel does not give a program a device whose interrupts cannot be confined.
    Interrupts,
    /// The IOMMU does not map the requested memory.
    Mapping,
    /// There are too few hugepages, or too little memory.
    Memory,
    /// EAL does not accept the permissions of its driver directory.
    Drivers,
    /// Devices and program cannot use the same addresses: there is no IOMMU, or it is off.
    NoIommu,
    /// Something else.
    Unknown,
}

impl Cause {
    /// The cause that a line of the log names.
    fn of_line(line: &str) -> Option<Self> {
        let says = |text: &str| line.contains(text);
        Some(match () {
            () if says("/dev/vfio/") && says("Device or resource busy") => Self::Held,
            () if says("/dev/vfio/") && (says("Permission denied") || says("not permitted")) => Self::Forbidden,
            () if says("failed to select IOMMU type") => Self::Interrupts,
            () if says("DMA remapping") || says("map new region for DMA") => Self::Mapping,
            () if says("Not enough memory") || says("Cannot allocate memory") || says("No free hugepages") => {
                Self::Memory
            }
            // On a machine without any hugepages.
            () if says("Cannot get hugepage information") => Self::Memory,
            () if says("Cannot init plugins") || says("world-writable") => Self::Drivers,
            () if says("IOVA") => Self::NoIommu,
            () => return None,
        })
    }

    /// The remedy.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Held => "another process has it: end that one, or use another device",
            Self::Forbidden => {
                "this user may not open it: run as root, or let a udev rule give /dev/vfio to the user \
                 (SUBSYSTEM==\"vfio\", OWNER=\"gvm-dp\")"
            }
            Self::Interrupts => {
                "the kernel refuses the device; `dmesg | grep -i vfio` says why. Without interrupt remapping: turn it \
                 on in \
                 the BIOS (with VT-d: \"interrupt remapping\" or \"x2APIC\"), or, where you trust the device, `echo Y \
                     > \
                 /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts`"
            }
            Self::Mapping => {
                "the IOMMU does not map the memory: is the limit of locked memory high enough (`ulimit -l unlimited`), \
                 and \
                 how many bits does it have (`dmesg | grep -i dmar`)? gvm-dp keeps below the width that VT-d says"
            }
            Self::Memory => {
                "are there hugepages left? `gvm-dp hugepages show` says what is needed, `gvm-dp hugepages reserve` \
                 reserves it"
            }
            Self::Drivers => {
                "DPDK takes no drivers from a directory that every user may write to: `chmod o-w` each directory above \
                 `pkg-config --variable=driverdir libdpdk`"
            }
            Self::NoIommu => {
                "devices need an IOMMU: turn it on in the BIOS (VT-d, AMD-Vi) and boot with intel_iommu=on iommu=pt \
                 (AMD: \
                 iommu=pt)"
            }
            Self::Unknown => "EAL's log says more with RUST_LOG=debug",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of EAL of DPDK 22.11 in a guest with an emulated IOMMU.
    #[test]
    fn the_log_says_what_the_error_does_not() {
        for (lines, cause, said) in [
            (
                &["EAL: Cannot open /dev/vfio/1: Device or resource busy", "EAL: Failed to open VFIO group 1"][..],
                Cause::Held,
                "Cannot open /dev/vfio/1: Device or resource busy",
            ),
            (&["EAL: Cannot open /dev/vfio/1: Permission denied"], Cause::Forbidden, "Permission denied"),
            (
                &["EAL: 0000:00:04.0 failed to select IOMMU type", "EAL: Bus (pci) probe failed."],
                Cause::Interrupts,
                "0000:00:04.0 failed to select IOMMU type",
            ),
            (
                &["EAL: Cannot set up DMA remapping, error 22 (Invalid argument)"],
                Cause::Mapping,
                "Cannot set up DMA remapping, error 22 (Invalid argument)",
            ),
            (
                &[
                    "EAL: Not enough memory available! Requested: 76MB, available: 0MB",
                    "EAL: FATAL: Cannot init memory",
                ],
                Cause::Memory,
                "available: 0MB",
            ),
            (&["EAL: FATAL: Cannot get hugepage information."], Cause::Memory, "Cannot get hugepage information"),
            (&["EAL: FATAL: Cannot init plugins"], Cause::Drivers, "Cannot init plugins"),
            (&["EAL: FATAL: Cannot use IOVA as 'VA' mode"], Cause::NoIommu, "IOVA"),
            (&["EAL: Bus (pci) probe failed."], Cause::Unknown, "Bus (pci) probe failed)"),
        ] {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            let (text, found) = explain("no driver takes it".to_owned(), &lines);
            assert_eq!(found, cause, "{lines:?}");
            assert!(text.starts_with("no driver takes it (DPDK says: ") && text.contains(said), "{text}");
        }
        assert_eq!(explain("it fails".to_owned(), &[]), ("it fails".to_owned(), Cause::Unknown));
    }

    #[test]
    fn only_memory_is_answered_with_hugepages() {
        use Cause::{Drivers, Forbidden, Held, Interrupts, Mapping, Memory, NoIommu, Unknown};
        for cause in [Held, Forbidden, Interrupts, Mapping, Memory, Drivers, NoIommu, Unknown] {
            assert_eq!(cause.remedy().contains("hugepages"), cause == Memory, "{cause:?}");
        }
    }
}
