//! Real kernel paths, in network namespaces that each test makes and removes.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod addresses;
mod capture;
mod dpdk_devices;
mod failover;
mod filters;
mod floods;
mod gateway_dpdk;
mod gateway_xdp;
mod generators;
mod incast;
mod install;
mod interfaces;
mod jumbo;
mod losses;
mod machine_changes;
mod master_lcores;
mod neighbours;
mod privileges;
mod qp;
mod qp_foreign;
mod replay;
mod seam;
mod slow_link;
mod xdp_ports;
