//! The neighbours of a port without a kernel, in the form that `stats` shows.

use api::neighbours::NeighbourStats;
use frame::Time;
use frame::time::SECOND;
use port::host::Host;
use std::net::Ipv4Addr;
use wire::net::ethernet::MacText;

/// The neighbours that a host knows now, by address. After them come hosts that use one of its own addresses.
pub(super) fn of(host: &Host, now: Time) -> Vec<NeighbourStats> {
    let seconds = |heard: Time| now.saturating_sub(heard) as f64 / SECOND as f64;
    let known = host.neighbours().into_iter().map(|view| NeighbourStats {
        ip: Ipv4Addr::from(view.ip).to_string(),
        mac: view.mac.map(|mac| MacText(mac).to_string()),
        state: view.state.name().to_owned(),
        heard_seconds: seconds(view.heard),
    });
    let others = host.duplicates().into_iter().map(|duplicate| NeighbourStats {
        ip: Ipv4Addr::from(duplicate.ip).to_string(),
        mac: Some(MacText(duplicate.mac).to_string()),
        state: "duplicate".to_owned(),
        heard_seconds: seconds(duplicate.heard),
    });
    known.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use port::host::HostConfig;
    use port::neighbour::NextHops;
    use port::vlans::Vlans;

    #[test]
    fn neighbours_have_their_state_and_age() {
        let config = HostConfig {
            name: "port 0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
            gateway: None,
            vlans: Vlans::UNTAGGED,
        };
        let host = Host::new(config).unwrap();
        assert_eq!(of(&host, 0), []);
        assert_eq!(host.queue().lookup(SECOND, [10, 0, 0, 9]), None);
        let asked =
            NeighbourStats { ip: "10.0.0.9".to_owned(), mac: None, state: "incomplete".to_owned(), heard_seconds: 2.0 };
        assert_eq!(of(&host, 3 * SECOND), [asked]);
    }
}
