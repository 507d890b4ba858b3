//! What a node says of every error, whoever found it: a reason, itself, and what to do next.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{DOMAIN, Reason};
use crate::placement::NodeId;

/// `ErrorInfo.domain` of an error that is not ours; its reason is the name of its code.
const GRPC: &str = "grpc.io";

/// What is said of every error by the node that answers it: which request it was, which node, and
/// what to do next. An error that gRPC itself made gets a reason too, so that each has one.
pub fn complete(status: &Status, node: NodeId, request: &str) -> Status {
    let mut details = status.get_error_details();
    let info = details.error_info().cloned();
    let known = Reason::of(status).or_else(|| made_by_grpc(status));
    let (name, domain, mut facts) = match (info, known) {
        (Some(info), _) => (info.reason, info.domain, info.metadata),
        (None, Some(reason)) => (reason.name().to_owned(), DOMAIN.to_owned(), HashMap::new()),
        (None, None) => (code_name(status.code()).to_owned(), GRPC.to_owned(), HashMap::new()),
    };
    if let Some(reason) = known {
        add_usual_details(&mut details, reason, status.message(), &facts);
        facts.entry("next".to_owned()).or_insert_with(|| reason.next().to_owned());
    }
    facts.entry("node".to_owned()).or_insert_with(|| node.to_string());
    details.set_error_info(name, domain, facts);
    details.set_request_info(request, "");
    let code = known.map_or(status.code(), Reason::code);
    let metadata = status.metadata().clone();
    Status::with_error_details_and_metadata(code, status.message(), details, metadata)
}

/// The reason of an error that came out of the library and not out of a method.
fn made_by_grpc(status: &Status) -> Option<Reason> {
    const MALFORMED: [&str; 4] = [
        "failed to decode Protobuf message",
        "protocol error: received message",
        "Unexpected EOF decoding",
        "Missing request message",
    ];
    if status.get_details_error_info().is_some() {
        return None;
    }
    let says = |words: &str| status.message().contains(words);
    match status.code() {
        Code::Unimplemented => Some(Reason::UnknownMethod),
        Code::OutOfRange if says("message length too large") => Some(Reason::MessageTooLarge),
        _ if says("length limit exceeded") => Some(Reason::MessageTooLarge),
        Code::Internal if MALFORMED.into_iter().any(says) => Some(Reason::MessageMalformed),
        _ => None,
    }
}

/// The details beside ErrorInfo that programs know from other services.
fn add_usual_details(
    details: &mut ErrorDetails,
    reason: Reason,
    message: &str,
    facts: &HashMap<String, String>,
) {
    let seconds = facts.get("retry_after_seconds").and_then(|text| text.parse().ok());
    let again = match reason {
        Reason::Overloaded => Some(seconds.unwrap_or(1)),
        Reason::ShuttingDown => Some(5),
        Reason::NodeRejoining => Some(60),
        _ => None,
    };
    if let Some(seconds) = again {
        details.set_retry_info(Some(Duration::from_secs(seconds)));
    }
    match reason {
        Reason::QuotaExceeded => {
            details.add_quota_failure_violation("user", message);
        }
        Reason::DiskFull => {
            details.add_quota_failure_violation("node", message);
        }
        Reason::ChunkNotFound => {
            let chunk = facts.get("chunk").map_or("", String::as_str);
            details.set_resource_info("dfs.v1.Chunk", chunk, "", message);
        }
        _ => {}
    }
}

/// The name of a status code as gRPC spells it.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::super::request_id;
    use super::*;

    #[test]
    fn an_error_names_its_request_and_node_beside_its_one_reason() {
        let facts = [("chunk", "3".to_owned())];
        let status = Reason::ChunkNotFound.status_with("none", &facts);
        assert_eq!(request_id(&status), None);
        let status = complete(&complete(&status, NodeId::N2, "a"), NodeId::N2, "r-1");
        assert_eq!(request_id(&status).as_deref(), Some("r-1"));
        assert_eq!(Reason::of(&status), Some(Reason::ChunkNotFound));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "none"));
        let details = status.get_error_details_vec();
        assert_eq!(details.len(), 3, "{details:?}");
        let info = status.get_details_error_info().unwrap();
        let fact = |name: &str| info.metadata.get(name).map(String::as_str);
        assert_eq!((fact("chunk"), fact("node")), (Some("3"), Some("2")));
        assert_eq!(fact("next"), Some(Reason::ChunkNotFound.next()));
        assert_eq!(status.get_details_resource_info().unwrap().resource_name, "3");
    }

    #[test]
    fn what_the_library_says_gets_a_reason_as_well() {
        for (code, text, expected) in [
            (Code::Unimplemented, "", (Code::Unimplemented, "UNKNOWN_METHOD")),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
                (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
            ),
            (Code::Unknown, "length limit exceeded", (Code::OutOfRange, "MESSAGE_TOO_LARGE")),
            (
                Code::Internal,
                "failed to decode Protobuf message: invalid tag value: 0",
                (Code::InvalidArgument, "MESSAGE_MALFORMED"),
            ),
            (Code::Cancelled, "h2 protocol error", (Code::Cancelled, "CANCELLED")),
            (Code::NotFound, "service not registered", (Code::NotFound, "NOT_FOUND")),
        ] {
            let status = complete(&Status::new(code, text), NodeId::N1, "r");
            let info = status.get_details_error_info().expect("one reason");
            assert_eq!((status.code(), info.reason.as_str()), expected, "{text}");
            assert_eq!(info.metadata.get("node").map(String::as_str), Some("1"));
            let ours = info.domain == DOMAIN;
            assert_eq!(ours, Reason::from_name(&info.reason).is_some() && ours, "{info:?}");
            assert_eq!(info.domain == GRPC, info.reason == code_name(code), "{info:?}");
        }
    }

    #[test]
    fn the_usual_details_come_with_some_reasons() {
        let completed = |status: &Status| complete(status, NodeId::N1, "r").get_error_details();
        let wait = |facts: &[(&str, String)]| {
            let details = completed(&Reason::Overloaded.status_with("busy", facts));
            details.retry_info().and_then(|info| info.retry_delay).map(|delay| delay.as_secs())
        };
        assert_eq!(wait(&[]), Some(1));
        assert_eq!(wait(&[("retry_after_seconds", "12".to_owned())]), Some(12));
        for reason in [Reason::QuotaExceeded, Reason::DiskFull] {
            let details = completed(&reason.status("no room"));
            let violations = &details.quota_failure().expect("a violation").violations;
            assert_eq!(violations[0].description, "no room");
        }
        assert!(completed(&Reason::Poisoned.status("x")).retry_info().is_none());
    }
}
