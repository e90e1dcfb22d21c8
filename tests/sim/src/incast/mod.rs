//! Incast: many slaves answer few masters, whose links carry a part of what all slaves could send.
//!
//! Real masters, gateways and farms that lend, behind one switch. Each machine has a link in both directions, with a
//! rate, a delay, and a queue that drops what comes when it is full ([`link`]). Clients keep as many bulk requests
//! under way as they may, and beside them they send demand READs. Time is virtual, and machines need no time to work,
//! so that figures are those of the links and the protocol, exact and the same in each run.
//!
//! | module | what |
//! |---|---|
//! | [`client`] | the load of one master |
//! | [`link`] | a link with a queue |
//! | [`run`] | phases of a run, and its figures |
//! | [`scenarios`] | the worlds of the documentation |
//! | [`world`] | the machines and the links between them |

pub mod client;
pub mod link;
pub mod run;
pub mod scenarios;
pub mod world;
