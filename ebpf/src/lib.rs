//! The XDP program, its loader and maps.
