//! The answers of the guest's verbs program, as values. Its commands are listed at the head of `verbs/main.c`.

/// The guest's queue pair and its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its queue pair.
    pub qpn: u32,
    /// The key of all its memory.
    pub rkey: u32,
    /// The address of its memory.
    pub address: u64,
    /// Bytes of its memory.
    pub len: u64,
}

/// A completion of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The id of the request or receive.
    pub id: u64,
    /// The operation: `READ`, `RECV`, ...; `-` when it failed.
    pub kind: String,
    /// `SUCCESS`, or the verbs' name of the error.
    pub status: String,
    /// Bytes received; without a meaning for requests that send.
    pub len: u32,
    /// Immediate data, or 0.
    pub immediate: u32,
}

impl Completion {
    /// Reads `ID:KIND:STATUS:BYTES:IMMEDIATE`.
    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split(':');
        let mut next = || parts.next();
        Some(Self {
            id: next()?.parse().ok()?,
            kind: next()?.to_owned(),
            status: next()?.to_owned(),
            len: next()?.parse().ok()?,
            immediate: next()?.parse().ok()?,
        })
    }
}

/// The path from the guest to its peer, in the units of `ibv_modify_qp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Path MTU in bytes.
    pub mtu: u32,
    /// The peer's queue pair.
    pub qpn: u32,
    /// The peer's first PSN.
    pub psn: u32,
    /// The guest's first PSN.
    pub own_psn: u32,
    /// Exponent of the time until a retry: 4.096 us times 2 to this.
    pub timeout: u8,
    /// Retries; 7 means without end in rxe.
    pub retries: u8,
    /// Retries after RNR; 7 means without end.
    pub rnr_retries: u8,
    /// The code of the time that the peer must wait after RNR.
    pub rnr_timer: u8,
    /// Outstanding READs and atomics in each direction.
    pub depth: u8,
}

impl Path {
    /// The command that connects.
    pub fn command(&self) -> String {
        let address = u32::from_be_bytes(crate::HOST);
        let Self { mtu, qpn, psn, own_psn, timeout, retries, rnr_retries, rnr_timer, depth } = self;
        format!("connect {mtu} {qpn} {psn} {own_psn} {address} {timeout} {retries} {rnr_retries} {rnr_timer} {depth}")
    }
}

/// Reads an answer that begins with `ok`.
///
/// # Errors
/// The whole answer, if it does not.
pub fn words(answer: &str) -> Result<Vec<&str>, String> {
    let mut words = answer.split_whitespace();
    if words.next() == Some("ok") { Ok(words.collect()) } else { Err(answer.to_owned()) }
}

/// Reads the answer to `open`.
pub fn opened(words: &[&str]) -> Option<Opened> {
    let [qpn, rkey, address, len] = words else { return None };
    let (qpn, rkey) = (qpn.parse().ok()?, rkey.parse().ok()?);
    Some(Opened { qpn, rkey, address: address.parse().ok()?, len: len.parse().ok()? })
}

/// Reads the answer to `poll`.
pub fn completions(words: &[&str]) -> Option<Vec<Completion>> {
    words.iter().map(|word| Completion::parse(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        assert_eq!(words("error read: closed: Success"), Err("error read: closed: Success".to_owned()));
        let answer = words("ok 17 4660 140000000000 4194304").unwrap();
        assert_eq!(opened(&answer), Some(Opened { qpn: 17, rkey: 4660, address: 140_000_000_000, len: 4 << 20 }));
        let answer = words("ok 1:READ:SUCCESS:4096:0 2:-:REM_ACCESS_ERR:0:0").unwrap();
        let done = completions(&answer).unwrap();
        assert_eq!((done[0].id, &*done[0].kind, done[0].len), (1, "READ", 4096));
        assert_eq!((done[1].id, &*done[1].status), (2, "REM_ACCESS_ERR"));
        assert_eq!(completions(&["1:READ"]), None);
    }
}
