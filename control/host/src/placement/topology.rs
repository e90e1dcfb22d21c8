//! The kernel's data about cores, nodes and devices, below `/sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Cores and nodes of a machine. A field is empty if the kernel does not say.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    sys: PathBuf,
    nodes: BTreeMap<u32, BTreeSet<usize>>,
    siblings: Vec<BTreeSet<usize>>,
    isolated: BTreeSet<usize>,
    tickless: BTreeSet<usize>,
}

impl Topology {
    /// Reads it; `sys` is `/sys`, or the directory of a test.
    pub fn read(sys: &Path) -> Self {
        let read = |file: &Path| cores(&std::fs::read_to_string(sys.join(file)).unwrap_or_default());
        let cpu = Path::new("devices/system/cpu");
        let mut nodes = BTreeMap::new();
        for (number, directory) in numbered(&sys.join("devices/system/node"), "node") {
            if let Ok(number) = u32::try_from(number) {
                nodes.insert(number, read(&directory.join("cpulist")));
            }
        }
        let mut siblings: Vec<_> = numbered(&sys.join(cpu), "cpu")
            .into_iter()
            .map(|(_, directory)| read(&directory.join("topology/thread_siblings_list")))
            .filter(|together| together.len() > 1)
            .collect();
        siblings.sort();
        siblings.dedup();
        let mut isolated = read(&cpu.join("isolated"));
        // Cores that cpusets isolated at run time. Only the root group has this file.
        isolated.extend(read(Path::new("fs/cgroup/cpuset.cpus.isolated")));
        let tickless = read(&cpu.join("nohz_full"));
        Self { sys: sys.to_owned(), nodes, siblings, isolated, tickless }
    }

    /// A machine for a test.
    #[cfg(test)]
    pub fn of(
        nodes: impl IntoIterator<Item = (u32, BTreeSet<usize>)>,
        siblings: impl IntoIterator<Item = BTreeSet<usize>>,
        isolated: BTreeSet<usize>,
        tickless: BTreeSet<usize>,
    ) -> Self {
        let (nodes, siblings) = (nodes.into_iter().collect(), siblings.into_iter().collect());
        Self { sys: PathBuf::new(), nodes, siblings, isolated, tickless }
    }

    /// Whether there are several nodes, so that memory and devices can be near or far.
    pub fn has_several_nodes(&self) -> bool {
        self.nodes.len() > 1
    }

    /// The node of an interface's device. `None` if it has no device, or if the firmware names no node.
    pub fn node_of_interface(&self, name: &str) -> Option<u32> {
        let file = self.sys.join("class/net").join(name).join("device/numa_node");
        // -1: the firmware does not know.
        let node = std::fs::read_to_string(file).ok()?.trim().parse::<i32>().ok()?;
        u32::try_from(node).ok().filter(|node| self.nodes.contains_key(node))
    }

    /// The node of a core.
    pub fn node_of_core(&self, core: usize) -> Option<u32> {
        self.nodes.iter().find(|(_, cores)| cores.contains(&core)).map(|(node, _)| *node)
    }

    /// The cores of a node.
    pub fn cores_of_node(&self, node: u32) -> BTreeSet<usize> {
        self.nodes.get(&node).cloned().unwrap_or_default()
    }

    /// Groups of cores in `ours` that are threads of the same physical core.
    pub fn siblings(&self, ours: &BTreeSet<usize>) -> Vec<BTreeSet<usize>> {
        let both = |together: &BTreeSet<usize>| together.intersection(ours).copied().collect::<BTreeSet<_>>();
        self.siblings.iter().map(both).filter(|together| together.len() > 1).collect()
    }

    /// The cores in `ours` on which the kernel may run any thread.
    pub fn not_isolated(&self, ours: &BTreeSet<usize>) -> BTreeSet<usize> {
        ours.difference(&self.isolated).copied().collect()
    }

    /// The cores in `ours` that are isolated but still have a timer tick.
    pub fn ticking(&self, ours: &BTreeSet<usize>) -> BTreeSet<usize> {
        ours.intersection(&self.isolated).filter(|core| !self.tickless.contains(core)).copied().collect()
    }
}

/// Subdirectories of the form `PREFIX<number>`: their numbers and paths.
fn numbered(directory: &Path, prefix: &str) -> Vec<(usize, PathBuf)> {
    let number = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((number, entry.path()))
    };
    std::fs::read_dir(directory).into_iter().flatten().flatten().filter_map(number).collect()
}

/// A list of cores as the kernel writes it: `0-3,8`, or an empty text. What cannot be read is left out.
pub(super) fn cores(text: &str) -> BTreeSet<usize> {
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<usize>().ok()?);
        // The kernel supports at most 8,192 cores.
        (first <= last && last < 8192).then_some(first..=last)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sys(PathBuf);

    impl Sys {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("gvm-dp-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            Self(root)
        }

        fn put(&self, file: &str, text: &str) {
            let file = self.0.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
    }

    impl Drop for Sys {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cores("0-2,8\n").into_iter().collect::<Vec<_>>(), [0, 1, 2, 8]);
        for nothing in ["", "\n", "(null)", "5-1", "0-99999999999", "x"] {
            assert_eq!(cores(nothing), BTreeSet::new(), "{nothing}");
        }
    }

    #[test]
    fn a_machine_with_two_nodes_is_read() {
        let sys = Sys::new("topology");
        sys.put("devices/system/node/node0/cpulist", "0-1\n");
        sys.put("devices/system/node/node1/cpulist", "2-3\n");
        sys.put("devices/system/node/possible", "0-1\n");
        for (core, together) in [(0, "0-1"), (1, "0-1"), (2, "2"), (3, "3")] {
            sys.put(&format!("devices/system/cpu/cpu{core}/topology/thread_siblings_list"), together);
        }
        sys.put("devices/system/cpu/isolated", "1\n");
        sys.put("fs/cgroup/cpuset.cpus.isolated", "3\n");
        sys.put("devices/system/cpu/nohz_full", "3\n");
        sys.put("class/net/near/device/numa_node", "1\n");
        sys.put("class/net/unknown/device/numa_node", "-1\n");
        sys.put("class/net/absent/device/numa_node", "7\n");
        sys.put("class/net/veth0/ifindex", "3\n");
        let machine = Topology::read(&sys.0);
        assert!(machine.has_several_nodes());
        assert_eq!(
            (machine.node_of_core(1), machine.node_of_core(2), machine.node_of_core(9)),
            (Some(0), Some(1), None)
        );
        let node = |name| machine.node_of_interface(name);
        assert_eq!((node("near"), node("unknown"), node("absent"), node("veth0")), (Some(1), None, None, None));
        let ours = cores("0-3");
        assert_eq!(machine.siblings(&ours), [cores("0-1")]);
        assert_eq!(machine.siblings(&cores("1-3")), []);
        assert_eq!((machine.not_isolated(&ours), machine.ticking(&ours)), (cores("0,2"), cores("1")));
        assert_eq!(machine.cores_of_node(1), cores("2-3"));
    }

    #[test]
    fn a_machine_that_says_nothing_has_nothing() {
        let machine = Topology::read(Path::new("/nonexistent"));
        assert!(!machine.has_several_nodes());
        assert_eq!((machine.node_of_core(0), machine.node_of_interface("eth0")), (None, None));
    }
}
