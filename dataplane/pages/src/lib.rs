//! Remote memory for applications.
//!
//! An application connects to a server of pages on the same host, allocates extents of remote memory, 2 MiB each, and
//! reads and writes them in batches. `docs/pages.md` describes what happens below.
//!
//! ```
//! # use pages::local::{LocalOptions, LocalServer};
//! use pages::{Client, ClientOptions, Work};
//! use std::time::Duration;
//!
//! # let folder = std::env::temp_dir().join(format!("gvm-pages-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("pages.sock");
//! # let server = LocalServer::start(&path, LocalOptions::default())?;
//! let mut client = Client::connect(&path, &ClientOptions::default())?;
//! let extents = client.allocate(2, false)?;
//!
//! // Two writes at once. A buffer belongs to the request while that is under way.
//! let mut batch = Vec::new();
//! for (number, extent) in extents.iter().enumerate() {
//!     let mut buffer = client.buffer(4096)?;
//!     buffer.write(0, format!("page {number}").as_bytes())?;
//!     batch.push(Work::write(*extent, 8192, buffer).tagged(number as u64));
//! }
//! while !batch.is_empty() {
//!     client.post(&mut batch)?;
//! }
//!
//! // Completions come in any order, and bring the buffers back.
//! let mut ended = Vec::new();
//! while ended.len() < 2 {
//!     client.wait(&mut ended, Some(Duration::from_secs(10)))?;
//! }
//! for end in ended.drain(..) {
//!     assert!(end.status.is_done(), "request {}: {}", end.tag, end.status);
//!     let mut again = vec![Work::read(extents[end.tag as usize], 8192, end.buffer).tagged(end.tag)];
//!     client.post(&mut again)?;
//! }
//! while ended.len() < 2 {
//!     client.wait(&mut ended, Some(Duration::from_secs(10)))?;
//! }
//! for end in &ended {
//!     let mut text = [0; 6];
//!     end.buffer.read(0, &mut text)?;
//!     assert_eq!(text, format!("page {}", end.tag).as_bytes());
//! }
//! client.free(&extents)?;
//! # drop(server);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who may touch a buffer
//!
//! A [`Buffer`] is moved into a [`Work`], and comes back with its [`Ended`]. So no safe program touches a buffer while
//! a request is under way. The memory is shared with the server, and only copied from and to, never borrowed as bytes.
//!
//! # When the server dies
//!
//! Each request under way ends with [`Status::SERVER_GONE`]. After that every call fails with
//! [`PagesError::ServerGone`]. A new connection has no extents: those of the old one are freed by the server, and its
//! areas end with it.
//!
//! # Areas
//!
//! With [`ClientOptions::area`] the extents of a connection are in an *area*: they have a name, and stay when the
//! connection ends, or its process dies. The next connection with that name and the same user finds them in
//! [`Client::extents`], with what it wrote. An area ends with [`Client::remove_area`], or with its server.
//!
//! ```
//! # use pages::local::{LocalOptions, LocalServer};
//! use pages::{AreaOptions, Client, ClientOptions, Extent};
//!
//! # let folder = std::env::temp_dir().join(format!("gvm-pages-doc-areas-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("pages.sock");
//! # let server = LocalServer::start(&path, LocalOptions::default())?;
//! let options = ClientOptions { area: Some(AreaOptions::any("disk-1")), ..ClientOptions::default() };
//! let mut client = Client::connect(&path, &options)?;
//! let extents: Vec<Extent> = client.allocate(3, false)?;
//! drop(client);
//!
//! // The server may need a moment to see that the connection has ended.
//! let mut client = loop {
//!     match Client::connect(&path, &options) {
//!         Err(pages::PagesError::Refused { reason: pages::RefusedFor::AREA_IN_USE, .. }) => continue,
//!         other => break other?,
//!     }
//! };
//! assert_eq!(client.extents(), extents);
//! client.remove_area()?;
//! # drop(server);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Without a cluster
//!
//! [`local::LocalServer`] serves extents from the memory of this process. It is for tests of applications: it can also
//! be slow, refuse, lose extents, and die.
#![forbid(unsafe_code)]

mod ask;
mod buffer;
mod client;
mod error;
pub mod local;
mod options;
mod question;
mod setup;
mod socket;
mod table;
mod work;

pub use ask::AskAnswer;
pub use buffer::Buffer;
pub use channel::ChannelStatus as Status;
pub use channel::Lane;
pub use channel::message::{ClientState, RefusedFor};
pub use channel::{AreaInfo, AreaName, AreaState, AreaUse};
pub use client::{Client, ExtentNotice};
pub use error::PagesError;
pub use frame::stream::{MOST_PARTS, SharedPart, send};
pub use options::{AreaOptions, ClientOptions};
pub use question::Question;
pub use setup::areas;
pub use work::{Ended, Extent, Work};

/// Bytes of an extent: 2 MiB.
pub const EXTENT: u32 = channel::EXTENT;
