//! A folder for sockets, and waiting.

use pages::local::{LocalOptions, LocalServer};
use pages::{Buffer, Client, ClientOptions, Ended, PagesError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than any wait of a test.
pub(crate) const LONG: Option<Duration> = Some(Duration::from_secs(120));

/// A folder of its own for a test; gone at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("gvm-pages-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("pages.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn options() -> ClientOptions {
    ClientOptions { name: "test".to_owned(), patience: Duration::from_secs(120), ..ClientOptions::default() }
}

/// A server and a client of it.
pub(crate) fn pair(options: &ClientOptions) -> (Folder, LocalServer, Client) {
    let folder = Folder::new();
    let server = LocalServer::start(folder.socket(), LocalOptions::default()).unwrap();
    let client = Client::connect(folder.socket(), options).unwrap();
    (folder, server, client)
}

/// Waits until so many requests have ended.
pub(crate) fn ended(client: &mut Client, count: usize) -> Vec<Ended> {
    let mut out = Vec::new();
    while out.len() < count {
        client.wait(&mut out, LONG).unwrap();
    }
    assert_eq!(out.len(), count);
    out
}

/// A buffer with these bytes.
pub(crate) fn filled(client: &Client, bytes: &[u8]) -> Buffer {
    let mut buffer = client.buffer(bytes.len()).unwrap();
    buffer.write(0, bytes).unwrap();
    buffer
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..120_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never came: {what}");
}

pub(crate) fn is_gone<T: std::fmt::Debug>(result: Result<T, PagesError>) -> bool {
    matches!(result, Err(PagesError::ServerGone))
}
