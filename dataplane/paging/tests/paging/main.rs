//! Tests of the pager: step by step, against a model of memory, and in all orders of events.

mod explore;
mod policies;
mod seeds;
mod size;
mod steps;
mod world;
