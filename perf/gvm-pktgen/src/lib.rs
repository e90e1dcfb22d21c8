//! A packet generator that registers like any node and checks every record.
