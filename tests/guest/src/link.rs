//! A stream of frames to QEMU, in the format of its `-netdev stream`: each frame behind its length, four bytes,
//! big-endian.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// More bytes than a frame can have.
const LONGEST: usize = 70_000;

/// One end of the stream. It never waits.
pub struct Link {
    stream: UnixStream,
    received: Vec<u8>,
    /// Bytes that were written and that the other end has not taken yet.
    waiting: Vec<u8>,
}

impl Link {
    /// Frames over a connected socket.
    ///
    /// # Errors
    /// When the socket cannot be made not to wait.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, received: Vec::new(), waiting: Vec::new() })
    }

    /// The socket, to be waited for.
    pub fn socket(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether something waits for room in the socket.
    pub fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Calls `each` with every whole frame that has come.
    ///
    /// # Errors
    /// When the other end is gone, or sends another format.
    pub fn read(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), String> {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the guest is gone".to_owned()),
                Ok(len) => self.received.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the guest's network card: {error}")),
            }
        }
        let mut used = 0;
        while let Some(len) = self.received[used..].first_chunk::<4>() {
            let len = u32::from_be_bytes(*len) as usize;
            if len > LONGEST {
                return Err(format!("a frame of {len} bytes from the guest's network card"));
            }
            let Some(frame) = self.received.get(used + 4..used + 4 + len) else { break };
            each(frame);
            used += 4 + len;
        }
        self.received.drain(..used);
        Ok(())
    }

    /// Writes a frame. Bytes that the socket does not take wait.
    pub fn write(&mut self, frame: &[u8]) {
        self.waiting.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.waiting.extend_from_slice(frame);
    }

    /// Hands waiting bytes to the socket, as far as it has room.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn flush(&mut self) -> Result<(), String> {
        let mut used = 0;
        while used < self.waiting.len() {
            match self.stream.write(&self.waiting[used..]) {
                Ok(len) => used += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("the guest's network card: {error}")),
            }
        }
        self.waiting.drain(..used);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_however_the_stream_is_cut() {
        let (mut a, b) = UnixStream::pair().unwrap();
        let mut link = Link::new(b).unwrap();
        let mut got = Vec::new();
        let bytes = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0], &[0, 0, 0, 2], b"de"].concat();
        for part in bytes.chunks(2) {
            a.write_all(part).unwrap();
            link.read(|frame| got.push(frame.to_vec())).unwrap();
        }
        assert_eq!(got, [b"abc".to_vec(), vec![], b"de".to_vec()]);
        link.write(b"answer");
        link.flush().unwrap();
        let mut answer = [0; 10];
        a.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\0\0\0\x06answer");
        a.write_all(&[1, 0, 0, 0]).unwrap();
        assert!(link.read(|_| ()).unwrap_err().contains("16777216 bytes"));
        drop(a);
        assert!(link.read(|_| ()).unwrap_err().contains("gone"));
    }
}
