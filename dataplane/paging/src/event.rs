//! What a pager is told, and what it wants done. Addresses are numbers of pages of the program's address space.

use crate::key::PageKey;

/// A request to an extent, until its end was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// Its place in the table of requests.
    pub(crate) index: u32,
    /// How often the place was used before: the answer to an older request means nothing.
    pub(crate) use_number: u32,
}

impl Ticket {
    /// A number for the tag of a request.
    pub fn tag(self) -> u64 {
        (u64::from(self.use_number) << 32) | u64::from(self.index)
    }

    /// The ticket of a tag.
    pub fn of_tag(tag: u64) -> Self {
        Self { index: tag as u32, use_number: (tag >> 32) as u32 }
    }
}

/// How a READ ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadEnd {
    /// The bytes are in the landing buffer, and this is their hash.
    Done(u64),
    /// It failed, and the extent may still be there.
    Failed,
    /// The extent is lost.
    Lost,
}

/// How a WRITE ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreEnd {
    /// All bytes are in the extent.
    Done,
    /// It failed, and the extent may still be there.
    Failed,
    /// The extent is lost.
    Lost,
}

/// How COPY, ZEROPAGE or MOVE into the program's memory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FillEnd {
    /// The page is there now.
    Done,
    /// EEXIST: there was one already.
    Exists,
    /// EAGAIN, ENOENT and all else: it is not there; try later, when all events that wait were told.
    Again,
}

/// How MOVE into the staging area ended, for one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoveEnd {
    /// The page is in the staging area, and this is the hash of its bytes.
    Moved(u64),
    /// ENOENT: the program has dropped it.
    Hole,
    /// EBUSY, EINVAL: it is pinned, locked or shared with a child. It is where it was.
    Pinned,
    /// EAGAIN and all else: it is where it was.
    Again,
}

/// What a pager is told.
///
/// **Order.** `Fault`, `Removed`, `Unmapped` and `Remapped` are told in the order in which they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PagingEvent {
    /// The program has new memory of zeros there, registered with userfaultfd.
    Map {
        /// The first page.
        start: u64,
        /// How many.
        pages: u64,
    },
    /// A thread waits for a page.
    Fault {
        /// Where.
        address: u64,
        /// Which thread; 0 if that is not known.
        thread: u32,
    },
    /// The end of [`PagingAction::Copy`] and [`PagingAction::Zero`].
    Filled {
        /// Which page.
        page: PageKey,
        /// How.
        end: FillEnd,
    },
    /// The end of [`PagingAction::MoveOut`] for one page.
    MovedOut {
        /// Which page.
        page: PageKey,
        /// How.
        end: MoveEnd,
    },
    /// The end of [`PagingAction::MoveBack`].
    MovedBack {
        /// Which page.
        page: PageKey,
        /// How.
        end: FillEnd,
    },
    /// The end of [`PagingAction::Read`].
    Read {
        /// Which.
        ticket: Ticket,
        /// How.
        end: ReadEnd,
    },
    /// The end of [`PagingAction::Write`].
    Wrote {
        /// Which.
        ticket: Ticket,
        /// How.
        end: StoreEnd,
    },
    /// The program is about to drop pages (MADV_DONTNEED, MADV_FREE): it does so after [`PagingAction::Removed`].
    Removed {
        /// Comes back in the action.
        token: u64,
        /// The first page.
        start: u64,
        /// How many.
        pages: u64,
    },
    /// The program has unmapped pages.
    Unmapped {
        /// The first page.
        start: u64,
        /// How many.
        pages: u64,
    },
    /// The program has moved memory.
    Remapped {
        /// The first page before.
        from: u64,
        /// The first page now.
        to: u64,
        /// How many.
        pages: u64,
    },
    /// The extents that [`PagingAction::Allocate`] asked for.
    Granted {
        /// The number of the wish.
        want: u64,
        /// As many as were wanted, all different.
        extents: Vec<u64>,
    },
    /// There are none now.
    Refused {
        /// The number of the wish.
        want: u64,
    },
    /// The owner of the slave wants the memory of an extent back.
    Recalled {
        /// Which.
        extent: u64,
    },
    /// An extent is lost.
    Lost {
        /// Which.
        extent: u64,
    },
    /// The program wants to fork: it waits for [`PagingAction::ForkReady`] or [`PagingAction::ForkRefused`].
    ForkWanted {
        /// Comes back in the action.
        token: u64,
    },
    /// The fork that was ready is over: pages may leave again. Those that a child has, too, are
    /// [`MoveEnd::Pinned`] until they are written to.
    ForkDone {
        /// Of the fork.
        token: u64,
    },
    /// A moment has passed: what could not be done before is tried again.
    Tick,
}

/// Where a WRITE takes its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteSource {
    /// The copy of a page of the staging area.
    Staging(u32),
    /// A landing buffer.
    Landing(u32),
}

/// What a pager wants done. Each is done in its turn; ends may be told in any order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PagingAction {
    /// Read a slot into a landing buffer, hash it, and tell [`PagingEvent::Read`].
    Read {
        /// Comes back in the event.
        ticket: Ticket,
        /// The extent.
        extent: u64,
        /// The slot of 4 KiB in it.
        slot: u16,
        /// The landing buffer.
        landing: u32,
        /// Somebody waits for it.
        is_demand: bool,
    },
    /// Copy a landing buffer to a page of the program; then [`PagingEvent::Filled`].
    Copy {
        /// Which page.
        page: PageKey,
        /// Where it is.
        address: u64,
        /// The landing buffer.
        landing: u32,
        /// Wake the threads that wait.
        wake: bool,
    },
    /// Make a page of zeros; then [`PagingEvent::Filled`].
    Zero {
        /// Which page.
        page: PageKey,
        /// Where it is.
        address: u64,
    },
    /// Wake the threads that wait for a page.
    Wake {
        /// Where.
        address: u64,
    },
    /// Move pages at consecutive addresses to consecutive pages of the staging area. Then copy each into the buffer of
    /// the same number that WRITEs take, hash it while copying, and tell [`PagingEvent::MovedOut`] for it.
    MoveOut {
        /// The pages; the first one is at `address`, and goes to `staging`.
        pages: Vec<PageKey>,
        /// Where the first one is.
        address: u64,
        /// Where it goes.
        staging: u32,
    },
    /// Move a page back and wake the threads that wait; then [`PagingEvent::MovedBack`].
    MoveBack {
        /// Which page.
        page: PageKey,
        /// Where it goes.
        address: u64,
        /// Where it is.
        staging: u32,
    },
    /// Write a page to a slot, and tell [`PagingEvent::Wrote`].
    Write {
        /// Comes back in the event.
        ticket: Ticket,
        /// The extent.
        extent: u64,
        /// The slot of 4 KiB in it.
        slot: u16,
        /// The bytes.
        source: WriteSource,
    },
    /// A page of the staging area is not needed any more: its memory is free at once, also while WRITEs take the copy
    /// that was made when it was hashed.
    Drop {
        /// Which.
        staging: u32,
    },
    /// All that was under way for dropped pages has ended: the program may drop them now.
    Removed {
        /// From the event.
        token: u64,
    },
    /// All pages are in the program's memory, and stay there until [`PagingEvent::ForkDone`]: it may fork.
    ForkReady {
        /// From the event.
        token: u64,
    },
    /// The program must not fork: its child would read zeros.
    ForkRefused {
        /// From the event.
        token: u64,
        /// Pages that are not in local memory.
        missing: u64,
        /// Pages of local memory that are free.
        free: u64,
        /// Pages that are lost.
        lost: u64,
    },
    /// Allocate extents, each in another failure domain than the others and than those `beside`.
    Allocate {
        /// Comes back in the event.
        want: u64,
        /// How many.
        count: usize,
        /// Extents of other replicas.
        beside: Vec<u64>,
    },
    /// Free an extent: nothing is in it that is needed.
    Free {
        /// Which.
        extent: u64,
    },
    /// A thread waits for a page of which no replica is left. It must never see zeros: pause it, and say why.
    Pause {
        /// Where.
        address: u64,
    },
}
