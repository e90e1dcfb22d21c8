//! The devices whose queues are ports of a process.

use super::dpdk::DpdkNic;
use super::nic::Nic;
use super::ports::Ports;
use serve::board::{DeviceView, InterfaceView};
use std::sync::Arc;

/// See the module's documentation.
pub struct Devices {
    /// Interfaces of the kernel.
    pub nics: Vec<Arc<Nic>>,
    /// Devices of DPDK.
    pub dpdk: Vec<Arc<DpdkNic>>,
}

impl Devices {
    /// The devices of these ports.
    pub fn of(ports: &Ports) -> Self {
        Self { nics: ports.nics().cloned().collect(), dpdk: ports.devices().cloned().collect() }
    }

    /// The interface behind the port with this number, if there is one.
    pub fn nic(&self, port: u8) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.id().0 == port).map(|nic| &**nic)
    }

    /// The device of DPDK behind the port with this number, if there is one.
    pub fn of_dpdk(&self, port: u8) -> Option<&DpdkNic> {
        self.dpdk.iter().find(|device| device.id().0 == port).map(|device| &**device)
    }

    /// The interfaces, seen from outside.
    pub fn interfaces(&self) -> Vec<Arc<dyn InterfaceView>> {
        self.nics.iter().map(|nic| Arc::clone(nic) as Arc<dyn InterfaceView>).collect()
    }

    /// The devices of DPDK, seen from outside.
    pub fn devices(&self) -> Vec<Arc<dyn DeviceView>> {
        self.dpdk.iter().map(|device| Arc::clone(device) as Arc<dyn DeviceView>).collect()
    }
}
