//! What runs off the poll loops.
//!
//! | module | what |
//! |---|---|
//! | [`desk`] | between the registrar and all lcores |
//! | [`leave`] | the order of a drain |
//! | [`trace`] | what happens to the records of one slave |

pub mod desk;
pub mod leave;
pub mod trace;
