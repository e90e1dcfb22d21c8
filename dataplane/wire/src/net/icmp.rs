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
///
/// # Errors
/// The error is [`NetError::Truncated`] when the message is shorter than its header. It is [`NetError::Icmp`] when it
/// is not an echo request, or its checksum is wrong.
pub fn reply(message: &[u8], out: &mut [u8]) -> Result<Option<usize>, NetError> {
    check_request(message)?;
    let Some(out) = out.get_mut(..message.len()) else {
        return Ok(None);
    };
    out.copy_from_slice(message);
    turn(out);
    Ok(Some(message.len()))
}

/// Whether this is a whole echo request.
fn check_request(message: &[u8]) -> Result<(), NetError> {
    let header: &[u8; HEADER_LEN] = message.first_chunk().ok_or(NetError::Truncated)?;
    if header[0] != ECHO_REQUEST || header[1] != 0 || checksum::fold(checksum::sum(message)) != 0 {
        return Err(NetError::Icmp);
    }
    Ok(())
}

/// Turns a whole echo request into its reply.
fn turn(message: &mut [u8]) {
    if let Some(header) = message.first_chunk_mut::<HEADER_LEN>() {
        header[0] = ECHO_REPLY;
        header[2..4].fill(0);
    }
    let sum = checksum::fold(checksum::sum(message));
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Writes the whole frame that answers `frame`, an echo request to `mac`, at the start of `out`.
///
/// Addresses are swapped, and the reply is tagged if the request was. The caller checks whether the request's IP
/// address is its own. Returns the length; `None` if it does not fit.
///
/// # Errors
/// It fails as [`Ethernet::parse`], [`Ipv4::parse`] and [`reply`] do. The error is [`NetError::EtherType`] when the
/// frame has no IPv4. It is [`NetError::Fragment`] when the packet is a fragment. It is [`NetError::Protocol`] when the
/// packet is not ICMP.
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

/// Turns `frame`, an echo request to `mac`, into its answer, in place. Returns its length: that of the request without
/// options of its IP header and without padding.
///
/// As [`reply_frame`]: addresses are swapped, the reply is tagged if the request was, and the caller has checked the IP
/// address. On an error nothing was written.
///
/// # Errors
/// It fails as [`Ethernet::parse`] and [`Ipv4::parse`] do. The error is [`NetError::EtherType`] when the frame has no
/// IPv4. It is [`NetError::Fragment`] when the packet is a fragment. It is [`NetError::Protocol`] when the packet is
/// not ICMP. It is [`NetError::Truncated`] or [`NetError::Icmp`] when the message is no right echo request.
pub fn reply_in_place(frame: &mut [u8], mac: Mac) -> Result<usize, NetError> {
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
    let message = packet.get(at.clone()).ok_or(NetError::IpTotalLen)?;
    check_request(message)?;
    let head = Ethernet { dst: ethernet.src, src: mac, ..ethernet };
    let ip = Ipv4::new(ip.dst, ip.src, ipv4::ICMP, ipv4::ECN_NOT_ECT);
    let (len, link) = (message.len(), head.header_len());
    let body = link + ipv4::HEADER_LEN;
    // The headers of the answer are no longer than those of the request: all of this fits.
    frame.copy_within(link + at.start..link + at.end, body);
    let (headers, rest) = frame.split_at_mut_checked(body).ok_or(NetError::Truncated)?;
    turn(rest.get_mut(..len).ok_or(NetError::Truncated)?);
    let written = head.emit(headers).and_then(|at| ip.emit(len, headers.get_mut(at..)?));
    written.map(|_| body + len).ok_or(NetError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    // 192.168.0.17 pings 192.168.0.1: identifier 0x1234, sequence 1, "abcdefghi"
    const PING: &[u8] = &[
        0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x11, 0x08, 0x00, 0x45, 0x00, 0x00, 0x25,
        0x00, 0x77, 0x00, 0x00, 0x03, 0x01, 0x35, 0xff, 0xc0, 0xa8, 0x00, 0x11, 0xc0, 0xa8, 0x00, 0x01, 0x08, 0x00,
        0xeb, 0x34, 0x12, 0x34, 0x00, 0x01, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    ];
    const PONG: &[u8] = &[
        0x02, 0x00, 0x00, 0x00, 0x00, 0x11, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x45, 0x00, 0x00, 0x25,
        0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0xb9, 0x75, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0x11, 0x00, 0x00,
        0xf3, 0x34, 0x12, 0x34, 0x00, 0x01, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    ];
    const OURS: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_literal_ping_is_answered() {
        let mut padded = PING.to_vec();
        padded.resize(60, 0);
        let mut out = [0xee; 64];
        assert_eq!(reply_frame(&padded, OURS, &mut out), Ok(Some(PONG.len())));
        assert_eq!(&out[..PONG.len()], PONG);
        assert_eq!(out[PONG.len()], 0xee);
        assert_eq!(reply_frame(PING, OURS, &mut out[..PONG.len() - 1]), Ok(None));
        assert_eq!(reply_frame(PING, OURS, &mut []), Ok(None));
    }

    #[test]
    fn a_ping_is_answered_where_it_lies() {
        let mut frame = PING.to_vec();
        frame.resize(60, 0);
        assert_eq!(reply_in_place(&mut frame, OURS), Ok(PONG.len()));
        assert_eq!(&frame[..PONG.len()], PONG);
        // With an option in the IP header, and a tag.
        let mut ip = [&[0x46], &PING[15..34], &[1, 1, 1, 0]].concat();
        ip[3] += 4;
        ip[10..12].fill(0);
        let sum = checksum::fold(checksum::sum(&ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [&PING[..12], &[0x81, 0, 0, 5, 8, 0], &ip, &PING[34..], &[0; 7]].concat();
        let mut out = [0; 80];
        let apart = reply_frame(&frame, OURS, &mut out).unwrap().unwrap();
        assert_eq!(reply_in_place(&mut frame, OURS), Ok(apart));
        assert_eq!(&frame[..apart], &out[..apart]);
        assert_eq!(&frame[18..apart], &PONG[14..]);
    }

    #[test]
    fn what_is_not_answered_is_left_as_it_was() {
        for (at, error) in
            [(45, NetError::Icmp), (34, NetError::Icmp), (24, NetError::IpChecksum), (12, NetError::EtherType)]
        {
            let mut frame = PING.to_vec();
            frame[at] ^= 1;
            let before = frame.clone();
            assert_eq!(reply_in_place(&mut frame, OURS), Err(error), "byte {at}");
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn a_tag_is_answered_in_kind() {
        let tagged = [&PING[..12], &[0x81, 0, 0, 5], &PING[12..]].concat();
        let mut out = [0; 64];
        let len = reply_frame(&tagged, OURS, &mut out).unwrap().unwrap();
        assert_eq!(&out[12..18], &[0x81, 0, 0, 5, 8, 0]);
        assert_eq!(&out[18..len], &PONG[14..]);
    }

    #[test]
    fn what_is_no_valid_request_is_not_answered() {
        let mut out = [0; 64];
        assert_eq!(reply_frame(PONG, OURS, &mut out), Err(NetError::Icmp));
        let mut broken = PING.to_vec();
        broken[45] ^= 1;
        assert_eq!(reply_frame(&broken, OURS, &mut out), Err(NetError::Icmp));
        assert_eq!(reply(&PING[34..41], &mut out), Err(NetError::Truncated));
        let mut code = PING[34..].to_vec();
        code[1] = 1;
        code[3] -= 1;
        assert_eq!(checksum::fold(checksum::sum(&code)), 0);
        assert_eq!(reply(&code, &mut out), Err(NetError::Icmp));
    }
}
