//! How much memory the directory takes.

use paging::{FillEnd, Pager, PagingAction, PagingConfig, PagingEvent};

const TIB: u64 = (1 << 40) / 4096;

/// Touches pages, and answers what the pager wants: pages of zeros.
fn touch(pager: &mut Pager, pages: impl Iterator<Item = u64>) {
    for address in pages {
        pager.handle(PagingEvent::Fault { address, thread: 1 });
        while let Some(action) = pager.action() {
            let PagingAction::Zero { page, .. } = action else { panic!("{action:?}") };
            pager.handle(PagingEvent::Filled { page, end: FillEnd::Done });
        }
    }
}

#[test]
fn a_sparse_tebibyte_takes_less_than_16_mib() {
    let mut pager = Pager::new(PagingConfig::new(1 << 20, 1)).unwrap();
    pager.handle(PagingEvent::Map { start: 1 << 30, pages: TIB });
    let empty = pager.directory_bytes();
    assert!(empty < 8 << 20, "{empty} bytes for nothing");
    // A page here and there.
    touch(&mut pager, (0..1000).map(|at| (1 << 30) + at * (TIB / 1000)));
    let sparse = pager.directory_bytes();
    assert!(sparse < 16 << 20, "{sparse} bytes");
    pager.check();
}

#[test]
fn the_directory_is_at_most_a_256th_of_what_was_touched() {
    let pages = 480 * 200_u64;
    let mut pager = Pager::new(PagingConfig::new(1 << 20, 1)).unwrap();
    pager.handle(PagingEvent::Map { start: 5000, pages });
    touch(&mut pager, 5000..5000 + pages);
    let bytes = pager.directory_bytes() as u64;
    assert!(bytes * 256 <= pages * 4096, "{bytes} bytes for {pages} pages: 1/{}", pages * 4096 / bytes);
    // And it goes with the memory.
    pager.handle(PagingEvent::Unmapped { start: 5000, pages });
    assert!(pager.directory_bytes() < 1024, "{} bytes are left", pager.directory_bytes());
    assert_eq!(pager.books().all(), 0);
}
