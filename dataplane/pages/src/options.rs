//! What an application wants of a connection.

use channel::AreaUse;
use std::time::Duration;

/// The area that a connection wants: extents that have a name, and stay when the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AreaOptions {
    /// Its name: 1 to 32 letters, digits, dots, dashes and underscores of ASCII; no dot or dash first.
    pub name: String,
    /// Whether it must be there, or must not be there.
    pub wanted: AreaUse,
}

impl AreaOptions {
    /// The area with this name; a new one if there is none.
    pub fn any(name: impl Into<String>) -> Self {
        Self { name: name.into(), wanted: AreaUse::Any }
    }

    /// A new area with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), wanted: AreaUse::New }
    }

    /// The area with this name that there is.
    pub fn existing(name: impl Into<String>) -> Self {
        Self { name: name.into(), wanted: AreaUse::Existing }
    }
}

/// What an application wants of a connection. The server may give less.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The most requests under way: a power of two from 2 to 32,768. Default: 128.
    pub requests: u32,
    /// Bytes of buffers: a multiple of 4096, at most 16 GiB. Default: 1 MiB.
    pub buffers: u64,
    /// Extents that the connection may have at once; 0 for as many as the server allows. Default: 0.
    pub extents: u32,
    /// What the server's operator sees of this connection, at most 32 bytes. Default: the name of the program.
    pub name: String,
    /// How long an answer of the server may take. An allocation takes as long as slaves need to lend memory. Default:
    /// 30 s.
    pub patience: Duration,
    /// How often [`Client::wait`](crate::Client::wait) looks for completions before it sleeps. Default: 200.
    pub spins: u32,
    /// The area that the extents are in. Default: none, so that they are freed when the connection ends.
    pub area: Option<AreaOptions>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let program = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let name = program.unwrap_or_else(|| "unknown".to_owned());
        let patience = Duration::from_secs(30);
        Self { requests: 128, buffers: 1 << 20, extents: 0, name, patience, spins: 200, area: None }
    }
}
