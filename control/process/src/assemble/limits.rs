//! The rates of ports, divided among the lcores.

use common::exit::Failure;
use port::rate::{Limit, Rate};
use settings::plan::PortPlan;

/// The rate of each port that has one, for so many lcores.
///
/// # Errors
/// The error is [`Failure::Usage`] when the part of an lcore is too small.
pub(super) fn limits(ports: &[PortPlan], lcores: usize) -> Result<Vec<Option<Limit>>, Failure> {
    let limit = |port: &PortPlan| {
        let Some(rate) = port.rate() else { return Ok(None) };
        Limit::new(rate, u16::try_from(lcores).unwrap_or(u16::MAX)).map(Some).ok_or_else(|| {
            let least = Rate::LEAST.bits().saturating_mul(lcores as u64).div_ceil(1000);
            Failure::Usage(format!(
                "--port {port}: {lcores} lcores share the rate, which is too little for each: name fewer --lcores, or \
                 write at least rate={least}K"
            ))
        })
    };
    ports.iter().map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use port::spec::SocketSpec;

    #[test]
    fn lcores_share_the_rates_of_their_ports() {
        let address = "192.0.2.1:9999".parse().unwrap();
        let port =
            |rate: Option<&str>| PortPlan::Udp(SocketSpec { address, rate: rate.map(|text| text.parse().unwrap()) });
        let found = limits(&[port(Some("1G")), port(None)], 2).unwrap();
        assert_eq!(found[0].unwrap().to_string(), "sends at most 1Gbit/s on 2 lcores together");
        assert_eq!((found.len(), found[1]), (2, None));
        let error = limits(&[port(Some("150K"))], 3).unwrap_err().to_string();
        assert!(error.contains("--port udp:192.0.2.1:9999,rate=150K: 3 lcores share"), "{error}");
        assert!(error.contains("write at least rate=192K"), "{error}");
    }
}
