//! The messages of the Unix socket, each one datagram of a `SOCK_SEQPACKET` socket. All numbers are little-endian.
//!
//! Each message begins with 16 bytes: `GVMP`, the version (2 bytes), the kind (2 bytes) and a number of the client (8
//! bytes), which its answer repeats; notices have 0 there. This head and REFUSED stay as they are in every version.

use crate::area::{AREA_NAME, AreaInfo, AreaName, AreaState, AreaUse};
pub use crate::refused::RefusedFor;

/// The version of channels and messages.
pub const VERSION: u16 = 2;

/// Each message begins with these bytes.
pub const MAGIC: [u8; 4] = *b"GVMP";

/// Bytes of the head.
pub const HEAD: usize = 16;

/// Bytes of a client's name, at most.
pub const NAME: usize = 32;

/// The most extents in one message.
pub const MOST_EXTENTS: usize = 1024;

/// Bytes of an area in one message.
const AREA: usize = AREA_NAME + 24;

/// The most areas in one message.
pub const MOST_AREAS: usize = 128;

/// Bytes of the longest message.
pub const MOST_BYTES: usize = HEAD + 16 + 8 * MOST_EXTENTS;

const _: () = assert!(HEAD + 8 + AREA * MOST_AREAS <= MOST_BYTES);

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
        /// The area that its extents are to be in, and what it wants of it. Without one, its extents are freed when the
        /// connection ends. The name is as the client wrote it: whether it is one is the server's question.
        area: Option<(String, AreaUse)>,
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
    /// Client: which extents has it? Kind 14.
    List {
        /// 0 for the first ones, or the number that the last answer has for the next ones.
        from: u64,
    },
    /// Server: these, in the order in which they were allocated. What is known of their loss and recall came before, as
    /// notices. Kind 15.
    Listed {
        /// The number for the next ones; 0 if there are no more.
        next: u64,
        /// Which.
        extents: Vec<u64>,
    },
    /// Client: its area is to be none any more. Kind 16.
    Remove,
    /// Server: the name is free. The extents are the client's until it frees them, or the connection ends. Kind 17.
    Removed,
    /// Client: which areas are there? It needs no channel for that. Kind 18.
    Areas {
        /// Those whose names are behind this one; empty for the first ones.
        after: String,
    },
    /// Server: these, by name: those of the client's user, and all for root. Kind 19.
    AreaList {
        /// There are more.
        more: bool,
        /// At most [`MOST_AREAS`].
        areas: Vec<AreaInfo>,
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

/// A text that is cut to `room` bytes between two characters, and zeros behind it.
fn put_text(out: &mut Vec<u8>, text: &str, room: usize) {
    let mut len = text.len().min(room);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    let end = out.len() + room;
    out.extend(&text.as_bytes()[..len]);
    out.resize(end, 0);
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

    /// A text of at most so many bytes, with zeros behind it.
    fn text<const N: usize>(&mut self) -> Option<&str> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(N);
        std::str::from_utf8(&bytes[..end]).ok()
    }

    /// The same, and nothing but zeros is behind it.
    fn exact_text<const N: usize>(&mut self) -> Option<&str> {
        let zeros = self.0.get(..N)?.iter().skip_while(|byte| **byte != 0);
        if zeros.clone().any(|byte| *byte != 0) { None } else { self.text::<N>() }
    }

    fn flag(&mut self) -> Option<bool> {
        match self.next_u32()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn area(&mut self) -> Option<AreaInfo> {
        let name = AreaName::new(self.exact_text::<AREA_NAME>()?).ok()?;
        let (user, state) = (self.next_u32()?, AreaState::from_number(self.next_u32()?)?);
        let (pid, extents, lost) = (self.next_u32()?, self.next_u32()?, self.next_u32()?);
        (self.next_u32()? == 0).then_some(AreaInfo { name, user, state, pid, extents, lost })
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
            MessageBody::Hello { capacity, extents, buffers, name, area } => {
                out.extend(capacity.to_le_bytes());
                out.extend(extents.to_le_bytes());
                out.extend(buffers.to_le_bytes());
                put_text(&mut out, name, NAME);
                let (name, number) = area.as_ref().map_or(("", 0), |(name, wanted)| (name.as_str(), wanted.number()));
                put_text(&mut out, name, AREA_NAME);
                out.extend(number.to_le_bytes());
                out.extend([0; 4]);
            }
            MessageBody::Welcome { capacity, extents, buffers } => {
                out.extend(capacity.to_le_bytes());
                out.extend(extents.to_le_bytes());
                out.extend(buffers.to_le_bytes());
            }
            MessageBody::Mapped
            | MessageBody::Open
            | MessageBody::Freed
            | MessageBody::Stat
            | MessageBody::Remove
            | MessageBody::Removed => (),
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
            MessageBody::List { from } => out.extend(from.to_le_bytes()),
            MessageBody::Listed { next, extents } => {
                out.extend(next.to_le_bytes());
                put_extents(&mut out, 0, extents);
            }
            MessageBody::Areas { after } => put_text(&mut out, after, AREA_NAME),
            MessageBody::AreaList { more, areas } => {
                out.extend(u32::from(*more).to_le_bytes());
                out.extend((areas.len() as u32).to_le_bytes());
                for AreaInfo { name, user, state, pid, extents, lost } in areas {
                    put_text(&mut out, name.as_str(), AREA_NAME);
                    for number in [*user, state.number(), *pid, *extents, *lost, 0] {
                        out.extend(number.to_le_bytes());
                    }
                }
            }
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
            Self::List { .. } => 14,
            Self::Listed { .. } => 15,
            Self::Remove => 16,
            Self::Removed => 17,
            Self::Areas { .. } => 18,
            Self::AreaList { .. } => 19,
        }
    }

    fn parse(kind: u16, numbers: &mut Numbers<'_>) -> Option<Self> {
        Some(match kind {
            1 => {
                let (capacity, extents, buffers) = (numbers.next_u32()?, numbers.next_u32()?, numbers.next_u64()?);
                let name = numbers.text::<NAME>()?.to_owned();
                let area = numbers.exact_text::<AREA_NAME>()?.to_owned();
                let area = match (numbers.next_u32()?, numbers.next_u32()?) {
                    (0, 0) if area.is_empty() => None,
                    (wanted, 0) => Some((area, AreaUse::from_number(wanted)?)),
                    _ => return None,
                };
                Self::Hello { capacity, extents, buffers, name, area }
            }
            2 => {
                let (capacity, extents) = (numbers.next_u32()?, numbers.next_u32()?);
                Self::Welcome { capacity, extents, buffers: numbers.next_u64()? }
            }
            3 => Self::Mapped,
            4 => Self::Open,
            5 => {
                let (reason, _) = (RefusedFor::from_number(numbers.next_u32()?), numbers.next_u32()?);
                Self::Refused { reason, limit: numbers.next_u64()? }
            }
            6 => {
                let count = numbers.next_u32()?;
                Self::Allocate { count, apart: numbers.flag()? }
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
            14 => Self::List { from: numbers.next_u64()? },
            15 => {
                let next = numbers.next_u64()?;
                Self::Listed { next, extents: numbers.extents()?.1 }
            }
            16 => Self::Remove,
            17 => Self::Removed,
            18 => Self::Areas { after: numbers.exact_text::<AREA_NAME>()?.to_owned() },
            19 => {
                let (more, count) = (numbers.flag()?, numbers.next_u32()? as usize);
                if count > MOST_AREAS || numbers.0.len() != AREA * count {
                    return None;
                }
                let areas = (0..count).map(|_| numbers.area()).collect::<Option<_>>()?;
                Self::AreaList { more, areas }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(name: &str) -> AreaInfo {
        let name = AreaName::new(name).unwrap();
        AreaInfo { name, user: 1000, state: AreaState::InUse, pid: 17, extents: 5, lost: 1 }
    }

    fn hello(area: Option<(String, AreaUse)>) -> MessageBody {
        MessageBody::Hello { capacity: 2, extents: 0, buffers: 4096, name: "app".to_owned(), area }
    }

    fn all() -> Vec<MessageBody> {
        let name = "redis".to_owned();
        vec![
            MessageBody::Hello { capacity: 64, extents: 16, buffers: 1 << 20, name, area: None },
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
            MessageBody::List { from: 77 },
            MessageBody::Listed { next: 78, extents: vec![4, 9] },
            MessageBody::Remove,
            MessageBody::Removed,
            MessageBody::Areas { after: "disk-1".to_owned() },
            MessageBody::AreaList { more: true, areas: vec![area("disk-2"), area("x")] },
        ]
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let hello = Message { tag: 7, body: all().remove(0) }.emit();
        assert_eq!(hello.len(), 104);
        assert_eq!(&hello[..8], b"GVMP\x02\x00\x01\x00");
        assert_eq!(hello[8..32], *b"\x07\0\0\0\0\0\0\0\x40\0\0\0\x10\0\0\0\0\0\x10\0\0\0\0\0");
        assert_eq!(hello[32..40], *b"redis\0\0\0");
        assert_eq!(hello[40..], [0; 64]);
        let body = self::hello(Some(("disk-1".to_owned(), AreaUse::Existing)));
        let hello = Message { tag: 7, body }.emit();
        assert_eq!(hello[64..72], *b"disk-1\0\0");
        assert_eq!(hello[72..], [&[0; 24][..], b"\x03\0\0\0\0\0\0\0"].concat());
        let listed = Message { tag: 1, body: MessageBody::Listed { next: 9, extents: vec![5] } }.emit();
        assert_eq!(listed[16..], *b"\x09\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0");
        let areas = Message { tag: 1, body: MessageBody::AreaList { more: false, areas: vec![area("x")] } }.emit();
        assert_eq!((areas.len(), &areas[16..26]), (80, &b"\0\0\0\0\x01\0\0\0x\0"[..]));
        assert_eq!(areas[56..], *b"\xe8\x03\0\0\x02\0\0\0\x11\0\0\0\x05\0\0\0\x01\0\0\0\0\0\0\0");
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
        let longest = Message { tag: 0, body: MessageBody::Listed { next: 1, extents: vec![0; MOST_EXTENTS] } }.emit();
        assert_eq!(longest.len(), MOST_BYTES);
        let areas = MessageBody::AreaList { more: true, areas: vec![area("x"); MOST_AREAS + 1] };
        assert_eq!(Message::parse(&Message { tag: 0, body: areas }.emit()), Err(MessageError::Malformed(19)));
        let longer = Message { tag: 0, body: MessageBody::Free(vec![0; MOST_EXTENTS + 1]) }.emit();
        assert_eq!(Message::parse(&longer), Err(MessageError::Malformed(8)));
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        let name = format!("{}\u{e9}", "x".repeat(NAME - 1));
        let body = MessageBody::Hello { capacity: 2, extents: 0, buffers: 4096, name, area: None };
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
    fn an_area_has_a_name_and_a_use_or_neither() {
        let with = |at: usize, byte: u8| {
            let mut bytes = Message { tag: 1, body: hello(Some(("a".to_owned(), AreaUse::New))) }.emit();
            bytes[at] = byte;
            Message::parse(&bytes).map(|message| message.body)
        };
        // Rubbish behind the name, an unknown use, no use at all, something in the bytes that are 0.
        for (at, byte) in [(80, 7), (96, 4), (96, 0), (100, 1), (64, 0xff)] {
            assert_eq!(with(at, byte), Err(MessageError::Malformed(1)), "{at}");
        }
        // Whether the text is a name is the server's question.
        assert_eq!(with(64, b'/'), Ok(hello(Some(("/".to_owned(), AreaUse::New)))));
        assert_eq!(with(64, 0), Ok(hello(Some((String::new(), AreaUse::New)))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(
            kind in 0u16..22, tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &kind.to_le_bytes(), &[0; 8], &tail].concat();
            if let Ok(message) = Message::parse(&bytes) {
                prop_assert_eq!(Message::parse(&message.emit()), Ok(message));
            }
        }
    }
}
