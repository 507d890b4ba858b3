//! VERIFY: reads every file through both pairs of opposite nodes, each of which has a whole
//! copy of it, and checks every block, every chunk and the MD5. Nothing is kept and nothing is
//! written; a bad chunk is reported to its node, as a GET does.

use std::sync::Arc;

use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::{Md5Digest, Md5Hasher};
use dfs_proto::manifest::{Content, UploadId, Version};
use dfs_proto::name::{FilePath, Prefix};
use dfs_proto::placement::{NodeId, PerNode, homes};
use dfs_proto::protocol::health::Health;
use dfs_proto::protocol::listing::Listed;
use dfs_proto::wire::status::Reason;
use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::error::{Cause, Error, NodeError};
use crate::list::{self, Lister};
use crate::nodes::Nodes;
use crate::sink::Place;
use crate::transfer::{Failure, Piece, Transfer};
use crate::upload::{Progress, Traffic};

/// Files read at the same time, each as two streams.
const AT_ONCE: usize = 4;

/// How often a file that is replaced while it is read is read anew.
const ATTEMPTS: usize = 3;

/// Two nodes that hold a whole copy together.
const PAIRS: [[NodeId; 2]; 2] = [[NodeId::N1, NodeId::N3], [NodeId::N2, NodeId::N4]];

/// What a VERIFY may be told.
#[derive(Clone, Default)]
pub struct VerifyOptions {
    /// Told how far it is: each file counts twice.
    pub progress: Option<Arc<dyn Progress>>,
    /// Stops it.
    pub cancel: CancellationToken,
}

/// Why a copy of a chunk could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not what was stored.
    Damaged,
    /// Its node answers and does not hold it.
    Absent,
    /// Its node cannot be reached.
    Unreachable,
    /// Its node answers and cannot read it now.
    Refused,
}

impl Fault {
    /// The word shown to people and scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Absent => "absent",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// One copy of a chunk that could not be read.
#[derive(Debug, Clone)]
pub struct CopyFault {
    /// The node.
    pub node: NodeId,
    /// The chunk.
    pub chunk: ChunkId,
    /// What is the matter with it.
    pub fault: Fault,
    /// What was found, for people.
    pub why: String,
}

/// How a file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Both pairs have the whole file, and it is what was stored.
    Ok,
    /// It can be read, but a copy of a chunk is damaged.
    Damaged,
    /// It can be read and nothing is damaged, but a copy of a chunk is not there, or its node
    /// cannot be reached.
    Degraded,
    /// A chunk is on no node that can be reached.
    Incomplete,
    /// No node has what was stored.
    Lost,
    /// Fewer than two nodes answer.
    Unknown,
    /// A node could not read it, for reasons of its own.
    Failed,
}

impl Condition {
    /// All of them, best first.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Degraded,
        Self::Damaged,
        Self::Incomplete,
        Self::Lost,
        Self::Unknown,
        Self::Failed,
    ];

    /// The word shown to people and scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Damaged => "damaged",
            Self::Degraded => "degraded",
            Self::Incomplete => "incomplete",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// What was found out about one file.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The file.
    pub path: FilePath,
    /// Its length in bytes.
    pub size: u64,
    /// How it was found.
    pub condition: Condition,
    /// The copies that could not be read.
    pub faults: Vec<CopyFault>,
    /// What its content hashes to, where that is not what was stored.
    pub wrong_md5: Option<Md5Digest>,
}

/// What was found out about all files.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Files looked at.
    pub files: u64,
    /// Their length together, in bytes.
    pub bytes: u64,
    /// How many of them were found in which condition, in the order of [`Condition::ALL`].
    pub conditions: [u64; 7],
    /// Damaged copies of chunks on each node.
    pub damaged_copies: PerNode<u64>,
    /// Nodes that could not be reached when they were needed.
    pub unreachable: PerNode<bool>,
    /// Payload bytes received from each node.
    pub per_node: PerNode<u64>,
}

impl VerifyReport {
    /// How many files were found in this condition.
    pub fn count(&self, condition: Condition) -> u64 {
        let mut counts = Condition::ALL.into_iter().zip(self.conditions);
        counts.find_map(|(other, count)| (other == condition).then_some(count)).unwrap_or(0)
    }

    fn add(&mut self, file: &Verified) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(file.size);
        for (condition, count) in Condition::ALL.into_iter().zip(&mut self.conditions) {
            *count += u64::from(condition == file.condition);
        }
        for fault in &file.faults {
            let index = fault.node.index();
            self.damaged_copies[index] += u64::from(fault.fault == Fault::Damaged);
            self.unreachable[index] |= fault.fault == Fault::Unreachable;
        }
    }
}

pub(crate) async fn verify(
    nodes: &Arc<Nodes>,
    prefix: Prefix,
    options: VerifyOptions,
    mut each: impl FnMut(&Verified),
) -> Result<VerifyReport, Error> {
    let reader = Reader { nodes, traffic: Traffic::default(), progress: options.progress };
    let mut report = VerifyReport::default();
    let all = async {
        let listing = stream::unfold(Some(Lister::start(nodes.clone(), prefix, true)), next_file);
        let reader = &reader;
        let checked = listing.map(|file| async move { reader.check(file?).await });
        let mut checked = std::pin::pin!(checked.buffer_unordered(AT_ONCE));
        while let Some(file) = checked.next().await {
            // A file that was removed meanwhile is none any more.
            if let Some(file) = file? {
                each(&file);
                report.add(&file);
            }
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        done = all => done?,
        () = options.cancel.cancelled() => return Err(Error::Interrupted),
    }
    report.per_node = reader.traffic.per_node();
    Ok(report)
}

/// The next file of the listing; after an error there is none.
async fn next_file(lister: Option<Lister>) -> Option<(Result<Listed, Error>, Option<Lister>)> {
    let mut lister = lister?;
    match lister.next().await {
        Ok(file) => file.map(|file| (Ok(file), Some(lister))),
        Err(error) => Some((Err(error), None)),
    }
}

/// What all files share.
struct Reader<'a> {
    nodes: &'a Arc<Nodes>,
    traffic: Traffic,
    progress: Option<Arc<dyn Progress>>,
}

/// What a pair delivered.
#[derive(Default)]
struct Delivered {
    good: ChunkSet,
    faults: Vec<CopyFault>,
    /// Of all four chunks, where all are good.
    md5: Option<Md5Digest>,
    /// A copy that the listing told of is not there any more.
    vanished: bool,
}

impl Reader<'_> {
    /// Reads a file through both pairs; `None` where it was removed meanwhile.
    async fn check(&self, mut file: Listed) -> Result<Option<Verified>, Error> {
        for attempt in 1.. {
            let (verified, vanished) = self.read(&file).await;
            if !vanished || attempt == ATTEMPTS {
                return Ok(Some(verified));
            }
            let before = file.file.upload;
            file = match list::stat(self.nodes, &file.path).await {
                Ok(state) => state.file,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(_) => return Ok(Some(verified)),
            };
            if same_version(before, &file) {
                return Ok(Some(verified));
            }
        }
        Ok(None)
    }

    /// Reads one version; also tells whether a copy has vanished since it was listed.
    async fn read(&self, file: &Listed) -> (Verified, bool) {
        let mut verified = Verified {
            path: file.path.clone(),
            size: file.file.size,
            condition: Condition::Unknown,
            faults: Vec::new(),
            wrong_md5: None,
        };
        let Some(manifest) = file.file.manifest.as_deref().cloned() else {
            return (verified, false);
        };
        if file.health == Health::Unknown {
            verified.faults = silent(file);
            return (verified, false);
        }
        if let Some(progress) = &self.progress {
            progress.grow(manifest.size().saturating_mul(2));
        }
        let version = Version {
            tag: file.tag,
            upload: file.file.upload,
            content: Content::File(manifest.clone()),
        };
        let transfer = Transfer {
            nodes: self.nodes,
            path: &file.path,
            version: &version,
            manifest: &manifest,
            traffic: &self.traffic,
            progress: self.progress.as_ref(),
        };
        let [odd, even] = PAIRS.map(|pair| read_pair(&transfer, &file.nodes, pair));
        let (odd, even) = join(odd, even).await;
        let wrong = |md5: &Md5Digest| *md5 != manifest.md5();
        verified.wrong_md5 = [odd.md5, even.md5].into_iter().flatten().find(wrong);
        verified.condition = judge(&odd, &even, verified.wrong_md5.is_some());
        let vanished = odd.vanished || even.vanished;
        verified.faults = [odd.faults, even.faults].concat();
        (verified, vanished)
    }
}

fn same_version(before: UploadId, now: &Listed) -> bool {
    before == now.file.upload
}

/// The nodes that did not answer in the listing, as faults of their home chunks.
fn silent(file: &Listed) -> Vec<CopyFault> {
    let copies = ChunkId::ALL
        .into_iter()
        .flat_map(|chunk| homes(file.file.x, chunk).into_iter().map(move |node| (node, chunk)));
    let silent = copies.filter(|(node, _)| file.nodes[node.index()].is_none());
    silent.map(|(node, chunk)| no_answer(node, chunk)).collect()
}

fn no_answer(node: NodeId, chunk: ChunkId) -> CopyFault {
    let why = format!("node {node} does not answer");
    CopyFault { node, chunk, fault: Fault::Unreachable, why }
}

fn judge(odd: &Delivered, even: &Delivered, wrong_md5: bool) -> Condition {
    let any = |fault: Fault| odd.faults.iter().chain(&even.faults).any(|f| f.fault == fault);
    let (readable, all) = (odd.good.union(even.good), ChunkSet::ALL);
    match () {
        () if wrong_md5 => Condition::Lost,
        // In an exception from the placement any node may have the chunk.
        () if readable != all && any(Fault::Unreachable) => Condition::Incomplete,
        () if readable != all && any(Fault::Refused) => Condition::Failed,
        () if readable != all => Condition::Lost,
        () if any(Fault::Damaged) => Condition::Damaged,
        () if any(Fault::Refused) => Condition::Failed,
        () if odd.good == all && even.good == all => Condition::Ok,
        () => Condition::Degraded,
    }
}

/// Reads all four chunks from two nodes, every copy that they have.
async fn read_pair(
    transfer: &Transfer<'_>,
    have: &PerNode<Option<ChunkSet>>,
    pair: [NodeId; 2],
) -> Delivered {
    let mut delivered = Delivered::default();
    let mut md5 = Md5Hasher::new();
    for chunk in ChunkId::ALL {
        let home = homes(transfer.manifest.x(), chunk);
        let mut missing = Vec::new();
        let mut hashed = None;
        for node in pair {
            match have[node.index()] {
                Some(held) if held.contains(chunk) => {
                    match read_copy(transfer, node, chunk, md5.clone()).await {
                        Ok(md5) => hashed = Some(md5),
                        Err(error) => {
                            let fault = fault_of(&error.cause);
                            delivered.vanished |= fault == Fault::Absent;
                            let why = error.to_string();
                            delivered.faults.push(CopyFault { node, chunk, fault, why });
                        }
                    }
                }
                // Not at home it is only where it had to be put at another time.
                _ if !home.contains(&node) => {}
                Some(_) => {
                    let why = format!("node {node} does not hold it");
                    missing.push(CopyFault { node, chunk, fault: Fault::Absent, why });
                }
                None => missing.push(no_answer(node, chunk)),
            }
        }
        match hashed {
            Some(hashed) => {
                md5 = hashed;
                delivered.good = delivered.good.with(chunk);
            }
            None => delivered.faults.extend(missing),
        }
    }
    delivered.md5 = (delivered.good == ChunkSet::ALL).then(|| md5.finish());
    delivered
}

/// Reads one copy of a chunk and adds it to a digest.
async fn read_copy(
    transfer: &Transfer<'_>,
    node: NodeId,
    chunk: ChunkId,
    mut md5: Md5Hasher,
) -> Result<Md5Hasher, NodeError> {
    match transfer.run(node, Piece::start(chunk), Place::Digest(&mut md5)).await {
        Ok(()) => Ok(md5),
        Err(Failure::Node { error, .. }) => Err(error),
        Err(Failure::Local(error)) => {
            let cause = Cause::Nonsense(error.to_string());
            Err(transfer.nodes.get(node).node().error(cause))
        }
    }
}

fn fault_of(cause: &Cause) -> Fault {
    match cause {
        Cause::Nonsense(_) => Fault::Damaged,
        Cause::Refused { reason: Some(Reason::ChunkCorrupt), .. } => Fault::Damaged,
        Cause::Refused { reason: Some(Reason::ChunkNotFound), .. } => Fault::Absent,
        Cause::Refused { reason: Some(Reason::ShuttingDown | Reason::Poisoned), .. } => {
            Fault::Unreachable
        }
        Cause::Connect(_)
        | Cause::Untrusted(_)
        | Cause::Timeout { .. }
        | Cause::Credentials
        | Cause::LoggedOut
        | Cause::TokenNotKept(_)
        | Cause::WrongNode { .. }
        | Cause::Rejoining
        | Cause::Broken(_) => Fault::Unreachable,
        Cause::Refused { .. } | Cause::SourceChanged | Cause::SourceUnreadable(_) => Fault::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(good: ChunkSet, faults: &[Fault]) -> Delivered {
        let fault = |fault: &Fault| CopyFault {
            node: NodeId::N1,
            chunk: ChunkId::C1,
            fault: *fault,
            why: String::new(),
        };
        Delivered { good, faults: faults.iter().map(fault).collect(), ..Delivered::default() }
    }

    #[test]
    fn what_two_pairs_deliver_is_judged() {
        let all = ChunkSet::ALL;
        let part = all.without(ChunkId::C1);
        let judge = |odd: ChunkSet, even: ChunkSet, faults: &[Fault], wrong| {
            judge(&delivered(odd, faults), &delivered(even, &[]), wrong)
        };
        assert_eq!(judge(all, all, &[], false), Condition::Ok);
        assert_eq!(judge(all, all, &[], true), Condition::Lost);
        assert_eq!(judge(part, all, &[Fault::Absent], false), Condition::Degraded);
        assert_eq!(judge(part, all, &[Fault::Unreachable], false), Condition::Degraded);
        assert_eq!(judge(part, all, &[Fault::Damaged], false), Condition::Damaged);
        assert_eq!(judge(all, all, &[Fault::Damaged], false), Condition::Damaged);
        assert_eq!(judge(part, all, &[Fault::Refused], false), Condition::Failed);
        assert_eq!(judge(part, part, &[Fault::Damaged], false), Condition::Lost);
        let unsure = [Fault::Damaged, Fault::Unreachable];
        assert_eq!(judge(part, part, &unsure, false), Condition::Incomplete);
        assert_eq!(judge(part, part, &[Fault::Refused], false), Condition::Failed);
    }
}
