//! Responses, with the headers that all of them carry.

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::StatusBody;

/// A response of this kind of content.
pub(crate) fn answer(
    status: StatusCode,
    kind: &'static str,
    body: StatusBody,
) -> Response<StatusBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fixed = [
        (header::CONTENT_TYPE, kind),
        // The next second everything may be different.
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The page sets its own.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A line of text.
pub(crate) fn line(status: StatusCode, text: &'static str) -> Response<StatusBody> {
    answer(status, "text/plain; charset=utf-8", StatusBody::whole(text))
}

/// JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<StatusBody> {
    match serde_json::to_vec(value) {
        Ok(text) => answer(status, "application/json", StatusBody::whole(text)),
        // Plain data can always be written.
        Err(_) => line(StatusCode::INTERNAL_SERVER_ERROR, "cannot be written\n"),
    }
}
