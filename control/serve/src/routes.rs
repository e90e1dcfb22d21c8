//! Who is registered, as `GET /v1/routes` answers it.

use api::routes::{MasterRoute, Routes, SlaveRoute, StaticRoute, Way};
use frame::Time;
use frame::time::SECOND;
use link::{Registrar, Route};
use wire::link::MemberState;

fn way(route: &Route, heard: Time, now: Time) -> Way {
    Way {
        address: route.peer.address().to_string(),
        port: route.peer.port.0,
        vlan: route.peer.vlan.vid(),
        mtu: route.mtu,
        fixed_port: route.fixed_port,
        silent_seconds: now.saturating_sub(heard) as f64 / SECOND as f64,
    }
}

/// The current routes of a registrar, and the static routes.
pub fn of(registrar: &Registrar, fixed: &[StaticRoute], now: Time) -> Routes {
    let master = |view: link::MasterView| MasterRoute {
        id: view.id,
        generation: view.generation,
        way: way(&view.route, view.heard, now),
    };
    let slave = |view: link::MemberView| SlaveRoute {
        id: view.member.id,
        state: match view.member.state {
            MemberState::Here => "here",
            MemberState::Suspect => "suspect",
            MemberState::Gone => "gone",
        }
        .to_owned(),
        pages_total: view.member.pages_total,
        pages_free: view.member.pages_free,
        vcpus: view.member.vcpus,
        domain: view.member.domain,
        speed_class: view.member.speed_class.0,
        way: way(&view.route, view.heard, now),
    };
    Routes {
        generation: registrar.summary().generation,
        masters: registrar.masters().map(master).collect(),
        slaves: registrar.members().map(slave).collect(),
        fixed: fixed.to_vec(),
    }
}
