//! Which VLANs a port takes packets from.
//!
//! On a trunk, only the tag separates the VLANs. A port that accepted every tag would undo that separation: a host in
//! one VLAN would reach a gateway that is meant for another. So a port accepts only the VLANs of its list, and by
//! default only packets without a tag.

use std::fmt;
use std::str::FromStr;

/// Words of a set.
const WORDS: usize = 128;

/// The largest id that a VLAN can have. 4095 is reserved.
const LAST: u16 = 4094;

/// A text that is not a list of VLANs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "vlans={0}: write VLAN ids from 0 to 4094 and ranges of them with + between, 0 for packets without a tag, like \
     vlans=0+10+20-29; or vlans=any"
)]
pub struct VlansError(String);

/// A set of VLAN ids, 0 to 4094. 0 means packets without a tag, and packets whose tag has the id 0: such a tag carries
/// a priority and no VLAN.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Vlans([u32; WORDS]);

impl Vlans {
    /// Packets without a tag, and with the id 0.
    pub const UNTAGGED: Self = {
        let mut words = [0; WORDS];
        words[0] = 1;
        Self(words)
    };

    /// Packets with any possible tag, and without one.
    pub const ANY: Self = {
        let mut words = [u32::MAX; WORDS];
        words[WORDS - 1] >>= 1;
        Self(words)
    };

    /// Whether packets of this VLAN are accepted; `None` is no tag.
    #[inline]
    pub fn has(&self, vid: Option<u16>) -> bool {
        let vid = vid.unwrap_or(0);
        self.0.get(usize::from(vid / 32)).is_some_and(|word| word >> (vid % 32) & 1 != 0)
    }

    /// The ids that a tag can have: all but 0.
    pub(crate) fn tags(&self) -> impl Iterator<Item = u16> + '_ {
        (1..=LAST).filter(|vid| self.has(Some(*vid)))
    }

    /// A bit for each id, 32 to a word: the form of the XDP program.
    pub const fn words(&self) -> &[u32; WORDS] {
        &self.0
    }

    fn add(&mut self, first: u16, last: u16) {
        for vid in first..=last {
            if let Some(word) = self.0.get_mut(usize::from(vid / 32)) {
                *word |= 1 << (vid % 32);
            }
        }
    }

    /// The ids as ranges, both ends included.
    fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for vid in (0..=LAST).filter(|vid| self.has(Some(*vid))) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == vid => *last = vid,
                _ => ranges.push((vid, vid)),
            }
        }
        ranges
    }
}

impl Default for Vlans {
    fn default() -> Self {
        Self::UNTAGGED
    }
}

impl FromStr for Vlans {
    type Err = VlansError;

    /// `any`, or ids and ranges with `+` between them: `0+10+20-29`.
    fn from_str(text: &str) -> Result<Self, VlansError> {
        if text == "any" {
            return Ok(Self::ANY);
        }
        let wrong = || VlansError(text.to_owned());
        let id = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|id| digits && *id <= LAST).ok_or_else(wrong)
        };
        let mut vlans = Self([0; WORDS]);
        for part in text.split('+') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (id(first)?, id(last)?);
            if first > last {
                return Err(wrong());
            }
            vlans.add(first, last);
        }
        Ok(vlans)
    }
}

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("any");
        }
        for (number, (first, last)) in self.ranges().into_iter().enumerate() {
            let between = if number == 0 { "" } else { "+" };
            match last - first {
                0 => write!(f, "{between}{first}")?,
                1 => write!(f, "{between}{first}+{last}")?,
                _ => write!(f, "{between}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vlans({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_reads_and_writes_itself() {
        for (text, written) in [
            ("0", "0"),
            ("10", "10"),
            ("10+20", "10+20"),
            ("0+10+20-29", "0+10+20-29"),
            ("20-29+10+0", "0+10+20-29"),
            ("7+8", "7+8"),
            ("7-8", "7+8"),
            ("5-5", "5"),
            ("4094", "4094"),
            ("any", "any"),
            ("0-4094", "any"),
        ] {
            assert_eq!(text.parse::<Vlans>().unwrap().to_string(), written, "{text}");
        }
        assert_eq!(Vlans::default(), "0".parse().unwrap());
    }

    #[test]
    fn what_is_no_list_is_refused_with_a_remedy() {
        for text in ["", "+", "10+", "4095", "5-", "-5", "9-5", "+5", "ten", "1,2", "70000", "10 20", "all"] {
            let error = text.parse::<Vlans>().unwrap_err().to_string();
            assert!(error.contains(&format!("vlans={text}")) && error.contains("vlans=0+10+20-29"), "{error}");
        }
    }

    #[test]
    fn no_tag_and_the_id_0_are_one_and_4095_is_in_no_list() {
        for (text, has) in [("0", true), ("any", true), ("10", false), ("1-4094", false)] {
            let vlans: Vlans = text.parse().unwrap();
            assert_eq!((vlans.has(None), vlans.has(Some(0)), vlans.has(Some(4095))), (has, has, false), "{text}");
        }
        assert_eq!("0+10+20-22".parse::<Vlans>().unwrap().tags().collect::<Vec<_>>(), [10, 20, 21, 22]);
        assert_eq!((Vlans::ANY.tags().count(), Vlans::UNTAGGED.tags().count()), (4094, 0));
    }

    proptest! {
        #[test]
        fn a_list_has_exactly_its_ids(ids in proptest::collection::btree_set(0u16..=LAST, 1..40)) {
            let text: Vec<String> = ids.iter().map(u16::to_string).collect();
            let vlans: Vlans = text.join("+").parse().unwrap();
            for vid in 0..=u16::MAX {
                prop_assert_eq!(vlans.has(Some(vid)), ids.contains(&vid));
            }
            prop_assert_eq!(vlans.to_string().parse::<Vlans>().unwrap(), vlans);
        }
    }
}
