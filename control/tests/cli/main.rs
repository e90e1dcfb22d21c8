//! The gvm-dp binary as people use it: real processes, loopback UDP, exit codes and messages.

mod api;
mod bad_input;
mod capture;
mod cluster;
mod config;
mod dissector;
mod exposition;
mod harness;
mod keys;
mod limits;
mod literal;
mod live;
mod manager;
mod master;
mod metrics;
mod names;
mod pipes;
mod privileges;
mod prometheus;
mod qp;
mod schema;
mod signals;
mod sockets;
mod static_routes;
mod trace;
mod watch;
