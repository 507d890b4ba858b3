use super::*;
use crate::chunk_key::ChunkKey;
use codec::{ChunkEntry, Peer};
use dfs_proto::chunk::{ChunkId, ChunkSet};
use dfs_proto::digest::Crc32c;
use dfs_proto::identity::Boot;
use dfs_proto::manifest::{ChunkSum, Content, Record, Version};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::row::{Current, Row, UploadState};
use dfs_proto::tag::{Hlc, Tag};
use tempfile::TempDir;

const LIFE: Incarnation = Incarnation::new([7; 16]);

fn made() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    Index::create(&path, LIFE).unwrap();
    (dir, path)
}

fn open(path: &Path) -> Index {
    Index::open(path, LIFE, Poison::default()).unwrap()
}

fn user() -> UserName {
    UserName::new("alice").unwrap()
}

fn path(text: &str) -> FilePath {
    FilePath::new(text).unwrap()
}

fn tombstone(hlc: u64) -> Current {
    let version = Version {
        tag: Tag { hlc: Hlc::new(hlc), writer: [0; 16] },
        upload: UploadId::new([1; 16]),
        content: Content::Tombstone,
    };
    Current { record: Record { version, have: ChunkSet::EMPTY }, confirmed: false }
}

fn set_current(txn: &mut Txn<'_>, name: &str, hlc: u64) -> Result<(), IndexError> {
    let before = txn.row(&user(), &path(name), &[])?;
    let after = Row { current: Some(tombstone(hlc)), ..before.clone() };
    txn.put_row(&user(), &path(name), &before, &after);
    Ok(())
}

fn hlc(index: &impl Lookup, name: &str) -> Option<u64> {
    let row = index.row(&user(), &path(name), &[]).unwrap();
    row.tag().map(|tag| tag.hlc.get())
}

#[tokio::test]
async fn rows_survive_a_reopen() {
    let (_dir, at) = made();
    let key = ChunkKey { user: user(), upload: UploadId::new([3; 16]), chunk: ChunkId::C2 };
    let entry = ChunkEntry {
        path: path("a"),
        sum: ChunkSum { length: 3, crc: Crc32c::new(9) },
        inline: Some(Bytes::from_static(b"abc")),
    };
    let peer = Peer { incarnation: LIFE, boot: Boot { count: 4, nonce: 9 }, group: 3 };
    let index = open(&at);
    let (stored_key, stored) = (key.clone(), entry.clone());
    let change = move |txn: &mut Txn<'_>| {
        set_current(txn, "a", 5)?;
        txn.put_chunk(&stored_key, &stored);
        txn.put_peer(NodeId::N2, &peer);
        Ok(())
    };
    index.update(change).await.unwrap();
    index.close().await;
    drop(index);

    let index = open(&at);
    let view = index.view();
    assert_eq!(hlc(&view, "a"), Some(5));
    assert_eq!(view.chunk(&key).unwrap(), Some(entry));
    assert_eq!(view.peer(NodeId::N2).unwrap(), Some(peer));
    assert_eq!(view.peer(NodeId::N3).unwrap(), None);
    let removed = key.clone();
    let remove = move |txn: &mut Txn<'_>| {
        let entry = txn.chunk(&removed)?.unwrap();
        txn.remove_chunk(&removed, &entry);
        Ok(())
    };
    index.update(remove).await.unwrap();
    assert_eq!(index.view().chunk(&key).unwrap(), None);
    assert!(view.chunk(&key).unwrap().is_some(), "a view stays what it was");
}

#[tokio::test]
async fn transactions_see_those_before_them_though_nothing_is_committed_yet() {
    let (_dir, at) = made();
    let index = open(&at);
    // Keeps the writer busy until all others wait, so that they share a group.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let blocker = index.submit(move |_| Ok(held.recv().is_ok())).await;
    let mut pending = Vec::new();
    for i in 1..=100u64 {
        let count = move |txn: &mut Txn<'_>| {
            let before = hlc(txn, "n").unwrap_or(0);
            set_current(txn, "n", before + i)?;
            Ok(before)
        };
        pending.push(index.submit(count).await);
    }
    release.send(()).unwrap();
    assert!(blocker.done().await.unwrap());
    let mut expected = 0;
    for (pending, i) in pending.into_iter().zip(1..) {
        assert_eq!(pending.done().await.unwrap(), expected);
        expected += i;
    }
    assert_eq!(hlc(&index.view(), "n"), Some(5050));
}

#[tokio::test]
async fn a_closure_that_fails_changes_nothing_and_harms_no_other() {
    let (_dir, at) = made();
    let index = open(&at);
    let failing = |txn: &mut Txn<'_>| {
        set_current(txn, "a", 1)?;
        Err::<(), _>(IndexError::Damaged(CodecError::Short))
    };
    assert!(matches!(index.update(failing).await, Err(IndexError::Damaged(_))));
    index.update(|txn| set_current(txn, "b", 2)).await.unwrap();
    assert_eq!(hlc(&index.view(), "a"), None);
    assert_eq!(hlc(&index.view(), "b"), Some(2));
}

#[tokio::test]
async fn what_was_submitted_is_done_though_nobody_waits() {
    let (_dir, at) = made();
    let index = open(&at);
    drop(index.submit(|txn| set_current(txn, "a", 1)).await);
    index.update_lazy(|txn| set_current(txn, "b", 2)).await.unwrap();
    index.close().await;
    assert!(matches!(index.update(|_| Ok(())).await, Err(IndexError::Closed)));
    drop(index);
    let index = open(&at);
    assert_eq!((hlc(&index.view(), "a"), hlc(&index.view(), "b")), (Some(1), Some(2)));
}

#[tokio::test]
async fn a_poisoned_index_takes_nothing() {
    let (_dir, at) = made();
    let poison = Poison::default();
    let index = Index::open(&at, LIFE, poison.clone()).unwrap();
    poison.trip("a sync failed");
    let refused = index.update(|txn| set_current(txn, "a", 1)).await;
    assert!(matches!(refused, Err(IndexError::Poisoned)));
    assert_eq!(hlc(&index.view(), "a"), None);
}

#[tokio::test]
async fn a_failed_read_poisons() {
    let (_dir, at) = made();
    let poison = Poison::default();
    let index = Index::open(&at, LIFE, poison.clone()).unwrap();
    let failed = |_: &mut Txn<'_>| Err::<(), _>(IndexError::from(fjall::Error::Poisoned));
    assert!(index.update(failed).await.is_err());
    assert!(poison.is_tripped());
    assert!(index.update(|txn| set_current(txn, "a", 1)).await.is_err());
}

#[tokio::test]
async fn a_panic_in_the_writer_poisons() {
    let (_dir, at) = made();
    let poison = Poison::default();
    let index = Index::open(&at, LIFE, poison.clone()).unwrap();
    let panics = |_: &mut Txn<'_>| -> Result<(), IndexError> { panic!("on purpose") };
    assert!(index.update(panics).await.is_err());
    poison.tripped().await;
    assert!(index.update(|_| Ok(())).await.is_err());
}

#[test]
fn an_index_that_is_missing_or_another_one_is_refused_and_none_is_made() {
    let (_dir, at) = made();
    let refused = |path: &Path, life| Index::open(path, life, Poison::default()).err().unwrap();
    let other = Incarnation::new([8; 16]);
    assert!(matches!(refused(&at, other), OpenError::Foreign { .. }));

    let missing = at.with_file_name("none");
    assert!(matches!(refused(&missing, LIFE), OpenError::Missing(_)));
    assert!(!missing.exists());
    std::fs::create_dir(&missing).unwrap();
    assert!(matches!(refused(&missing, LIFE), OpenError::Missing(_)), "an emptied directory");
    assert_eq!(std::fs::read_dir(&missing).unwrap().count(), 0, "nothing was made there");
}

#[test]
fn an_index_without_its_first_row_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("index");
    let foreign = fjall::Database::builder(&at).open().unwrap();
    for space in Space::ALL {
        foreign.keyspace(space.name(), || space.options()).unwrap();
    }
    drop(foreign);
    Mark::create(&mark_of(&at), 0).unwrap();
    let refused = Index::open(&at, LIFE, Poison::default()).err().unwrap();
    assert!(refused.to_string().contains("its first row is missing"), "{refused}");
}

#[test]
fn an_index_whose_journals_are_gone_is_refused() {
    let (_dir, at) = made();
    for entry in std::fs::read_dir(&at).unwrap() {
        let entry = entry.unwrap().path();
        if entry.extension().is_some_and(|extension| extension == "jnl") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    let refused = Index::open(&at, LIFE, Poison::default()).err().unwrap();
    assert!(refused.to_string().contains("it has no journal"), "{refused}");
    let journals = |entry: &std::fs::DirEntry| entry.path().extension() == Some("jnl".as_ref());
    let entries = std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap());
    assert_eq!(entries.filter(journals).count(), 0, "nothing was made there");
}

#[tokio::test]
async fn listings_go_by_prefix_and_start() {
    let (_dir, at) = made();
    let index = open(&at);
    let fill = |txn: &mut Txn<'_>| {
        for name in ["a", "a/b", "a/c", "ab", "b", "ü"] {
            set_current(txn, name, 1)?;
        }
        let bob = UserName::new("alice2").unwrap();
        let after = Row { current: Some(tombstone(1)), ..Row::default() };
        txn.put_row(&bob, &path("a/b"), &Row::default(), &after);
        Ok(())
    };
    index.update(fill).await.unwrap();
    let view = index.view();
    let list = |prefix: &str, after: Option<&str>| {
        let prefix = Prefix::new(prefix).unwrap();
        let paths = view.paths(&user(), &prefix, after, codec::read_current_head);
        paths.map(|item| item.unwrap().0.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("", None), ["a", "a/b", "a/c", "ab", "b", "ü"]);
    assert_eq!(list("a/", None), ["a/b", "a/c"]);
    assert_eq!(list("a", Some("a/b")), ["a/c", "ab"]);
    assert_eq!(list("b", Some("a")), ["b"], "a start before the prefix changes nothing");
    assert_eq!(list("a", Some("b")), Vec::<String>::new());
    assert_eq!(list("", Some("ü")), Vec::<String>::new());
}

#[tokio::test]
async fn uploads_are_found_by_path_and_in_all() {
    let (_dir, at) = made();
    let index = open(&at);
    let upload = |state| Upload { have: ChunkSet::ALL, state, since_ms: 3 };
    let put = move |txn: &mut Txn<'_>| {
        for (name, id) in [("a", 1), ("a", 2), ("a/b", 3)] {
            let mut row = Row::default();
            row.uploads.insert(UploadId::new([id; 16]), upload(UploadState::Prepared));
            txn.put_row(&user(), &path(name), &Row::default(), &row);
        }
        Ok(())
    };
    index.update(put).await.unwrap();
    let view = index.view();
    let of = |name: &str| view.uploads_of(&user(), &path(name)).map(|item| item.unwrap().0);
    assert_eq!(of("a").collect::<Vec<_>>(), [UploadId::new([1; 16]), UploadId::new([2; 16])]);
    assert_eq!(of("a/b").count(), 1);
    assert_eq!(view.uploads().count(), 3);

    let fence = |txn: &mut Txn<'_>| {
        let id = UploadId::new([1; 16]);
        let before = txn.row(&user(), &path("a"), &[id])?;
        let mut row = before.clone();
        row.uploads.remove(&id);
        txn.put_row(&user(), &path("a"), &before, &row);
        Ok(())
    };
    index.update(fence).await.unwrap();
    assert_eq!(index.view().uploads().count(), 2);
}

#[test]
fn a_failed_read_of_a_view_poisons() {
    let poison = Poison::default();
    assert!(or_poisoned(&poison, Ok(())).is_ok());
    assert!(!poison.is_tripped());
    let failed = Err::<(), _>(fjall::Error::Io(std::io::Error::from_raw_os_error(5)));
    assert!(matches!(or_poisoned(&poison, failed), Err(IndexError::Failed(_))));
    assert!(poison.is_tripped());
}
