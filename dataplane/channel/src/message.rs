//! The messages of the Unix socket, each one datagram of a `SOCK_SEQPACKET` socket. All numbers are little-endian.
//!
//! Each message begins with 16 bytes: `GVMP`, the version (2 bytes), the kind (2 bytes) and a number of the client (8
//! bytes), which its answer repeats; notices have 0 there. This head and REFUSED stay as they are in every version.

use std::fmt;

/// The version of channels and messages.
pub const VERSION: u16 = 1;

/// Each message begins with these bytes.
pub const MAGIC: [u8; 4] = *b"GVMP";

/// Bytes of the head.
pub const HEAD: usize = 16;

/// Bytes of a client's name, at most.
pub const NAME: usize = 32;

/// The most extents in one message.
pub const MOST_EXTENTS: usize = 1024;

/// Bytes of the longest message.
pub const MOST_BYTES: usize = HEAD + 8 + 8 * MOST_EXTENTS;

/// Descriptors that come with WELCOME: the memory, the bell that the client rings, the bell that it hears.
pub const DESCRIPTORS: usize = 3;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageBody {
    /// Client: it wants a channel. Kind 1.
    Hello {
        /// Requests under way that it wants; a power of two.
        capacity: u32,
        /// Extents that it wants to be allowed; 0 for as many as the server allows.
        extents: u32,
        /// Bytes of buffers that it wants.
        buffers: u64,
        /// What the server's operator sees of it: at most [`NAME`] bytes.
        name: String,
    },
    /// Server: the channel that the client gets, with [`DESCRIPTORS`]. Kind 2.
    Welcome {
        /// Requests under way, at most as many as wanted.
        capacity: u32,
        /// Extents that the client may have at once.
        extents: u32,
        /// Bytes of buffers, at most as many as wanted.
        buffers: u64,
    },
    /// Client: it has mapped the memory. Kind 3.
    Mapped,
    /// Server: the memory is frozen, and the channel can be used. Kind 4.
    Open,
    /// Server: it does not do what was asked. Kind 5.
    Refused {
        /// Why.
        reason: RefusedFor,
        /// The limit that the reason is about, or 0.
        limit: u64,
    },
    /// Client: it wants extents. It gets all of them or none. Kind 6.
    Allocate {
        /// How many: 1 to [`MOST_EXTENTS`].
        count: u32,
        /// Each in another failure domain, as the copies of a page need.
        apart: bool,
    },
    /// Server: these are the extents. Their bytes are zero, or what this client wrote into extents that it freed.
    /// Kind 7.
    Allocated(Vec<u64>),
    /// Client: it does not need these extents any more. Numbers that it does not have are ignored. Kind 8.
    Free(Vec<u64>),
    /// Server: it has read that. Kind 9.
    Freed,
    /// Client: how is it going? Kind 10.
    Stat,
    /// Server: so. Kind 11.
    State(ClientState),
    /// Server, a notice: the bytes of these extents are lost. The client frees them. Kind 12.
    Lost {
        /// Why, as requests for them end.
        status: u32,
        /// Which.
        extents: Vec<u64>,
    },
    /// Server, a notice: the memory of these extents is wanted back. The client moves the bytes elsewhere and frees the
    /// extents. After the time they are lost. Kind 13.
    Recalled {
        /// In which time, in milliseconds.
        within_ms: u32,
        /// Which.
        extents: Vec<u64>,
    },
}

/// What a server says about one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientState {
    /// Extents that it may have at once.
    pub quota: u32,
    /// Extents that it has.
    pub extents: u32,
    /// Requests that ended.
    pub requests: u64,
    /// Those that did not end with DONE.
    pub failures: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
}

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
            Self::CLIENTS => "it has as many clients as it takes: end one, or raise that number",
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
            _ => "for a reason that this version does not know: update the library",
        }
    }
}

impl fmt::Display for RefusedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// They do not begin as messages do.
    #[error("what came over the socket does not begin as messages for pages do: another program has that socket")]
    NoMessage,
    /// Another version.
    #[error("the other end has version {0} of the protocol for pages, and this one has version {VERSION}: update one")]
    Version(u16),
    /// A kind that this version does not know, or a length or a number that this kind cannot have.
    #[error("a message of kind {0} for pages that makes no sense: update the older end")]
    Malformed(u16),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of the client that the answer repeats; 0 in notices.
    pub tag: u64,
    /// What it says.
    pub body: MessageBody,
}

fn put_extents(out: &mut Vec<u8>, first: u32, extents: &[u64]) {
    out.extend(first.to_le_bytes());
    out.extend((extents.len() as u32).to_le_bytes());
    out.extend(extents.iter().flat_map(|extent| extent.to_le_bytes()));
}

/// Reads numbers, one after the other.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next_u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    fn next_u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    /// A number, and a list of extents that is all the rest.
    fn extents(&mut self) -> Option<(u32, Vec<u64>)> {
        let (first, count) = (self.next_u32()?, self.next_u32()? as usize);
        if count > MOST_EXTENTS || self.0.len() != 8 * count {
            return None;
        }
        let extents = std::iter::from_fn(|| self.next_u64()).collect();
        Some((first, extents))
    }
}

impl Message {
    /// Its bytes. A name that is too long is cut; a list has at most [`MOST_EXTENTS`], which the caller sees to.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.body.kind().to_le_bytes());
        out.extend(self.tag.to_le_bytes());
        match &self.body {
            MessageBody::Hello { capacity, extents, buffers, name } => {
                out.extend(capacity.to_le_bytes());
                out.extend(extents.to_le_bytes());
                out.extend(buffers.to_le_bytes());
                let mut end = name.len().min(NAME);
                while !name.is_char_boundary(end) {
                    end -= 1;
                }
                out.extend(&name.as_bytes()[..end]);
                out.resize(HEAD + 16 + NAME, 0);
            }
            MessageBody::Welcome { capacity, extents, buffers } => {
                out.extend(capacity.to_le_bytes());
                out.extend(extents.to_le_bytes());
                out.extend(buffers.to_le_bytes());
            }
            MessageBody::Mapped | MessageBody::Open | MessageBody::Freed | MessageBody::Stat => (),
            MessageBody::Refused { reason, limit } => {
                out.extend(reason.number().to_le_bytes());
                out.extend([0; 4]);
                out.extend(limit.to_le_bytes());
            }
            MessageBody::Allocate { count, apart } => {
                out.extend(count.to_le_bytes());
                out.extend(u32::from(*apart).to_le_bytes());
            }
            MessageBody::Allocated(extents) | MessageBody::Free(extents) => put_extents(&mut out, 0, extents),
            MessageBody::State(state) => {
                out.extend(state.quota.to_le_bytes());
                out.extend(state.extents.to_le_bytes());
                for number in [state.requests, state.failures, state.bytes_read, state.bytes_written] {
                    out.extend(number.to_le_bytes());
                }
            }
            MessageBody::Lost { status, extents } => put_extents(&mut out, *status, extents),
            MessageBody::Recalled { within_ms, extents } => put_extents(&mut out, *within_ms, extents),
        }
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Err(MessageError::NoMessage) };
        let &[a, b, c, d, v0, v1, k0, k1, ref tag @ ..] = head;
        if [a, b, c, d] != MAGIC {
            return Err(MessageError::NoMessage);
        }
        let (version, kind) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([k0, k1]));
        // A refusal is understood in every version: it says which one the server has.
        if version != VERSION && kind != 5 {
            return Err(MessageError::Version(version));
        }
        let mut numbers = Numbers(rest);
        let body = MessageBody::parse(kind, &mut numbers).filter(|_| numbers.0.is_empty());
        let body = body.ok_or(MessageError::Malformed(kind))?;
        Ok(Self { tag: u64::from_le_bytes(*tag), body })
    }
}

impl MessageBody {
    /// The number of its kind.
    const fn kind(&self) -> u16 {
        match self {
            Self::Hello { .. } => 1,
            Self::Welcome { .. } => 2,
            Self::Mapped => 3,
            Self::Open => 4,
            Self::Refused { .. } => 5,
            Self::Allocate { .. } => 6,
            Self::Allocated(_) => 7,
            Self::Free(_) => 8,
            Self::Freed => 9,
            Self::Stat => 10,
            Self::State(_) => 11,
            Self::Lost { .. } => 12,
            Self::Recalled { .. } => 13,
        }
    }

    fn parse(kind: u16, numbers: &mut Numbers<'_>) -> Option<Self> {
        Some(match kind {
            1 => {
                let (capacity, extents, buffers) = (numbers.next_u32()?, numbers.next_u32()?, numbers.next_u64()?);
                let (name, rest) = numbers.0.split_first_chunk::<NAME>()?;
                numbers.0 = rest;
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
                Self::Hello { capacity, extents, buffers, name: std::str::from_utf8(&name[..end]).ok()?.to_owned() }
            }
            2 => {
                let (capacity, extents) = (numbers.next_u32()?, numbers.next_u32()?);
                Self::Welcome { capacity, extents, buffers: numbers.next_u64()? }
            }
            3 => Self::Mapped,
            4 => Self::Open,
            5 => {
                let (reason, _) = (RefusedFor(numbers.next_u32()?), numbers.next_u32()?);
                Self::Refused { reason, limit: numbers.next_u64()? }
            }
            6 => {
                let count = numbers.next_u32()?;
                let apart = match numbers.next_u32()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                Self::Allocate { count, apart }
            }
            7 => Self::Allocated(numbers.extents()?.1),
            8 => Self::Free(numbers.extents()?.1),
            9 => Self::Freed,
            10 => Self::Stat,
            11 => {
                let (quota, extents) = (numbers.next_u32()?, numbers.next_u32()?);
                let (requests, failures) = (numbers.next_u64()?, numbers.next_u64()?);
                let (bytes_read, bytes_written) = (numbers.next_u64()?, numbers.next_u64()?);
                Self::State(ClientState { quota, extents, requests, failures, bytes_read, bytes_written })
            }
            12 => {
                let (status, extents) = numbers.extents()?;
                Self::Lost { status, extents }
            }
            13 => {
                let (within_ms, extents) = numbers.extents()?;
                Self::Recalled { within_ms, extents }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<MessageBody> {
        let name = "redis".to_owned();
        vec![
            MessageBody::Hello { capacity: 64, extents: 16, buffers: 1 << 20, name },
            MessageBody::Welcome { capacity: 32, extents: 8, buffers: 1 << 19 },
            MessageBody::Mapped,
            MessageBody::Open,
            MessageBody::Refused { reason: RefusedFor::QUOTA, limit: 8 },
            MessageBody::Allocate { count: 3, apart: true },
            MessageBody::Allocated(vec![1, 2, 3]),
            MessageBody::Free(vec![3]),
            MessageBody::Freed,
            MessageBody::Stat,
            MessageBody::State(ClientState { quota: 8, extents: 2, requests: 5, failures: 1, ..Default::default() }),
            MessageBody::Lost { status: 3, extents: vec![2] },
            MessageBody::Recalled { within_ms: 30_000, extents: vec![1, u64::MAX] },
        ]
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let hello = Message { tag: 7, body: all().remove(0) }.emit();
        assert_eq!(hello.len(), 64);
        assert_eq!(&hello[..8], b"GVMP\x01\x00\x01\x00");
        assert_eq!(hello[8..32], *b"\x07\0\0\0\0\0\0\0\x40\0\0\0\x10\0\0\0\0\0\x10\0\0\0\0\0");
        assert_eq!(hello[32..40], *b"redis\0\0\0");
        let lost = Message { tag: 0, body: MessageBody::Lost { status: 3, extents: vec![0x0102] } }.emit();
        assert_eq!(lost[6..], *b"\x0c\0\0\0\0\0\0\0\0\0\x03\0\0\0\x01\0\0\0\x02\x01\0\0\0\0\0\0");
    }

    #[test]
    fn each_kind_is_read_as_it_was_written() {
        for (place, body) in all().into_iter().enumerate() {
            assert_eq!(usize::from(body.kind()), place + 1);
            let message = Message { tag: 9, body };
            let bytes = message.emit();
            assert_eq!(Message::parse(&bytes), Ok(message.clone()));
            for short in 0..bytes.len() {
                assert!(Message::parse(&bytes[..short]).is_err(), "{message:?} cut to {short}");
            }
            assert!(Message::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
        let longest = Message { tag: 0, body: MessageBody::Free(vec![0; MOST_EXTENTS]) }.emit();
        assert_eq!(longest.len(), MOST_BYTES);
        let longer = Message { tag: 0, body: MessageBody::Free(vec![0; MOST_EXTENTS + 1]) }.emit();
        assert_eq!(Message::parse(&longer), Err(MessageError::Malformed(8)));
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        let name = format!("{}\u{e9}", "x".repeat(NAME - 1));
        let body = MessageBody::Hello { capacity: 2, extents: 0, buffers: 4096, name };
        let Ok(Message { body: MessageBody::Hello { name, .. }, .. }) =
            Message::parse(&Message { tag: 0, body }.emit())
        else {
            panic!("it is a HELLO");
        };
        assert_eq!(name, "x".repeat(NAME - 1));
    }

    #[test]
    fn another_version_is_named_and_its_refusal_understood() {
        let mut hello = Message { tag: 1, body: MessageBody::Stat }.emit();
        hello[4] = 9;
        assert_eq!(Message::parse(&hello), Err(MessageError::Version(9)));
        let body = MessageBody::Refused { reason: RefusedFor::VERSION, limit: 9 };
        let mut refused = Message { tag: 1, body: body.clone() }.emit();
        refused[4] = 9;
        assert_eq!(Message::parse(&refused), Ok(Message { tag: 1, body }));
        hello[0] = b'X';
        assert_eq!(Message::parse(&hello), Err(MessageError::NoMessage));
    }

    #[test]
    fn every_refusal_has_its_remedy() {
        let texts: std::collections::BTreeSet<_> = (1..=11).map(|number| RefusedFor(number).text()).collect();
        assert_eq!(texts.len(), 11);
        assert!(texts.iter().all(|text| text.contains(": ") || text.contains("at most")));
        assert!(RefusedFor::from_number(77).to_string().contains("update"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(
            kind in 0u16..16, tail in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &kind.to_le_bytes(), &[0; 8], &tail].concat();
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert_eq!(Message::parse(&message.emit()), Ok(message));
            }
        }
    }
}
