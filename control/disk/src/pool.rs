//! The buffers of the channel, in sizes of powers of two. Those that were used before wait for the next use.

use pages::{Buffer, Client};
use std::fmt;

/// The smallest and the largest size.
const LEAST: usize = 4096;
pub(crate) const MOST: usize = 256 << 10;

/// How many sizes there are.
const SIZES: usize = (MOST / LEAST).ilog2() as usize + 1;

/// A buffer, and the connection to a master that it belongs to.
pub(crate) struct Pooled {
    pub(crate) buffer: Buffer,
    pub(crate) master: u64,
}

impl Pooled {
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of connection {}", self.buffer, self.master)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    /// The number of the present connection to a master.
    master: u64,
    spare: [Vec<Pooled>; SIZES],
}

/// The place of a size in the list: the smallest one that has so many bytes.
fn class(len: usize) -> usize {
    (len.clamp(LEAST, MOST).next_power_of_two() / LEAST).ilog2() as usize
}

impl BufferPool {
    /// From now on buffers belong to another connection.
    pub(crate) fn renew(&mut self) {
        self.master += 1;
        self.spare = Default::default();
    }

    pub(crate) fn master(&self) -> u64 {
        self.master
    }

    /// A buffer of so many bytes, or of the most that can be had: at least [`LEAST`].
    pub(crate) fn take(&mut self, client: Option<&Client>, len: usize) -> Option<Pooled> {
        let client = client?;
        (0..=class(len)).rev().find_map(|class| self.of_class(client, class))
    }

    fn of_class(&mut self, client: &Client, class: usize) -> Option<Pooled> {
        if let Some(spare) = self.spare.get_mut(class).and_then(Vec::pop) {
            return Some(spare);
        }
        let master = self.master;
        let size = LEAST << class;
        let fresh = |client: &Client| client.buffer(size).ok().map(|buffer| Pooled { buffer, master });
        fresh(client).or_else(|| {
            // Smaller ones that wait may be in the way of a larger one.
            if self.spare.iter().all(Vec::is_empty) {
                return None;
            }
            self.spare.iter_mut().for_each(Vec::clear);
            fresh(client)
        })
    }

    /// A buffer is not used any more.
    pub(crate) fn give(&mut self, buffer: Pooled) {
        if buffer.master == self.master
            && let Some(spare) = self.spare.get_mut(class(buffer.len()))
        {
            spare.push(buffer);
        }
    }
}
