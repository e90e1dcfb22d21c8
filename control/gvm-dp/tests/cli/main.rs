//! The gvm-dp binary as people use it: real processes, loopback UDP, exit codes and messages.

mod api;
mod areas;
mod bad_input;
mod borrower;
mod capture;
mod cluster;
mod config;
mod connect_keys;
mod device;
mod disk;
mod dissector;
mod ending;
mod events;
mod exposition;
mod harness;
mod keys;
mod lcores;
mod lease_secrets;
mod lending;
mod limits;
mod literal;
mod live;
mod manager;
mod master;
mod metrics;
mod names;
#[path = "../../../disk/tests/disk/client.rs"]
#[allow(dead_code)] // The tests of the crate `disk` use all of it.
mod nbd_client;
mod pages;
mod pipes;
mod privileges;
mod prometheus;
mod qp;
mod schema;
mod secrets;
mod signals;
mod sockets;
mod static_routes;
mod trace;
mod trust;
mod watch;
