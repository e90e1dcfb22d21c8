//! What runs off the poll loops.
//!
//! | module | what |
//! |---|---|
//! | [`desk`] | between the registrar and all lcores |
//! | [`leave`] | the order of a drain |
//! | [`trace`] | what becomes of the records of one slave, for people who ask |

pub mod desk;
pub mod leave;
pub mod trace;
