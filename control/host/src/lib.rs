//! What gvm-dp asks of the kernel of its host, and which rights it keeps.
//!
//! | module | what |
//! |---|---|
//! | [`privilege`] | what the kernel lets this process do, at its start and after that |
//! | [`placement`] | whether lcores stand where they are fast |
//! | [`machine`] | interfaces and their addresses |
//! | [`pci`] | the interface or the driver of a PCI device |
//! | [`owner`] | which process has an interface or a device |
//! | [`hugepages`] | hugepages that a process needs, and reserving them |
//! | [`log`] | the log on stderr, and its filter |
//! | [`notify`] | what the service manager is told |
#![forbid(unsafe_code)]

pub mod hugepages;
pub mod log;
pub mod machine;
pub mod notify;
pub mod owner;
pub mod pci;
pub mod placement;
pub mod privilege;
