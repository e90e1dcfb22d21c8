//! The baseline: pages over TCP, with requests of 8 bytes and answers of 4 KiB.

use crate::remote::{PAGE, PAGES, fill, is_page, page_of};
use anyhow::{Context as _, ensure};
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Bytes of a request: the number of a page.
const REQUEST: usize = 8;

/// Serves pages to one client until it closes the connection: all requests that one call read are answered by one call,
/// without a copy of our own.
///
/// # Errors
/// The connection breaks, or the client asks for what does not exist.
pub fn serve(listener: &TcpListener) -> anyhow::Result<()> {
    let mut memory = vec![0; (PAGES * PAGE) as usize];
    fill(&mut memory);
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let (mut requests, mut filled) = ([0; 128 * REQUEST], 0);
    loop {
        let more = match stream.read(&mut requests[filled..]) {
            Ok(0) => return Ok(()),
            Ok(more) => more,
            // The client has what it wanted.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        filled += more;
        let whole = filled / REQUEST;
        let mut slices = Vec::with_capacity(whole);
        for request in requests.as_chunks::<REQUEST>().0.iter().take(whole) {
            let at = usize::try_from(u64::from_le_bytes(*request))? * PAGE as usize;
            slices.push(IoSlice::new(memory.get(at..at + PAGE as usize).context("a page that does not exist")?));
        }
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let written = stream.write_vectored(rest)?;
            ensure!(written > 0, "the client takes nothing more");
            IoSlice::advance_slices(&mut rest, written);
        }
        requests.copy_within(whole * REQUEST..filled, 0);
        filled -= whole * REQUEST;
    }
}

/// The end that asks.
pub struct TcpClient {
    stream: TcpStream,
    depth: u32,
    /// A place for each page that was asked for.
    pages: Vec<u8>,
    /// Requests sent, and bytes of answers that came.
    asked: u64,
    came: u64,
}

impl TcpClient {
    /// Connects, with so many requests outstanding from now on.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(server: SocketAddr, depth: u32) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).context("the server of pages")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, depth, pages: vec![0; (depth * PAGE) as usize], asked: 0, came: 0 })
    }

    fn ask(&mut self, more: u64) -> anyhow::Result<()> {
        let mut requests = Vec::with_capacity(more as usize * REQUEST);
        for number in self.asked..self.asked + more {
            requests.extend(u64::from(page_of(number)).to_le_bytes());
        }
        self.asked += more;
        Ok(self.stream.write_all(&requests)?)
    }

    /// Fetches pages until it is told to stop, and then those that are outstanding; returns how many.
    ///
    /// # Errors
    /// The connection breaks, or a page is another one.
    pub fn run(&mut self, mut goes_on: impl FnMut(u64) -> bool) -> anyhow::Result<u64> {
        let (page, before) = (u64::from(PAGE), self.came / u64::from(PAGE));
        self.ask(self.depth.into())?;
        loop {
            let done = self.came / page;
            let at = (self.came % self.pages.len() as u64) as usize;
            let got = self.stream.read(&mut self.pages[at..])?;
            ensure!(got > 0, "the server has gone");
            self.came += got as u64;
            let now_done = self.came / page;
            for number in done..now_done {
                let at = (number % u64::from(self.depth)) as usize * PAGE as usize;
                let bytes = &self.pages[at..at + PAGE as usize];
                ensure!(is_page(bytes, page_of(number)), "page {number} over TCP is another one");
            }
            if now_done > done && goes_on(now_done - before) {
                self.ask(now_done - done)?;
            }
            if self.asked == now_done {
                return Ok(now_done - before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_that_is_asked_for_comes_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || serve(&listener));
        let mut client = TcpClient::connect(address, 64).unwrap();
        for _ in 0..2 {
            let pages = client.run(|done| done < 300).unwrap();
            assert!((364..364 + 64).contains(&pages) || pages >= 300, "{pages}");
        }
        drop(client);
        server.join().unwrap().unwrap();
    }
}
