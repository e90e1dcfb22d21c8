//! How many lcores a process has, and on which cores.

use common::exit::Failure;
use lcore::CoreList;

/// How many lcores a process has, and whether they share the UDP ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lcores {
    /// As many as were named, or as all ports have queues for, at most so many. They share the UDP port of each port.
    UpTo(usize),
    /// So many. Each has a UDP port of its own: that of the port, and the ones after it.
    Each(usize),
}

impl Lcores {
    /// Whether each lcore has a UDP port of its own.
    pub(super) fn has_own_ports(self) -> bool {
        matches!(self, Self::Each(_))
    }
}

/// The cores of the lcores: as many as were requested, if every port has a queue for each; else as many as the port
/// with the fewest queues has queues.
pub(super) fn cores(
    asked: Option<&[usize]>,
    ports: &[(String, usize)],
    lcores: Lcores,
) -> Result<Vec<Option<usize>>, Failure> {
    let fewest = ports.iter().min_by_key(|(_, queues)| *queues);
    let most = match lcores {
        Lcores::UpTo(most) => most,
        Lcores::Each(count) => {
            if let Some((name, queues)) = fewest.filter(|(_, queues)| count > *queues) {
                return Err(Failure::Machine(format!(
                    "--id is {count} masters with an lcore each, and {name} has {queues} receive queues: each lcore \
                     needs one of its own. `ethtool -L {name} combined {count}`, or give it {queues} ids"
                )));
            }
            return Ok(asked.map_or_else(|| vec![None; count], |cores| cores.iter().copied().map(Some).collect()));
        }
    };
    match (asked, fewest) {
        (Some(cores), Some((name, queues))) if cores.len() > *queues => Err(Failure::Machine(format!(
            "--lcores names {} cores, and {name} has {queues} receive queues: each lcore needs one of its own. \
             `ethtool -L \
             {name} combined {}`, or name {queues} cores",
            cores.len(),
            cores.len()
        ))),
        (Some(cores), _) => Ok(cores.iter().copied().map(Some).collect()),
        (None, None) => Ok(vec![None]),
        (None, Some((_, queues))) => {
            let existing = CoreList::of_this_process().map_or(1, |cores| cores.iter().count());
            Ok(vec![None; (*queues).min(existing).min(most).max(1)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(queues: &[usize]) -> Vec<(String, usize)> {
        queues.iter().enumerate().map(|(i, queues)| (format!("eth{i}"), *queues)).collect()
    }

    #[test]
    fn every_lcore_has_a_queue_of_every_port() {
        let cores = |asked: Option<&[usize]>, ports: &[(String, usize)], most| cores(asked, ports, Lcores::UpTo(most));
        assert_eq!(cores(Some(&[2, 3]), &ports(&[4, 2]), 16).unwrap(), [Some(2), Some(3)]);
        assert_eq!(cores(Some(&[2, 3]), &[], 16).unwrap(), [Some(2), Some(3)]);
        assert_eq!(cores(None, &[], 16).unwrap(), [None]);
        assert_eq!(cores(None, &ports(&[1, 8]), 16).unwrap(), [None]);
        assert_eq!(cores(None, &ports(&[8]), 1).unwrap(), [None]);
        let complaint = cores(Some(&[0, 1, 2]), &ports(&[4, 2]), 16).unwrap_err().to_string();
        assert!(complaint.contains("3 cores") && complaint.contains("`ethtool -L eth1 combined 3`"), "{complaint}");
    }

    #[test]
    fn each_id_has_an_lcore_with_a_queue_of_every_port() {
        let each = |asked, queues: &[usize], count| cores(asked, &ports(queues), Lcores::Each(count));
        assert_eq!(each(None, &[], 2).unwrap(), [None; 2]);
        assert_eq!(each(None, &[1, 8], 1).unwrap(), [None]);
        assert_eq!(each(Some(&[2, 3]), &[4], 2).unwrap(), [Some(2), Some(3)]);
        let complaint = each(None, &[4, 2], 3).unwrap_err().to_string();
        assert!(complaint.contains("3 masters") && complaint.contains("`ethtool -L eth1 combined 3`"), "{complaint}");
    }
}
