//! How a request ended, by number and name.

use std::fmt;

/// How a request ended. A number that this version does not know is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelStatus(u32);

/// Defines the statuses, with name, meaning and remedy.
macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $meaning:literal;)*) => {
        impl ChannelStatus {
            $($(#[doc = $doc])+ pub const $name: Self = Self($number);)*

            /// All that have a name, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in the documents; "UNKNOWN" for a number that this version does not know.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }

            /// What happened, and what helps, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self.0 {
                    $($number => $meaning,)*
                    _ => "the server has a newer version, and says what this one does not know: update the library",
                }
            }
        }
    };
}

statuses! {
    /// All bytes were transferred.
    DONE = 0, "all bytes were transferred";
    /// The slave that had the extent is gone. The extent is lost.
    SLAVE_GONE = 1, "the slave that had the extent is gone, and the extent is lost: free it, and allocate another one";
    /// The slave that had the extent has started again. The extent is lost.
    SLAVE_RESTARTED = 2,
        "the slave that had the extent has started again, and the extent is lost: free it, and allocate another one";
    /// The slave took the memory of the extent back. The extent is lost.
    RECALLED = 3,
        "the slave took the memory of the extent back, and the extent is lost: move extents when they are recalled";
    /// The slave ended the lease. The extent is lost.
    LEASE_ENDED = 4, "the slave ended the lease, and the extent is lost: free it, and allocate another one";
    /// The slave refused the request in each of several sessions.
    REFUSED = 5, "the slave refused the request in several sessions: look into the log of the master";
    /// The slave did not answer in several sessions. The extent may still be there.
    NO_ANSWER = 6, "the slave did not answer: the extent may still be there, so try again later";
    /// The request was under way when its session ended. It may have been done in part.
    FLUSHED = 7, "the session of the slave ended several times: the request may be done in part, so repeat it";
    /// The client has no such extent, or has freed it.
    NO_SUCH_EXTENT = 8, "this client has no such extent, or has freed it";
    /// The bytes are not in the extent: no bytes, or beyond its end.
    OUT_OF_RANGE = 9, "the bytes are not in the extent: at least 8, and not beyond its end at 2 MiB";
    /// The bytes are not in the buffers of the channel.
    BAD_BUFFER = 10, "the bytes are not in the buffers of the channel";
    /// The client has as many requests under way as it may.
    QUOTA = 11, "the client has as many requests under way as the server allows: wait for completions first";
    /// The server is removing this client.
    NO_SUCH_CLIENT = 12, "the server is removing this client: connect again";
    /// No kind of request, or an offset or a length that is no multiple of 8.
    MALFORMED = 13, "no kind of request, or an offset or a length that is no multiple of 8";
    /// The server is gone. Only the client's side says so: no server sends it.
    SERVER_GONE = 14, "the server is gone: the request may be done, in part or not at all; connect again";
}

impl ChannelStatus {
    /// The status with this number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether all bytes were transferred.
    pub const fn is_done(self) -> bool {
        self.0 == Self::DONE.0
    }

    /// Whether the bytes of the extent are lost for ever.
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::SLAVE_GONE | Self::SLAVE_RESTARTED | Self::RECALLED | Self::LEASE_ENDED)
    }
}

impl fmt::Display for ChannelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.0, self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_what_is_unknown_is_a_failure() {
        for (number, status) in ChannelStatus::ALL.iter().enumerate() {
            assert_eq!((status.number() as usize, ChannelStatus::from_number(status.number())), (number, *status));
            assert!(status.name() != "UNKNOWN" && !status.meaning().is_empty());
        }
        let unknown = ChannelStatus::from_number(99);
        assert!(!unknown.is_done() && !unknown.is_loss() && unknown.to_string().starts_with("UNKNOWN (99): "));
        assert!(ChannelStatus::DONE.is_done() && ChannelStatus::RECALLED.is_loss());
        assert!(!ChannelStatus::NO_ANSWER.is_loss() && !ChannelStatus::FLUSHED.is_loss());
    }
}
