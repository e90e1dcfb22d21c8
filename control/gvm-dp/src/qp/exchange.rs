//! The lines in which the two ends of a queue pair describe themselves to each other, before the first packet.
//!
//! Each end sends one line of at most [`MAX_LINE`] bytes: `GVM-QP 1`, then `key=value` in any order, separated by
//! blanks. Numbers are decimal, or hexadecimal after `0x`. Unknown keys are ignored, so that later versions can add
//! some; another version is refused with its number. `docs/roce.md` describes all of it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use wire::rc::PathMtu;

/// The TCP port of the set-up.
pub const SETUP_PORT: u16 = 9997;

/// The version that this program speaks.
pub const VERSION: u32 = 1;

/// The most bytes of a line, its end included.
pub const MAX_LINE: usize = 512;

/// The beginning of every line.
const MAGIC: &str = "GVM-QP";

/// The largest QP number and PSN: both have 24 bits.
const MAX_24: u64 = 0xff_ffff;

/// What a peer may do to a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// RDMA READ.
    pub read: bool,
    /// RDMA WRITE.
    pub write: bool,
    /// COMPARE&SWAP and FETCH&ADD.
    pub atomic: bool,
}

/// A memory region that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedRegion {
    /// Its key.
    pub rkey: u32,
    /// Virtual address of its first byte.
    pub va: u64,
    /// Its length in bytes.
    pub length: u64,
    /// What may be done to it.
    pub access: Access,
}

/// A region that our role lends.
pub fn region(lent: &roce::LentRegion) -> OfferedRegion {
    let access = Access { read: true, write: lent.write, atomic: lent.atomic };
    OfferedRegion { rkey: lent.rkey, va: lent.va, length: lent.len, access }
}

/// One end of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Number of the queue pair, 24 bits; 0 and 1 are InfiniBand's own.
    pub qpn: u32,
    /// PSN of the first request that this end will send, 24 bits.
    pub psn: u32,
    /// The largest path MTU that this end can have, in bytes: one of [`PathMtu`]. The smaller one of both ends is used.
    pub path_mtu: u16,
    /// READs and atomics that this end answers at the same time.
    pub reads: u16,
    /// Its IPv4 address; its GID is this address mapped into IPv6.
    pub ip: Ipv4Addr,
    /// What it lends.
    pub region: Option<OfferedRegion>,
}

/// The content of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupLine {
    /// One end of a queue pair.
    Offer(Offer),
    /// There will be no queue pair; the text says why.
    Refusal(String),
}

/// Why a line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It belongs to another protocol.
    #[error("it does not begin with \"GVM-QP\": is that the --listen address of `gvm-dp qp serve`?")]
    Magic,
    /// Another version.
    #[error("it speaks version {0} of the set-up and we speak {VERSION}: use the same gvm-dp at both ends")]
    Version(String),
    /// A word without `=`.
    #[error("\"{0}\" is not key=value")]
    Word(String),
    /// A key is given twice.
    #[error("it says {0}= twice")]
    Twice(&'static str),
    /// A key is missing.
    #[error("it does not say {0}=")]
    Missing(&'static str),
    /// A value is not possible.
    #[error("{key}={value} is not {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A region with only some of its parts, or a region that wraps around.
    #[error("its region needs va=, length= and rkey= together, and an end below 2^64")]
    OfferedRegion,
}

/// A number as people and lines write it: decimal, or hexadecimal after `0x`.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}

/// A number of at most 24 bits.
pub fn number_24(text: &str) -> Option<u32> {
    number(text).filter(|number| *number <= MAX_24).map(|number| number as u32)
}

impl FromStr for Access {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut access = Self::default();
        for letter in text.chars() {
            let right = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'a' => &mut access.atomic,
                // An access right of a later version: this one does not use it.
                _ if letter.is_ascii_alphabetic() => continue,
                _ => return Err(()),
            };
            *right = true;
        }
        Ok(access)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (may, letter) in [(self.read, "r"), (self.write, "w"), (self.atomic, "a")] {
            if may {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl OfferedRegion {
    /// The address after its last byte.
    pub fn end(&self) -> u64 {
        self.va.saturating_add(self.length)
    }
}

impl fmt::Display for OfferedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rkey, va, length, access } = self;
        write!(f, "rkey={rkey:#010x} va={va:#x} length={length} access={access}")
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { qpn, psn, path_mtu, reads, ip, region } = self;
        write!(f, "ip={ip} qpn={qpn:#08x} psn={psn:#08x} mtu={path_mtu} reads={reads}")?;
        region.map_or(Ok(()), |region| write!(f, " {region}"))
    }
}

impl fmt::Display for SetupLine {
    /// Writes the line with its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(offer) => writeln!(f, "{MAGIC} {VERSION} {offer}"),
            Self::Refusal(text) => {
                // It stays one line, whatever the reason contains.
                let mut text = text.replace(['\n', '\r'], " ");
                let mut end = text.len().min(MAX_LINE - 64);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
                writeln!(f, "{MAGIC} {VERSION} error={text}")
            }
        }
    }
}

/// The values of a line, each at most once.
#[derive(Default)]
struct Values<'a> {
    of: [Option<&'a str>; KEYS.len()],
}

const KEYS: [&str; 9] = ["ip", "qpn", "psn", "mtu", "reads", "rkey", "va", "length", "access"];

impl<'a> Values<'a> {
    fn read(words: impl Iterator<Item = &'a str>) -> Result<Self, LineError> {
        let mut values = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| LineError::Word(word.to_owned()))?;
            let place = KEYS.iter().position(|known| *known == key);
            if let Some((at, slot)) = place.and_then(|at| Some((at, values.of.get_mut(at)?)))
                && slot.replace(value).is_some()
            {
                return Err(LineError::Twice(KEYS[at]));
            }
        }
        Ok(values)
    }

    /// The value of a key, converted by `read`.
    fn get<T>(
        &self,
        key: &'static str,
        wanted: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, LineError> {
        let place = KEYS.iter().position(|known| *known == key);
        let Some(value) = place.and_then(|at| self.of.get(at).copied().flatten()) else { return Ok(None) };
        let wrong = || LineError::Value { key, value: value.to_owned(), wanted };
        read(value).map(Some).ok_or_else(wrong)
    }

    fn need<T>(
        &self,
        key: &'static str,
        wanted: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, LineError> {
        self.get(key, wanted, read)?.ok_or(LineError::Missing(key))
    }
}

/// A path MTU in bytes.
pub fn path_mtu(text: &str) -> Option<u16> {
    text.parse().ok().filter(|mtu: &u16| PathMtu::exactly((*mtu).into()).is_some())
}

fn unicast(text: &str) -> Option<Ipv4Addr> {
    let ip: Ipv4Addr = text.parse().ok()?;
    (!ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast()).then_some(ip)
}

impl FromStr for SetupLine {
    type Err = LineError;

    /// Reads a line with or without its end.
    fn from_str(text: &str) -> Result<Self, LineError> {
        let text = text.trim_end_matches(['\n', '\r']);
        let rest = text.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')).ok_or(LineError::Magic)?;
        let (version, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if version.parse() != Ok(VERSION) {
            return Err(LineError::Version(version.chars().take(16).collect()));
        }
        if let Some(reason) = rest.strip_prefix("error=") {
            return Ok(Self::Refusal(reason.to_owned()));
        }
        let values = Values::read(rest.split_ascii_whitespace())?;
        let qpn = |text: &str| number_24(text).filter(|qpn| *qpn > 1);
        let word = |text: &str| number(text).and_then(|number| u32::try_from(number).ok());
        let reads = |text: &str| text.parse::<u16>().ok().filter(|reads| (1..=255).contains(reads));
        let va = values.get("va", "a 64-bit address", number)?;
        let length = values.get("length", "a number of bytes", number)?;
        let rkey = values.get("rkey", "a 32-bit key", word)?;
        let access = values.get("access", "letters like rwa", |text| text.parse().ok())?.unwrap_or_default();
        let region = match (va, length, rkey) {
            (None, None, None) => None,
            (Some(va), Some(length), Some(rkey)) if va.checked_add(length).is_some() => {
                Some(OfferedRegion { rkey, va, length, access })
            }
            _ => return Err(LineError::OfferedRegion),
        };
        Ok(Self::Offer(Offer {
            qpn: values.need("qpn", "a QP number from 2 to 0xffffff", qpn)?,
            psn: values.need("psn", "a PSN of 24 bits", number_24)?,
            path_mtu: values.need("mtu", "256, 512, 1024, 2048 or 4096", path_mtu)?,
            reads: values.need("reads", "a number from 1 to 255", reads)?,
            ip: values.need("ip", "an IPv4 address of one host", unicast)?,
            region,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "GVM-QP 1 ip=192.0.2.7 qpn=0x00abcd psn=0x123456 mtu=4096 reads=128 rkey=0x01020304 va=0x10000 \
                        length=65536 access=rw\n";

    fn offer() -> Offer {
        let access = Access { read: true, write: true, atomic: false };
        let region = OfferedRegion { rkey: 0x0102_0304, va: 0x1_0000, length: 65_536, access };
        let ip = Ipv4Addr::new(192, 0, 2, 7);
        Offer { qpn: 0xabcd, psn: 0x12_3456, path_mtu: 4096, reads: 128, ip, region: Some(region) }
    }

    fn complaint(text: &str) -> String {
        text.parse::<SetupLine>().unwrap_err().to_string()
    }

    #[test]
    fn a_literal_line_is_read_and_written() {
        assert_eq!(TEXT.parse(), Ok(SetupLine::Offer(offer())));
        assert_eq!(SetupLine::Offer(offer()).to_string(), TEXT);
        let other = "GVM-QP 1 reads=1 mtu=256 later=x,y psn=0 qpn=17 ip=10.0.0.1\r\n";
        let expected = Offer { qpn: 17, psn: 0, path_mtu: 256, reads: 1, ip: Ipv4Addr::new(10, 0, 0, 1), region: None };
        assert_eq!(other.parse(), Ok(SetupLine::Offer(expected)));
    }

    #[test]
    fn a_refusal_is_one_line_of_bounded_length() {
        let line = SetupLine::Refusal("no room\nfor you".to_owned()).to_string();
        assert_eq!(line, "GVM-QP 1 error=no room for you\n");
        assert_eq!(line.parse(), Ok(SetupLine::Refusal("no room for you".to_owned())));
        let long = SetupLine::Refusal("ü".repeat(4000)).to_string();
        assert!(long.len() <= MAX_LINE && long.ends_with("ü\n"), "{}", long.len());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("SSH-2.0-OpenSSH_9.2", "qp serve"),
            ("GVM-QP 2 qpn=17", "version 2 of the set-up and we speak 1"),
            ("GVM-QP 1 qpn", "\"qpn\" is not key=value"),
            ("GVM-QP 1 ip=10.0.0.1 psn=0 mtu=256 reads=1", "does not say qpn="),
            ("GVM-QP 1 qpn=17 qpn=18 ip=10.0.0.1 psn=0 mtu=256 reads=1", "qpn= twice"),
            ("GVM-QP 1 qpn=1 ip=10.0.0.1 psn=0 mtu=256 reads=1", "qpn=1 is not a QP number"),
            ("GVM-QP 1 qpn=0x1000000 ip=10.0.0.1 psn=0 mtu=256 reads=1", "qpn=0x1000000 is not"),
            ("GVM-QP 1 qpn=17 ip=224.0.0.1 psn=0 mtu=256 reads=1", "ip=224.0.0.1 is not an IPv4 address of one host"),
            ("GVM-QP 1 qpn=17 ip=10.0.0.1 psn=-1 mtu=256 reads=1", "psn=-1 is not"),
            ("GVM-QP 1 qpn=17 ip=10.0.0.1 psn=0 mtu=1500 reads=1", "mtu=1500 is not 256"),
            ("GVM-QP 1 qpn=17 ip=10.0.0.1 psn=0 mtu=256 reads=0", "reads=0 is not"),
            ("GVM-QP 1 qpn=17 ip=10.0.0.1 psn=0 mtu=256 reads=1 va=0", "va=, length= and rkey= together"),
            (
                "GVM-QP 1 qpn=17 ip=10.0.0.1 psn=0 mtu=256 reads=1 va=0xffffffffffffffff length=2 rkey=1",
                "an end below 2^64",
            ),
            ("GVM-QP 1 qpn=17 ip=10.0.0.1 psn=0 mtu=256 reads=1 va=0 length=2 rkey=0x100000000", "a 32-bit key"),
            ("GVM-QP 1 qpn=17 ip=10.0.0.1 psn=0 mtu=256 reads=1 access=r/w", "letters like rwa"),
        ] {
            assert!(complaint(text).contains(part), "{text}: {}", complaint(text));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_offer_that_survives_its_own_text_or_an_error(
            text in "(GVM-QP 1 )?((ip|qpn|psn|mtu|reads|rkey|va|length|access)=[0-9a-fx.rw]{0,12} ?){0,10}.{0,8}"
        ) {
            if let Ok(SetupLine::Offer(offer)) = text.parse() {
                prop_assert_eq!(SetupLine::Offer(offer).to_string().parse(), Ok(SetupLine::Offer(offer)));
            }
        }
    }
}
