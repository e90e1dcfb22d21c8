//! The worlds of which the documentation has figures.

use super::client::Load;
use super::link::LinkSpec;
use super::world::{IncastSpec, MasterSpec};
use crate::rng::Rng;
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND};

/// The usual time that packets may wait in queues.
const TARGET: Time = 15 * MICROSECOND;

/// A link with a queue of 256 KiB, as a small switch has for a port. It marks nothing.
fn link(mbit: u64) -> LinkSpec {
    LinkSpec { mbit, delay: 5 * MICROSECOND, queue: 256 << 10, mark: None }
}

fn master(mbit: u64) -> MasterSpec {
    MasterSpec { link: link(mbit), claimed_mbit: mbit as u32, queue_target: TARGET, later: 0 }
}

/// 64 slaves with 1 Gbit/s each, and a master with a tenth of their sum, which reads pages.
pub fn usual() -> IncastSpec {
    IncastSpec {
        masters: vec![master(6_400)],
        gateways: 4,
        gateway_link: link(25_000),
        slaves: 64,
        slave_link: link(1_000),
        slow_every: 0,
        late: 0,
        mtu: 1500,
        load: Load { len: 4096, depth: 512, writes: 0, demand_every: 200 * MICROSECOND, demands: 4 },
    }
}

/// All of them, with their names.
pub fn all() -> Vec<(&'static str, IncastSpec)> {
    let mut worlds = vec![("usual", usual())];
    let mut add = |name, change: &dyn Fn(&mut IncastSpec)| {
        let mut spec = usual();
        change(&mut spec);
        worlds.push((name, spec));
    };
    add("window that follows nothing", &|spec| spec.masters[0].queue_target = 0);
    add("READs of 64 KiB", &|spec| spec.load.len = 64 << 10);
    add("half of the requests are WRITEs", &|spec| spec.load.writes = 50);
    add("all requests are WRITEs", &|spec| spec.load.writes = 100);
    add("claims 100 Gbit/s", &|spec| spec.masters[0].claimed_mbit = 100_000);
    add("claims 640 Mbit/s", &|spec| spec.masters[0].claimed_mbit = 640);
    add("does not know its link", &|spec| spec.masters[0].claimed_mbit = 0);
    add("queue of 32 KiB", &|spec| spec.masters[0].link.queue = 32 << 10);
    add("queue of 64 KiB", &|spec| spec.masters[0].link.queue = 64 << 10);
    add("queue of 16 MiB", &|spec| spec.masters[0].link.queue = 16 << 20);
    add("switch marks from 32 KiB on", &|spec| spec.masters[0].link.mark = Some(32 << 10));
    add("an eighth of the slaves has 100 Mbit/s", &|spec| spec.slow_every = 8);
    add("master with 400 Mbit/s", &|spec| {
        spec.masters[0] = master(400);
        spec.load.demand_every = 2 * MILLISECOND;
    });
    add("gateway is the narrow place", &|spec| {
        spec.gateways = 1;
        spec.gateway_link = link(6_400);
        spec.masters[0] = master(25_000);
    });
    add("four masters behind one gateway", &|spec| {
        spec.gateways = 1;
        spec.gateway_link = link(6_400);
        spec.masters = (0..4).map(|number| MasterSpec { later: number * 30 * MILLISECOND, ..master(6_400) }).collect();
    });
    add("slaves are the narrow place", &|spec| {
        spec.slave_link = link(100);
        spec.masters[0] = master(25_000);
    });
    add("late processors", &|spec| spec.late = 2 * MILLISECOND);
    add("late processors, and a window that follows nothing", &|spec| {
        spec.late = 2 * MILLISECOND;
        spec.masters[0].queue_target = 0;
    });
    add("processors late by 200 us", &|spec| spec.late = 200 * MICROSECOND);
    add("processors late by 200 us, and a window that follows nothing", &|spec| {
        spec.late = 200 * MICROSECOND;
        spec.masters[0].queue_target = 0;
    });
    worlds
}

/// The world with a name.
pub fn named(name: &str) -> Option<IncastSpec> {
    all().into_iter().find_map(|(of, spec)| (of == name).then_some(spec))
}

/// A small world of a seed: any number of machines, links, queues and loads.
pub fn random(seed: u64) -> IncastSpec {
    let rng = &mut Rng::new(seed);
    let any = |rng: &mut Rng, rates: &[u64]| LinkSpec {
        mbit: rng.pick(rates),
        delay: rng.between(1, 60) * MICROSECOND,
        queue: rng.pick(&[16 << 10, 64 << 10, 256 << 10, 2 << 20]),
        mark: if rng.one_in(3) { Some(rng.pick(&[8 << 10, 32 << 10])) } else { None },
    };
    let masters = rng.between(1, 3);
    IncastSpec {
        masters: (0..masters)
            .map(|_| MasterSpec {
                link: any(rng, &[100, 400, 1_000]),
                claimed_mbit: rng.pick(&[0, 100, 1_000, 100_000]),
                queue_target: if rng.one_in(8) { 0 } else { TARGET },
                later: rng.below(10 * MILLISECOND),
            })
            .collect(),
        gateways: rng.between(1, 3) as usize,
        gateway_link: any(rng, &[400, 1_000, 10_000]),
        slaves: rng.between(1, 16) as u32,
        slave_link: any(rng, &[50, 100, 1_000]),
        slow_every: rng.pick(&[0, 0, 4]),
        late: rng.pick(&[0, 0, 500]) * MICROSECOND,
        mtu: 1500,
        load: Load {
            len: rng.pick(&[4096, 4096, 8 << 10, 40_000]),
            depth: rng.pick(&[4, 32, 200]),
            writes: rng.pick(&[0, 30, 100]),
            demand_every: rng.pick(&[100, 1_000]) * MICROSECOND,
            demands: rng.pick(&[1, 8]),
        },
    }
}
