//! The control socket: HTTP and JSON over a Unix socket, for `gvm-dp stats`, `routes` and `drain`, and for `curl`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/stats` | [`stats::Stats`] |
//! | `GET /v1/routes` | [`routes::Routes`]; 404 from a role without |
//! | `POST /v1/drain` | `{"state":"draining"}`; the process ends when it has drained |

pub mod board;
pub mod routes;
pub mod socket;
pub mod stats;

use crate::exit::Failure;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use board::Board;
use link::registrar::Summary;
use routes::Routes;
use socket::ControlSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// What a client asks that only the control thread can answer.
pub enum Ask {
    /// How many are registered; `None` from a role without a registrar.
    Membership(oneshot::Sender<Option<Summary>>),
    /// Who is registered where; `None` from a role without a registrar.
    Routes(oneshot::Sender<Option<Routes>>),
    /// Begin to drain.
    Drain(oneshot::Sender<()>),
}

#[derive(Clone)]
struct Office {
    board: Arc<Board>,
    asks: mpsc::Sender<Ask>,
}

impl Office {
    /// Asks the control thread; `None` when it is about to end.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.ok()?;
        answered.await.ok()
    }
}

/// The task that serves the socket.
pub struct Serving {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Serving {
    /// How long clients may take to read what they were answered.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Accepts nobody any more, and lets those who asked have their answers.
    pub async fn finish(self) {
        // The task listens for this as long as it lives.
        let _ = self.end.send(());
        if tokio::time::timeout(Self::PATIENCE, self.task).await.is_err() {
            tracing::warn!("a client of the control socket did not read its answer");
        }
    }
}

/// Serves the socket. Call it inside the runtime.
pub fn start(socket: &ControlSocket, board: Arc<Board>, asks: mpsc::Sender<Ask>) -> Result<Serving, Failure> {
    let listener = socket.listen()?;
    let router = Router::new()
        .route("/v1/stats", get(stats))
        .route("/v1/routes", get(routes))
        .route("/v1/drain", post(drain))
        .with_state(Office { board, asks });
    let (end, ended) = oneshot::channel();
    let task = tokio::spawn(async move {
        let ended = async { drop(ended.await) };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
            tracing::error!("the control socket failed: {error}");
        }
    });
    Ok(Serving { task, end })
}

async fn stats(State(office): State<Office>) -> Response {
    match office.ask(Ask::Membership).await {
        Some(membership) => Json(office.board.stats(membership)).into_response(),
        None => ending(),
    }
}

async fn routes(State(office): State<Office>) -> Response {
    match office.ask(Ask::Routes).await {
        Some(Some(routes)) => Json(routes).into_response(),
        Some(None) => (StatusCode::NOT_FOUND, "only a gateway has routes").into_response(),
        None => ending(),
    }
}

async fn drain(State(office): State<Office>) -> Response {
    match office.ask(Ask::Drain).await {
        Some(()) => Json(serde_json::json!({ "state": "draining" })).into_response(),
        None => ending(),
    }
}

fn ending() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the process is about to end").into_response()
}
