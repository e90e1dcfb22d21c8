//! The task that serves the control socket.

use crate::board::Board;
use crate::connection::{End, LONGEST_BODY, SharedCallers, Unread};
use crate::refusal::Refusal;
use crate::request::ControlRequest;
use crate::socket::ControlSocket;
use crate::state::ServerState;
use crate::{router, tuning};
use api::error::{ApiError, Code};
use api::settings::Reloaded;
use axum::Router;
use axum::body::Body;
use common::exit::Failure;
use hyper::body::Bytes;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// The task that serves the socket.
pub struct Serving {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
    state: ServerState,
}

/// How many clients the control socket serves at the same time. Connections without a complete request count, too.
const CLIENTS: usize = 128;

/// How long accepting pauses after an error, which is most often a lack of descriptors.
const REST: Duration = Duration::from_millis(100);

impl Serving {
    /// How long clients may take to read their answers.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Reads the configuration again, as if a client had asked for it, and logs the result.
    pub fn reload(&self, why: &'static str) {
        let state = self.state.clone();
        let reloads = state.reloads.clone();
        if reloads.waits.swap(true, Ordering::Relaxed) {
            return;
        }
        tokio::spawn(async move {
            if reloads.one.available_permits() == 0 {
                tracing::warn!("{why}: a reload is still under way; the configuration is read again when it ends");
            }
            // The semaphore is never closed.
            let Ok(permit) = reloads.one.acquire_owned().await else { return };
            reloads.waits.store(false, Ordering::Relaxed);
            match tuning::again(&state, permit).await {
                Ok(Reloaded { changed, needs_restart, .. }) => {
                    let (changed, waiting) = (changed.len(), needs_restart.len());
                    tracing::info!("{why}: configuration read, {changed} settings changed, {waiting} need a restart");
                }
                Err(ApiError { message, remedy, .. }) => tracing::error!("{why}: {message}: {remedy}"),
            }
        });
    }

    /// Accepts no more connections, and waits until pending answers are sent.
    pub async fn finish(self) {
        // The task listens for this as long as it lives.
        let _ = self.end.send(());
        if tokio::time::timeout(Self::PATIENCE, self.task).await.is_err() {
            tracing::warn!("a client of the control socket did not read its answer");
        }
    }
}

/// Serves the socket. Call it inside the runtime.
///
/// # Errors
/// The error is [`Failure::Socket`]: the process has no descriptors left, or the runtime cannot wait for the socket.
pub fn start(
    socket: &ControlSocket,
    board: Arc<Board>,
    requests: mpsc::Sender<ControlRequest>,
) -> Result<Serving, Failure> {
    let listener = socket.listen()?;
    let state = ServerState::new(board, requests);
    let router = router::router(state.clone());
    let (end, ended) = oneshot::channel();
    let task = tokio::spawn(accept(listener, router, Arc::clone(&state.board), ended));
    Ok(Serving { task, end, state })
}

/// Accepts clients until it is told to end, and then waits for those that have asked.
async fn accept(listener: UnixListener, router: Router, board: Arc<Board>, mut ended: oneshot::Receiver<()>) {
    let callers = SharedCallers::<Option<u32>, UnixStream>::new();
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
            _ = &mut ended => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("control socket: cannot accept: {error}");
                if !callers.make_room() {
                    tokio::time::sleep(REST).await;
                }
                continue;
            }
        };
        // With this, root and the user of the process do not take each other's places.
        let user = stream.peer_cred().ok().map(|client| client.uid());
        let caller = if clients.len() < CLIENTS { callers.admit(user, stream) } else { None };
        let Some(caller) = caller else {
            board.control.socket_connections_refused.add(1);
            continue;
        };
        let (router, board) = (TowerToHyperService::new(router.clone()), Arc::clone(&board));
        clients.spawn(async move {
            match caller.serve(move |request| answer(router.clone(), request)).await {
                End::Done => {}
                End::Displaced => board.control.socket_connections_displaced.add(1),
                End::TooSlow => board.control.socket_timeouts.add(1),
            }
        });
        // The connection is read before the next one is accepted.
        tokio::task::yield_now().await;
    }
    drop(listener);
    callers.close();
    while clients.join_next().await.is_some() {}
}

async fn answer(router: TowerToHyperService<Router>, request: Request<Result<Bytes, Unread>>) -> Response<Body> {
    use axum::response::IntoResponse as _;
    let (head, body) = request.into_parts();
    match body {
        Ok(body) => {
            let Ok(response) = router.call(Request::from_parts(head, Body::from(body))).await;
            response
        }
        Err(why) => {
            let remedy = format!("send all of it at once, {LONGEST_BODY} bytes at most");
            let message = format!("the body of the request did not come: {why}");
            Refusal(ApiError::new(Code::BadRequest, message, remedy)).into_response()
        }
    }
}
