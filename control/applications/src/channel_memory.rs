//! The memory and the bells of a channel.

use channel::{ChannelLayout, ServerEnd};
use frame::{Hugepages, Shared};
use lcore::bells::{Bells, Watched};
use master::{Attachment, ClientBell, ClientTotals};
use rustix::event::{EventfdFlags, epoll, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A channel that an application is getting.
pub(crate) struct Offer {
    layout: ChannelLayout,
    shared: Arc<Shared>,
    /// What the application writes to: the lcore hears it.
    server_bell: OwnedFd,
    /// What the lcore writes to. No application has it: it could make the lcore wait in its write.
    heard: OwnedFd,
    /// What the application waits for: it watches the eventfd above.
    client_bell: OwnedFd,
    watched: Watched,
}

impl Offer {
    /// Makes the memory and the bells.
    ///
    /// # Errors
    /// There is no memory, or no descriptor is left. The text says which.
    pub(crate) fn new(layout: ChannelLayout, bells: &Bells) -> Result<Self, String> {
        let bytes = usize::try_from(layout.bytes()).map_err(|error| error.to_string())?;
        // Hugepages are for buffers that are worth it.
        let hugepages = if bytes >= HUGEPAGES_FROM { Hugepages::Prefer } else { Hugepages::Never };
        let shared = Shared::new(bytes, hugepages).map_err(|error| error.to_string())?;
        let rest = || -> io::Result<_> {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let (server_bell, heard) = (eventfd(0, flags)?, eventfd(0, flags)?);
            let client_bell = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&client_bell, &heard, epoll::EventData::new_u64(0), events)?;
            let watched = bells.add(server_bell.try_clone()?)?;
            Ok((server_bell, heard, client_bell, watched))
        };
        let (server_bell, heard, client_bell, watched) =
            rest().map_err(|error| format!("no bell for an application: {error}"))?;
        Ok(Self { layout, shared: Arc::new(shared), server_bell, heard, client_bell, watched })
    }

    /// The descriptors that the application gets, in the order of WELCOME.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.shared.file(), self.server_bell.as_fd(), self.client_bell.as_fd()]
    }

    /// The application has mapped the memory: from now on nobody makes holes into it. Returns what the lcore gets, and
    /// what must be kept while the channel is in use. With `keep`, the application has an area.
    ///
    /// # Errors
    /// There is no memory behind holes that the application made, or the kernel cannot seal it.
    pub(crate) fn accept(
        self,
        tag: u64,
        extents: u32,
        totals: Arc<ClientTotals>,
        keep: bool,
    ) -> Result<(Attachment, Watched), String> {
        self.shared.freeze().map_err(|error| error.to_string())?;
        let end = ServerEnd::new(Arc::clone(&self.shared), self.layout).map_err(|error| error.to_string())?;
        let heard = self.heard;
        let bell: ClientBell = Box::new(move || {
            // Nobody else has this descriptor: it does not block. Full means that it rings already.
            let _ = rustix::io::write(&heard, &1u64.to_ne_bytes());
        });
        let attachment = Attachment { tag, extents, shared: self.shared, end, bell, totals, resume: None, keep };
        Ok((attachment, self.watched))
    }
}

/// Channels from this size on lie on hugepages, if there are some.
const HUGEPAGES_FROM: usize = 4 << 20;
