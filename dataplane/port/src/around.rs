//! A port around another port: it changes a part of what the inner port does, and the inner port does the rest.

use crate::{About, Port};
use frame::counter::CounterSet;
use frame::{Burst, Peer, PortId, Time, TxQueue};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A port around another one. Each method does what the inner port does, until the type has its own.
///
/// A type with this trait is a [`Port`]. So it has all methods of a port, also those that are added later, and those
/// that have a default there. All calls are static, and are inlined as those of the inner port are.
///
/// Do not have both traits in scope where a method of such a port is called: both have a method of that name.
pub trait PortAround {
    /// The port inside.
    type Inner: Port;

    /// The port inside.
    fn inner(&self) -> &Self::Inner;

    /// The port inside, to change it.
    fn inner_mut(&mut self) -> &mut Self::Inner;

    /// As [`Port::rx_burst`].
    #[inline]
    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize {
        self.inner_mut().rx_burst(now, burst)
    }

    /// As [`Port::tx_burst`].
    #[inline]
    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        self.inner_mut().tx_burst(now, queue)
    }

    /// As [`Port::wants_writable`].
    fn wants_writable(&self) -> bool {
        self.inner().wants_writable()
    }

    /// As [`Port::deadline`].
    fn deadline(&self) -> Option<Time> {
        self.inner().deadline()
    }

    /// As [`Port::has_received`].
    fn has_received(&self) -> bool {
        self.inner().has_received()
    }

    /// As [`Port::describe`].
    fn describe(&self) -> String {
        self.inner().describe()
    }

    /// As [`Port::about`].
    fn about(&self) -> Arc<dyn About> {
        self.inner().about()
    }

    /// As [`Port::counters`].
    fn counters(&self) -> Arc<dyn CounterSet> {
        self.inner().counters()
    }
}

impl<T: PortAround> Port for T {
    fn id(&self) -> PortId {
        self.inner().id()
    }

    #[inline]
    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize {
        PortAround::rx_burst(self, now, burst)
    }

    #[inline]
    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        PortAround::tx_burst(self, now, queue)
    }

    #[inline]
    fn housekeep(&mut self, now: Time) {
        self.inner_mut().housekeep(now);
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner().poll_fd()
    }

    fn wants_writable(&self) -> bool {
        PortAround::wants_writable(self)
    }

    fn deadline(&self) -> Option<Time> {
        PortAround::deadline(self)
    }

    fn has_received(&self) -> bool {
        PortAround::has_received(self)
    }

    fn asks_the_kernel(&self) -> bool {
        self.inner().asks_the_kernel()
    }

    fn frames_held(&self) -> usize {
        self.inner().frames_held()
    }

    fn mtu(&self) -> u16 {
        self.inner().mtu()
    }

    fn rx_lost(&self) -> u64 {
        self.inner().rx_lost()
    }

    fn own_end(&self) -> Option<Peer> {
        self.inner().own_end()
    }

    fn describe(&self) -> String {
        PortAround::describe(self)
    }

    fn about(&self) -> Arc<dyn About> {
        PortAround::about(self)
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        PortAround::counters(self)
    }
}
