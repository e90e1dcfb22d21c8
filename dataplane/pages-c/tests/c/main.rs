//! The library as programs in C use it: its header, its pkg-config file, the example, and its functions one by one.

mod functions;
mod programs;
mod support;
