//! gvm-dp: the dataplane of GiantVM Frontier-X.
