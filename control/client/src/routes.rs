//! `gvm-dp routes`: who is registered at a running gateway.

use super::Target;
use crate::args::RoutesArgs;
use api::routes::{Routes, Way};
use common::exit::Failure;
use common::output::print;
use common::plain;
use hyper::Method;
use std::fmt::Write as _;
use wire::link::SpeedClass;

/// Prints the routes.
///
/// # Errors
/// It fails as [`Target::find`], [`Target::request`] and [`Target::read`] do. The error is [`Failure::Output`] when
/// stdout does not take the text.
pub fn run(args: &RoutesArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let body = target.request(Method::GET, "/v1/routes")?;
    let routes: Routes = target.read(&body)?;
    print(&if args.json { format!("{}\n", plain::json(&body)) } else { table(&routes) }).map(drop)
}

fn table(routes: &Routes) -> String {
    let mut text = format!("{:<8}{:<9}{:<8}{:<28}{:>6}{:>9}  memory\n", "", "id", "state", "address", "MTU", "silent");
    let line = |text: &mut String, role: &str, id: u32, state: &str, way: &Way, memory: &str| {
        let vlan = way.vlan.map(|vid| format!(" vlan {vid}")).unwrap_or_default();
        let address = format!("{}{vlan}", way.address);
        let silent = format!("{:.1} s", way.silent_seconds);
        let _ = writeln!(text, "{role:<8}{id:<9}{state:<8}{address:<28}{:>6}{silent:>9}  {memory}", way.mtu);
    };
    for master in &routes.masters {
        line(&mut text, "master", u32::from(master.id), "here", &master.way, "");
    }
    for slave in &routes.slaves {
        let mut memory = format!("{} of {} MiB free", slave.pages_free >> 8, slave.pages_total >> 8);
        if slave.domain != 0 {
            let _ = write!(memory, ", domain {}", slave.domain);
        }
        if slave.speed_class != 0 {
            let _ = write!(memory, ", link {}", SpeedClass(slave.speed_class));
        }
        line(&mut text, "slave", slave.id, &slave.state, &slave.way, &memory);
    }
    for route in &routes.fixed {
        let ids =
            if route.first == route.last { route.first.to_string() } else { format!("{}-{}", route.first, route.last) };
        let vlan = route.vlan.map(|vid| format!(" vlan {vid}")).unwrap_or_default();
        let address = format!("{}{}{vlan}", route.address, if route.counts { " and on" } else { "" });
        let mtu = route.mtu.map_or("-".to_owned(), |mtu| mtu.to_string());
        let _ = writeln!(
            text,
            "{:<8}{ids:<9}{:<8}{address:<28}{mtu:>6}{:>9}  port {}",
            route.role, "static", "-", route.port
        );
    }
    let _ = writeln!(
        text,
        "{} masters, {} slaves, generation {}",
        routes.masters.len(),
        routes.slaves.len(),
        routes.generation
    );
    text
}
