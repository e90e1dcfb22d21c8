//! `POST /v1/capture`: what goes through the ports, as a stream of pcapng.
//!
//! Each lcore gets a tap ([`lcore::tap`]) with a filter ([`capture::filter`]) that it asks itself: what is not wanted must
//! not take the room of what is. A task of the control thread drains the taps, merges what they copied by time, puts
//! headers around it and streams it. It ends when enough was captured, when its time is over, when it is told to, when the
//! client goes away, or with the process. One capture runs at a time.

mod merge;
mod session;
mod taps;
mod wants;

use super::office::Office;
use super::refusal::Refusal;
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

/// Pieces of the stream that wait for the client.
const PIECES: usize = 16;

/// Begins a capture.
pub(super) async fn begin(
    State(office): State<Office>,
    order: Result<Json<CaptureOrder>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(order) = order?;
    let filter: Filter = order.filter.parse().map_err(|error: ::capture::FilterError| {
        ApiError::new(Code::BadValue, error.to_string(), "docs/operating.md has the language of filters")
    })?;
    order.check(office.board.ports())?;
    let permit = office.captures.claim().ok_or_else(|| {
        ApiError::new(
            Code::Busy,
            "another capture runs in this process",
            "end it with Ctrl-C where it runs, or with POST /v1/capture/stop",
        )
    })?;
    let (pieces, stream) = mpsc::channel(PIECES);
    let session = Session::begin(&order, filter, &office);
    tokio::spawn(session.run(permit, pieces));
    let kind = [(header::CONTENT_TYPE, "application/x-pcapng")];
    Ok((kind, Body::new(Stream::new(stream))).into_response())
}

/// Ends the capture, whoever began it: its stream ends with the statistics.
pub(super) async fn stop(State(office): State<Office>) -> Json<Stopped> {
    Json(Stopped { stopped: office.captures.stop() })
}
