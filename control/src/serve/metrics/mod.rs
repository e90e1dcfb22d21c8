//! `--metrics`: Prometheus text and health, over HTTP, for machines that watch.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | every counter, as Prometheus text |
//! | `GET /live` | 200 while all lcores move, else 503 with those that do not |
//! | `GET /ready` | 200 while traffic can be taken, else 503 with what is in the way |
//!
//! Reading a counter is a load: no poll loop is asked or held up. What a stranger can take is bounded: so many
//! connections, each with one request of a few KiB and a few seconds for all of it; more are refused and counted.

pub mod address;
pub mod collect;
pub mod health;
pub mod name;
pub mod text;

pub use address::MetricsAddress;

use super::board::Board;
use crate::exit::Failure;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections at the same time.
const CONNECTIONS: usize = 16;

/// How long one connection may take in all.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest request line with headers, in bytes. It is the least that hyper allows.
const REQUEST: usize = 8192;

/// How long accepting rests after an error, which is most often a lack of descriptors.
const REST: Duration = Duration::from_millis(100);

frame::counters! {
    /// The control thread: the watchdog, the log, what the machine changes, and the metrics server.
    pub struct ControlCounters {
        /// Times that the watchdog found an lcore standing still.
        watchdog_stalls,
        /// Nanoseconds that lcores were seen to stand still, counted when they moved again.
        watchdog_stalled_ns,
        /// Times that the largest IP packet of a port changed, and routes with it: its interface has another MTU.
        mtu_changes,
        /// Receive queues of interfaces that no lcore serves, since they were added later: what comes there is lost (a gauge).
        queues_unserved,
        /// Lcores that are not pinned to the core that they were given any more (a gauge).
        lcores_moved,
        /// Lines of the log that were lost: nobody read stderr fast enough, or it could not be written.
        log_lines_dropped,
        /// Requests that the metrics server answered.
        metrics_requests,
        /// Connections to the metrics server that were closed at once because too many were open.
        metrics_connections_refused,
        /// Connections to the metrics server that were closed because the client was too slow.
        metrics_timeouts,
    }
}

/// A bound address, before anybody is answered.
#[derive(Debug)]
pub struct MetricsListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Binds the address.
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
                "metrics on {address} are for everybody who reaches that address: there is no authentication. Listen on \
                 127.0.0.1, or let a firewall choose who reads them"
            );
        }
        Ok(Self { listener, address })
    }

    /// Serves until the runtime ends. Call it inside the runtime.
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
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("metrics: cannot accept: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            board.control.metrics_connections_refused.add(1);
            continue;
        };
        let board = Arc::clone(&board);
        tokio::spawn(async move {
            if tokio::time::timeout(PATIENCE, talk(stream, &board)).await.is_err() {
                board.control.metrics_timeouts.add(1);
            }
            drop(place);
        });
    }
}

/// One connection, with one request.
async fn talk(stream: TcpStream, board: &Arc<Board>) {
    let service = service_fn(|request: Request<Incoming>| {
        let board = Arc::clone(board);
        async move { Ok::<_, Infallible>(answer(&request, &board)) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(REQUEST).keep_alive(false);
    // A client that goes away in the middle is its own loss.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    board.control.metrics_requests.add(1);
    tracing::trace!("metrics: {} {}", request.method(), request.uri());
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
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
