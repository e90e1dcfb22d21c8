//! PCI devices: how each one is used, and what prevents its use through DPDK.

use crate::owner;
use common::exit::Failure;
use port::spec::PciAddress;
use std::path::{Path, PathBuf};

/// How a PCI device is used. Its driver decides this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverWay {
    /// Its kernel network driver made this interface for it.
    Interface(String),
    /// A program can use it: DPDK.
    Dpdk,
}

/// Drivers that hand a device to a program.
const GIVING: [&str; 3] = ["vfio-pci", "igb_uio", "uio_pci_generic"];

/// Kernel network drivers that keep the device while DPDK uses it.
const SHARING: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

/// The class of network cards.
const NETWORK: &str = "0x0200";

/// How an IOMMU is turned on.
const TURN_ON: &str =
    "turn the IOMMU on in the BIOS (VT-d, AMD-Vi) and boot with intel_iommu=on iommu=pt (AMD: iommu=pt)";

/// The commands that hand a device to programs.
pub fn bind(device: PciAddress) -> String {
    format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {device}")
}

/// The class of PCI bridges. A bridge keeps its driver when its IOMMU group is handed over.
const BRIDGE: &str = "0x0604";

/// How a PCI device is used, by the driver that it is bound to.
///
/// # Errors
/// The error is [`Failure::Machine`]. There is no such device, it has several interfaces, its driver makes none, or
/// DPDK cannot use it.
pub fn way(device: PciAddress) -> Result<DriverWay, Failure> {
    Machine::this().way(device)
}

/// Checks that a PCI device can be used through DPDK. If it cannot, the error says what to do.
///
/// # Errors
/// The error is [`Failure::Machine`]. There is no such device, its driver or its IOMMU group does not suit DPDK, or
/// this machine is reached through it.
pub fn check_dpdk(port: &str, device: PciAddress) -> Result<(), Failure> {
    Machine::this().check_dpdk(port, device)
}

/// Checks that a driver of DPDK may take an interface. It may not if this machine is reached through the interface.
///
/// # Errors
/// The error is [`Failure::Machine`]: the interface carries this machine's default route.
pub fn check_spare(port: &str, interface: &str) -> Result<(), Failure> {
    Machine::this().check_spare(port, interface)
}

/// The network cards that are bound to vfio-pci, by address.
pub fn given_away() -> Vec<PciAddress> {
    Machine::this().given_away()
}

/// The process that uses a PCI device through vfio: its id and name. `None` if it is this process, or if this user may
/// not look at it.
pub fn holder(device: PciAddress) -> Option<(u32, String)> {
    let group = Machine::this().group(device)?;
    owner::of_file(&Path::new("/dev/vfio").join(group))
}

/// How many address bits a PCI device can use behind this machine's IOMMU; `None` if no limit is known.
pub fn address_bits(device: PciAddress) -> Option<u32> {
    Machine::this().address_bits(device)
}

/// A machine, described by its files.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn this() -> Self {
        Self { root: PathBuf::from("/") }
    }

    fn directory(&self, device: PciAddress) -> PathBuf {
        self.root.join("sys/bus/pci/devices").join(device.to_string())
    }

    fn driver(directory: &Path) -> Option<String> {
        let driver = std::fs::read_link(directory.join("driver")).ok()?;
        Some(driver.file_name()?.to_string_lossy().into_owned())
    }

    /// The number of its IOMMU group.
    fn group(&self, device: PciAddress) -> Option<String> {
        let group = std::fs::read_link(self.directory(device).join("iommu_group")).ok()?;
        Some(group.file_name()?.to_string_lossy().into_owned())
    }

    fn given_away(&self) -> Vec<PciAddress> {
        let devices = self.root.join("sys/bus/pci/devices");
        let is_ours = |name: &String| {
            let directory = devices.join(name);
            let class = std::fs::read_to_string(directory.join("class")).unwrap_or_default();
            class.starts_with(NETWORK) && Self::driver(&directory).as_deref() == Some("vfio-pci")
        };
        let mut found: Vec<String> = names(&devices).into_iter().filter(is_ours).collect();
        found.sort_unstable();
        found.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// What to do about a device without a driver. Without an IOMMU, vfio-pci never accepts a device.
    fn unbound(&self, device: PciAddress) -> String {
        let kernel = format!(
            "no driver is bound to it: load the card's kernel driver, then `echo {device} > \
             /sys/bus/pci/drivers_probe`; or \
             for DPDK, "
        );
        match self.group(device) {
            Some(_) => format!("{kernel}`{}`", bind(device)),
            None => {
                format!("{kernel}an IOMMU, without which vfio-pci takes no device: {TURN_ON}, then `{}`", bind(device))
            }
        }
    }

    /// The interfaces that its kernel driver made for it. Those of virtio belong to the virtio device below the card.
    fn interfaces(directory: &Path) -> Vec<String> {
        let virtio = names(directory).into_iter().filter(|name| name.starts_with("virtio"));
        let places = virtio.map(|device| directory.join(device)).chain([directory.to_owned()]);
        let mut names: Vec<String> = places.flat_map(|place| names(&place.join("net"))).collect();
        names.sort_unstable();
        names
    }

    fn found(&self, port: &str, device: PciAddress) -> Result<PathBuf, Failure> {
        let directory = self.directory(device);
        if directory.exists() {
            return Ok(directory);
        }
        Err(failed(port, "this machine has no such PCI device: `lspci -D | grep -i net` lists them"))
    }

    fn way(&self, device: PciAddress) -> Result<DriverWay, Failure> {
        let port = device.to_string();
        let directory = self.found(&port, device)?;
        let names = Self::interfaces(&directory);
        match (&names[..], Self::driver(&directory)) {
            ([name], _) => Ok(DriverWay::Interface(name.clone())),
            ([_, ..], _) => {
                let ports: Vec<String> = names.iter().map(|name| format!("--port xdp:{name}")).collect();
                Err(failed(&port, &format!("it has several interfaces; name one: {}", ports.join(" or "))))
            }
            ([], Some(driver)) if GIVING.contains(&&*driver) => {
                self.check_dpdk(&port, device).map(|()| DriverWay::Dpdk)
            }
            ([], Some(driver)) => Err(failed(
                &port,
                &format!(
                    "its driver {driver} makes no network interface in this network namespace: is it a network card, \
                     and is \
                     its interface here? `ip -brief link` lists what is"
                ),
            )),
            ([], None) => Err(failed(&port, &self.unbound(device))),
        }
    }

    fn check_dpdk(&self, port: &str, device: PciAddress) -> Result<(), Failure> {
        let directory = self.found(port, device)?;
        for interface in Self::interfaces(&directory) {
            self.check_spare(port, &interface)?;
        }
        let bind = format!("`{}`", bind(device));
        match Self::driver(&directory) {
            None => Err(failed(port, &self.unbound(device))),
            Some(driver) if SHARING.contains(&&*driver) => Ok(()),
            Some(driver) if driver == "vfio-pci" => self.check_vfio(port, device, &directory),
            Some(driver) if GIVING.contains(&&*driver) => Err(failed(
                port,
                &format!(
                    "its driver is {driver}, which protects no memory: gvm-dp uses vfio-pci with an IOMMU; {bind}"
                ),
            )),
            Some(driver) => Err(failed(
                port,
                &format!(
                    "its driver is the kernel's {driver}, which DPDK cannot work beside: {bind}, or write --port \
                     {device} to \
                     use it through AF_XDP"
                ),
            )),
        }
    }

    fn check_vfio(&self, port: &str, device: PciAddress, directory: &Path) -> Result<(), Failure> {
        if !self.root.join("dev/vfio/vfio").exists() {
            return Err(failed(
                port,
                "there is no /dev/vfio/vfio: `modprobe vfio-pci`; in a container, hand in /dev/vfio with its devices",
            ));
        }
        let Some(group) = self.group(device) else {
            let text = format!("it is in no IOMMU group, so that it could write anywhere in memory: {TURN_ON}");
            return Err(failed(port, &text));
        };
        let others = names(&directory.join("iommu_group/devices"));
        for other in others.iter().filter(|other| **other != device.to_string()) {
            let directory = self.root.join("sys/bus/pci/devices").join(other);
            let class = std::fs::read_to_string(directory.join("class")).unwrap_or_default();
            match Self::driver(&directory) {
                Some(driver) if driver != "vfio-pci" && !class.starts_with(BRIDGE) => {
                    return Err(failed(
                        port,
                        &format!(
                            "it shares IOMMU group {group} with {other}, which {driver} has: a group is given away as \
                             a whole. \
                             Bind that one to vfio-pci, too, if nobody needs it (`dpdk-devbind.py --bind=vfio-pci \
                                 {other}`), \
                             or move the card to another slot"
                        ),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Intel's VT-d reports it in its capability register (VT-d specification, 11.4.2): bits 21:16 are the width of the
    /// widest address minus one, and bits 12:8 the depths of page tables that it walks: 39, 48 and 57 bits. Other
    /// IOMMUs do not report it here; AMD's has 48 bits or more.
    fn address_bits(&self, device: PciAddress) -> Option<u32> {
        let text = std::fs::read_to_string(self.directory(device).join("iommu/intel-iommu/cap")).ok()?;
        let register = u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()?;
        let widest = (register >> 16 & 0x3f) as u32 + 1;
        let depths = (register >> 8 & 0x1f) as u32;
        // Bit 1 stands for 39, and each further bit for 9 more.
        let walked = depths.checked_ilog2().map_or(widest, |deepest| 30 + 9 * deepest);
        Some(widest.min(walked))
    }

    fn check_spare(&self, port: &str, interface: &str) -> Result<(), Failure> {
        let routes = std::fs::read_to_string(self.root.join("proc/net/route")).unwrap_or_default();
        let mut defaults = routes.lines().skip(1).filter_map(|line| {
            let mut columns = line.split_whitespace();
            let name = columns.next()?;
            (columns.next()? == "00000000").then_some(name)
        });
        if !defaults.any(|name| name == interface) {
            return Ok(());
        }
        Err(failed(
            port,
            &format!(
                "its interface {interface} carries this machine's default route: whoever is logged in over it would \
                 lose the \
                 machine. Use another card, or move the route first (`ip route`)"
            ),
        ))
    }
}

fn failed(port: &str, why: &str) -> Failure {
    Failure::Machine(format!("--port {port}: {why}"))
}

/// The names in a directory; none when there is none.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine in a directory.
    struct Fake(Machine);

    impl Fake {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("gvm-dp-pci-{name}-{}", std::process::id()));
            std::fs::create_dir_all(root.join("sys/bus/pci/devices")).unwrap();
            std::fs::create_dir_all(root.join("proc/net")).unwrap();
            Self(Machine { root })
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn device(&self, address: &str, names: &[&str], driver: Option<&str>, group: Option<u32>) {
            let directory = self.0.root.join("sys/bus/pci/devices").join(address);
            std::fs::create_dir_all(&directory).unwrap();
            names.iter().for_each(|name| std::fs::create_dir_all(directory.join("net").join(name)).unwrap());
            if let Some(driver) = driver {
                symlink(Path::new("../../../bus/pci/drivers").join(driver), directory.join("driver")).unwrap();
            }
            if let Some(group) = group {
                let group = self.0.root.join(format!("sys/kernel/iommu_groups/{group}"));
                std::fs::create_dir_all(group.join("devices").join(address)).unwrap();
                symlink(&group, directory.join("iommu_group")).unwrap();
            }
        }

        fn way(&self, address: &str) -> Result<DriverWay, String> {
            self.0.way(address.parse().unwrap()).map_err(|failure| failure.to_string())
        }

        fn dpdk(&self, address: &str) -> Result<(), String> {
            let failed = |failure: Failure| {
                assert_eq!(failure.code(), 3);
                failure.to_string()
            };
            self.0.check_dpdk(&format!("dpdk:{address}"), address.parse().unwrap()).map_err(failed)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0.root);
        }
    }

    fn says(complaint: &str, parts: &[&str]) {
        assert!(parts.iter().all(|part| complaint.contains(part)), "{complaint}");
    }

    #[test]
    fn a_device_is_used_as_its_driver_allows() {
        let fake = Fake::new("way");
        fake.device("0000:01:00.0", &["enp1s0"], Some("ixgbe"), None);
        fake.device("0000:01:00.1", &["eth1", "eth2"], Some("mlx4_core"), None);
        fake.device("0000:02:00.0", &[], Some("vfio-pci"), Some(7));
        fake.device("0000:03:00.0", &[], Some("nvme"), None);
        fake.device("0000:04:00.0", &[], None, None);
        fake.device("0000:06:00.0", &[], Some("virtio-pci"), None);
        fake.file("sys/bus/pci/devices/0000:06:00.0/virtio3/net/ens6/mtu", "1500");
        fake.file("dev/vfio/vfio", "");
        assert_eq!(fake.way("01:00.0"), Ok(DriverWay::Interface("enp1s0".to_owned())));
        assert_eq!(fake.way("06:00.0"), Ok(DriverWay::Interface("ens6".to_owned())));
        assert_eq!(fake.way("02:00.0"), Ok(DriverWay::Dpdk));
        for (address, parts) in [
            ("01:00.1", &["--port xdp:eth1 or --port xdp:eth2"][..]),
            ("03:00.0", &["nvme", "`ip -brief link`"]),
            ("04:00.0", &["no driver", "drivers_probe", "--bind=vfio-pci 0000:04:00.0", "intel_iommu=on"]),
            ("05:00.0", &["no such PCI device", "lspci -D"]),
        ] {
            says(&fake.way(address).unwrap_err(), parts);
        }
    }

    #[test]
    fn cards_that_were_given_away_are_listed() {
        let fake = Fake::new("given");
        fake.device("0000:02:00.0", &[], Some("vfio-pci"), Some(1));
        fake.device("0000:01:00.0", &[], Some("vfio-pci"), Some(2));
        fake.device("0000:03:00.0", &[], Some("vfio-pci"), Some(3));
        fake.device("0000:04:00.0", &["eth0"], Some("e1000e"), Some(4));
        for (address, class) in
            [("01:00.0", "0x020000"), ("02:00.0", "0x020000"), ("03:00.0", "0x010802"), ("04:00.0", "0x020000")]
        {
            fake.file(&format!("sys/bus/pci/devices/0000:{address}/class"), &format!("{class}\n"));
        }
        let found: Vec<String> = fake.0.given_away().iter().map(PciAddress::to_string).collect();
        assert_eq!(found, ["0000:01:00.0", "0000:02:00.0"]);
    }

    #[test]
    fn the_iommu_says_how_wide_addresses_are() {
        let fake = Fake::new("width");
        // The IOMMU of QEMU by default and with aw-bits=48, that of a server with 57 bits, and a text that is no
        // register.
        for (address, text, bits) in [
            ("0000:01:00.0", "d2008c222f0286\n", Some(39)),
            ("0000:02:00.0", "d2008c222f0686\n", Some(48)),
            ("0000:03:00.0", "19ed008c40780c66\n", Some(57)),
            ("0000:04:00.0", "\n", None),
        ] {
            fake.device(address, &[], Some("vfio-pci"), Some(1));
            fake.file(&format!("sys/bus/pci/devices/{address}/iommu/intel-iommu/cap"), text);
            assert_eq!(fake.0.address_bits(address.parse().unwrap()), bits, "{address}");
        }
        fake.device("0000:05:00.0", &[], Some("vfio-pci"), Some(1));
        assert_eq!(fake.0.address_bits("0000:05:00.0".parse().unwrap()), None);
    }

    #[test]
    fn what_stands_in_the_way_of_dpdk_is_said_with_its_remedy() {
        let fake = Fake::new("dpdk");
        fake.device("0000:01:00.0", &["enp1s0"], Some("ixgbe"), Some(1));
        fake.device("0000:01:00.1", &["enp1s1"], Some("mlx5_core"), Some(2));
        fake.device("0000:02:00.0", &[], Some("vfio-pci"), Some(7));
        fake.device("0000:02:00.1", &[], Some("snd_hda_intel"), Some(7));
        fake.device("0000:03:00.0", &[], Some("vfio-pci"), Some(8));
        fake.device("0000:03:01.0", &[], Some("pcieport"), Some(8));
        fake.device("0000:03:00.1", &[], Some("vfio-pci"), Some(8));
        fake.device("0000:04:00.0", &[], Some("vfio-pci"), None);
        fake.device("0000:05:00.0", &[], Some("uio_pci_generic"), None);
        fake.device("0000:06:00.0", &[], None, None);
        fake.device("0000:06:00.1", &[], None, Some(9));
        fake.device("0000:07:00.0", &["up0"], Some("mlx5_core"), None);
        fake.file("sys/bus/pci/devices/0000:03:01.0/class", "0x060400\n");
        fake.file("proc/net/route", "Iface\tDestination\tGateway\nup0\t00000000\t0100000A\nenp1s1\t0000000A\t0\n");
        says(&fake.dpdk("0000:03:00.0").unwrap_err(), &["no /dev/vfio/vfio", "modprobe vfio-pci"]);
        fake.file("dev/vfio/vfio", "");
        // ConnectX keeps its driver. A bridge in the group is no fault, and neither is another card that is handed
        // over, too.
        assert_eq!((fake.dpdk("0000:01:00.1"), fake.dpdk("0000:03:00.0")), (Ok(()), Ok(())));
        for (address, parts) in [
            ("0000:01:00.0", &["the kernel's ixgbe", "--bind=vfio-pci 0000:01:00.0", "--port 0000:01:00.0"][..]),
            ("0000:02:00.0", &["shares IOMMU group 7 with 0000:02:00.1", "snd_hda_intel", "another slot"]),
            ("0000:04:00.0", &["no IOMMU group", "intel_iommu=on iommu=pt"]),
            ("0000:05:00.0", &["uio_pci_generic", "vfio-pci with an IOMMU"]),
            // vfio-pci had the device once and refuses it without an IOMMU, or no driver was ever bound.
            ("0000:06:00.0", &["no driver is bound", "dpdk-devbind.py", "intel_iommu=on"]),
            ("0000:06:00.1", &["no driver is bound", "dpdk-devbind.py"]),
            ("0000:07:00.0", &["up0 carries this machine's default route", "another card"]),
            ("0000:09:00.0", &["no such PCI device"]),
        ] {
            let complaint = fake.dpdk(address).unwrap_err();
            says(&complaint, &[&format!("--port dpdk:{address}: ")]);
            says(&complaint, parts);
        }
        assert!(!fake.dpdk("0000:06:00.1").unwrap_err().contains("intel_iommu"));
        // The device behind the plain address is checked as well.
        says(&fake.way("02:00.0").unwrap_err(), &["--port 0000:02:00.0: it shares IOMMU group 7"]);
        says(&fake.0.check_spare("dpdk:net_x", "up0").unwrap_err().to_string(), &["dpdk:net_x", "default route"]);
        assert!(fake.0.check_spare("dpdk:net_x", "enp1s1").is_ok());
    }
}
