//! The name of a page, which stays when the program moves its memory.

use crate::SECTION_PAGES;

/// Bits of a page's number in its object.
const PAGE_BITS: u32 = 40;

/// A page of an object. Drivers pass it back as they got it.
///
/// An *object* is what one [`Map`](crate::PagingEvent::Map) made. mremap changes the addresses of its pages, and not
/// their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKey(u64);

impl PageKey {
    pub(crate) fn new(object: u32, page: u64) -> Self {
        Self((u64::from(object) << PAGE_BITS) | page)
    }

    pub(crate) fn object(self) -> u32 {
        (self.0 >> PAGE_BITS) as u32
    }

    /// Its number in the object.
    pub(crate) fn page(self) -> u64 {
        self.0 & ((1 << PAGE_BITS) - 1)
    }

    /// The number of its section in the object.
    pub(crate) fn section(self) -> usize {
        (self.page() / SECTION_PAGES as u64) as usize
    }

    /// Its place in the section.
    pub(crate) fn place(self) -> usize {
        (self.page() % SECTION_PAGES as u64) as usize
    }

    /// The first page of its section.
    pub(crate) fn section_start(self) -> Self {
        Self(self.0 - self.place() as u64)
    }

    /// The page so many pages further, if the object can have it.
    pub(crate) fn step(self, pages: i64) -> Option<Self> {
        let page = self.page().checked_add_signed(pages).filter(|page| *page < 1 << PAGE_BITS)?;
        Some(Self::new(self.object(), page))
    }

    /// The key as a number: for the tag of a request.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The key of a number.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_are_kept() {
        let key = PageKey::new(7, 3 * SECTION_PAGES as u64 + 5);
        assert_eq!((key.object(), key.section(), key.place()), (7, 3, 5));
        assert_eq!(key.section_start(), PageKey::new(7, 3 * SECTION_PAGES as u64));
        assert_eq!(key.step(-5), Some(key.section_start()));
        assert_eq!(PageKey::new(7, 2).step(-3), None);
    }
}
