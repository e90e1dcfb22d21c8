//! The routes of the control socket. `openapi.json` of the crate `api` describes each of them, and is served, too. A
//! test fails when a route is not described, when a described route does not exist, or when an answer does not match
//! its description.

use super::connection::LONGEST_BODY;
use super::refusal::Refusal;
use super::request::ControlRequest;
use super::state::ServerState;
use super::{capture, trace, tuning};
use api::OPENAPI;
use api::error::{ApiError, Code};
use api::routes::Routes;
use api::stats::Stats;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::{Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, patch, post};
use serde::{Deserialize, Serialize};

/// One method of one path.
pub struct HttpRoute {
    /// The HTTP method, in capitals.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    handler: MethodRouter<ServerState>,
}

impl HttpRoute {
    fn get<T: 'static>(path: &'static str, handler: impl Handler<T, ServerState>) -> Self {
        Self { method: "GET", path, handler: get(handler) }
    }

    fn patch<T: 'static>(path: &'static str, handler: impl Handler<T, ServerState>) -> Self {
        Self { method: "PATCH", path, handler: patch(handler) }
    }

    fn post<T: 'static>(path: &'static str, handler: impl Handler<T, ServerState>) -> Self {
        Self { method: "POST", path, handler: post(handler) }
    }
}

/// Everything that is served.
pub fn routes() -> Vec<HttpRoute> {
    vec![
        HttpRoute::get("/v1/openapi.json", openapi),
        HttpRoute::get("/v1/stats", stats),
        HttpRoute::get("/v1/routes", registered),
        HttpRoute::get("/v1/settings", tuning::show),
        HttpRoute::patch("/v1/settings", tuning::set),
        HttpRoute::post("/v1/reload", tuning::reload),
        HttpRoute::post("/v1/drain", drain),
        HttpRoute::post("/v1/capture", capture::begin),
        HttpRoute::post("/v1/capture/stop", capture::stop),
        HttpRoute::post("/v1/trace", trace::begin),
    ]
}

pub(super) fn router(state: ServerState) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    let router = router.fallback(no_route).method_not_allowed_fallback(no_method);
    router.layer(DefaultBodyLimit::max(LONGEST_BODY)).layer(middleware::from_fn(say)).with_state(state)
}

/// Logs each request and its answer, for those who look for a fault.
async fn say(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let answer = next.run(request).await;
    tracing::debug!("control socket: {method} {uri} is answered {}", answer.status());
    answer
}

/// What `POST /v1/drain` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Draining {
    /// Always `draining`.
    pub state: String,
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn stats(State(state): State<ServerState>) -> Result<Json<Stats>, Refusal> {
    let membership = state.request(ControlRequest::Membership).await?;
    Ok(Json(state.board.stats(membership)))
}

async fn registered(State(state): State<ServerState>) -> Result<Json<Routes>, Refusal> {
    let routes = state.request(ControlRequest::Routes).await?;
    routes.map(Json).ok_or_else(|| {
        ApiError::new(Code::WrongRole, "only a gateway has routes", "ask a gateway: gvm-dp routes --name GATEWAY")
            .into()
    })
}

async fn drain(State(state): State<ServerState>) -> Result<Json<Draining>, Refusal> {
    state.request(ControlRequest::Drain).await?;
    Ok(Json(Draining { state: "draining".to_owned() }))
}

async fn no_route(uri: Uri) -> Refusal {
    let message = format!("there is no {}", uri.path());
    ApiError::new(Code::NotFound, message, "GET /v1/openapi.json lists what there is").into()
}

async fn no_method(method: Method, uri: Uri) -> Refusal {
    let message = format!("{} does not know {method}", uri.path());
    ApiError::new(Code::MethodNotAllowed, message, "GET /v1/openapi.json lists what there is").into()
}
