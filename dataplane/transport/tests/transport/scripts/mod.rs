//! Packet scripts for every rule of docs/transport.md, by topic.

mod atomics;
mod congestion;
mod duplicates;
mod messages;
mod own_peers;
mod psn;
mod read;
mod refusals;
mod retries;
mod rnr;
mod rubbish;
mod states;
mod support;
