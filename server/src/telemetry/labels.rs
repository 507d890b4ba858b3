//! The values that labels can have.

macro_rules! labels {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $what:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[doc = $what])+ $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub(crate) const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// The label's value.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

labels! {
    /// What was made durable.
    Synced {
        /// Data of a chunk's file.
        Chunk = "chunk",
        /// The entries of a directory.
        Directory = "directory",
        /// A group of changes of the index.
        Index = "index",
    }
}

labels! {
    /// Why a caller was refused.
    AuthFailure {
        /// User and password do not match.
        Password = "password",
        /// No token came with a request that needs one.
        TokenMissing = "token_missing",
        /// The token is not known, or its time is over.
        TokenUnknown = "token_unknown",
        /// The secret of a node was missing or wrong.
        PeerSecret = "peer_secret",
        /// The caller is known and may not do this, or nobody may.
        Forbidden = "forbidden",
        /// A request to the admin address came without valid credentials.
        Admin = "admin",
    }
}

labels! {
    /// What there is a limit of.
    Limit {
        /// Connections, in all.
        Connections = "connections",
        /// Connections of one address.
        ConnectionsOfAddress = "connections_of_address",
        /// Time for a TLS handshake, or handshakes at a time.
        Handshakes = "handshakes",
        /// Logins that wait.
        LoginQueue = "login_queue",
        /// Failed logins of a user or an address.
        FailedLogins = "failed_logins",
        /// Valid tokens: the oldest went before its time.
        Tokens = "tokens",
        /// Calls at a time that everybody may make, of one connection.
        OpenCalls = "open_calls",
        /// Time of a unary request.
        RequestTime = "request_time",
        /// Time without progress on a stream, or its least rate.
        StreamPace = "stream_pace",
        /// Reads whose clients take nothing.
        SlowReads = "slow_reads",
        /// Repairs at a time.
        Repairs = "repairs",
        /// Room on the disk.
        Disk = "disk",
        /// What a user may store.
        Quota = "quota",
        /// Connections to the admin address.
        AdminConnections = "admin_connections",
    }
}
