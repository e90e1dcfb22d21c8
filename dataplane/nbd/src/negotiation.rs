//! From the greeting to the first request.

use crate::bytes::Bytes;
use crate::export::Export;
use crate::fault::NbdFault;
use crate::option::{self, Chosen, Next, answer, number};
use std::sync::Arc;

/// What a server says first.
const GREETING: [u8; 18] = *b"NBDMAGICIHAVEOPT\0\x03";

/// `IHAVEOPT`.
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;

/// The flags that are offered, and may come back: fixed newstyle, no zeroes.
const FIXED_NEWSTYLE: u32 = 1;
const NO_ZEROES: u32 = 2;

/// Bytes that follow the reply to EXPORT_NAME, unless the client wants none.
const ZEROES: [u8; 124] = [0; 124];

/// Bytes of the head of an option.
const HEAD: usize = 16;

/// The most data of an option that is read. Names have at most 4096 bytes.
const LONGEST: u32 = 16 << 10;

/// The most data of an option that is skipped.
const MOST_SKIPPED: u32 = 1 << 25;

/// The most options of a connection.
const MOST_OPTIONS: u32 = 256;

/// What client and server have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Replies to READ are structured.
    pub structured: bool,
    /// The client may ask for the status of blocks: `base:allocation`.
    pub allocation: bool,
}

/// Where a negotiation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiationStep {
    /// It goes on when more bytes have come.
    More,
    /// Requests follow.
    Transmission(Negotiated),
    /// The client has left. Send what is there, then close.
    End,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Flags,
    Option,
    /// So many bytes of data have no meaning.
    Skip(u32),
}

/// The negotiation of one connection.
#[derive(Debug)]
pub struct Negotiation {
    export: Arc<Export>,
    state: State,
    is_fixed: bool,
    wants_zeroes: bool,
    chosen: Chosen,
    options: u32,
}

impl Negotiation {
    /// A negotiation about this disk. The server first sends [`Negotiation::greeting`].
    pub fn new(export: Arc<Export>) -> Self {
        let chosen = Chosen::default();
        Self { export, state: State::Flags, is_fixed: false, wants_zeroes: true, chosen, options: 0 }
    }

    /// What the server sends first.
    pub const fn greeting() -> &'static [u8] {
        &GREETING
    }

    /// The most bytes that [`Negotiation::take`] needs at once to go on.
    pub const MOST_NEEDED: usize = HEAD + LONGEST as usize;

    /// Takes bytes that came from the client, and appends to `out` what the server sends. Returns how many bytes were
    /// taken; the others must be there at the next call, with those that came since.
    ///
    /// # Errors
    /// The client does not keep to the protocol. Send what is in `out`, then close the connection.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, NegotiationStep), NbdFault> {
        let mut rest = Bytes(input);
        loop {
            let before = rest;
            let step = self.step(&mut rest, out)?;
            let taken = |rest: Bytes<'_>| input.len() - rest.0.len();
            match step {
                None => return Ok((taken(before), NegotiationStep::More)),
                Some(Next::Option) => (),
                Some(Next::End) => return Ok((taken(rest), NegotiationStep::End)),
                Some(Next::Transmission) => {
                    let Chosen { structured, allocation } = self.chosen;
                    return Ok((taken(rest), NegotiationStep::Transmission(Negotiated { structured, allocation })));
                }
            }
        }
    }

    /// Takes the flags, one option, or what is skipped; `None` if more bytes are needed.
    fn step(&mut self, rest: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<Option<Next>, NbdFault> {
        match self.state {
            State::Flags => {
                let Some(flags) = rest.u32() else { return Ok(None) };
                if flags & !(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
                    return Err(NbdFault::ClientFlags(flags));
                }
                self.is_fixed = flags & FIXED_NEWSTYLE != 0;
                self.wants_zeroes = flags & NO_ZEROES == 0;
                self.state = State::Option;
                Ok(Some(Next::Option))
            }
            State::Skip(left) => {
                let now = rest.0.len().min(left as usize);
                let _ = rest.slice(now);
                let left = left - now as u32;
                self.state = if left == 0 { State::Option } else { State::Skip(left) };
                Ok((now > 0).then_some(Next::Option))
            }
            State::Option => self.option(rest, out),
        }
    }

    fn option(&mut self, rest: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<Option<Next>, NbdFault> {
        let (Some(magic), Some(option), Some(len)) = (rest.u64(), rest.u32(), rest.u32()) else { return Ok(None) };
        if magic != OPTION_MAGIC {
            return Err(NbdFault::OptionMagic(magic));
        }
        if len > MOST_SKIPPED || (option == number::EXPORT_NAME && len > LONGEST) {
            return Err(NbdFault::OptionLength { option, len });
        }
        if !self.is_fixed && option != number::EXPORT_NAME {
            return Err(NbdFault::NotFixed(option));
        }
        if len <= LONGEST && rest.0.len() < len as usize {
            return Ok(None);
        }
        self.options += 1;
        if self.options > MOST_OPTIONS {
            return Err(NbdFault::OptionCount(self.options));
        }
        let Some(data) = (if len <= LONGEST { rest.slice(len as usize) } else { None }) else {
            option::reply(out, option, answer::ERR_TOO_BIG, &[b"the option has too much data"]);
            self.state = State::Skip(len);
            return Ok(Some(Next::Option));
        };
        if option != number::EXPORT_NAME {
            return Ok(Some(option::perform(option, data, &self.export, &mut self.chosen, out)));
        }
        if !std::str::from_utf8(data).is_ok_and(|name| self.export.is_called(name)) {
            return Err(NbdFault::NoSuchExport);
        }
        out.extend(self.export.size.to_be_bytes());
        out.extend(self.export.flags(self.chosen.structured).to_be_bytes());
        if self.wants_zeroes {
            out.extend(ZEROES);
        }
        Ok(Some(Next::Transmission))
    }
}
