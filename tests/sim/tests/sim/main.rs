//! Simulated clusters, endpoints and gateways on a virtual clock, with many seeds.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod fair;
mod ideal;
mod incast;
mod leases;
mod ledger;
mod lossy;
mod pages;
mod qp;
mod records;
mod seeds;
