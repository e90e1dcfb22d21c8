//! gvm-dp.
fn main() {}
