//! What programs in C see.

use pages::PagesError;
use std::ffi::{c_char, c_void};

/// What functions return. What is not negative is no failure.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum gvm_pages_result {
    /// Done.
    Ok = 0,
    /// A pointer is NULL, a text is no UTF-8, or a number is out of range.
    Argument = -1,
    /// There is no socket at this path.
    NoSocket = -2,
    /// There is a socket, and nobody listens.
    NobodyListens = -3,
    /// This user may not connect.
    Permission = -4,
    /// The socket is one of another program.
    OtherSocket = -5,
    /// The kernel refuses something.
    System = -6,
    /// The server refuses: for example the quota is used up.
    Refused = -7,
    /// The server did not answer in time.
    NoAnswer = -8,
    /// The server is gone. All requests have ended.
    ServerGone = -9,
    /// The server has another version, or a fault.
    Protocol = -10,
    /// No piece of the buffers is large enough.
    NoBuffer = -11,
    /// There is no buffer with this number, or a request has it.
    BufferInUse = -12,
    /// A fault of this library.
    Internal = -13,
}

/// What a connection wants. A number that is 0, and a name that is NULL, stand for the usual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct gvm_pages_options {
    /// The most requests under way: a power of two from 2 to 32768. Usually 128.
    pub requests: u32,
    /// Extents that the connection may have at once. Usually as many as the server allows.
    pub extents: u32,
    /// Bytes of buffers: a multiple of 4096. Usually 1 MiB.
    pub buffers: u64,
    /// How long an answer of the server may take, in milliseconds. Usually 30000.
    pub patience_ms: u32,
    /// How often gvm_pages_wait looks before it sleeps. Usually 200.
    pub spins: u32,
    /// What the server's operator sees: at most 32 bytes of UTF-8. Usually the name of the program.
    pub name: *const c_char,
    /// The area that the extents are in: they stay when the connection ends. Usually none: NULL.
    pub area: *const c_char,
    /// A gvm_pages_area_use. Usually GVM_PAGES_AREA_USE_ANY.
    pub area_use: u32,
}

/// What a connection wants of an area.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum gvm_pages_area_use {
    /// The area with the name, whether it is there already or not.
    Any = 1,
    /// A new area. It must not be there yet.
    New = 2,
    /// An area that is there.
    Existing = 3,
}

/// What a server says about a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct gvm_pages_totals {
    /// Extents that it may have at once.
    pub quota: u32,
    /// Extents that it has, lost ones included.
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

/// A piece of the memory that is shared with the server. It begins at a cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct gvm_pages_buffer {
    /// Its bytes. While a request has the buffer, the server reads or writes them.
    pub data: *mut c_void,
    /// How many: a multiple of 8.
    pub len: usize,
    /// Its number in this connection.
    pub number: u32,
}

/// Which way the bytes of a request go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum gvm_pages_transfer {
    /// From the extent into the buffer.
    Read = 1,
    /// From the buffer into the extent.
    Write = 2,
}

/// How urgent a request is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum gvm_pages_lane {
    /// Somebody waits for it.
    Demand = 1,
    /// Nobody waits for it.
    Bulk = 2,
}

/// A request. It has its buffer until it has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct gvm_pages_request {
    /// Comes back in the completion.
    pub tag: u64,
    /// The extent.
    pub extent: u64,
    /// Where in the extent, in bytes: a multiple of 8.
    pub offset: u32,
    /// How many bytes, from the begin of the buffer on: a multiple of 8.
    pub len: u32,
    /// The number of the buffer.
    pub buffer: u32,
    /// A gvm_pages_transfer.
    pub transfer: u32,
    /// A gvm_pages_lane.
    pub lane: u32,
}

/// A request that has ended. Its buffer can be used again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct gvm_pages_completion {
    /// The tag of the request.
    pub tag: u64,
    /// How it ended: 0 is done; gvm_pages_status_name has the names.
    pub status: u32,
    /// Bytes that were transferred.
    pub len: u32,
    /// The number of the buffer.
    pub buffer: u32,
}

/// What a server says about an extent of its own accord.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct gvm_pages_notice {
    /// The extent.
    pub extent: u64,
    /// 0: the extent is wanted back. Else it is lost, and this is the status of its requests.
    pub status: u32,
    /// In which time it is wanted back, in milliseconds. After that it is lost.
    pub within_ms: u32,
}

/// What a function returns, and its text.
pub(crate) struct Failure {
    pub(crate) result: gvm_pages_result,
    pub(crate) text: String,
}

impl From<PagesError> for Failure {
    fn from(error: PagesError) -> Self {
        let result = match &error {
            PagesError::NoSocket(_) => gvm_pages_result::NoSocket,
            PagesError::NobodyListens(_) => gvm_pages_result::NobodyListens,
            PagesError::Permission(_) => gvm_pages_result::Permission,
            PagesError::OtherSocket(_) | PagesError::InUse(_) => gvm_pages_result::OtherSocket,
            PagesError::System { .. } => gvm_pages_result::System,
            PagesError::Refused { .. } => gvm_pages_result::Refused,
            PagesError::NoAnswer(_) => gvm_pages_result::NoAnswer,
            PagesError::ServerGone => gvm_pages_result::ServerGone,
            PagesError::Layout(_) | PagesError::OutsideBuffer { .. } => gvm_pages_result::Argument,
            PagesError::NoBuffer(_) => gvm_pages_result::NoBuffer,
            PagesError::ForeignBuffer => gvm_pages_result::BufferInUse,
            PagesError::Memory(_) | PagesError::Message(_) | PagesError::Broken(_) | PagesError::Nonsense(_) => {
                gvm_pages_result::Protocol
            }
        };
        Self { result, text: error.to_string() }
    }
}

/// A fault of the program.
pub(crate) fn argument(what: &str) -> Failure {
    Failure { result: gvm_pages_result::Argument, text: what.to_owned() }
}
