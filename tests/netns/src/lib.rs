//! Tests on real kernel paths in network namespaces.
