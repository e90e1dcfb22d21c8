//! The simulated cluster: masters, gateways, slaves and the wire between them in one process and one thread, on a
//! virtual clock, all from one seed.
//!
//! It polls the same [`lcore::Lcore`] objects as threads do, over memory ports that carry whole Ethernet frames. The
//! wire drops, duplicates, delays, corrupts and truncates; machines crash and come back; networks are cut; strangers
//! attack. A [`ledger`] at every gateway lcore proves that each copy of a record that came in left once, or is in one
//! named counter, or was held by a machine that crashed, and that nothing else ever leaves. When the faults end, all
//! nodes must be registered again, every slave must answer, and a drain must leave nothing behind.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | the plan of a seed |
//! | [`cluster`] | machines, the wire, and the event loop |
//! | [`run`] | one run from trouble to drain |
//! | [`incast`] | many slaves answer masters whose links are slower than all theirs |
//! | [`leases`] | slaves that lend and masters that borrow, through a gateway with faults |
//! | [`lossy`] | packets are lost all the time, and dead nodes are noticed nevertheless |
//! | [`ledger`] | the account of one gateway lcore |
//! | [`account`] | the account of the whole cluster, from end to end |
//! | `change` | a gateway drains, crashes or is cut off under load; the cluster changes its key |
//! | [`check`] | checks from outside |
//! | [`flood`] | a node or strangers send far too much; packets are lost in bursts while a farm dies |
//! | [`host`] | roles that work with datagrams and not with whole frames |
//! | [`hostile`] | what strangers send, and where it must be counted |
//! | [`ideal`] | how close aggregation comes to an ideal buffer |
//! | [`master`], [`desk`], [`core`] | a test master, the registrar's desk, one lcore |
//! | [`slow`] | destinations behind slow links |
//! | [`packet`], [`place`] | frames and addresses |
//! | [`pages`] | masters with clients, gateways, and farms that lend memory |
//! | [`qp`] | two endpoints of reliable connections over a wire with faults |
//! | [`queue`], [`rng`], [`trace`] | virtual time, random numbers, the record of a run |
#![forbid(unsafe_code)]

pub mod account;
mod change;
pub mod check;
pub mod cluster;
pub mod core;
pub mod desk;
pub mod flood;
pub mod host;
pub mod hostile;
pub mod ideal;
pub mod incast;
pub mod leases;
pub mod ledger;
pub mod lossy;
mod machines;
pub mod master;
mod network;
mod old;
pub mod packet;
pub mod pages;
pub mod place;
pub mod plan;
pub mod qp;
pub mod queue;
pub mod rng;
pub mod run;
pub mod slow;
pub mod trace;

pub use run::{Failure, Outcome, run_large, run_seed};
