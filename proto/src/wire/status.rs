//! The table of errors: a reason, its gRPC code, and back. [`complete`] adds what a node says of all
//! of them.

mod complete;

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::protocol::{NodeRef, Refused};
use crate::wire::convert::Malformed;
use crate::wire::pb;
pub use complete::{code_name, complete};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "dfs.v1";

/// What a client is told on any wrong user or password.
pub const INVALID_CREDENTIALS: &str = "Invalid Username/Password. Please try again.";

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $code:ident, $next:literal;)+) => {
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

            /// What a client does about it, as `docs/protocol.md` has it.
            pub const fn next(self) -> &'static str {
                match self { $(Self::$variant => $next),+ }
            }
        }
    };
}

reasons! {
    /// User and password do not match.
    InvalidCredentials = "INVALID_CREDENTIALS", Unauthenticated,
        "ask the user";
    /// No bearer token came with the request.
    TokenMissing = "TOKEN_MISSING", Unauthenticated,
        "send `authorization: Bearer TOKEN`";
    /// The token is unknown here or its time is over: authenticate again.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated,
        "log in on this node, repeat once";
    /// This caller may not call this method.
    NotAllowed = "NOT_ALLOWED", PermissionDenied,
        "not for this caller: a user's token is not a node's secret, and some of Repair is for administrators";
    /// A path, prefix or user name is not valid.
    InvalidFileName = "INVALID_FILE_NAME", InvalidArgument,
        "the path or prefix is not valid; `BadRequest` names the field";
    /// Another field is missing or out of its range.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument,
        "a mistake of the client; `BadRequest` names the field";
    /// The data does not match its checksum or its manifest.
    ChecksumMismatch = "CHECKSUM_MISMATCH", InvalidArgument,
        "a block's number, length or CRC32C, or its chunk's, is not what the manifest says";
    /// The node holds no such chunk.
    ChunkNotFound = "CHUNK_NOT_FOUND", NotFound,
        "this node has no such chunk: ask another one";
    /// The chunk on the node's disk is bad.
    ChunkCorrupt = "CHUNK_CORRUPT", DataLoss,
        "this node's copy is bad: ask another one";
    /// The disk is full.
    DiskFull = "DISK_FULL", ResourceExhausted,
        "this node takes no data: it has failed for this PUT";
    /// It would take the user over a quota: `limit` is bytes, files or staged, `used`, `needed`
    /// and `allowed` are bytes or files.
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted,
        "the user is over a quota: the PUT has failed, nothing happened; do not spill";
    /// Too many logins wait already, or have failed; or too many calls on one connection.
    Overloaded = "OVERLOADED", ResourceExhausted,
        "too many wait already, or logins have failed: again after `RetryInfo`";
    /// Nothing came on a stream for too long.
    StreamIdle = "STREAM_IDLE", DeadlineExceeded,
        "nothing came for 30 s, or too little was taken: begin again where it ended";
    /// The node is about to stop.
    ShuttingDown = "SHUTTING_DOWN", Unavailable,
        "the node is about to stop";
    /// The node's disk was replaced and it may not take part yet.
    NodeRejoining = "NODE_REJOINING", Unavailable,
        "the node's disk was replaced: it has failed for now";
    /// The blocks that a chunk should go on after are not here.
    NotStaged = "NOT_STAGED", FailedPrecondition,
        "the blocks before `first_block` are not there: QueryUpload";
    /// The tag is more than a minute ahead of the node's clock.
    FutureTag = "FUTURE_TAG", FailedPrecondition,
        "the tag is more than 60 s ahead of the node's clock";
    /// The upload was fenced.
    UploadFenced = "UPLOAD_FENCED", FailedPrecondition,
        "the upload was given up: begin again with a new one";
    /// The upload is not fenced, so it may not be dropped.
    UploadNotFenced = "UPLOAD_NOT_FENCED", FailedPrecondition,
        "Drop needs a Fence before it";
    /// The upload is not prepared on enough nodes, or not on this one.
    NotPrepared = "NOT_PREPARED", FailedPrecondition,
        "the Commit names fewer than three sources, or this node has no data of it";
    /// The upload or the tag belongs to another version.
    TagConflict = "TAG_CONFLICT", AlreadyExists,
        "an upload has one tag ever, and a tag one upload";
    /// The upload is not committed on this node, so nothing is copied for it.
    NotCommitted = "NOT_COMMITTED", FailedPrecondition,
        "among nodes only";
    /// The version is not current and confirmed on this node.
    NotCurrent = "NOT_CURRENT", FailedPrecondition,
        "among nodes only";
    /// The node is a home of these chunks and does not give them up.
    ChunksAtHome = "CHUNKS_AT_HOME", FailedPrecondition,
        "among nodes only";
    /// A node that the request rests on has lost its disk.
    PrepareLost = "PREPARE_LOST", Aborted,
        "`other_incarnation` says which node lost its disk: see PUT, 4";
    /// The node's disk failed; it takes nothing any more.
    Poisoned = "POISONED", Unavailable,
        "the node's disk failed: it has failed";
    /// Too few of the other nodes answered.
    TooFewNodes = "TOO_FEW_NODES", Unavailable,
        "a Repair that reaches too few of the others";
    /// The node has another position, or belongs to another cluster.
    WrongNode = "WRONG_NODE", FailedPrecondition,
        "another position or cluster: the configuration is wrong";
    /// There is no such method here.
    UnknownMethod = "UNKNOWN_METHOD", Unimplemented,
        "a mistake, or a node that is older than its client: do without";
    /// A message is longer than is taken.
    MessageTooLarge = "MESSAGE_TOO_LARGE", OutOfRange,
        "4 MiB are taken, 16 KiB of Authenticate: send less";
    /// A message is none of its method.
    MessageMalformed = "MESSAGE_MALFORMED", InvalidArgument,
        "the bytes are no message of this method: a mistake of the client";
    /// The node was too slow to answer.
    RequestTimeout = "REQUEST_TIMEOUT", DeadlineExceeded,
        "the node was too slow: again, or ask another one";
    /// A fault in the node.
    Internal = "INTERNAL", Internal,
        "a fault in the node, which its log explains";
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
    fn malformed_fields_are_named() {
        let status = Status::from(Malformed::new("tag.writer", "has 3 bytes, 16 are needed"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "tag.writer: has 3 bytes, 16 are needed");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "tag.writer");
        assert_eq!(Reason::of(&status), Some(Reason::InvalidArgument));
    }
}
