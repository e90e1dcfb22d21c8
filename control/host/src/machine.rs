//! The interfaces of this machine and their addresses.

use crate::pci;
use port::spec::PciAddress;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// Its name.
    pub name: String,
    /// Its state as the kernel says it: up, down, unknown (loopback), ...
    pub state: String,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// All interfaces, by name.
pub fn interfaces() -> Vec<HostInterface> {
    let mut addresses = addresses_by_index();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default().trim().to_owned();
        let (Ok(index), Ok(mtu)) = (read("ifindex").parse::<u32>(), read("mtu").parse()) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        let addresses = addresses.remove(&index).unwrap_or_default();
        found.push(HostInterface { name, state: read("operstate"), mtu, addresses });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The speed of an interface's link in Mbit/s, when the kernel knows it.
pub fn mbits_of(ifname: &str) -> Option<u32> {
    // The file says -1 if the link is down. An interface without a link, like loopback, has no such file.
    std::fs::read_to_string(format!("/sys/class/net/{ifname}/speed")).ok()?.trim().parse().ok()
}

/// The message when no port was named: what can be used here, what can be used after one more step, and one line to
/// copy.
pub fn no_port(role: &str) -> String {
    let (usable, others): (Vec<_>, Vec<_>) =
        interfaces().into_iter().partition(|interface| !interface.addresses.is_empty());
    let mut text = String::from("no --port: say where datagrams come from and go to.\n\nUsable here:\n");
    for HostInterface { name, state, mtu, addresses } in &usable {
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let _ = writeln!(text, "  {name:<15} {state:<8} MTU {mtu:<6} {}", addresses.join(" "));
    }
    text += &further(&others, &pci::given_away());
    let outward = |interface: &&HostInterface| !interface.addresses.iter().any(IpAddr::is_loopback);
    let best = usable.iter().find(outward).or(usable.first()).and_then(|interface| interface.addresses.first());
    let cores = lcore::CoreList::of_this_process().ok();
    let core = cores.and_then(|cores| cores.iter().next()).unwrap_or(0);
    let address = best.copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let _ = match role {
        "gateway" => write!(text, "\nOne line to copy:\n  gvm-dp --lcores {core} --port udp:{}", at(address, 9999)),
        _ => write!(text, "\nOne line to copy:\n  gvm-dp slave --gateway ADDR --id 0 --port udp:{}", at(address, 0)),
    };
    text
}

/// What can be used after one more step: interfaces without an address, and PCI devices that are bound for programs.
fn further(interfaces: &[HostInterface], devices: &[PciAddress]) -> String {
    let mut text = String::new();
    if interfaces.is_empty() && devices.is_empty() {
        return text;
    }
    text += "\nUsable after one more step:\n";
    for HostInterface { name, state, mtu, .. } in interfaces {
        let up = if state == "down" { format!(" && ip link set dev {name} up") } else { String::new() };
        let _ = writeln!(text, "  {name:<15} {state:<8} MTU {mtu:<6} `ip address add ADDR/BITS dev {name}{up}`");
    }
    for device in devices {
        let _ = writeln!(text, "  {device:<15} for DPDK            write --port {device},ip=ADDR/BITS");
    }
    text
}

fn at(ip: IpAddr, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(ip, port)
}

// rtnetlink: struct nlmsghdr is 16 bytes, struct ifaddrmsg 8, struct rtattr 4.
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_DONE: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// Asks the kernel for all addresses, by the index of their interface. Empty if the kernel does not answer.
fn addresses_by_index() -> BTreeMap<u32, Vec<IpAddr>> {
    let mut found = BTreeMap::new();
    // Protocol 0 of this family is NETLINK_ROUTE.
    let Ok(socket) = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None) else {
        return found;
    };
    let mut request = [0u8; 24];
    request[..4].copy_from_slice(&24u32.to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    if send(&socket, &request, SendFlags::empty()).is_err() {
        return found;
    }
    let mut buffer = vec![0u8; 65_536];
    while let Ok((len, _)) = recv(&socket, &mut buffer[..], RecvFlags::empty()) {
        if len == 0 || !read_messages(&buffer[..len.min(buffer.len())], &mut found) {
            break;
        }
    }
    for addresses in found.values_mut() {
        addresses.sort_unstable();
    }
    found
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads one datagram of the answer; `false` if it was the last.
fn read_messages(mut bytes: &[u8], found: &mut BTreeMap<u32, Vec<IpAddr>>) -> bool {
    while let (Some(len), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let len = len as usize;
        if kind == NLMSG_DONE || kind == NLMSG_ERROR || len < 16 {
            return false;
        }
        if kind == RTM_NEWADDR
            && let Some((index, address)) = bytes.get(16..len).and_then(read_address)
        {
            found.entry(index).or_default().push(address);
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    true
}

/// Reads an `ifaddrmsg` with its attributes.
fn read_address(message: &[u8]) -> Option<(u32, IpAddr)> {
    let index = u32_at(message, 4)?;
    let mut attributes = message.get(8..)?;
    let (mut address, mut local) = (None, None);
    while let (Some(len), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let len = usize::from(len);
        let value = attributes.get(4..len)?;
        let ip = match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            16 => <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
            _ => None,
        };
        match kind {
            IFA_ADDRESS => address = ip,
            IFA_LOCAL => local = ip,
            _ => {}
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    // On a point-to-point interface IFA_ADDRESS is the other end.
    Some((index, local.or(address)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_loopback() {
        let found = interfaces();
        let lo = found.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(lo.addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{lo:?}");
        assert!(lo.mtu >= 1500);
    }

    #[test]
    fn no_port_gives_one_line_to_copy() {
        let text = no_port("gateway");
        assert!(text.contains("lo ") && text.contains("127.0.0.1"), "{text}");
        let line = text.lines().last().unwrap();
        assert!(
            line.starts_with("  gvm-dp --lcores ") && line.contains(" --port udp:") && line.ends_with(":9999"),
            "{text}"
        );
        assert!(no_port("slave").contains("gvm-dp slave --gateway ADDR --id 0 --port udp:"));
    }

    #[test]
    fn what_needs_one_more_step_is_listed_with_it() {
        let interface = |name: &str, state: &str| HostInterface {
            name: name.to_owned(),
            state: state.to_owned(),
            mtu: 1500,
            addresses: Vec::new(),
        };
        assert_eq!(further(&[], &[]), "");
        let text = further(&[interface("eth1", "down"), interface("eth2", "up")], &["0000:01:00.0".parse().unwrap()]);
        assert_eq!(
            text,
            "\nUsable after one more step:\n  \
             eth1            down     MTU 1500   `ip address add ADDR/BITS dev eth1 && ip link set dev eth1 up`\n  \
             eth2            up       MTU 1500   `ip address add ADDR/BITS dev eth2`\n  \
             0000:01:00.0    for DPDK            write --port 0000:01:00.0,ip=ADDR/BITS\n"
        );
    }

    #[test]
    fn lying_lengths_end_the_reading() {
        let mut found = BTreeMap::new();
        assert!(read_messages(&[], &mut found));
        let mut message = [0u8; 24];
        message[..4].copy_from_slice(&400u32.to_ne_bytes());
        message[4..6].copy_from_slice(&RTM_NEWADDR.to_ne_bytes());
        assert!(read_messages(&message, &mut found));
        message[..4].copy_from_slice(&3u32.to_ne_bytes());
        assert!(!read_messages(&message, &mut found));
        assert!(found.is_empty());
    }
}
