//! Tests of the map of a disk.

mod model;
mod steps;
