//! What a slave lends, and how much memory its host keeps for itself.

use crate::catalog::RoleName;
use crate::flags::SlaveArgs;
use crate::keyfile;
use crate::memory::{KeepFree, MemoryPages};
use common::exit::Failure;
use common::units::Size;
use frame::UNIT;
use host::memory::{HostMemory, MemoryFiles};
use lease::{ConnectKey, ConnectKeys};
use link::{Credential, KeyRing};
use std::path::PathBuf;
use wire::lease::MAX_UNITS;

/// Bytes of a unit.
const UNIT_BYTES: u64 = UNIT as u64;

/// What a slave process lends.
#[derive(Clone, Debug)]
pub struct LendingSettings {
    /// Units of 64 MiB that each id lends, at least one.
    pub units_per_slave: u32,
    /// Units of all ids.
    pub units: u32,
    /// Bytes of `--memory` that make no whole unit for each id, and are not lent.
    pub unused: u64,
    /// What it is made of.
    pub pages: MemoryPages,
    /// How much memory the host keeps free.
    pub keep_free: KeepFree,
    /// The most units of one master at one id.
    pub quota: u32,
    /// How long masters may take to give memory back when the slave drains, in nanoseconds.
    pub drain_within: u64,
    /// The connect key or keys; without one whoever reaches the slave may lease its memory.
    pub keys: ConnectKeys,
}

impl LendingSettings {
    /// Checks what a slave lends; `None` if that is nothing. `ids` is how many ids there are.
    ///
    /// # Errors
    /// There is less than a unit for each id, or more than gateways believe, or more than this host has. A connect key
    /// is missing, or its file cannot be read.
    pub(crate) fn new(args: &SlaveArgs, ids: u32, credential: &Credential) -> Result<Option<Self>, Failure> {
        let host = if args.memory.0 == 0 { HostMemory::default() } else { MemoryFiles::of_this_process().read()? };
        Self::on_host(args, ids, credential, &host)
    }

    fn on_host(
        args: &SlaveArgs,
        ids: u32,
        credential: &Credential,
        host: &HostMemory,
    ) -> Result<Option<Self>, Failure> {
        let Size(memory) = args.memory;
        if memory == 0 {
            return Ok(None);
        }
        let wrong = |text| Err(Failure::Setting { name: "memory", text });
        let ids = u64::from(ids.max(1));
        let each = memory / UNIT_BYTES / ids;
        if each == 0 {
            let (given, least) = (args.memory, Size(ids * UNIT_BYTES));
            let remedy = if ids == 1 { String::new() } else { ", or fewer ids (--count)".to_owned() };
            return wrong(format!("{given}: each of {ids} ids lends at least a unit of 64M: give {least}{remedy}"));
        }
        if each > link::MOST_PAGES / (UNIT_BYTES / 4096) {
            let most = link::MOST_PAGES >> 28;
            return wrong(format!("a slave lends at most {most} TiB, and gateways believe no more"));
        }
        let keep_free = args.keep_free.bytes(host.total);
        let spare = host.total.saturating_sub(keep_free) / UNIT_BYTES;
        if each * ids > spare && args.memory_pages != MemoryPages::Huge {
            let (given, total) = (args.memory, host.total >> 20);
            return Err(Failure::Lacking {
                name: "memory",
                text: format!(
                    "{given}: this host, or the cgroup of this process, has {total} MiB, of which {} MiB are kept \
                     free (--keep-free): lend at most {}",
                    keep_free >> 20,
                    Size(spare * UNIT_BYTES)
                ),
            });
        }
        let quota = args.quota.map_or(each, |quota| quota.0 / UNIT_BYTES);
        if quota == 0 {
            let text = "is less than a unit of 64M: a master could lease nothing".to_owned();
            return Err(Failure::Setting { name: "quota", text });
        }
        Ok(Some(Self {
            // `MOST_PAGES` is 2^34, and ids are fewer than 2^20.
            units_per_slave: u32::try_from(each).unwrap_or(u32::MAX),
            units: u32::try_from(each * ids).unwrap_or(u32::MAX),
            unused: memory - each * ids * UNIT_BYTES,
            pages: args.memory_pages,
            keep_free: args.keep_free,
            quota: u32::try_from(quota.min(each).min(MAX_UNITS as u64)).unwrap_or(u32::MAX),
            drain_within: args.drain_within.0,
            keys: connect_keys(RoleName::Slave, &args.connect_key_files, credential)?,
        }))
    }

    /// What each id lends, for people.
    pub fn describe(&self) -> String {
        let each = Size(u64::from(self.units_per_slave) * UNIT_BYTES);
        let units = match self.units_per_slave {
            1 => "1 unit".to_owned(),
            units => format!("{units} units"),
        };
        let unused = match self.unused {
            0 => String::new(),
            bytes => format!("; {} make no whole units for all, and are not lent", Size(bytes)),
        };
        let ids = self.units / self.units_per_slave.max(1);
        match ids {
            1 => format!("lends {each} ({units} of 64M){unused}"),
            ids => format!("each of {ids} ids lends {each} ({units} of 64M){unused}"),
        }
    }
}

/// The connect keys: from their files, or derived from the cluster keys. Two of them while the cluster changes its key.
pub(crate) fn connect_keys(role: RoleName, files: &[PathBuf], credential: &Credential) -> Result<ConnectKeys, Failure> {
    let role = match (files, credential) {
        ([_, ..], _) => return Ok(of_ring(&keyfile::read_ring::<ConnectKey>(files)?, ConnectKey::clone)),
        ([], Credential::Cluster(keys)) => return Ok(of_ring(keys, |key| ConnectKey::of_cluster(key.as_bytes()))),
        ([], Credential::None) => return Ok(ConnectKeys::none()),
        ([], Credential::Node(_) | Credential::Nodes(_)) => role,
    };
    let what = match role {
        RoleName::Master => "a master that has a key borrows memory only from slaves of its cluster",
        _ => "a slave that has a key lends memory only to masters of its cluster",
    };
    Err(Failure::Usage(format!(
        "no --connect-key-file: {what}, which know it by the connect key: make it with `gvm-dp key derive --connect \
         --key-file CLUSTER.KEY --out FILE`"
    )))
}

fn of_ring<K: PartialEq>(ring: &KeyRing<K>, key: impl Fn(&K) -> ConnectKey) -> ConnectKeys {
    match (ring.get(0).map(&key), ring.get(1).map(&key)) {
        (Some(old), Some(new)) => ConnectKeys::changing(old, new),
        (first, _) => first.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, RoleName};
    use clap::FromArgMatches as _;
    use link::{ClusterKey, NodeKey};

    const GIB: u64 = 1 << 30;

    fn lending(flags: &[&str], ids: u32, credential: &Credential) -> Result<Option<LendingSettings>, Failure> {
        let host = HostMemory { total: 24 * GIB, available: 20 * GIB, ..HostMemory::default() };
        let matches = Catalog::of(RoleName::Slave).command.try_get_matches_from(flags).unwrap();
        LendingSettings::on_host(&SlaveArgs::from_arg_matches(&matches).unwrap(), ids, credential, &host)
    }

    fn lent(flags: &[&str], ids: u32) -> LendingSettings {
        lending(flags, ids, &Credential::None).unwrap().unwrap()
    }

    #[test]
    fn memory_is_divided_in_whole_units() {
        assert!(lending(&[], 3, &Credential::None).unwrap().is_none());
        let one = lent(&["--memory", "12G"], 1);
        assert_eq!((one.units_per_slave, one.units, one.unused, one.quota), (192, 192, 0, 192));
        assert_eq!(one.describe(), "lends 12G (192 units of 64M)");
        let three = lent(&["--memory", "1G", "--quota", "200M"], 3);
        assert_eq!((three.units_per_slave, three.units, three.unused, three.quota), (5, 15, 64 << 20, 3));
        let text = "each of 3 ids lends 320M (5 units of 64M); 64M make no whole units for all, and are not lent";
        assert_eq!(three.describe(), text);
        assert_eq!(lent(&["--memory", "64M"], 1).describe(), "lends 64M (1 unit of 64M)");
    }

    #[test]
    fn what_cannot_be_lent_is_refused_with_what_can() {
        for (flags, ids, code, part) in [
            (&["--memory", "63M"][..], 1, 2, "--memory 63M: each of 1 ids lends at least a unit of 64M: give 64M"),
            (&["--memory", "1G"], 17, 2, "give 1088M, or fewer ids (--count)"),
            (&["--memory", "65T"], 1, 2, "at most 64 TiB"),
            (
                &["--memory", "23G"],
                1,
                3,
                "24576 MiB, of which 1536 MiB are kept free (--keep-free): lend at most 23040M",
            ),
            (&["--memory", "12G", "--keep-free", "13G"], 1, 3, "lend at most 11G"),
            (&["--memory", "1G", "--quota", "1M"], 1, 2, "--quota is less than a unit"),
        ] {
            let failure = lending(flags, ids, &Credential::None).unwrap_err();
            assert!(failure.to_string().contains(part) && failure.code() == code, "{flags:?}: {failure}");
        }
        // Hugepages are set aside, whatever else the host keeps.
        assert_eq!(lent(&["--memory", "23G", "--memory-pages", "huge"], 1).units, 368);
    }

    #[test]
    fn the_connect_key_comes_from_a_file_or_from_the_cluster_key() {
        let cluster = ClusterKey::from_bytes([7; 32]);
        let flags = &["--memory", "64M"];
        let of = |credential: Credential| lending(flags, 1, &credential).unwrap().unwrap().keys;
        let connect = ConnectKey::of_cluster(cluster.as_bytes());
        assert_eq!(of(Credential::Cluster(cluster.clone().into())), connect.clone().into());
        // While the cluster changes its key, both of its keys give one.
        let next = ClusterKey::from_bytes([9; 32]);
        let both = KeyRing::changing(cluster.clone(), next.clone());
        let expected = ConnectKeys::changing(connect, ConnectKey::of_cluster(next.as_bytes()));
        assert_eq!(of(Credential::Cluster(both)), expected);
        assert!(lent(flags, 1).keys.is_empty());
        let own = Credential::Node(NodeKey::from_bytes([8; 32]).into());
        let complaint = lending(flags, 1, &own).unwrap_err().to_string();
        assert!(complaint.contains("gvm-dp key derive --connect"), "{complaint}");
        let flags = &["--memory", "64M", "--connect-key-file", "/no/such/file"];
        assert_eq!(lending(flags, 1, &own).unwrap_err().code(), 5);
        // Nothing is lent: nothing is needed.
        assert!(lending(&[], 1, &own).unwrap().is_none());
    }
}
