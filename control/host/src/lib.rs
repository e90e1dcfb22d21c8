//! What gvm-dp asks of the kernel of its host, and which rights it keeps.
//!
//! | module | what |
//! |---|---|
//! | [`privilege`] | the rights of this process, at its start and after that |
//! | [`placement`] | whether lcores run on cores that suit them |
//! | [`machine`] | interfaces and their addresses |
//! | [`pci`] | the interface or the driver of a PCI device |
//! | [`owner`] | which process uses an interface or a device |
//! | [`memory`] | how much memory the host can spare |
//! | [`hugepages`] | the hugepages that a process needs, and reserving them |
//! | [`log`] | the log on stderr, and its filter |
//! | [`notify`] | messages to the service manager |
//! | [`unix_socket`] | Unix sockets with a file, and who may connect |
#![forbid(unsafe_code)]

pub mod hugepages;
pub mod log;
pub mod machine;
pub mod memory;
pub mod notify;
pub mod owner;
pub mod pci;
pub mod placement;
pub mod privilege;
pub mod unix_socket;
