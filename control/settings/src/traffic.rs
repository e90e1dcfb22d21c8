//! What a farm shall send, as text: `master=1,payload=64,rate=1000,burst=32,pack=1,records=100000`.

use slave::{TrafficConfig, TrafficError};
use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

/// Checked settings of a farm's own traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic(pub TrafficConfig);

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrafficTextError {
    /// Not one of the settings.
    #[error("\"{0}\" is none of master=ID, payload=BYTES, rate=PER_SECOND|max, burst=N, pack=N, records=N")]
    Setting(String),
    /// No master is named.
    #[error("name the master that it goes to, as in master=1")]
    NoMaster,
    /// The sizes do not fit.
    #[error(transparent)]
    Sizes(#[from] TrafficError),
}

impl FromStr for Traffic {
    type Err = TrafficTextError;

    fn from_str(text: &str) -> Result<Self, TrafficTextError> {
        let mut traffic = TrafficConfig {
            master: 0,
            payload: 64,
            rate: Some(1000),
            burst: NonZeroU32::MIN,
            pack: NonZeroU16::MIN,
            records: None,
        };
        let mut has_master = false;
        for setting in text.split(',') {
            let wrong = || TrafficTextError::Setting(setting.to_owned());
            fn read<T: FromStr>(value: &str) -> Option<T> {
                value.parse().ok()
            }
            let (name, value) = setting.split_once('=').ok_or_else(wrong)?;
            let done = match name {
                "master" => {
                    has_master = true;
                    read(value).map(|id| traffic.master = id)
                }
                "payload" => read(value).map(|bytes| traffic.payload = bytes),
                "rate" if value == "max" => {
                    traffic.rate = None;
                    Some(())
                }
                "rate" => read(value).map(|rate| traffic.rate = Some(rate)),
                "burst" => read(value).map(|burst| traffic.burst = burst),
                "pack" => read(value).map(|pack| traffic.pack = pack),
                "records" => read(value).map(|records| traffic.records = Some(records)),
                _ => None,
            };
            done.ok_or_else(wrong)?;
        }
        if !has_master {
            return Err(TrafficTextError::NoMaster);
        }
        traffic.check()?;
        Ok(Self(traffic))
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TrafficConfig { master, payload, rate, burst, pack, records } = self.0;
        write!(f, "master={master},payload={payload}")?;
        match rate {
            Some(rate) => write!(f, ",rate={rate}")?,
            None => f.write_str(",rate=max")?,
        }
        write!(f, ",burst={burst},pack={pack}")?;
        records.map_or(Ok(()), |records| write!(f, ",records={records}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_any_order() {
        let Traffic(traffic) = "rate=max,master=7,burst=32,records=9".parse().unwrap();
        assert_eq!((traffic.master, traffic.rate, traffic.burst.get(), traffic.records), (7, None, 32, Some(9)));
        assert_eq!((traffic.payload, traffic.pack.get()), (64, 1));
        let text = Traffic(traffic).to_string();
        assert_eq!(text, "master=7,payload=64,rate=max,burst=32,pack=1,records=9");
        assert_eq!(text.parse(), Ok(Traffic(traffic)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "is none of master=ID"),
            ("master=x", "\"master=x\" is none of"),
            ("master=1,pack=0", "\"pack=0\" is none of"),
            ("rate=5", "as in master=1"),
            ("master=1,payload=3", "no room for time and sequence"),
        ] {
            let error = text.parse::<Traffic>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
