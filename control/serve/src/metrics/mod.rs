//! `--metrics`: Prometheus text and health over HTTP, for monitoring.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | every counter, as Prometheus text |
//! | `GET /live` | 200 while all lcores move, else 503 with the lcores that do not |
//! | `GET /ready` | 200 while traffic can be taken, else 503 with the reasons |
//!
//! Reading a counter is a load: no poll loop is asked or delayed. The resources that strangers can use are bounded: the
//! number of connections without a complete request, each with a few KiB and two seconds for it (`crate::connection`),
//! and the number of concurrent answers to `/metrics`. `/live` and `/ready` do not count as such answers. So they are
//! answered at once, whatever scrapes and slow connections there are.

pub mod collect;
pub mod health;
pub mod name;
pub mod text;

use super::board::Board;
use super::connection::{End, SharedCallers, Unread};
use crate::callers::origin;
use common::exit::Failure;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use settings::MetricsAddress;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many answers to `/metrics` may be sent at the same time.
const SCRAPES: usize = 8;

/// How long accepting pauses after an error, which is most often a lack of descriptors.
const REST: Duration = Duration::from_millis(100);

/// A bound address, before anybody is answered.
#[derive(Debug)]
pub struct MetricsListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Binds the address.
    ///
    /// # Errors
    /// The error is [`Failure::MetricsInUse`] when another program listens there. It is [`Failure::Machine`] for any
    /// other refusal of the kernel.
    pub fn bind(MetricsAddress(address): MetricsAddress) -> Result<Self, Failure> {
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::AddrInUse => Failure::MetricsInUse(address),
            ErrorKind::AddrNotAvailable => Failure::Machine(format!(
                "--metrics {address}: no interface of this machine has that address: `ip -brief address` lists what \
                 there is"
            )),
            ErrorKind::PermissionDenied => Failure::Machine(format!(
                "--metrics {address}: permission denied: choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
            )),
            _ => Failure::Machine(format!("--metrics {address}: cannot listen: {source}; choose another address")),
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                "metrics on {address} are for everybody who reaches that address: there is no authentication. Listen \
                 on \
                 127.0.0.1, or let a firewall choose who reads them"
            );
        }
        Ok(Self { listener, address })
    }

    /// Serves until the runtime ends. Call it inside the runtime.
    ///
    /// # Errors
    /// The error is [`Failure::Machine`]: the runtime cannot wait for this socket.
    pub fn start(self, board: Arc<Board>) -> Result<(), Failure> {
        let address = self.address;
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .map_err(|source| Failure::Machine(format!("--metrics {address}: cannot listen: {source}")))?;
        tracing::info!("metrics on http://{address}/metrics, health on /live and /ready");
        tokio::spawn(serve(listener, board));
        Ok(())
    }
}

async fn serve(listener: tokio::net::TcpListener, board: Arc<Board>) {
    let callers = SharedCallers::<IpAddr, TcpStream>::new();
    let scrapes = Arc::new(Semaphore::new(SCRAPES));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("metrics: cannot accept: {error}");
                if !callers.make_room() {
                    tokio::time::sleep(REST).await;
                }
                continue;
            }
        };
        let Some(caller) = callers.admit(origin(from.ip()), stream) else {
            board.control.metrics_connections_refused.add(1);
            continue;
        };
        let (board, scrapes) = (Arc::clone(&board), Arc::clone(&scrapes));
        tokio::spawn(async move {
            let asked = Arc::clone(&board);
            // The place is kept until the connection ends: the part of an answer that hyper holds takes memory as well.
            let place = Arc::new(OnceLock::new());
            let taken = Arc::clone(&place);
            let end = caller.serve(move |request| {
                let answer = answer(&request, &asked, &scrapes, &taken);
                async move { answer }
            });
            match end.await {
                End::Done => {}
                End::Displaced => board.control.metrics_connections_displaced.add(1),
                End::TooSlow => board.control.metrics_timeouts.add(1),
            }
            drop(place);
        });
        // The connection is read before the next one is accepted.
        tokio::task::yield_now().await;
    }
}

fn answer(
    request: &Request<Result<Bytes, Unread>>,
    board: &Board,
    scrapes: &Arc<Semaphore>,
    taken: &OnceLock<OwnedSemaphorePermit>,
) -> Response<Full<Bytes>> {
    board.control.metrics_requests.add(1);
    tracing::trace!("metrics: {} {}", request.method(), request.uri());
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
            let Ok(place) = Arc::clone(scrapes).try_acquire_owned() else {
                board.control.metrics_connections_refused.add(1);
                let text = format!("{SCRAPES} scrapes are under way: try again\n");
                return response(StatusCode::SERVICE_UNAVAILABLE, text);
            };
            // A connection has one request.
            let _ = taken.set(place);
            let mut metrics = response(StatusCode::OK, collect::all(board));
            metrics.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(text::CONTENT_TYPE));
            metrics
        }
        "/live" => verdict("live", &health::not_live(board)),
        "/ready" => verdict("ready", &health::not_ready(board)),
        _ => response(StatusCode::NOT_FOUND, "here are /metrics, /live and /ready\n".to_owned()),
    }
}

fn verdict(state: &str, reasons: &[String]) -> Response<Full<Bytes>> {
    if reasons.is_empty() {
        response(StatusCode::OK, format!("{state}\n"))
    } else {
        response(StatusCode::SERVICE_UNAVAILABLE, format!("not {state}:\n{}\n", reasons.join("\n")))
    }
}

fn response(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
