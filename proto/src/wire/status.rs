//! The table of errors: a reason, its gRPC code, and back.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::protocol::{NodeRef, Refused};
use crate::wire::convert::Malformed;
use crate::wire::pb;

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "dfs.v1";

/// What a client is told on any wrong user or password.
pub const INVALID_CREDENTIALS: &str = "Invalid Username/Password. Please try again.";

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $code:ident;)+) => {
        /// Why a request failed. The text goes into `ErrorInfo.reason`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The reason's name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The gRPC code it comes with.
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),+ }
            }
        }
    };
}

reasons! {
    /// User and password do not match.
    InvalidCredentials = "INVALID_CREDENTIALS", Unauthenticated;
    /// No bearer token came with the request.
    TokenMissing = "TOKEN_MISSING", Unauthenticated;
    /// The token is unknown here or its time is over: authenticate again.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated;
    /// This caller may not call this method.
    NotAllowed = "NOT_ALLOWED", PermissionDenied;
    /// A path, prefix or user name is not valid.
    InvalidFileName = "INVALID_FILE_NAME", InvalidArgument;
    /// Another field is missing or out of its range.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    /// The data does not match its checksum or its manifest.
    ChecksumMismatch = "CHECKSUM_MISMATCH", InvalidArgument;
    /// The node holds no such chunk.
    ChunkNotFound = "CHUNK_NOT_FOUND", NotFound;
    /// The chunk on the node's disk is bad.
    ChunkCorrupt = "CHUNK_CORRUPT", DataLoss;
    /// The disk is full.
    DiskFull = "DISK_FULL", ResourceExhausted;
    /// It would take the user over a quota: `limit` is bytes, files or staged, `used`, `needed`
    /// and `allowed` are bytes or files.
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted;
    /// Too many logins wait already, or have failed; or too many calls on one connection.
    Overloaded = "OVERLOADED", ResourceExhausted;
    /// Nothing came on a stream for too long.
    StreamIdle = "STREAM_IDLE", DeadlineExceeded;
    /// The node is about to stop.
    ShuttingDown = "SHUTTING_DOWN", Unavailable;
    /// The node's disk was replaced and it may not take part yet.
    NodeRejoining = "NODE_REJOINING", Unavailable;
    /// The blocks that a chunk should go on after are not here.
    NotStaged = "NOT_STAGED", FailedPrecondition;
    /// The tag is more than a minute ahead of the node's clock.
    FutureTag = "FUTURE_TAG", FailedPrecondition;
    /// The upload was fenced.
    UploadFenced = "UPLOAD_FENCED", FailedPrecondition;
    /// The upload is not fenced, so it may not be dropped.
    UploadNotFenced = "UPLOAD_NOT_FENCED", FailedPrecondition;
    /// The upload is not prepared on enough nodes, or not on this one.
    NotPrepared = "NOT_PREPARED", FailedPrecondition;
    /// The upload or the tag belongs to another version.
    TagConflict = "TAG_CONFLICT", AlreadyExists;
    /// The upload is not committed on this node, so nothing is copied for it.
    NotCommitted = "NOT_COMMITTED", FailedPrecondition;
    /// The version is not current and confirmed on this node.
    NotCurrent = "NOT_CURRENT", FailedPrecondition;
    /// The node is a home of these chunks and does not give them up.
    ChunksAtHome = "CHUNKS_AT_HOME", FailedPrecondition;
    /// A node that the request rests on has lost its disk.
    PrepareLost = "PREPARE_LOST", Aborted;
    /// The node's disk failed; it takes nothing any more.
    Poisoned = "POISONED", Unavailable;
    /// Too few of the other nodes answered.
    TooFewNodes = "TOO_FEW_NODES", Unavailable;
    /// The node has another position, or belongs to another cluster.
    WrongNode = "WRONG_NODE", FailedPrecondition;
    /// A fault in the node.
    Internal = "INTERNAL", Internal;
}

impl Reason {
    /// The reason with this name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// The reason a status carries, if it is one of ours.
    pub fn of(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        (info.domain == DOMAIN).then(|| Self::from_name(&info.reason)).flatten()
    }

    /// An error status with this reason.
    pub fn status(self, message: impl Into<String>) -> Status {
        self.status_with(message, &[])
    }

    /// An error status with this reason and facts about it.
    pub fn status_with(self, message: impl Into<String>, facts: &[(&str, String)]) -> Status {
        let facts: HashMap<String, String> =
            facts.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let details = ErrorDetails::with_error_info(self.name(), DOMAIN, facts);
        Status::with_error_details(self.code(), message, details)
    }

    /// This reason for one entry of a batch.
    pub fn refusal(self, message: impl Into<String>) -> pb::Refusal {
        pb::Refusal { reason: self.name().to_owned(), message: message.into() }
    }
}

/// The same status, which names the request it answers as well.
pub fn with_request_id(status: &Status, id: &str) -> Status {
    let mut details = status.get_error_details();
    details.set_request_info(id, "");
    let (code, message) = (status.code(), status.message());
    Status::with_error_details_and_metadata(code, message, details, status.metadata().clone())
}

/// The name of the request that a status answers, if it says so.
pub fn request_id(status: &Status) -> Option<String> {
    status.get_details_request_info().map(|info| info.request_id)
}

/// The reason for which a rule refused.
pub fn reason(refused: &Refused) -> Reason {
    match refused {
        Refused::Rejoining => Reason::NodeRejoining,
        Refused::FutureTag { .. } => Reason::FutureTag,
        Refused::Fenced => Reason::UploadFenced,
        Refused::NotFenced => Reason::UploadNotFenced,
        Refused::NotPrepared => Reason::NotPrepared,
        Refused::TagConflict => Reason::TagConflict,
        Refused::NotCommitted => Reason::NotCommitted,
        Refused::NotCurrent => Reason::NotCurrent,
        Refused::AtHome => Reason::ChunksAtHome,
        Refused::PrepareLost(_) => Reason::PrepareLost,
    }
}

impl From<&Refused> for pb::Refusal {
    fn from(refused: &Refused) -> Self {
        reason(refused).refusal(refused.to_string())
    }
}

/// What a node's refusal of a Commit means to the machines. A refusal that they do not know
/// counts as one that will not change.
pub fn refused(refusal: &pb::Refusal, other: Option<NodeRef>) -> Refused {
    match (Reason::from_name(&refusal.reason), other) {
        (Some(Reason::PrepareLost), Some(other)) => Refused::PrepareLost(other),
        (Some(Reason::NodeRejoining), _) => Refused::Rejoining,
        (Some(Reason::FutureTag), _) => Refused::FutureTag { ahead_ms: 0 },
        (Some(Reason::UploadFenced), _) => Refused::Fenced,
        (Some(Reason::UploadNotFenced), _) => Refused::NotFenced,
        (Some(Reason::TagConflict), _) => Refused::TagConflict,
        (Some(Reason::NotCommitted), _) => Refused::NotCommitted,
        (Some(Reason::NotCurrent), _) => Refused::NotCurrent,
        (Some(Reason::ChunksAtHome), _) => Refused::AtHome,
        _ => Refused::NotPrepared,
    }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        let reason =
            if malformed.is_name { Reason::InvalidFileName } else { Reason::InvalidArgument };
        let mut details = ErrorDetails::with_bad_request_violation(malformed.field, &malformed.why);
        details.set_error_info(reason.name(), DOMAIN, HashMap::new());
        Self::with_error_details(reason.code(), malformed.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_the_wire() {
        for reason in Reason::ALL {
            let status = reason.status("because");
            assert_eq!(Reason::of(&status), Some(*reason));
            assert_eq!(status.code(), reason.code());
            assert_eq!(status.message(), "because");
        }
        assert_eq!(Reason::of(&Status::internal("other")), None);
    }

    #[test]
    fn an_error_names_its_request_beside_its_one_reason() {
        let facts = [("chunk", "3".to_owned())];
        let status = Reason::ChunkCorrupt.status_with("bad", &facts);
        assert_eq!(request_id(&status), None);
        let status = with_request_id(&with_request_id(&status, "a"), "r-1");
        assert_eq!(request_id(&status).as_deref(), Some("r-1"));
        assert_eq!(Reason::of(&status), Some(Reason::ChunkCorrupt));
        assert_eq!((status.code(), status.message()), (Code::DataLoss, "bad"));
        let details = status.get_error_details_vec();
        assert_eq!(details.len(), 2, "{details:?}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata.get("chunk").map(String::as_str), Some("3"));
    }

    #[test]
    fn malformed_fields_are_named() {
        let status = Status::from(Malformed::new("tag.writer", "has 3 bytes, 16 are needed"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "tag.writer: has 3 bytes, 16 are needed");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "tag.writer");
        assert_eq!(Reason::of(&status), Some(Reason::InvalidArgument));
    }
}
