//! DPDK in the test's own process: virtual devices, and files of packets for them.
//!
//! EAL starts once in a process, without PCI, and on ordinary pages. Tests that use it say SKIPPED when the plugin was
//! built without DPDK, or fail when the environment has `GVM_TESTS=require`.

use crate::product::binaries;
use port::dpdk::{
    Device, DeviceConfig, DpdkError, DpdkPort, ENTRY_FILE, Environment, EnvironmentConfig, LoadedPlugin, smallest_chunk,
};
use port::host::{Host, HostConfig};
use port::vlans::Vlans;
use std::path::Path;

/// Bytes of a frame with which DPDK works at Ethernet's MTU.
pub const CHUNK: u32 = smallest_chunk(1500);

/// The plugin of this build. `None`, with a message on standard error, when it was built without DPDK.
///
/// # Panics
/// When it cannot be loaded, and with `GVM_TESTS=require` also when it was built without DPDK.
pub fn plugin() -> Option<LoadedPlugin> {
    match LoadedPlugin::load(&binaries().join(ENTRY_FILE)) {
        Ok(plugin) => Some(plugin),
        Err(error @ DpdkError::Empty(_)) => {
            crate::skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// DPDK in this process, without PCI and without hugepages.
///
/// # Panics
/// When it does not start.
pub fn environment() -> Option<Environment> {
    let config = EnvironmentConfig { memory: 128, ..EnvironmentConfig::default() };
    plugin().map(|plugin| Environment::start(plugin, config).unwrap_or_else(|error| panic!("{error}")))
}

/// A virtual device with one queue, with this MTU or its own.
pub fn config(devargs: &str, mtu: Option<u16>) -> DeviceConfig {
    let name = devargs.split(',').next().unwrap_or(devargs).to_owned();
    let chunk = mtu.map_or(CHUNK, smallest_chunk);
    DeviceConfig { name, devargs: devargs.to_owned(), lcores: 1, own_ports: false, mtu, chunk, ring: 256 }
}

/// A virtual device with one queue, and its host with this address.
///
/// # Panics
/// When DPDK refuses it.
pub fn device(environment: &Environment, devargs: &str, mtu: Option<u16>, address: &str) -> (Device, Host) {
    let device = Device::open(environment, config(devargs, mtu)).unwrap_or_else(|error| panic!("{error}"));
    let addresses = vec![address.parse().expect("an address with its subnet")];
    let config =
        HostConfig { name: devargs.to_owned(), mac: device.mac(), addresses, gateway: None, vlans: Vlans::UNTAGGED };
    let host = Host::new(config).expect("an address");
    (device, host)
}

/// Opens the only queue of a device and starts it.
///
/// # Panics
/// When DPDK refuses it.
pub fn start(device: &Device, host: &Host, id: u8, pool: &frame::Pool) -> DpdkPort {
    let port =
        port::dpdk::DpdkPort::open(frame::PortId(id), 0, device, pool, host).unwrap_or_else(|error| panic!("{error}"));
    device.start().unwrap_or_else(|error| panic!("{error}"));
    port
}

/// Writes a file of packets as `tcpdump` does.
///
/// # Panics
/// When it cannot be written.
pub fn write_pcap(path: &Path, packets: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_ne_bytes());
    }
    for packet in packets {
        for word in [0, 0, packet.len() as u32, packet.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(packet);
    }
    std::fs::write(path, bytes).expect("room for a file");
}

/// The packets of a file that `tcpdump` wrote.
///
/// # Panics
/// When it is not such a file.
pub fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).expect("a file of packets");
    let mut rest = bytes.get(24..).expect("the header of a file of packets");
    let mut packets = Vec::new();
    while let Some(head) = rest.first_chunk::<16>() {
        let len = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
        packets.push(rest.get(16..16 + len).expect("a whole packet").to_vec());
        rest = &rest[16 + len..];
    }
    packets
}
