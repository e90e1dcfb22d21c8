//! The settings of a master, checked.

use crate::catalog::RoleName;
use crate::config::{Common, HostNames, check_family, credential, gateway_addresses, missing, wrong};
use crate::flags::MasterArgs;
use crate::lending::connect_key;
use common::exit::Failure;
use common::faults::Faults;
use common::sockets;
use link::Credential;
use std::net::SocketAddr;

/// Bytes of an extent, the smallest part of slaves' memory that an application allocates.
const EXTENT: u64 = 2 << 20;

/// The least memory of this host that an application shares with the master, in bytes: small rings and a few buffers.
const LEAST_CLIENT_MEMORY: u64 = 1 << 20;

/// Settings of a master.
#[derive(Clone, Debug)]
pub struct MasterSettings {
    /// The settings of every role; one lcore, one port. It names the socket for applications.
    pub common: Common,
    /// All gateways.
    pub gateways: Vec<SocketAddr>,
    /// Its id.
    pub id: u16,
    /// The group whose members may use the socket.
    pub socket_group: Option<String>,
    /// The most extents that one application may have.
    pub quota: u64,
    /// The most applications at once.
    pub clients: u16,
    /// The most bytes that one application may share with the master.
    pub client_memory: u64,
    /// The connect key; without one whoever answers as a slave gets what is written.
    pub connect_key: Option<lease::ConnectKey>,
    /// The key or keys with which it signs.
    pub credential: Credential,
}

impl MasterSettings {
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
        if let Some(common) = &common
            && (common.cores.as_ref().is_some_and(|cores| cores.len() > 1) || common.ports.len() > 1)
        {
            faults.add(Failure::Usage(
                "a master has one lcore and one --port; start several with an --id each".to_owned(),
            ));
        }
        let id = faults.take(args.id.ok_or_else(|| missing(RoleName::Master, "id", "--id 1", "which master this is")));
        let credential = faults.take(credential(&args.key_files, &args.cluster_key_files, 1));
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
        let connect_key = credential.as_ref().and_then(|credential| {
            faults.take(connect_key(RoleName::Master, args.connect_key_file.as_ref(), credential))
        });
        let (Some(common), Some(id), Some(credential), Some(connect_key), Some(gateways)) =
            (common, id, credential, connect_key, gateways)
        else {
            return faults.finish(None);
        };
        let socket = args.socket.unwrap_or_else(|| sockets::directory().join(format!("{}.pages", common.name)));
        let common = Common { applications: Some(socket), ..common };
        let (socket_group, clients, client_memory) = (args.socket_group, args.clients, args.client_memory.0);
        faults.finish(Some(Self {
            common,
            gateways,
            id,
            socket_group,
            quota,
            clients,
            client_memory,
            connect_key,
            credential,
        }))
    }
}
