//! The two directions of cargo.

use frame::Class;

/// Which way cargo goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From slaves to masters.
    Up,
    /// From masters to slaves.
    Down,
}

impl Direction {
    /// The direction of datagrams to a destination of this class.
    #[inline]
    pub const fn of(class: Class) -> Self {
        if matches!(class, Class::Down) { Self::Down } else { Self::Up }
    }
}

/// A value for each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Both<T> {
    /// The upward value.
    pub up: T,
    /// The downward value.
    pub down: T,
}

impl<T> Both<T> {
    /// The value of one direction.
    #[inline]
    pub const fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// The value of one direction, for changing.
    #[inline]
    pub const fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}
