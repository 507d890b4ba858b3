//! PUT: scan the file, then carry the messages of [`dfs_proto::protocol::put`].

mod run;
mod scan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dfs_proto::chunk::BLOCK_BYTES;
use dfs_proto::digest::Md5Digest;
use dfs_proto::manifest::UploadId;
use dfs_proto::name::FilePath;
use dfs_proto::placement::{NodeId, PerNode};
use dfs_proto::tag::Tag;
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connect::Notice;
use crate::drive::drive;
use crate::error::{Error, NodeError};
use crate::nodes::Nodes;
use crate::note::{Before, Note, Subject};
use crate::trace::carried;
use crate::upload::{Known, Progress, Upload, query};
use run::Run;
use scan::prepare;

/// A chunk of a file of up to this length is one block: there is nothing to go on with, in bytes.
const RESUME_BYTES: u64 = 4 * BLOCK_BYTES;

/// What a PUT may be told beside the file.
#[derive(Clone, Default)]
pub struct PutOptions {
    /// Modification time to store; the file's own, or now, where absent.
    pub modified: Option<SystemTime>,
    /// Notes of the user, at most 16.
    pub metadata: BTreeMap<String, String>,
    /// When the nodes shall remove the file, by their clocks and with the next pass of their
    /// healing (`heal_every`, usually 10 minutes). It is one of the notes,
    /// [`EXPIRES`](dfs_proto::manifest::EXPIRES).
    pub expires: Option<SystemTime>,
    /// Told how far it is.
    pub progress: Option<Arc<dyn Progress>>,
    /// A folder for a note about the PUT of a local file of more than 4 MiB. With it a PUT that
    /// fails or is stopped before its end leaves what it has sent on the nodes, for a day, and a
    /// PUT of the same content from the same file to the same path goes on.
    pub resume: Option<PathBuf>,
    /// Stops it: what was staged is dropped or kept, what was committed is finished or unknown.
    pub cancel: CancellationToken,
}

/// What a PUT did.
#[derive(Debug, Clone)]
pub struct PutReport {
    /// The new version's place in the order of versions.
    pub tag: Tag,
    /// Length of the file in bytes.
    pub size: u64,
    /// The MD5 of its content.
    pub md5: Md5Digest,
    /// Payload bytes sent to each node.
    pub per_node: PerNode<u64>,
    /// Rounds of messages it took.
    pub rounds: u32,
    /// How long it took.
    pub elapsed: Duration,
}

/// The content of a PUT.
pub(crate) enum Input<'a> {
    File(&'a Path),
    Bytes(Bytes),
    Stream(Box<dyn std::io::Read + Send>),
}

pub(crate) async fn put(
    nodes: &Arc<Nodes>,
    path: FilePath,
    input: Input<'_>,
    options: PutOptions,
) -> Result<PutReport, Error> {
    let started = Instant::now();
    let cancel = options.cancel.clone();
    let subject = match (&options.resume, &input) {
        (Some(folder), Input::File(local)) => {
            let (cluster, user) = nodes.owner();
            let subject = Subject::new(cluster, user, &path, local);
            Some((folder.clone(), subject.map_err(Error::local("find", *local))?))
        }
        _ => None,
    };
    let prepared = async {
        let mut upload = prepare(nodes, path, input, options).await?;
        let note = match subject {
            Some((folder, subject)) if upload.sums.size > RESUME_BYTES => {
                go_on(nodes, &mut upload, &folder, subject).await?
            }
            _ => None,
        };
        Ok::<_, Error>((upload, note))
    };
    let (upload, note) = tokio::select! {
        prepared = prepared => prepared?,
        () = cancel.cancelled() => return Err(Error::Interrupted),
    };
    let upload = Arc::new(upload);
    let _turn = if upload.is_small() {
        None
    } else {
        tokio::select! {
            turn = nodes.room().to_send() => turn,
            () = cancel.cancelled() => return Err(Error::Interrupted),
        }
    };
    let mut run = Run::start(nodes.clone(), upload, note, started);
    let outcome = drive(&mut run, &cancel).await;
    let mut report = run.finish(outcome)?;
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Looks for what an earlier run has left of the same PUT and notes this one. Without a note it
/// is a PUT like any other: another one of the same is under way.
async fn go_on(
    nodes: &Arc<Nodes>,
    upload: &mut Upload,
    folder: &Path,
    subject: Subject,
) -> Result<Option<Note>, Error> {
    let failed = || Error::local("keep a note in", folder);
    let Some(mut note) = Note::open(folder, subject).map_err(failed())? else {
        return Ok(None);
    };
    let fresh = upload.id;
    match note.read(&upload.manifest).map_err(failed())? {
        Before::Nothing => {}
        Before::Other(old) => discard(nodes, &upload.path, old),
        Before::Same(old) => {
            upload.id = old;
            let asked = NodeId::ALL.map(|id| query(nodes.get(id).node(), upload));
            let closed = |known: &Result<Known, NodeError>| matches!(known, Ok(k) if k.closed);
            if join_all(asked).await.iter().any(closed) {
                upload.id = fresh;
            } else {
                upload.resumed = true;
                nodes.notify(Notice::GoesOn(upload.path.clone()));
            }
        }
    }
    if !upload.resumed {
        note.write(upload.id, &upload.manifest).map_err(failed())?;
    }
    Ok(Some(note))
}

/// Drops what an upload has left that will not be gone on with. No Commit of it was sent.
fn discard(nodes: &Arc<Nodes>, path: &FilePath, upload: UploadId) {
    for id in NodeId::ALL {
        let (member, path) = (nodes.get(id).clone(), path.clone());
        nodes.background().spawn(carried(async move { member.discard(&path, upload).await }));
    }
}
