//! Answers, and the headers that keep a browser from doing more with them than show them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::page;

/// What an answer is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Metrics,
    Html,
    Json,
}

/// An answer that is not yet HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: Kind,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn new(status: u16, kind: Kind, body: impl Into<String>) -> Self {
        Self { status, kind, body: body.into() }
    }

    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, Kind::Text, body)
    }

    pub(super) fn wants_password() -> Self {
        Self::text(401, "user and password are needed\n")
    }

    pub(super) fn wrong_method() -> Self {
        Self::text(405, "only GET and HEAD\n")
    }

    pub(super) fn into_http(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = match self.kind {
            Kind::Text => "text/plain; charset=utf-8",
            Kind::Metrics => crate::telemetry::CONTENT_TYPE,
            Kind::Html => "text/html; charset=utf-8",
            Kind::Json => "application/json",
        };
        let mut put = |name, value: &'static str| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        put(header::CONTENT_TYPE, kind);
        put(header::CACHE_CONTROL, "no-store");
        put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        put(header::X_FRAME_OPTIONS, "DENY");
        put(header::REFERRER_POLICY, "no-referrer");
        put(header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
        put(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        put(header::CONTENT_SECURITY_POLICY, page::POLICY.as_str());
        match self.status {
            401 => put(header::WWW_AUTHENTICATE, "Basic realm=\"dfs\", charset=\"UTF-8\""),
            405 => put(header::ALLOW, "GET, HEAD"),
            _ => {}
        }
        response
    }
}
