//! One connection of the metrics server or of the control socket: one request and its answer, in bounded time.
//!
//! Until its request is complete, a connection is a caller ([`Callers`]): it may be closed when the places run out. So
//! any number of slow connections prevents nobody from asking. After its request is complete, it is a client and gets
//! its answer. A client must take a finite answer in bounded time.

use crate::callers::{Callers, Turn};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::convert::Infallible;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{sleep_until, timeout};

/// Callers at the same time.
const CALLERS: usize = 32;

/// How many of them may have the same origin: an address, or on the control socket a user.
const SHARE: usize = 16;

/// How long a client may take to send the head of its request. The body has the same time again.
const ASKING: Duration = Duration::from_secs(2);

/// How long a client may take to receive its answer.
const TAKING: Duration = Duration::from_secs(5);

/// The largest request line with headers, in bytes. It is the minimum that hyper allows.
const HEAD: usize = 8192;

/// The longest request body, in bytes.
pub(super) const LONGEST_BODY: usize = 64 << 10;

/// A socket with several owners: one reads and writes it, the other checks whether data can be read.
pub(super) trait Socket: AsFd + Send + Sync + 'static {
    /// Whether it can be read.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads what is there.
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize>;
    /// Whether it can be written.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Writes what there is room for.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! socket {
    ($type:ty) => {
        impl Socket for $type {
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
                self.try_read(room)
            }

            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.try_write(bytes)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// Whether no data of the client can be read.
fn is_silent<S: Socket>(socket: &Arc<S>) -> bool {
    let looked = recv(&**socket, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(looked, Err(rustix::io::Errno::AGAIN))
}

/// A socket in the form that hyper needs.
struct Stream<S>(Arc<S>);

impl<S: Socket> Read for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut room: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let len = bytes.len().min(room.remaining());
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(&mut bytes[..len]) {
                Ok(read) => {
                    room.put_slice(&bytes[..read]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<S: Socket> Write for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&*self.0, Shutdown::Write)?))
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was answered, or its client went away.
    Done,
    /// Its request was not complete, and others needed the place.
    Displaced,
    /// Its client was too slow.
    TooSlow,
}

/// The callers of one server.
pub(super) struct SharedCallers<O, S>(Mutex<Callers<O, Arc<S>>>);

impl<O: Copy + PartialEq + Send + 'static, S: Socket> SharedCallers<O, S> {
    /// No callers yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Callers::new(CALLERS, SHARE))))
    }

    fn callers(&self) -> MutexGuard<'_, Callers<O, Arc<S>>> {
        // The list is complete after each of its calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection. `None` if there is no place for it at this moment.
    pub(super) fn admit(self: &Arc<Self>, origin: O, socket: S) -> Option<Caller<O, S>> {
        let socket = Arc::new(socket);
        let turn = self.callers().admit(origin, Arc::clone(&socket), is_silent)?;
        Some(Caller { callers: Arc::clone(self), socket, turn })
    }

    /// Closes a connection whose request is not complete, so that a descriptor becomes free.
    pub(super) fn make_room(&self) -> bool {
        self.callers().dismiss_one(is_silent)
    }

    /// Closes all connections without readable data.
    pub(super) fn close(&self) {
        while self.make_room() {}
    }
}

/// A connection that has a place.
pub(super) struct Caller<O, S> {
    callers: Arc<SharedCallers<O, S>>,
    socket: Arc<S>,
    turn: Turn,
}

/// Why a request cannot be read.
pub(super) type Unread = Box<dyn Error + Send + Sync>;

/// What the task of a connection is told about its request.
enum News {
    /// It is complete.
    Asked,
    /// Its answer begins; `ends` says whether it is finite.
    Answered { ends: bool },
}

impl<O: Copy + PartialEq + Send + 'static, S: Socket> Caller<O, S> {
    /// Reads one request with its body, and sends the answer.
    pub(super) async fn serve<B, F>(self, answer: impl Fn(Request<Result<Bytes, Unread>>) -> F + Clone) -> End
    where
        B: Body + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
        F: Future<Output = Response<B>>,
    {
        let Self { callers, socket, turn: Turn { number, mut over } } = self;
        let (tell, mut news) = tokio::sync::mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let (answer, tell) = (answer.clone(), tell.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = timeout(ASKING, Limited::new(body, LONGEST_BODY).collect()).await;
                let body = match body {
                    Ok(body) => body.map(http_body_util::Collected::to_bytes),
                    Err(late) => Err(late.into()),
                };
                // The receiver is in the same task.
                let _ = tell.send(News::Asked);
                let response = answer(Request::from_parts(head, body)).await;
                let _ = tell.send(News::Answered { ends: response.body().size_hint().exact().is_some() });
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(ASKING).max_buf_size(HEAD).keep_alive(false);
        let mut talk = std::pin::pin!(http.serve_connection(Stream(socket), service));
        let (mut asked, mut patience) = (false, None);
        let end = loop {
            let until = patience.unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                biased;
                Some(news) = news.recv() => match news {
                    News::Asked => {
                        asked = true;
                        callers.callers().leave(number);
                    }
                    News::Answered { ends } => patience = ends.then(|| tokio::time::Instant::now() + TAKING),
                },
                result = talk.as_mut() => break match result {
                    Err(error) if error.is_timeout() => End::TooSlow,
                    // A client that goes away during its answer loses only its own answer.
                    Ok(()) | Err(_) => End::Done,
                },
                _ = gives_way(&mut over), if !asked => break End::Displaced,
                () = sleep_until(until), if patience.is_some() => break End::TooSlow,
            }
        };
        callers.callers().leave(number);
        end
    }
}

async fn gives_way(over: &mut oneshot::Receiver<()>) {
    // Nothing is ever sent.
    let _ = over.await;
}
