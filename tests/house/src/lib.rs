//! Holds the dependency rule of docs/architecture.md.
