//! The gateway role: blind aggregation of records.
