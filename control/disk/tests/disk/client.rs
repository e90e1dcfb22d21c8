//! A client of NBD for tests: it says what it is told to say, and understands all replies.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const CACHE: u16 = 5;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const BLOCK_STATUS: u16 = 7;

pub(crate) const NO_HOLE: u16 = 2;
pub(crate) const DF: u16 = 4;
pub(crate) const REQ_ONE: u16 = 8;
pub(crate) const FAST_ZERO: u16 = 16;

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The error number; 0 for none.
    pub(crate) error: u32,
    pub(crate) data: Vec<u8>,
    /// Chunks of data and of holes.
    pub(crate) chunks: (u32, u32),
    /// Lengths and flags of the block status.
    pub(crate) states: Vec<(u32, u32)>,
}

/// A request that is under way: where its bytes begin, how many, and what came.
#[derive(Debug)]
struct Open {
    offset: u64,
    kind: u16,
    answer: Answer,
    seen: u64,
}

/// See the module's documentation.
pub(crate) struct NbdClient {
    pub(crate) stream: UnixStream,
    structured: bool,
    next: u64,
    open: HashMap<u64, Open>,
    done: HashMap<u64, Answer>,
}

fn number<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u16_of(stream: &mut impl Read) -> io::Result<u16> {
    number(stream).map(u16::from_be_bytes)
}

fn u32_of(stream: &mut impl Read) -> io::Result<u32> {
    number(stream).map(u32::from_be_bytes)
}

fn u64_of(stream: &mut impl Read) -> io::Result<u64> {
    number(stream).map(u64::from_be_bytes)
}

impl NbdClient {
    /// Negotiates with GO.
    pub(crate) fn new(mut stream: UnixStream, structured: bool) -> Self {
        let greeting: [u8; 18] = number(&mut stream).unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        stream.write_all(&3u32.to_be_bytes()).unwrap();
        if structured {
            Self::option(&mut stream, 8, &[]);
            let mut query = [0u32, 1, 15].map(u32::to_be_bytes).concat();
            query.extend(b"base:allocation");
            Self::option(&mut stream, 10, &query);
        }
        Self::option(&mut stream, 7, &[0; 6]);
        Self { stream, structured, next: 1, open: HashMap::new(), done: HashMap::new() }
    }

    fn option(stream: &mut UnixStream, option: u32, data: &[u8]) {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend([option.to_be_bytes(), (data.len() as u32).to_be_bytes()].concat());
        bytes.extend(data);
        stream.write_all(&bytes).unwrap();
        loop {
            assert_eq!(u64_of(stream).unwrap(), 0x0003_e889_0455_65a9);
            let (of, kind, len) = (u32_of(stream).unwrap(), u32_of(stream).unwrap(), u32_of(stream).unwrap());
            let mut data = vec![0; len as usize];
            stream.read_exact(&mut data).unwrap();
            assert!(of == option && kind < 1 << 31, "{of} {kind:#x} {data:?}");
            if kind == 1 {
                return;
            }
        }
    }

    /// The bytes of a request.
    pub(crate) fn head(kind: u16, flags: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
        let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
        bytes.extend([flags.to_be_bytes(), kind.to_be_bytes()].concat());
        bytes.extend([cookie.to_be_bytes(), offset.to_be_bytes()].concat());
        bytes.extend(len.to_be_bytes());
        bytes
    }

    /// Sends a request, and returns its number.
    pub(crate) fn send(&mut self, kind: u16, flags: u16, offset: u64, len: u32, data: &[u8]) -> u64 {
        let cookie = self.next;
        self.next += 1;
        let mut bytes = Self::head(kind, flags, cookie, offset, len);
        bytes.extend(data);
        let room = if kind == READ { len as usize } else { 0 };
        let answer = Answer { data: vec![0xdd; room], ..Answer::default() };
        self.open.insert(cookie, Open { offset, kind, answer, seen: 0 });
        self.stream.write_all(&bytes).unwrap();
        cookie
    }

    /// Expects the answer to a request that somebody else sends with the cookie `at + 1`.
    pub(crate) fn expect(&mut self, at: u64, kind: u16, offset: u64, room: usize) -> u64 {
        let answer = Answer { data: vec![0xdd; room], ..Answer::default() };
        self.open.insert(at + 1, Open { offset, kind, answer, seen: 0 });
        self.next = self.next.max(at + 2);
        at + 1
    }

    /// Waits for the answer to a request.
    pub(crate) fn wait(&mut self, cookie: u64) -> Answer {
        loop {
            if let Some(answer) = self.done.remove(&cookie) {
                return answer;
            }
            self.receive().unwrap();
        }
    }

    /// Waits for the answer to a request; `None` if the connection ends before it comes.
    pub(crate) fn try_wait(&mut self, cookie: u64) -> Option<Answer> {
        while !self.done.contains_key(&cookie) {
            self.receive().ok()?;
        }
        self.done.remove(&cookie)
    }

    /// Receives one reply, or one chunk.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        let stream = &mut self.stream;
        match u32_of(stream)? {
            0x6744_6698 => {
                let (error, cookie) = (u32_of(stream)?, u64_of(stream)?);
                let mut open = self.open.remove(&cookie).expect("a reply to no request");
                assert!(!self.structured || open.kind != READ, "READs have structured replies");
                open.answer.error = error;
                if open.kind == READ && error == 0 {
                    stream.read_exact(&mut open.answer.data)?;
                }
                self.done.insert(cookie, open.answer);
            }
            0x668e_33ef => {
                let (flags, kind, cookie, len) = (u16_of(stream)?, u16_of(stream)?, u64_of(stream)?, u32_of(stream)?);
                assert!(self.structured);
                let open = self.open.get_mut(&cookie).expect("a chunk of no request");
                let answer = &mut open.answer;
                match kind {
                    0 => assert_eq!((flags, len), (1, 0)),
                    1 | 2 => {
                        let at = (u64_of(stream)? - open.offset) as usize;
                        let count = if kind == 1 { len - 8 } else { u32_of(stream)? } as usize;
                        assert!(count > 0 && (kind == 1 || len == 12));
                        let place = &mut answer.data[at..at + count];
                        if kind == 1 {
                            stream.read_exact(place)?;
                            answer.chunks.0 += 1;
                        } else {
                            place.fill(0);
                            answer.chunks.1 += 1;
                        }
                        open.seen += count as u64;
                    }
                    5 => {
                        assert_eq!(u32_of(stream)?, 1);
                        for _ in 0..(len - 4) / 8 {
                            answer.states.push((u32_of(stream)?, u32_of(stream)?));
                        }
                    }
                    0x8001 => {
                        answer.error = u32_of(stream)?;
                        let mut text = vec![0; u16_of(stream)?.into()];
                        stream.read_exact(&mut text)?;
                        assert_eq!(text.len(), len as usize - 6);
                    }
                    other => panic!("chunk {other}"),
                }
                if flags & 1 != 0 {
                    let open = self.open.remove(&cookie).unwrap();
                    let complete = open.kind != READ || open.seen == open.answer.data.len() as u64;
                    assert!(open.answer.error != 0 || complete, "{:?}", open.answer.chunks);
                    self.done.insert(cookie, open.answer);
                }
            }
            magic => panic!("magic {magic:#x}"),
        }
        Ok(())
    }

    fn ask(&mut self, kind: u16, flags: u16, offset: u64, len: u32, data: &[u8]) -> Answer {
        let cookie = self.send(kind, flags, offset, len, data);
        self.wait(cookie)
    }

    pub(crate) fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, u32> {
        let answer = self.ask(READ, 0, offset, len, &[]);
        if answer.error == 0 { Ok(answer.data) } else { Err(answer.error) }
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> u32 {
        self.ask(WRITE, 0, offset, data.len() as u32, data).error
    }

    pub(crate) fn plain(&mut self, kind: u16, flags: u16, offset: u64, len: u32) -> u32 {
        self.ask(kind, flags, offset, len, &[]).error
    }

    pub(crate) fn full(&mut self, kind: u16, flags: u16, offset: u64, len: u32) -> Answer {
        self.ask(kind, flags, offset, len, &[])
    }
}
