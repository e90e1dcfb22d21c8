//! Pages in a cluster: masters with clients, real gateways, and farms that lend memory, over a wire with faults.
//!
//! Clients write and read blocks of extents. A plain model knows what each block has; a READ that ends well is compared
//! with it, byte by byte. After every step the books of masters, farms and frames are counted. Slaves, gateways and
//! masters start again, memory is recalled and taken, slaves are cut off. In the end all requests have ended once, all
//! memory is back, and nothing is in flight.
//!
//! | module | what |
//! |---|---|
//! | [`client`] | clients of one master, and the model of their blocks |
//! | [`cluster`] | the roles, and the wire between them |
//! | [`program`] | a program whose pages are at slaves, of which `paging` decides |
//! | [`run`] | one run |

pub mod client;
pub mod cluster;
pub mod program;
pub mod run;

pub use run::{PagesOutcome, run_seed};
