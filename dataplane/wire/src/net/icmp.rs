//! ICMP echo: the answer to a ping.

use super::ethernet::{self, Ethernet};
use super::ipv4::{self, Ipv4};
use super::{Mac, NetError, checksum};

/// Bytes of an echo request or reply before its data: type, code, checksum, identifier, sequence.
pub const HEADER_LEN: usize = 8;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Writes the reply to the echo request `message`, an IP packet's payload, at the start of `out`.
///
/// Identifier, sequence and data are those of the request. Returns the length, which is that of the request;
/// `None` when it does not fit.
pub fn reply(message: &[u8], out: &mut [u8]) -> Result<Option<usize>, NetError> {
    let header: &[u8; HEADER_LEN] = message.first_chunk().ok_or(NetError::Truncated)?;
    if header[0] != ECHO_REQUEST || header[1] != 0 || checksum::fold(checksum::sum(message)) != 0 {
        return Err(NetError::Icmp);
    }
    let Some(out) = out.get_mut(..message.len()) else {
        return Ok(None);
    };
    out.copy_from_slice(message);
    out[0] = ECHO_REPLY;
    out[2..4].fill(0);
    let sum = checksum::fold(checksum::sum(out));
    out[2..4].copy_from_slice(&sum.to_be_bytes());
    Ok(Some(message.len()))
}

/// Writes the whole frame that answers `frame`, an echo request to `mac`, at the start of `out`.
///
/// Addresses are swapped and the tag is answered in kind; whether the request's IP address is one's own is the
/// caller's to check. Returns the length; `None` when it does not fit.
pub fn reply_frame(frame: &[u8], mac: Mac, out: &mut [u8]) -> Result<Option<usize>, NetError> {
    let (ethernet, packet) = Ethernet::parse(frame)?;
    if ethernet.ethertype != ethernet::IPV4 {
        return Err(NetError::EtherType);
    }
    let (ip, at) = Ipv4::parse(packet)?;
    if ip.is_fragment() {
        return Err(NetError::Fragment);
    }
    if ip.protocol != ipv4::ICMP {
        return Err(NetError::Protocol);
    }
    let message = packet.get(at).ok_or(NetError::IpTotalLen)?;
    let head = Ethernet { dst: ethernet.src, src: mac, ..ethernet };
    let ip = Ipv4::new(ip.dst, ip.src, ipv4::ICMP, ipv4::ECN_NOT_ECT);
    let body = head.header_len() + ipv4::HEADER_LEN;
    let Some(room) = out.get_mut(body..) else {
        return Ok(None);
    };
    let Some(len) = reply(message, room)? else {
        return Ok(None);
    };
    let written = head.emit(out).and_then(|at| ip.emit(len, out.get_mut(at..)?));
    Ok(written.map(|_| body + len))
}
