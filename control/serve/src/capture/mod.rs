//! `POST /v1/capture`: the datagrams of the ports, as a stream of pcapng.
//!
//! Each lcore gets a tap ([`lcore::tap`]) with a filter ([`capture::filter`]). The lcore itself runs the filter:
//! unwanted datagrams must not take the slots of wanted ones. A task of the control thread drains the taps, merges the
//! copies by time, adds headers and streams them. The capture ends when enough was captured, when its time is over,
//! when a client stops it, when its own client goes away, or with the process. One capture runs at a time.

mod merge;
mod session;
mod taps;
mod wants;

use super::refusal::Refusal;
use super::state::ServerState;
use super::stream::Stream;
use ::capture::Filter;
use api::capture::{CaptureOrder, Stopped};
use api::error::{ApiError, Code};
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header;
use axum::response::{IntoResponse, Json, Response};
use session::Session;
use tokio::sync::mpsc;

/// How many pieces of the stream may wait for the client.
const PIECES: usize = 16;

/// Begins a capture.
pub(super) async fn begin(
    State(state): State<ServerState>,
    order: Result<Json<CaptureOrder>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(order) = order?;
    let filter: Filter = order.filter.parse().map_err(|error: ::capture::FilterError| {
        ApiError::new(Code::BadValue, error.to_string(), "docs/operating.md has the language of filters")
    })?;
    order.check(state.board.ports())?;
    let permit = state.captures.claim().ok_or_else(|| {
        ApiError::new(
            Code::Busy,
            "another capture runs in this process",
            "end it with Ctrl-C where it runs, or with POST /v1/capture/stop",
        )
    })?;
    let (pieces, stream) = mpsc::channel(PIECES);
    let session = Session::begin(&order, filter, &state);
    tokio::spawn(session.run(permit, pieces));
    let kind = [(header::CONTENT_TYPE, "application/x-pcapng")];
    Ok((kind, Body::new(Stream::new(stream))).into_response())
}

/// Ends the capture, whichever client began it. Its stream ends with the statistics.
pub(super) async fn stop(State(state): State<ServerState>) -> Json<Stopped> {
    Json(Stopped { stopped: state.captures.stop() })
}
