//! The options of the negotiation: one at a time, with all its data.

use crate::bytes::Bytes;
use crate::export::Export;

/// `NBD_OPT_...`.
pub(crate) mod number {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const STARTTLS: u32 = 5;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

/// `NBD_REP_...`.
pub(crate) mod answer {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERR_UNSUP: u32 = 1 << 31 | 1;
    pub(crate) const ERR_POLICY: u32 = 1 << 31 | 2;
    pub(crate) const ERR_INVALID: u32 = 1 << 31 | 3;
    pub(crate) const ERR_UNKNOWN: u32 = 1 << 31 | 6;
    pub(crate) const ERR_TOO_BIG: u32 = 1 << 31 | 9;
}

/// `NBD_INFO_...`.
mod info {
    pub(super) const EXPORT: u16 = 0;
    pub(super) const NAME: u16 = 1;
    pub(super) const DESCRIPTION: u16 = 2;
    pub(super) const BLOCK_SIZE: u16 = 3;
}

/// The magic number of replies to options.
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// The only metadata context.
const ALLOCATION: &str = "base:allocation";

/// The number by which its block status is told from that of other contexts.
pub(crate) const ALLOCATION_ID: u32 = 1;

/// What a client has agreed on so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) structured: bool,
    pub(crate) allocation: bool,
}

/// What an option leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another option.
    Option,
    /// Requests.
    Transmission,
    /// The client leaves.
    End,
}

/// Appends one reply to an option.
pub(crate) fn reply(out: &mut Vec<u8>, option: u32, kind: u32, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    out.extend(REPLY_MAGIC.to_be_bytes());
    [option, kind, len].iter().for_each(|number| out.extend(number.to_be_bytes()));
    parts.iter().for_each(|part| out.extend(*part));
}

/// Why an option is refused: the kind of reply, and a text for people.
type Refused = (u32, &'static str);

const INVALID: Refused = (answer::ERR_INVALID, "the data of the option does not have the form that it should have");

/// Does what an option asks for, and appends the replies. `EXPORT_NAME` does not come here.
pub(crate) fn perform(option: u32, data: &[u8], export: &Export, chosen: &mut Chosen, out: &mut Vec<u8>) -> Next {
    let result = match option {
        number::ABORT => {
            reply(out, option, answer::ACK, &[]);
            return Next::End;
        }
        number::LIST => list(data, export, out),
        number::STARTTLS => {
            Err((answer::ERR_POLICY, "this server has no TLS: use a Unix socket, a private network, or a tunnel"))
        }
        number::INFO | number::GO => inform(option, data, export, *chosen, out),
        number::STRUCTURED_REPLY if !data.is_empty() => Err(INVALID),
        number::STRUCTURED_REPLY => {
            chosen.structured = true;
            Ok(())
        }
        number::LIST_META_CONTEXT | number::SET_META_CONTEXT => contexts(option, data, export, chosen, out),
        _ => Err((answer::ERR_UNSUP, "this server does not know the option")),
    };
    match result {
        Ok(()) => reply(out, option, answer::ACK, &[]),
        Err((kind, text)) => {
            reply(out, option, kind, &[text.as_bytes()]);
            return Next::Option;
        }
    }
    if option == number::GO { Next::Transmission } else { Next::Option }
}

fn list(data: &[u8], export: &Export, out: &mut Vec<u8>) -> Result<(), Refused> {
    if !data.is_empty() {
        return Err(INVALID);
    }
    let name = export.name.as_bytes();
    reply(out, number::LIST, answer::SERVER, &[&(name.len() as u32).to_be_bytes(), name]);
    Ok(())
}

/// `INFO` and `GO`.
fn inform(option: u32, data: &[u8], export: &Export, chosen: Chosen, out: &mut Vec<u8>) -> Result<(), Refused> {
    let mut bytes = Bytes(data);
    let name = bytes.text().ok_or(INVALID)?;
    let count = bytes.u16().ok_or(INVALID)?;
    let mut asked = Vec::with_capacity(bytes.0.len() / 2);
    while let Some(one) = bytes.u16() {
        asked.push(one);
    }
    if !bytes.is_empty() || asked.len() != usize::from(count) {
        return Err(INVALID);
    }
    if !export.is_called(name) {
        return Err((answer::ERR_UNKNOWN, "there is no such export: leave the name of the export empty"));
    }
    let flags = export.flags(chosen.structured).to_be_bytes();
    let mut one = |kind: u16, parts: &[&[u8]]| {
        let kind = kind.to_be_bytes();
        let all: Vec<&[u8]> = std::iter::once(&kind[..]).chain(parts.iter().copied()).collect();
        reply(out, option, answer::INFO, &all);
    };
    one(info::EXPORT, &[&export.size.to_be_bytes(), &flags]);
    // Whoever does not know the sizes may break the rule of the least one, and gets errors for that.
    let sizes = [export.least, export.preferred, export.most].map(u32::to_be_bytes);
    one(info::BLOCK_SIZE, &[&sizes[0], &sizes[1], &sizes[2]]);
    if asked.contains(&info::NAME) {
        one(info::NAME, &[export.name.as_bytes()]);
    }
    if asked.contains(&info::DESCRIPTION) {
        one(info::DESCRIPTION, &[export.description.as_bytes()]);
    }
    Ok(())
}

/// `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
fn contexts(option: u32, data: &[u8], export: &Export, chosen: &mut Chosen, out: &mut Vec<u8>) -> Result<(), Refused> {
    let sets = option == number::SET_META_CONTEXT;
    if sets {
        // Also a failure replaces what was set before.
        chosen.allocation = false;
    }
    if !chosen.structured {
        return Err((answer::ERR_INVALID, "ask for structured replies first"));
    }
    let mut bytes = Bytes(data);
    let name = bytes.text().ok_or(INVALID)?;
    let count = bytes.u32().ok_or(INVALID)?;
    let mut is_named = count == 0 && !sets;
    for _ in 0..count {
        let query = bytes.text().ok_or(INVALID)?;
        is_named |= query == ALLOCATION || (query == "base:" && !sets);
    }
    if !bytes.is_empty() {
        return Err(INVALID);
    }
    if !export.is_called(name) {
        return Err((answer::ERR_UNKNOWN, "there is no such export: leave the name of the export empty"));
    }
    if is_named {
        let id = if sets { ALLOCATION_ID } else { 0 };
        reply(out, option, answer::META_CONTEXT, &[&id.to_be_bytes(), ALLOCATION.as_bytes()]);
        chosen.allocation |= sets;
    }
    Ok(())
}
