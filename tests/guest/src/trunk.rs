//! A trunk: between a card in a VLAN, whose frames have its tag, and a tap, whose frames have none.
//!
//! The test does what a switch would do. So the machine's kernel needs no VLANs, and a listener in the namespace of the
//! tap hears each frame once.

use crate::link::Link;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use wire::net::ethernet::{Ethernet, HEADER_LEN, TAG_LEN};

/// Carries frames between a card and a tap, on a thread that ends when QEMU does.
///
/// # Errors
/// When a stream cannot be made not to wait.
pub(crate) fn start(card: UnixStream, tap: UnixStream, vid: u16) -> Result<(), String> {
    let link = |stream| Link::new(stream).map_err(|error| error.to_string());
    let (mut card, mut tap) = (link(card)?, link(tap)?);
    std::thread::spawn(move || while carry(&mut card, &mut tap, vid).is_ok() {});
    Ok(())
}

/// Waits for frames, and carries them. Fails when QEMU is gone.
fn carry(card: &mut Link, tap: &mut Link, vid: u16) -> Result<(), String> {
    let waits = |link: &Link| if link.is_full() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut sockets = [&*card, &*tap].map(|link| PollFd::from_borrowed_fd(link.socket().as_fd(), waits(link)));
    // An interrupted wait is a short one.
    let _ = poll(&mut sockets, None);
    card.read(|frame| retagged(frame, Some(vid), None).iter().for_each(|frame| tap.write(frame)))?;
    tap.read(|frame| retagged(frame, None, Some(vid)).iter().for_each(|frame| card.write(frame)))?;
    card.flush()?;
    tap.flush()
}

/// The frame of one VLAN as it is in another one; `None` when it is not in the first: such a frame is lost.
fn retagged(frame: &[u8], from: Option<u16>, to: Option<u16>) -> Option<Vec<u8>> {
    let (header, rest) = Ethernet::parse(frame).ok()?;
    if header.vlan.map(|tag| tag & 0xfff) != from {
        return None;
    }
    let mut head = [0; HEADER_LEN + TAG_LEN];
    let len = Ethernet { vlan: to, ..header }.emit(&mut head)?;
    Some([&head[..len], rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_this_vlan_gets_through_and_no_other() {
        let frame: Vec<u8> = [&[2; 12][..], &[8, 0], &[7; 50]].concat();
        let tagged = retagged(&frame, None, Some(10)).unwrap();
        assert_eq!((tagged.len(), &tagged[12..16]), (frame.len() + TAG_LEN, &[0x81, 0, 0, 10][..]));
        assert_eq!(retagged(&tagged, Some(10), None), Some(frame.clone()));
        assert_eq!((retagged(&tagged, Some(11), None), retagged(&frame, Some(10), None)), (None, None));
    }
}
