//! Why a server does not do what was asked.

use std::fmt;

/// Why a server does not do what was asked. A number that this version does not know is a refusal, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefusedFor(u32);

impl RefusedFor {
    /// The server has another version, which is the limit.
    pub const VERSION: Self = Self(1);
    /// A message that makes no sense, or not now.
    pub const MALFORMED: Self = Self(2);
    /// The server has as many clients as it takes.
    pub const CLIENTS: Self = Self(3);
    /// The server has no memory for the channel.
    pub const CHANNEL_MEMORY: Self = Self(4);
    /// The client would have more extents than it may.
    pub const QUOTA: Self = Self(5);
    /// No extents, or too many at once.
    pub const COUNT: Self = Self(6);
    /// No slaves had the memory in time.
    pub const NO_MEMORY: Self = Self(7);
    /// All numbers of extents are in use.
    pub const EXTENTS: Self = Self(8);
    /// The server is about to stop.
    pub const LEAVING: Self = Self(9);
    /// The user of this client may not use the server.
    pub const PERMISSION: Self = Self(10);
    /// The server is removing this client.
    pub const NO_SUCH_CLIENT: Self = Self(11);
    /// Another connection has the area, or its requests have not ended yet.
    pub const AREA_IN_USE: Self = Self(12);
    /// There is no area of this name.
    pub const NO_SUCH_AREA: Self = Self(13);
    /// There is an area of this name already.
    pub const AREA_EXISTS: Self = Self(14);
    /// No area can have this name.
    pub const AREA_NAME: Self = Self(15);
    /// The area belongs to another user.
    pub const AREA_USER: Self = Self(16);

    /// All that have a name, by number.
    pub const ALL: [Self; 16] = [
        Self::VERSION,
        Self::MALFORMED,
        Self::CLIENTS,
        Self::CHANNEL_MEMORY,
        Self::QUOTA,
        Self::COUNT,
        Self::NO_MEMORY,
        Self::EXTENTS,
        Self::LEAVING,
        Self::PERMISSION,
        Self::NO_SUCH_CLIENT,
        Self::AREA_IN_USE,
        Self::NO_SUCH_AREA,
        Self::AREA_EXISTS,
        Self::AREA_NAME,
        Self::AREA_USER,
    ];

    /// The refusal with this number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Why, and what helps.
    const fn text(self) -> &'static str {
        match self {
            Self::VERSION => "it has another version of the protocol: use the library of the installed gvm-dp",
            Self::MALFORMED => "it did not understand the message: use the library of the installed gvm-dp",
            Self::CLIENTS => "it has as many clients and areas as it takes: end one, or raise that number",
            Self::CHANNEL_MEMORY => "it has no memory for the channel: ask for smaller buffers, or reserve hugepages",
            Self::QUOTA => "this client would have more extents than it may: free some, or raise its quota",
            Self::COUNT => {
                "an allocation has at least one extent, at most 1024, and at most 16 in different failure domains"
            }
            Self::NO_MEMORY => "no slaves had the memory in time: start more slaves that lend, or free extents",
            Self::EXTENTS => "all numbers of extents are in use: raise the number of extents of the master",
            Self::LEAVING => "it is about to stop: try again when it has started again",
            Self::PERMISSION => "the user of this process may not use it: add the user to the group of the socket",
            Self::NO_SUCH_CLIENT => "it is removing this client: connect again",
            Self::AREA_IN_USE => {
                "another process has this area, or had it and its requests have not ended: end it, or try again"
            }
            Self::NO_SUCH_AREA => "it has no area of this name: `gvm-dp page list` names those that there are",
            Self::AREA_EXISTS => "it has an area of this name already: choose another name, or free that area first",
            Self::AREA_NAME => {
                "the name of an area has 1 to 32 letters, digits, dots, dashes or underscores, no dot or dash first: \
                 choose such a name"
            }
            Self::AREA_USER => "the area belongs to another user: choose another name, or ask that user, or root",
            _ => "for a reason that this version does not know: update the library",
        }
    }
}

impl fmt::Display for RefusedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_refusal_has_its_remedy() {
        let texts: BTreeSet<_> = RefusedFor::ALL.iter().map(|reason| reason.text()).collect();
        assert_eq!(texts.len(), RefusedFor::ALL.len());
        assert!(texts.iter().all(|text| text.contains(": ") || text.contains("at most")));
        let numbers = RefusedFor::ALL.iter().map(|reason| reason.number());
        assert!(numbers.eq(1..=RefusedFor::ALL.len() as u32), "numbers are dense");
        assert!(RefusedFor::from_number(77).to_string().contains("update"));
    }
}
