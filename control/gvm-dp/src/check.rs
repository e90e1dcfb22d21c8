//! `gvm-dp config check`: finds every fault in a file that can be found without opening a device.

use common::exit::Failure;
use common::faults::Faults;
use host::machine;
use port::dpdk::LoadedPlugin;
use process::assemble::cores::Lcores;
use process::assemble::ports;
use settings::config::{Common, GatewaySettings, SlaveSettings};
use settings::disk::DiskSettings;
use settings::file::{ConfigFile, default_path};
use settings::flags::{DiskArgs, GatewayArgs, MasterArgs, SlaveArgs};
use settings::master::MasterSettings;
use settings::neighbor::NeighborSpec;
use settings::plan::PortPlan;
use settings::{RoleName, Sources};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// Settings that a start needs, and the values that replace missing ones while the rest is checked.
const NEEDED: [(&str, &str); 5] = [
    ("port", "udp:127.0.0.1:0"),
    ("id", "0"),
    ("gateway", "192.0.2.1"),
    ("size", "1G"),
    ("listen", "unix:/run/gvm-dp/disk.nbd"),
];

/// Checks a file, or the default one: for the roles that have a table in it, or else for a gateway. Returns the message
/// about a good file.
///
/// # Errors
/// It fails as [`ConfigFile::read`] does. Otherwise the error is what a start of a role would say, and
/// [`Failure::Several`] when that is more than one thing.
pub fn file(path: Option<&Path>) -> Result<String, Failure> {
    let default = default_path();
    let file = ConfigFile::read(path.unwrap_or(&default))?;
    let mut roles = file.roles.clone();
    if roles.is_empty() {
        roles.push(RoleName::Gateway);
    }
    let (mut report, mut faults) = (String::new(), Faults::default());
    for role in roles {
        let Some(missing) = faults.take(check(role, &file)) else { continue };
        let _ = write!(report, "{}: good for a {role}", file.path.display());
        if !missing.is_empty() {
            let _ = write!(report, "; to be given on the command line: {}", missing.join(", "));
        }
        report.push('\n');
    }
    faults.finish(Some(report))
}

/// Checks a file for one role; returns the flags that a start needs in addition.
fn check(role: RoleName, file: &ConfigFile) -> Result<Vec<String>, Failure> {
    let mut sources = Sources::of_file(role);
    let settings = sources.resolve(Some(file))?;
    let mut missing = Vec::new();
    for (name, stand_in) in NEEDED {
        if settings.find(name).is_some_and(|value| value.texts.is_empty()) {
            missing.push(format!("--{name}"));
            sources = sources.with(name, vec![stand_in.to_owned()]);
        }
    }
    let settings = sources.resolve(Some(file))?;
    let checked = match role {
        RoleName::Gateway => {
            GatewaySettings::new(settings.arguments::<GatewayArgs>()?).and_then(|gateway| of_gateway(&gateway))
        }
        RoleName::Slave => SlaveSettings::new(settings.arguments::<SlaveArgs>()?)
            .and_then(|slave| of_node(&slave.common, Lcores::UpTo(1))),
        RoleName::Master => MasterSettings::new(settings.arguments::<MasterArgs>()?)
            .and_then(|master| of_node(&master.common, Lcores::Each(master.lcores()))),
        RoleName::Disk => DiskSettings::new(settings.arguments::<DiskArgs>()?).and_then(|disk| of_disk(&disk.common)),
    };
    checked.map_err(|failure| settings.locate(failure))?;
    Ok(missing)
}

/// The checks of a gateway's start against this machine.
fn of_gateway(gateway: &GatewaySettings) -> Result<(), Failure> {
    let mut faults = Faults::default();
    let facts = of_machine(&gateway.common, Lcores::UpTo(usize::MAX), &mut faults);
    for neighbor in &gateway.neighbors {
        faults.take(NeighborSpec::resolve(neighbor));
    }
    if let (Some(routes), Some(facts)) = (&gateway.static_routes, facts) {
        faults.take(routes.changes(&facts, gateway.common.scale));
    }
    faults.check()
}

/// The checks of the start of a slave or a master against this machine.
fn of_node(common: &Common, lcores: Lcores) -> Result<(), Failure> {
    let mut faults = Faults::default();
    of_machine(common, lcores, &mut faults);
    faults.check()
}

/// The checks of the start of a disk against this machine.
fn of_disk(common: &Common) -> Result<(), Failure> {
    let mut faults = Faults::default();
    check_metrics(common, &mut faults);
    faults.check()
}

/// Whether this machine has what ports and metrics need. Returns what the ports can do.
fn of_machine(common: &Common, lcores: Lcores, faults: &mut Faults) -> Option<Vec<settings::static_routes::PortFacts>> {
    let lacking = |name, text| Err::<(), _>(Failure::Lacking { name, text });
    let mut all = true;
    for port in &common.ports {
        all &= faults.take(exists(port).or_else(|text| lacking("port", text))).is_some();
    }
    check_metrics(common, faults);
    // Missing things were already reported.
    if all { faults.take(ports::check(common, lcores)) } else { None }
}

fn check_metrics(common: &Common, faults: &mut Faults) {
    if let Some(metrics) = &common.metrics
        && !is_ours(metrics.0.ip())
    {
        let text =
            format!("{}: no interface of this machine has that address: `ip -brief address` lists them", metrics.0);
        faults.take(Err::<(), _>(Failure::Lacking { name: "metrics", text }));
    }
}

fn is_ours(ip: IpAddr) -> bool {
    let ours = || machine::interfaces().iter().any(|interface| interface.addresses.contains(&ip));
    ip.is_unspecified() || ip.is_loopback() || ours()
}

/// Whether this machine has what a port needs. Interfaces are examined further when all of them exist.
fn exists(port: &PortPlan) -> Result<(), String> {
    match port {
        PortPlan::Udp(spec) if !is_ours(spec.address.ip()) => {
            Err(format!("{spec}: no interface of this machine has that address: `ip -brief address` lists them"))
        }
        PortPlan::Udp(_) => Ok(()),
        PortPlan::Xdp(spec) if machine::interfaces().iter().any(|interface| interface.name == spec.ifname) => Ok(()),
        PortPlan::Xdp(spec) => {
            Err(format!("{spec}: there is no interface `{}`: `ip -brief link` lists them", spec.ifname))
        }
        // The device was checked with the settings.
        PortPlan::Dpdk(spec) => LoadedPlugin::find().map(drop).map_err(|error| format!("{spec}: {error}")),
    }
}
