//! The set-up over TCP: one line in each direction, in bounded time and memory.

use super::exchange::{LineError, MAX_LINE, Offer, SetupLine};
use rustix::net::{RecvFlags, recv, sockopt};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a peer may take to connect, and to send its line.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a peer's kernel may be silent before the peer counts as gone. Probes begin after a third of this time.
pub const GONE: Duration = Duration::from_secs(15);

/// Why there is no queue pair.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// Nobody answers there.
    #[error(
        "cannot connect to {peer}: {source}; does `gvm-dp qp serve` run there, and listen at this address and port?"
    )]
    Connect {
        /// The address that we called.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The peer took too long.
    #[error("{peer} did not answer within {} s: is something else at this address?", PATIENCE.as_secs())]
    Silent {
        /// The peer.
        peer: SocketAddr,
    },
    /// The peer closed the connection during the set-up.
    #[error("{peer} ended the set-up before it was complete")]
    Ended {
        /// The peer.
        peer: SocketAddr,
    },
    /// The peer sent too much.
    #[error("{peer} sent more than {MAX_LINE} bytes without an end of line: it does not speak this set-up")]
    TooLong {
        /// The peer.
        peer: SocketAddr,
    },
    /// The peer's line cannot be used.
    #[error("the set-up of {peer} cannot be used: {source}")]
    SetupLine {
        /// The peer.
        peer: SocketAddr,
        /// Why not.
        source: LineError,
    },
    /// The peer refuses.
    #[error("{peer} refuses: {reason}")]
    Refused {
        /// The peer.
        peer: SocketAddr,
        /// Its reason, made safe for a terminal.
        reason: String,
    },
    /// The connection failed.
    #[error("the set-up with {peer} failed: {source}")]
    Broken {
        /// The peer.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Calls a server.
///
/// # Errors
/// Nobody answers in time.
pub async fn connect(peer: SocketAddr) -> Result<TcpStream, TalkError> {
    match timeout(PATIENCE, TcpStream::connect(peer)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(TalkError::Connect { peer, source }),
        Err(_) => Err(TalkError::Connect { peer, source: io::ErrorKind::TimedOut.into() }),
    }
}

/// Sends a line.
///
/// # Errors
/// The peer does not take it in time.
pub async fn say(stream: &TcpStream, peer: SocketAddr, line: &SetupLine) -> Result<(), TalkError> {
    match timeout(PATIENCE, write(stream, line.to_string().as_bytes())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(TalkError::Broken { peer, source }),
        Err(_) => Err(TalkError::Silent { peer }),
    }
}

async fn write(stream: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the peer's line. The time limit is for the whole line, however slowly it comes.
///
/// # Errors
/// The line does not come, or is not an offer.
pub async fn hear(stream: &TcpStream, peer: SocketAddr) -> Result<Offer, TalkError> {
    let line = timeout(PATIENCE, read_line(stream, peer)).await.map_err(|_| TalkError::Silent { peer })??;
    match line.parse() {
        Ok(SetupLine::Offer(offer)) => Ok(offer),
        Ok(SetupLine::Refusal(reason)) => Err(TalkError::Refused { peer, reason: plain(&reason) }),
        Err(source) => Err(TalkError::SetupLine { peer, source }),
    }
}

/// The next byte; `None` at the end.
async fn read_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn read_line(stream: &TcpStream, peer: SocketAddr) -> Result<String, TalkError> {
    let mut line = Vec::with_capacity(MAX_LINE);
    while line.last() != Some(&b'\n') {
        if line.len() == MAX_LINE {
            return Err(TalkError::TooLong { peer });
        }
        // Byte by byte: the line is short, and what follows it must not be read.
        match read_byte(stream).await {
            Ok(Some(byte)) => line.push(byte),
            Ok(None) => return Err(TalkError::Ended { peer }),
            Err(source) => return Err(TalkError::Broken { peer, source }),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A stranger's text, safe for a terminal.
fn plain(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    common::plain::line(&short).into_owned()
}

/// Waits until the peer closes the connection, or sends anything more, which means the same.
pub async fn until_gone(stream: &TcpStream) {
    let _ = read_byte(stream).await;
}

/// Whether no data of the peer can be read.
pub fn is_silent(stream: &TcpStream) -> bool {
    let looked = recv(stream, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(looked, Err(rustix::io::Errno::AGAIN))
}

/// Makes the kernel end the connection when the peer's host is silently gone ([`GONE`]): the kernel probes while
/// nothing is sent, and sent data must be acknowledged.
///
/// # Errors
/// The kernel refuses. It has no reason to.
pub fn watch(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, GONE / 3)?;
    sockopt::set_tcp_keepintvl(stream, GONE / 3)?;
    // One unanswered probe, and a second one.
    sockopt::set_tcp_keepcnt(stream, 2)?;
    Ok(sockopt::set_tcp_user_timeout(stream, GONE.as_millis() as u32)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// The result of [`hear`] for a peer that sends this, and then closes the connection or stays.
    fn heard(says: &'static [u8], stays: bool) -> Result<Offer, TalkError> {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let speaker = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                // The reader may have enough before everything is sent.
                let _ = write(&stream, says).await;
                if stays {
                    until_gone(&stream).await;
                }
            });
            let stream = connect(address).await.unwrap();
            let heard = hear(&stream, address).await;
            drop(stream);
            speaker.await.unwrap();
            heard
        })
    }

    #[test]
    fn an_offer_crosses() {
        let offer = Offer { qpn: 17, psn: 3, path_mtu: 1024, reads: 16, ip: Ipv4Addr::new(127, 0, 0, 1), region: None };
        let line = SetupLine::Offer(offer).to_string().into_bytes().leak();
        assert_eq!(heard(line, false).unwrap(), offer);
        assert_eq!(heard(line, true).unwrap(), offer);
    }

    #[test]
    fn a_peer_that_does_not_speak_it_is_named_and_takes_no_memory() {
        let flood = vec![b'x'; 1 << 20].leak();
        for (says, part) in [
            (&b""[..], "ended the set-up before it was complete"),
            (b"GVM-QP 1 qpn=17", "ended the set-up before it was complete"),
            (flood, "more than 512 bytes"),
            (b"HTTP/1.1 400 Bad Request\r\n", "does not begin with \"GVM-QP\""),
            (b"\xff\xfe\n", "does not begin with \"GVM-QP\""),
            (b"GVM-QP 1 error=64 queue pairs are \x1b[31menough\n", "refuses: 64 queue pairs are \\u{1b}[31menough"),
        ] {
            let error = heard(says, true).map_or_else(|error| error.to_string(), |offer| format!("{offer}"));
            let error = if says.ends_with(b"\n") || says.len() > MAX_LINE {
                error
            } else {
                heard(says, false).unwrap_err().to_string()
            };
            assert!(error.contains(part) && error.contains("127.0.0.1:"), "{error}");
        }
    }

    #[test]
    fn a_host_that_is_gone_is_noticed_by_the_kernel() {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = connect(listener.local_addr().unwrap()).await.unwrap();
            watch(&stream).unwrap();
            // 15 seconds, whether unacknowledged data was sent or nothing.
            assert!(sockopt::socket_keepalive(&stream).unwrap());
            let (idle, between) = (sockopt::tcp_keepidle(&stream).unwrap(), sockopt::tcp_keepintvl(&stream).unwrap());
            assert_eq!(idle + between * sockopt::tcp_keepcnt(&stream).unwrap(), GONE);
            assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 15_000);
        });
    }

    #[test]
    fn silence_is_told_from_a_line_that_waits() {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let caller = connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            assert!(is_silent(&stream));
            write(&caller, b"G").await.unwrap();
            stream.readable().await.unwrap();
            assert!(!is_silent(&stream));
            assert_eq!(read_byte(&stream).await.unwrap(), Some(b'G'));
            assert!(is_silent(&stream));
            // The end of the connection can be read, too.
            drop(caller);
            stream.readable().await.unwrap();
            assert!(!is_silent(&stream));
        });
    }

    #[test]
    fn nobody_there_is_explained() {
        let nobody = runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            connect(address).await.unwrap_err()
        });
        assert!(nobody.to_string().contains("does `gvm-dp qp serve` run there"), "{nobody}");
    }
}
