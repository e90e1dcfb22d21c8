//! How the server refuses a request: an [`ApiError`] with its HTTP status.

use api::error::{ApiError, Code};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal(pub ApiError);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(error)).into_response()
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self(ApiError::new(
            Code::BadRequest,
            rejection.body_text(),
            "send what GET /v1/openapi.json describes, with content-type: application/json",
        ))
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self(ApiError::new(Code::BadRequest, rejection.body_text(), "ask as GET /v1/openapi.json describes it"))
    }
}
