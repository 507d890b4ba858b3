//! Mistakes that a run can be told to make, to see that the checks find them.

/// A rule that is left out, in what carries the messages or in what a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// H1: chunks of a failed node are not stored on its opposite.
    NoSpill,
    /// H2: a node takes a Commit that rests on no prepared data.
    CommitUnprepared,
    /// H3: the larger of two answers is returned as it is.
    LargestOfTwo,
    /// H4: two equal answers are returned as they are.
    TwoEqual,
    /// H5: a tag comes from the writer's clock.
    OwnClock,
    /// H10: a tombstone goes once three nodes have it.
    ForgetTombstones,
    /// H14: staged data goes by age.
    StagingByAge,
    /// H15: an unknown PUT is tried again under a new tag.
    RetryWithNewTag,
    /// H18: a new, empty disk serves at once.
    ServeEmpty,
    /// A new disk does not wait before it reads the others.
    RejoinAtOnce,
    /// A new disk reads only two of the others.
    RejoinReadsTwo,
    /// A new disk does not take over fences.
    RejoinWithoutFences,
    /// A new disk does not record the others' incarnations.
    RejoinForgetsPeers,
    /// A rejoining node takes Prepares and Commits.
    RejoiningTakesWrites,
    /// A rejoining node fences.
    RejoiningFences,
    /// An old disk restored from a copy is not recognised.
    ServeOldImage,
    /// Others remember starts, but not how many changes they have heard of.
    ForgetGroups,
    /// V1: a Commit that rests on a lost disk is taken.
    CommitOnLostDisk,
    /// V2: a Drop that rests on the fence of a lost disk is taken.
    DropOnLostDisk,
    /// V4: a write-back that was read from a lost disk is taken.
    WriteBackOnLostDisk,
    /// V3: a node counts as restored when it holds its pair of what it has as newest.
    RestoredTooEarly,
    /// A write-back is answered but not sent.
    NoWriteBack,
    /// What is on two nodes only is returned without its flag.
    NoFlag,
    /// No answer to a Commit is taken for an acknowledgement.
    HopeForCommit,
    /// An upload whose outcome is unknown is discarded.
    DiscardAfterCommit,
    /// Nodes are told at the first acknowledgement that three have it.
    ConfirmTooEarly,
    /// Chunks are not checked when they are read.
    ServeRotten,
    /// Spilled chunks go before their homes were seen to hold them.
    ReleaseUnseen,
    /// An abandoned upload goes when three nodes have fenced it.
    DropOnThreeFences,
    /// What is acknowledged is not on the disk yet.
    LazySync,
    /// When a version is over whatever is newest goes.
    ExpireNewest,
}

impl Mistake {
    pub(crate) const ALL: [Self; 28] = [
        Self::NoSpill,
        Self::CommitUnprepared,
        Self::LargestOfTwo,
        Self::TwoEqual,
        Self::OwnClock,
        Self::ForgetTombstones,
        Self::StagingByAge,
        Self::RetryWithNewTag,
        Self::ServeEmpty,
        Self::RejoinReadsTwo,
        Self::RejoinWithoutFences,
        Self::RejoinForgetsPeers,
        Self::RejoiningTakesWrites,
        Self::RejoiningFences,
        Self::ServeOldImage,
        Self::ForgetGroups,
        Self::CommitOnLostDisk,
        Self::RestoredTooEarly,
        Self::NoWriteBack,
        Self::NoFlag,
        Self::HopeForCommit,
        Self::DiscardAfterCommit,
        Self::ConfirmTooEarly,
        Self::ServeRotten,
        Self::ReleaseUnseen,
        Self::DropOnThreeFences,
        Self::LazySync,
        Self::ExpireNewest,
    ];

    /// Those that need so many things to coincide that only runs with an opening meet them.
    pub(crate) const OPENED: [Self; 3] =
        [Self::DropOnLostDisk, Self::WriteBackOnLostDisk, Self::RejoinAtOnce];
}
