//! Checks whether lcores run on cores that suit them. It gives warnings with remedies, never errors.
//!
//! It checks only cores that were named: without `--lcores` the scheduler decides.

mod neighbours;
mod topology;

use lcore::CoreList;
pub use neighbours::Neighbour;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
pub use topology::Topology;

/// An interface whose queues the lcores serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// Its name.
    pub interface: String,
    /// The NUMA node of its device.
    pub node: u32,
}

/// The NUMA node for all arenas: that of the first interface that has one. `None` on machines with one node, where
/// there is nothing to choose.
pub fn arena_node<'a>(interfaces: impl IntoIterator<Item = &'a str>) -> Option<u32> {
    let topology = Topology::read(Path::new("/sys"));
    nearest(&topology, interfaces).first().map(|near| near.node)
}

fn nearest<'a>(topology: &Topology, interfaces: impl IntoIterator<Item = &'a str>) -> Vec<Near> {
    if !topology.has_several_nodes() {
        return Vec::new();
    }
    let near = |name: &str| Some(Near { interface: name.to_owned(), node: topology.node_of_interface(name)? });
    interfaces.into_iter().filter_map(near).collect()
}

/// Logs a line for each thing that makes these lcores slow.
pub fn warn<'a>(cores: &[usize], interfaces: impl IntoIterator<Item = &'a str>) {
    if cores.is_empty() {
        return;
    }
    let topology = Topology::read(Path::new("/sys"));
    let near = nearest(&topology, interfaces);
    let others = neighbours::find(&PathBuf::from("/proc"), std::process::id());
    for line in warnings(cores, &topology, &near, &others) {
        tracing::warn!("{line}");
    }
}

fn list(cores: &BTreeSet<usize>) -> String {
    CoreList::of(cores.iter().copied()).map_or_else(|_| "none".to_owned(), |list| list.to_string())
}

/// One or several cores as the subject of a sentence.
fn subject(cores: &BTreeSet<usize>) -> String {
    if cores.len() == 1 { format!("core {} is", list(cores)) } else { format!("cores {} are", list(cores)) }
}

fn warnings(cores: &[usize], topology: &Topology, near: &[Near], others: &[Neighbour]) -> Vec<String> {
    let mut lines = Vec::new();
    let ours: BTreeSet<usize> = cores.iter().copied().collect();
    for other in others.iter().filter(|other| ours.contains(&other.core)) {
        lines.push(format!(
            "core {} is also that of {} of process {} ({}): two poll loops take turns there; give each gvm-dp other \
             --lcores",
            other.core, other.thread, other.pid, other.command
        ));
    }
    for pair in topology.siblings(&ours) {
        lines.push(format!(
            "cores {} are hyperthreads of one core and share its units: name one of them, and leave the other idle \
             (`lscpu -e` shows which belong together)",
            list(&pair)
        ));
    }
    let shared = topology.not_isolated(&ours);
    if !shared.is_empty() {
        lines.push(format!(
            "{} not isolated: the kernel runs other programs there, and packets wait for them. Boot with isolcpus={1} \
             nohz_full={1}",
            subject(&shared),
            list(&shared)
        ));
    }
    let ticking = topology.ticking(&ours);
    if !ticking.is_empty() {
        lines.push(format!(
            "{} isolated, and the timer tick still interrupts: boot with nohz_full={}, too",
            subject(&ticking),
            list(&ticking)
        ));
    }
    for Near { interface, node } in near {
        let far: BTreeSet<usize> =
            ours.iter().copied().filter(|core| topology.node_of_core(*core).is_some_and(|at| at != *node)).collect();
        if !far.is_empty() {
            lines.push(format!(
                "{} on another NUMA node than {interface}, which is on node {node}: every packet crosses between them; \
                 choose --lcores from {}",
                subject(&far),
                list(&topology.cores_of_node(*node))
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cores: &[usize]) -> BTreeSet<usize> {
        cores.iter().copied().collect()
    }

    /// Two nodes of two cores of two threads; cores 2, 3, 6 and 7 are isolated, 2 and 6 without a tick.
    fn machine() -> Topology {
        Topology::of(
            [(0, set(&[0, 1, 4, 5])), (1, set(&[2, 3, 6, 7]))],
            [set(&[0, 4]), set(&[1, 5]), set(&[2, 6]), set(&[3, 7])],
            set(&[2, 3, 6, 7]),
            set(&[2, 6]),
        )
    }

    #[test]
    fn a_good_place_is_worth_no_word() {
        let near = [Near { interface: "eth0".to_owned(), node: 1 }];
        assert_eq!(warnings(&[2], &machine(), &near, &[]), [""; 0]);
        assert_eq!(warnings(&[0], &Topology::default(), &[], &[]).len(), 1, "only that it is not isolated");
    }

    #[test]
    fn each_fault_is_one_line_with_its_remedy() {
        let near = [Near { interface: "eth0".to_owned(), node: 0 }];
        let command = "gvm-dp --lcores 3".to_owned();
        let others = [
            Neighbour { pid: 77, thread: "lcore-0".to_owned(), core: 3, command: command.clone() },
            Neighbour { pid: 78, thread: "lcore-1".to_owned(), core: 5, command },
        ];
        let lines = warnings(&[0, 2, 3, 6], &machine(), &near, &others);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(
            lines[0].starts_with("core 3 is also that of lcore-0 of process 77 (gvm-dp --lcores 3)"),
            "{}",
            lines[0]
        );
        assert!(lines[1].starts_with("cores 2,6 are hyperthreads of one core"), "{}", lines[1]);
        assert!(lines[2].starts_with("core 0 is not isolated") && lines[2].contains("isolcpus=0 "), "{}", lines[2]);
        assert!(lines[3].starts_with("core 3 is isolated, and") && lines[3].contains("nohz_full=3"), "{}", lines[3]);
        assert!(lines[4].starts_with("cores 2-3,6 are on another NUMA node than eth0"), "{}", lines[4]);
        assert!(lines[4].ends_with("choose --lcores from 0-1,4-5"), "{}", lines[4]);
    }

    #[test]
    fn interfaces_are_near_only_where_there_are_nodes() {
        assert_eq!(nearest(&Topology::default(), ["lo"]), []);
        assert_eq!(arena_node(["no-such-interface"]), None);
    }
}
