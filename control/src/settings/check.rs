//! `gvm-dp config check`: everything that can be found wrong in a file without opening a device.

use super::file::{ConfigFile, default_path};
use super::{RoleName, Settings, Sources};
use crate::cli::{Cli, GatewayArgs, SlaveArgs};
use crate::config::{self, PortPlan};
use crate::exit::Failure;
use crate::machine;
use clap::CommandFactory;
use port::dpdk::LoadedPlugin;
use std::fmt::Write as _;
use std::path::Path;

/// What a start needs, and what stands for it while the rest is checked.
const NEEDED: [(&str, &str); 3] = [("port", "udp:127.0.0.1:0"), ("id", "0"), ("gateway", "192.0.2.1")];

/// Checks a file, or the default one: for the roles that have a table in it, or else for a gateway. Returns what to say of a
/// good one.
pub fn file(path: Option<&Path>) -> Result<String, Failure> {
    let default = default_path();
    let file = ConfigFile::read(path.unwrap_or(&default))?;
    let mut roles = file.roles.clone();
    if roles.is_empty() {
        roles.push(RoleName::Gateway);
    }
    let mut report = String::new();
    for role in roles {
        let missing = check(role, &file)?;
        let _ = write!(report, "{}: good for a {role}", file.path.display());
        if !missing.is_empty() {
            let _ = write!(report, "; to be given on the command line: {}", missing.join(", "));
        }
        report.push('\n');
    }
    Ok(report)
}

/// Checks a file for one role; returns the flags that a start needs besides.
fn check(role: RoleName, file: &ConfigFile) -> Result<Vec<String>, Failure> {
    let matches = Cli::command().get_matches_from(["gvm-dp", role.name()]);
    let mut sources = Sources::new(role, matches.subcommand().map_or(&matches, |(_, flags)| flags));
    let settings = sources.resolve(Some(file))?;
    let mut missing = Vec::new();
    for (name, stand_in) in NEEDED {
        if settings.find(name).is_some_and(|value| value.texts.is_empty()) {
            missing.push(format!("--{name}"));
            sources = sources.with(name, vec![stand_in.to_owned()]);
        }
    }
    let settings = sources.resolve(Some(file))?;
    let locate = |failure| settings.locate(failure);
    let ports = match role {
        RoleName::Gateway => config::Gateway::new(settings.arguments::<GatewayArgs>()?).map_err(locate)?.common.ports,
        RoleName::Slave => config::Slave::new(settings.arguments::<SlaveArgs>()?).map_err(locate)?.common.ports,
    };
    ports.iter().try_for_each(exists).map_err(|text| at_port(&settings, text))?;
    Ok(missing)
}

/// Whether this machine has what a port stands on.
fn exists(port: &PortPlan) -> Result<(), String> {
    let interfaces = machine::interfaces();
    match port {
        PortPlan::Udp(address) => {
            let ip = address.ip();
            let ours = interfaces.iter().any(|interface| interface.addresses.contains(&ip));
            if ours || ip.is_unspecified() || ip.is_loopback() {
                return Ok(());
            }
            Err(format!("udp:{address}: no interface of this machine has that address: `ip -brief address` lists them"))
        }
        PortPlan::Xdp(spec) => {
            if interfaces.iter().any(|interface| interface.name == spec.ifname) {
                return Ok(());
            }
            Err(format!("{spec}: there is no interface `{}`: `ip -brief link` lists them", spec.ifname))
        }
        // The device was looked at with the settings.
        PortPlan::Dpdk(spec) => LoadedPlugin::find().map(drop).map_err(|error| format!("{spec}: {error}")),
    }
}

fn at_port(settings: &Settings, text: String) -> Failure {
    settings.locate(Failure::Lacking { name: "port", text })
}
