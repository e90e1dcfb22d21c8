//! Uniform load: the gateway has nearly as many records per datagram as an ideal buffer with the same hold.

use frame::time::MICROSECOND;
use sim::ideal::{Load, compare};

#[test]
fn uniform_load_fills_datagrams_nearly_as_an_ideal_buffer_does() {
    let base = Load { slaves: 64, rate: 10_000_000, payload: 64, hold: 50 * MICROSECOND, records: 60_000, poll: 1_000 };
    let loads = [
        base,
        Load { slaves: 1, ..base },
        Load { slaves: 1024, ..base },
        Load { rate: 1_000_000, ..base },
        Load { hold: 500 * MICROSECOND, slaves: 512, ..base },
        Load { poll: 5_000, ..base },
    ];
    for (seed, load) in loads.into_iter().enumerate() {
        let comparison = compare(load, seed as u64);
        println!("{load:?}: {comparison:?}, ratio {:.3}", comparison.ratio());
        assert!(comparison.ratio() >= 0.9, "{load:?}: {comparison:?}");
        assert!(comparison.ideal >= 1.0 && comparison.gateway >= 1.0);
    }
}
