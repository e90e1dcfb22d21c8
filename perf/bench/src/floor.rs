//! The floor for aggregation: the same bytes copied from as many chunks to as many buffers in the same order, and
//! nothing else.

use crate::input::{self, HEADERS, Shape};
use crate::stopwatch::Stopwatch;
use anyhow::Context as _;
use frame::Frame;
use frame::pool::chunk_for_data;

/// Input and buffers of the floor.
pub struct Floor {
    /// All packets, each in a chunk, as a port has them.
    input: Vec<Frame>,
    record: usize,
    order: Vec<u32>,
    buffers: Vec<Frame>,
    most: usize,
}

impl Floor {
    /// Builds the same input as the benchmark's in chunks of `chunk` bytes, with buffers that hold `most` bytes.
    ///
    /// # Errors
    /// The machine has no memory for the frames, or no frame holds `most` bytes.
    pub fn new(shape: &Shape, packets: &[Vec<u8>], chunk: u32, most: usize) -> anyhow::Result<Self> {
        let pool = input::pool(packets.len() as u32, chunk)?;
        input::arrange(&pool, shape.scattered);
        let input = packets.iter().map(|packet| {
            let mut frame = pool.alloc_reserved().context("a chunk for each packet")?;
            anyhow::ensure!(frame.append(packet), "a packet is longer than a chunk");
            Ok(frame)
        });
        let input = input.collect::<anyhow::Result<_>>()?;
        let pool = input::pool(shape.slaves.max(64), chunk_for_data(most as u32))?;
        // All that slaves send goes to one buffer, the master's.
        let destinations = if shape.up { 1 } else { shape.slaves as usize };
        let buffers = std::iter::from_fn(|| pool.alloc()).take(destinations).collect();
        let order = input::order(shape).into_iter().map(|id| if shape.up { 0 } else { id }).collect();
        let record = wire::HEADER_LEN + shape.payload;
        Ok(Self { input, record, order, buffers, most })
    }

    /// Copies every record of the input once, asking the cache for the buffer `distance` records ahead (0: never).
    /// Returns nanoseconds per record.
    pub fn run(&mut self, records_per_packet: usize, distance: usize) -> f64 {
        let start = Stopwatch::start();
        let mut number = 0;
        for packet in &self.input {
            let packet = packet.data();
            for at in 0..records_per_packet {
                if distance > 0
                    && let Some(&ahead) = self.order.get(number + distance)
                {
                    self.buffers[ahead as usize].prefetch_tail(self.record);
                }
                let from = HEADERS + at * self.record;
                let buffer = &mut self.buffers[self.order[number] as usize];
                if buffer.len() + self.record > self.most {
                    buffer.truncate(0);
                }
                assert!(buffer.append(&packet[from..from + self.record]), "a buffer is larger than its limit");
                number += 1;
            }
        }
        start.nanoseconds() / number as f64
    }

    /// The best of all prefetch distances: nanoseconds per record, and the distance.
    pub fn best(&mut self, records_per_packet: usize) -> (f64, usize) {
        let distances = [0, 2, 4, 6, 8, 12, 16, 24, 32];
        distances
            .into_iter()
            .map(|distance| (self.run(records_per_packet, distance), distance))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or((f64::NAN, 0))
    }
}
