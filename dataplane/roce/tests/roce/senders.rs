//! Hosts of other makers behind sockets. The role learns the header fields that a socket does not show, and accepts no
//! damaged packet.

use crate::support;

use frame::Time;
use frame::time::MILLISECOND;
use roce::Work;
use support::{Habit, Wire, lent, pattern, peer, seal};

const DF: u16 = 0x4000;

fn habit(choose: impl FnMut(Time) -> (u16, u16) + 'static) -> Option<Habit> {
    Some(Box::new(choose))
}

/// Counts from `id` as Linux does: after a pause it jumps by at most one for each millisecond.
fn linux(mut id: u16, fragment: u16) -> Option<Habit> {
    let (mut last, mut random) = (0, 1u64);
    habit(move |now| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let ticks = now.saturating_sub(std::mem::replace(&mut last, now)) / MILLISECOND;
        id = id.wrapping_add(1).wrapping_add(((random >> 33) % (ticks + 1)) as u16);
        (id, fragment)
    })
}

#[test]
fn every_habit_of_a_sender_is_learned_and_costs_little() {
    let random = |id: u32| (id.wrapping_mul(0x9e37_79b1) >> 16) as u16;
    type Make = Box<dyn Fn() -> Option<Habit>>;
    let cases: [(&str, Make); 6] = [
        ("zero, without DF", Box::new(|| habit(|_| (0, 0)))),
        ("one number", Box::new(|| habit(|_| (0x718c, DF)))),
        ("Linux", Box::new(|| linux(65_000, DF))),
        ("Linux, without DF", Box::new(|| linux(7, 0))),
        ("one number, without DF", Box::new(|| habit(|_| (0xffff, 0)))),
        (
            "no order",
            Box::new(move || {
                let mut count = 0;
                habit(move |_| {
                    count += 1;
                    (random(count), DF)
                })
            }),
        ),
    ];
    for (name, make) in cases {
        // The other maker's host is at one end, at the other, or at both.
        for foreign in [[true, false], [false, true], [true, true]] {
            let mut wire = Wire::new(lent(100_000));
            for (end, is_foreign) in foreign.into_iter().enumerate() {
                wire.habits[end] = is_foreign.then(&make).flatten();
            }
            let region = wire.lent();
            let read = wire.work(region.rkey, Work::Read { va: region.va, len: 100_000, message: 5000 }).unwrap();
            assert!(read.bytes == pattern(100_000), "{name} {foreign:?}");
            let bytes: Vec<u8> = pattern(70_000).into_iter().map(|byte| !byte).collect();
            let work = Work::Write { va: region.va, bytes: bytes.clone(), message: 20_000 };
            assert_eq!(wire.work(region.rkey, work).unwrap().bytes, bytes, "{name} {foreign:?}");
            for (end, other) in [(0, 1), (1, 0)] {
                let (role, transport) = (wire.ends[end].role.counters(), wire.ends[end].role.transport());
                let dropped = role.dropped_identification.get();
                assert_eq!(transport.rc_dropped_icrc.get(), 0, "{name} {foreign:?}");
                assert!(dropped <= if foreign[other] { 2 } else { 0 }, "{name} {foreign:?}: {dropped} dropped");
                let unpredictable = role.unpredictable_identification.get() > 0;
                assert_eq!(unpredictable, name == "no order" && foreign[other], "{name} {foreign:?}");
                assert_eq!(role.datagrams_in.get(), dropped + transport.packets_in.get());
            }
        }
    }
}

/// A damaged packet is one that only another identification explains. Of 65,536 such packets, as many pass as there are
/// expected identifications. Our own sender has one, which it always sends. A counting sender has the next few.
#[test]
fn damage_that_another_identification_explains_is_dropped() {
    for (habit, most) in [(None, 1), (linux(500, DF), 8)] {
        let mut wire = Wire::new(lent(10_000));
        wire.habits[0] = habit;
        let region = wire.lent();
        let mut keep = None;
        wire.work(region.rkey, Work::Read { va: region.va, len: 10_000, message: 100 }).unwrap();
        // A request that changes memory is held on the wire.
        let told = wire.ends[0].command(wire.now, |answer| {
            let work = Work::Write { va: region.va, bytes: vec![0xee; 64], message: 64 };
            roce::RoceCommand::Work(roce::Job { qpn: wire.qpns[0], rkey: region.rkey, work }, answer)
        });
        while let Some(sent) = wire.ends[0].out.queue(support::PORT).unwrap().take() {
            keep = Some(sent.frame.data().to_vec());
        }
        let (packet, [from, to]) = (keep.unwrap(), [wire.ends[0].ip, wire.ends[1].ip]);
        let passed = |wire: &Wire| wire.ends[1].role.transport().packets_in.get();
        let before = passed(&wire);
        for id in 0..=u16::MAX {
            // The payload is changed so that the ICRC fits another header.
            let mut damaged = packet.clone();
            let at = damaged.len() - 20;
            damaged[at] ^= 0x55;
            seal(&mut damaged, from, to, (id.wrapping_mul(0x6487), DF));
            wire.ends[1].deliver(wire.now, peer(from), &damaged);
        }
        let passed = passed(&wire) - before;
        let dropped = wire.ends[1].role.counters().dropped_identification.get();
        assert!(passed <= most, "{passed} of 65536 passed");
        assert!(dropped >= 65_536 - most, "{dropped} dropped");
        // The queue pair goes on.
        assert!(wire.until(|_| told.try_recv().ok()).is_ok());
    }
}
