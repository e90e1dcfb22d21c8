//! The settings of a master, checked.

use crate::catalog::RoleName;
use crate::config::{Common, HostNames, check_family, credential, gateway_addresses, missing, wrong};
use crate::flags::MasterArgs;
use crate::id_range::IdRange;
use crate::lending::connect_keys;
use crate::plan::PortPlan;
use common::exit::Failure;
use common::faults::Faults;
use common::sockets;
use lease::ConnectKeys;
use link::Credential;
use port::spec::SocketSpec;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::link::Role;

/// Bytes of an extent, the smallest part of slaves' memory that an application allocates.
const EXTENT: u64 = 2 << 20;

/// The most ids of a process: each has an lcore.
const MOST_IDS: u64 = 64;

/// The least memory of this host that an application shares with the master, in bytes: small rings and a few buffers.
const LEAST_CLIENT_MEMORY: u64 = 1 << 20;

/// Settings of a master.
#[derive(Clone, Debug)]
pub struct MasterSettings {
    /// The settings of every role; one port, and an lcore for each id. It names the socket for applications.
    pub common: Common,
    /// All gateways.
    pub gateways: Vec<SocketAddr>,
    /// Its ids, at most 64; each is below 65,536.
    pub ids: IdRange,
    /// The group whose members may use the socket.
    pub socket_group: Option<String>,
    /// The file with the seed of the secrets of leases; without one a master that starts again waits until its leases
    /// have expired.
    pub lease_secrets: Option<PathBuf>,
    /// The most extents that one application may have.
    pub quota: u64,
    /// The most applications at once, of all lcores.
    pub clients: u16,
    /// The most bytes that one application may share with the master.
    pub client_memory: u64,
    /// The connect key or keys; without one whoever answers as a slave gets what is written.
    pub connect_keys: ConnectKeys,
    /// The key or keys with which it signs.
    pub credential: Credential,
}

impl MasterSettings {
    /// How many lcores it has: one for each id.
    pub fn lcores(&self) -> usize {
        // At most 64.
        usize::try_from(self.ids.count()).unwrap_or(1)
    }

    /// Checks a master's command line. All that is wrong is reported at once.
    ///
    /// # Errors
    /// A setting cannot be used, or the machine does not have what it names.
    pub fn new(args: MasterArgs) -> Result<Self, Failure> {
        Self::checked(args, HostNames::LookUp)
    }

    /// The same for a configuration that is read again: gateways that are named by host names are left out.
    ///
    /// # Errors
    /// As [`MasterSettings::new`].
    pub fn again(args: MasterArgs) -> Result<Self, Failure> {
        Self::checked(args, HostNames::Skip)
    }

    fn checked(args: MasterArgs, names: HostNames) -> Result<Self, Failure> {
        let mut faults = Faults::default();
        let common = faults.take(Common::new(args.common, "master")).map(|common| Common { names: true, ..common });
        let ids = args.id.ok_or_else(|| missing(RoleName::Master, "id", "--id 1", "which master this is"));
        let ids = faults.take(ids.and_then(check_ids));
        if let Some(common) = &common {
            faults.take(check_lcores(common, ids));
        }
        let credential = faults.take(credential(&args.key_files, &args.cluster_key_files, Role::Master, ids));
        let gateways = faults.take(gateway_addresses(RoleName::Master, &args.gateways, names));
        if let (Some(gateways), Some(common)) = (&gateways, &common) {
            faults.take(check_family(gateways, common));
        }
        let quota = args.quota.0 / EXTENT;
        if quota == 0 {
            faults.add(wrong(
                "quota",
                format!("{}: an application allocates extents of 2M: give it at least one", args.quota),
            ));
        }
        if args.client_memory.0 < LEAST_CLIENT_MEMORY {
            faults.add(wrong("client-memory", format!("{}: rings and buffers need at least 1M", args.client_memory)));
        }
        if args.clients == 0 {
            faults.add(wrong("clients", "0: a master without applications does nothing: allow at least 1".to_owned()));
        }
        let connect_keys = credential
            .as_ref()
            .and_then(|credential| faults.take(connect_keys(RoleName::Master, &args.connect_key_files, credential)));
        let (Some(common), Some(ids), Some(credential), Some(connect_keys), Some(gateways)) =
            (common, ids, credential, connect_keys, gateways)
        else {
            return faults.finish(None);
        };
        let socket = args.socket.unwrap_or_else(|| sockets::directory().join(format!("{}.pages", common.name)));
        let lease_secrets = args.lease_secrets.or_else(|| state_file(&common.name));
        let common = Common { applications: Some(socket), ..common };
        let (socket_group, clients, client_memory) = (args.socket_group, args.clients, args.client_memory.0);
        faults.finish(Some(Self {
            common,
            gateways,
            ids,
            socket_group,
            lease_secrets,
            quota,
            clients,
            client_memory,
            connect_keys,
            credential,
        }))
    }
}

/// The file of a service with a directory for its state, as systemd names it: the first of a list.
fn state_file(name: &str) -> Option<PathBuf> {
    let directories = std::env::var("STATE_DIRECTORY").ok()?;
    let first = directories.split(':').next().filter(|first| !first.is_empty())?;
    Some(Path::new(first).join(format!("{name}.leases")))
}

fn check_ids(ids: IdRange) -> Result<IdRange, Failure> {
    if ids.last() > u16::MAX.into() {
        return Err(wrong("id", format!("{ids}: master ids are 0 to {}", u16::MAX)));
    }
    if ids.count() > MOST_IDS {
        return Err(wrong("id", format!("{ids}: a process has at most {MOST_IDS} ids, with an lcore each")));
    }
    Ok(ids)
}

/// Each id has an lcore, and each lcore a UDP port: that of the port, and those after it.
fn check_lcores(common: &Common, ids: Option<IdRange>) -> Result<(), Failure> {
    if common.ports.len() > 1 {
        return Err(Failure::Usage("a master has one --port; for another one start another master".to_owned()));
    }
    let Some(ids) = ids else { return Ok(()) };
    if let Some(cores) = common.cores.as_ref().map(Vec::len).filter(|cores| *cores as u64 != ids.count()) {
        return Err(wrong(
            "lcores",
            format!(
                "names {cores} cores, and --id {ids} is {} masters: each has an lcore of its own; name as many cores \
                 as ids",
                ids.count()
            ),
        ));
    }
    for port in &common.ports {
        if let PortPlan::Udp(SocketSpec { address, .. }) = port
            && address.port() != 0
            && u64::from(address.port()) + ids.count() > 1 << 16
        {
            let text = format!(
                "udp:{address}: {} masters use the UDP ports from {} on, one each, and there are not so many; choose a \
                 lower one",
                ids.count(),
                address.port()
            );
            return Err(wrong("port", text));
        }
    }
    Ok(())
}
