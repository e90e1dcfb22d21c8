//! PCI devices: the interface that a kernel network driver makes of one.

use crate::exit::Failure;
use port::spec::PciAddress;
use std::path::Path;

/// The interface of a PCI device.
pub fn interface(device: PciAddress) -> Result<String, Failure> {
    interface_in(Path::new("/sys/bus/pci/devices"), device)
}

fn interface_in(devices: &Path, device: PciAddress) -> Result<String, Failure> {
    let failed = |why: String| Err(Failure::Machine(format!("--port {device}: {why}")));
    let directory = devices.join(device.to_string());
    if !directory.exists() {
        return failed("this machine has no such PCI device: `lspci -D | grep -i net` lists them".to_owned());
    }
    let entries = std::fs::read_dir(directory.join("net")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    if let [name] = &names[..] {
        return Ok(name.clone());
    }
    if !names.is_empty() {
        let ports: Vec<String> = names.iter().map(|name| format!("--port xdp:{name}")).collect();
        return failed(format!("it has several interfaces; name one: {}", ports.join(" or ")));
    }
    let driver = std::fs::read_link(directory.join("driver")).ok();
    match driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy()) {
        Some(name) if matches!(&*name, "vfio-pci" | "igb_uio" | "uio_pci_generic") => failed(format!(
            "its driver is {name}, which makes it a DPDK port, and DPDK ports come with a later version of gvm-dp. Give \
             it back to its kernel driver, and it is used through AF_XDP:\n  echo > {0}/driver_override; echo {device} > \
             {0}/driver/unbind; echo {device} > /sys/bus/pci/drivers_probe",
            directory.display()
        )),
        Some(name) => failed(format!(
            "its driver {name} makes no network interface in this network namespace: is it a network card, and is its \
             interface here? `ip -brief link` lists what is"
        )),
        None => failed(format!(
            "no driver is bound to it: load the card's kernel driver, then `echo {device} > /sys/bus/pci/drivers_probe`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_device_is_its_interface_or_says_why_not() {
        let root = std::env::temp_dir().join(format!("gvm-dp-pci-{}", std::process::id()));
        let device = |text: &str| text.parse::<PciAddress>().unwrap();
        let make = |address: &str, names: &[&str], driver: Option<&str>| {
            let directory = root.join(address);
            std::fs::create_dir_all(&directory).unwrap();
            names.iter().for_each(|name| std::fs::create_dir_all(directory.join("net").join(name)).unwrap());
            if let Some(driver) = driver {
                symlink(Path::new("../../../bus/pci/drivers").join(driver), directory.join("driver")).unwrap();
            }
        };
        make("0000:01:00.0", &["enp1s0"], Some("ixgbe"));
        make("0000:01:00.1", &["eth1", "eth2"], Some("mlx4_core"));
        make("0000:02:00.0", &[], Some("vfio-pci"));
        make("0000:03:00.0", &[], Some("nvme"));
        make("0000:04:00.0", &[], None);
        let of = |text: &str| interface_in(&root, device(text)).map_err(|failure| failure.to_string());
        assert_eq!(of("01:00.0").unwrap(), "enp1s0");
        for (address, parts) in [
            ("01:00.1", &["--port xdp:eth1 or --port xdp:eth2"][..]),
            ("02:00.0", &["vfio-pci", "DPDK ports come with", "drivers_probe"]),
            ("03:00.0", &["nvme", "`ip -brief link`"]),
            ("04:00.0", &["no driver"]),
            ("05:00.0", &["no such PCI device", "lspci -D"]),
        ] {
            let complaint = of(address).unwrap_err();
            assert!(parts.iter().all(|part| complaint.contains(part)), "{complaint}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
