//! Large tables on large pages: random access to them should not also cost a walk through the page table.

use crate::arena::Arena;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// There is no memory for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableError {
    bytes: usize,
    /// The kernel's error, as a number: errors of others that have this one inside can be copied and compared.
    errno: i32,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = io::Error::from_raw_os_error(self.errno);
        write!(f, "cannot map a table of {} bytes: {reason}; free some memory, or ask for less", self.bytes)
    }
}

impl std::error::Error for TableError {}

/// A slice of fixed length in a mapping of its own. If it is as large as a hugepage, the kernel is asked to use
/// transparent hugepages; without them it is an ordinary slice and only slower.
pub struct Table<T> {
    memory: Arena,
    len: usize,
    elements: PhantomData<T>,
}

// SAFETY: a table owns its elements, as a vector does; the mapping belongs to no thread.
unsafe impl<T: Send> Send for Table<T> {}
// SAFETY: a shared table gives out shared elements only.
unsafe impl<T: Sync> Sync for Table<T> {}

impl<T> Table<T> {
    /// A table of `len` elements, each made by `element` from its index.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(len: usize, mut element: impl FnMut(usize) -> T) -> Result<Self, TableError> {
        const { assert!(align_of::<T>() <= 4096, "a mapping begins on a page") };
        let bytes = len.saturating_mul(size_of::<T>());
        let memory = Arena::for_table(bytes).map_err(|errno| TableError { bytes, errno })?;
        let mut table = Self { memory, len: 0, elements: PhantomData };
        for index in 0..len {
            let element = element(index);
            // SAFETY: the mapping has room for `len` elements and is aligned for them; this place holds none yet.
            unsafe { table.first().add(index).write(element) };
            table.len = index + 1;
        }
        Ok(table)
    }

    #[inline]
    fn first(&self) -> *mut T {
        self.memory.base().as_ptr().cast()
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many elements were written, and nothing else refers to the mapping.
        unsafe { std::slice::from_raw_parts(self.first(), self.len) }
    }
}

impl<T> DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is the only way to them.
        unsafe { std::slice::from_raw_parts_mut(self.first(), self.len) }
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: the elements are dropped once, here, before their memory goes.
        unsafe { std::ptr::drop_in_place(&raw mut **self) };
    }
}

impl<T: fmt::Debug> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn elements_are_made_changed_and_dropped_once() {
        let witness = Rc::new(());
        let mut table = Table::new(1000, |index| (index, Rc::clone(&witness))).unwrap();
        assert_eq!((table.len(), table[999].0, Rc::strong_count(&witness)), (1000, 999, 1001));
        table[7].0 = 70;
        assert_eq!(table.iter().map(|(number, _)| number).sum::<usize>(), 999 * 500 + 63);
        drop(table);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn empty_and_large_tables_are_tables_too() {
        assert!(Table::new(0, |index| index).unwrap().is_empty());
        let large = Table::new(1 << 20, |index| index as u32).unwrap();
        assert!(large.iter().enumerate().all(|(index, &element)| element as usize == index));
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error_and_makes_no_element() {
        for len in [1 << 50, usize::MAX / 8, usize::MAX] {
            let error = Table::new(len, |_| -> u64 { panic!("there is no place for it") }).unwrap_err();
            assert_eq!(error.bytes, len.saturating_mul(8));
            let text = error.to_string();
            assert!(text.contains("Cannot allocate memory (os error 12); free some memory"), "{text}");
        }
    }
}
