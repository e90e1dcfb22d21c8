//! How many heartbeats may be unanswered at once, so that a farm never fills a gateway's socket buffer by itself.

use frame::Time;
use frame::time::MILLISECOND;

/// The most unanswered heartbeats: about 50 packed datagrams, which any socket buffer takes.
const MOST: u32 = 512;
/// The minimum, also after much loss.
const LEAST: u32 = 64;
/// Heartbeats that were sent before the last epoch began and are unanswered at its end count as lost.
const EPOCH: u64 = 20 * MILLISECOND;

/// A window that shrinks with loss and grows with answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: u32,
    /// Unanswered heartbeats of this epoch and of the one before.
    current: u32,
    previous: u32,
    ends: Time,
}

impl Window {
    pub(crate) fn new(now: Time) -> Self {
        Self { size: MOST, current: 0, previous: 0, ends: now.saturating_add(EPOCH) }
    }

    /// Whether no more may be sent now.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.current + self.previous >= self.size
    }

    #[inline]
    pub(crate) fn sent(&mut self) {
        self.current += 1;
    }

    #[inline]
    pub(crate) fn answered(&mut self) {
        match self.previous.checked_sub(1) {
            Some(left) => self.previous = left,
            None => self.current = self.current.saturating_sub(1),
        }
        self.size = (self.size + 1).min(MOST);
    }

    /// Forgets heartbeats that are unanswered for too long.
    pub(crate) fn advance(&mut self, now: Time) {
        // Twice, because after a long pause both epochs are over.
        for _ in 0..2 {
            if now >= self.ends {
                if self.previous > 0 {
                    self.size = (self.size - self.size / 4).max(LEAST);
                }
                self.previous = std::mem::take(&mut self.current);
                self.ends = if now - self.ends >= EPOCH { now } else { self.ends + EPOCH };
            }
        }
    }

    /// When a full window opens without answers, or at least when that must be checked again.
    pub(crate) fn deadline(&self) -> Time {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(window: &mut Window) -> u32 {
        let mut sent = 0;
        while !window.is_full() {
            window.sent();
            sent += 1;
        }
        sent
    }

    #[test]
    fn answers_keep_it_open() {
        let mut window = Window::new(0);
        assert_eq!(fill(&mut window), MOST);
        for now in 1..100 {
            window.advance(now * MILLISECOND);
            (0..100).for_each(|_| window.answered());
            assert_eq!(fill(&mut window), 100);
        }
    }

    #[test]
    fn loss_is_forgotten_and_shrinks_it_and_answers_let_it_grow() {
        let mut window = Window::new(0);
        fill(&mut window);
        window.advance(EPOCH);
        assert_eq!((fill(&mut window), window.deadline()), (0, 2 * EPOCH));
        window.advance(2 * EPOCH);
        assert_eq!(fill(&mut window), MOST * 3 / 4);
        for epoch in 3..40 {
            window.advance(epoch * EPOCH);
            fill(&mut window);
        }
        window.advance(100 * EPOCH);
        assert_eq!(fill(&mut window), LEAST);
        (0..LEAST).for_each(|_| window.answered());
        assert_eq!(fill(&mut window), 2 * LEAST);
    }
}
