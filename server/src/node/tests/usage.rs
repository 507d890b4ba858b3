//! What users hold is counted right, whatever happens to it.

use super::*;
use crate::config::quota::Limits;
use crate::index::usage::Held;
use dfs_proto::protocol::row::{ReleaseOrder, UploadState};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Counts anew what a user holds, chunk by chunk.
async fn recount(fixture: &Fixture, user: &UserName) -> (Held, u64) {
    let view = fixture.node.index.view();
    let mut held = Held::default();
    let mut superseded = 0;
    for row in view.records(None, None) {
        let (of, _, current) = row.unwrap();
        let file = current.record.version.content != Content::Tombstone;
        held.files += u64::from(of == *user && file);
    }
    let mut staged = Vec::new();
    for row in view.uploads() {
        let (of, path, id, upload) = row.unwrap();
        if of != *user {
            continue;
        }
        match upload.state {
            UploadState::Superseded(_) => superseded += 1,
            UploadState::Fenced if upload.have.is_empty() => {}
            UploadState::Fenced | UploadState::Prepared => staged.push((path, id)),
        }
    }
    for row in view.chunks_after(None) {
        let (key, path, length) = row.unwrap();
        if key.user == *user {
            held.bytes += length;
            let is_staged = staged.contains(&(path, key.upload));
            held.staged_bytes += if is_staged { length } else { 0 };
        }
    }
    held.uploads = staged.len() as u64;
    (held, superseded)
}

async fn assert_counted(fixture: &Fixture, after: &str) {
    let (held, superseded) = recount(fixture, &alice()).await;
    assert_eq!(fixture.node.held_by(&alice()), held, "{after}");
    assert_eq!(fixture.node.pending_uploads(), held.uploads + superseded, "{after}");
}

/// One of a few files: three uploads of each of two paths, two of them large.
fn file(number: u8) -> File {
    let size = if number == 2 || number == 5 { 4 * 65536 + 44 } else { 1000 + number as usize };
    File::new(if number < 3 { "a" } else { "b/c" }, number + 1, size)
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, bool),
    Break(u8),
    Commit(u8, u64, bool),
    Remove(u8, u64),
    Confirm(u8, u64),
    Fence(u8),
    Drop(u8),
    Release(u8, u64),
    Rot(u8),
    Restore(u8, u64),
    Prune,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..6, any::<bool>()).prop_map(|(file, both)| Step::Put(file, both)),
        1 => (0u8..6).prop_map(Step::Break),
        4 => (0u8..6, 1u64..9, any::<bool>()).prop_map(|(file, hlc, back)| Step::Commit(file, hlc, back)),
        1 => (0u8..6, 1u64..9).prop_map(|(file, hlc)| Step::Remove(file, hlc)),
        2 => (0u8..6, 1u64..9).prop_map(|(file, hlc)| Step::Confirm(file, hlc)),
        1 => (0u8..6).prop_map(Step::Fence),
        1 => (0u8..6).prop_map(Step::Drop),
        1 => (0u8..6, 1u64..9).prop_map(|(file, hlc)| Step::Release(file, hlc)),
        1 => (0u8..6).prop_map(Step::Rot),
        1 => (0u8..6, 1u64..9).prop_map(|(file, hlc)| Step::Restore(file, hlc)),
        1 => Just(Step::Prune),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

async fn take(mut fixture: Fixture, step: Step) -> Fixture {
    let node = Arc::clone(&fixture.node);
    match step {
        Step::Put(number, both) => {
            let chunks: &[ChunkId] = if both { &[C1, C2] } else { &[C1] };
            fixture.put(&file(number), chunks).await.unwrap();
        }
        Step::Break(number) => {
            let mut putting = node.start_put(alice());
            putting.header(file(number).announced(C1)).await.unwrap();
        }
        Step::Commit(number, hlc, write_back) => {
            let file = file(number);
            let order = CommitOrder { write_back, ..file.order(hlc) };
            let _ = node.commit(alice(), vec![(file.path, order)]).await.unwrap();
        }
        Step::Remove(number, hlc) => {
            let file = file(number);
            let mut order = file.order(hlc);
            order.version.content = Content::Tombstone;
            order.version.upload = UploadId::new([hlc as u8 + 100; 16]);
            let _ = node.commit(alice(), vec![(file.path, order)]).await.unwrap();
        }
        Step::Confirm(number, hlc) => {
            let file = file(number);
            let tag = file.order(hlc).version.tag;
            node.confirm(alice(), vec![(file.path, tag)]).await.unwrap();
        }
        Step::Fence(number) => {
            let file = file(number);
            let _ = node.fence(alice(), vec![(file.path, file.upload)]).await.unwrap();
        }
        Step::Drop(number) => {
            let file = file(number);
            let entry = (file.path, file.upload, DropEvidence::NeverCommitted);
            let _ = node.drop_uploads(alice(), vec![entry]).await.unwrap();
        }
        Step::Release(number, hlc) => {
            let file = file(number);
            let order = file.order(hlc);
            let order = ReleaseOrder {
                tag: order.version.tag,
                upload: file.upload,
                chunks: ChunkSet::EMPTY.with(C1),
                homes: order.sources,
            };
            let _ = node.release(alice(), file.path, order).await.unwrap();
        }
        Step::Rot(number) => {
            let file = file(number);
            let name = format!("{}.1", file.upload);
            for path in fixture.files("chunks").iter().filter(|path| path.ends_with(&name)) {
                std::fs::write(path, b"rotten").unwrap();
            }
            fixture.check(&file).await;
        }
        Step::Restore(number, hlc) => {
            let file = file(number);
            let version = file.order(hlc).version;
            let path = file.path.clone();
            let started = node.start_restore(alice(), path, &version, C2).await.unwrap();
            if let Ok(Some(mut restoring)) = started {
                let data = file.chunk(C2);
                restoring.block(0, data.clone(), Crc32c::of(&data)).await.unwrap();
                let _ = restoring.finish().await.unwrap();
            }
        }
        Step::Prune => {
            node.prune().await.unwrap();
        }
        Step::Reopen => {
            drop(node);
            fixture = fixture.reopen().await;
        }
    }
    fixture
}

#[test]
fn what_users_hold_is_what_a_recount_finds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let test = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let mut fixture = Fixture::with_grace(Duration::ZERO);
            for step in steps {
                let after = format!("{step:?}");
                fixture = take(fixture, step).await;
                assert_counted(&fixture, &after).await;
            }
            fixture = fixture.reopen().await;
            assert_counted(&fixture, "the last start").await;
        });
        Ok(())
    });
    test.unwrap();
}

#[tokio::test]
async fn chunks_of_another_content_are_not_committed_and_make_way_for_a_version_of_other_nodes() {
    for size in [9_000, 4 * 65536 + 44] {
        let fixture = Fixture::new();
        let prepared = File::new("a", 1, size);
        fixture.put(&prepared, &[C1, C2]).await.unwrap();
        let mut claimed = File::new("a", 2, 8);
        claimed.upload = prepared.upload;
        let order = claimed.order(5);
        let plain = vec![(claimed.path.clone(), order.clone())];
        let refused = fixture.node.commit(alice(), plain).await.unwrap();
        assert_eq!(refused, [Err(Refused::TagConflict)]);
        assert_counted(&fixture, "a refusal").await;
        let order = CommitOrder { write_back: true, ..order };
        let taken = fixture.node.commit(alice(), vec![(claimed.path.clone(), order)]).await;
        assert!(taken.unwrap()[0].is_ok());
        let record = fixture.node.committed(&alice(), &claimed.path, claimed.upload).unwrap();
        assert_eq!(record.unwrap().have, ChunkSet::EMPTY);
        assert_eq!(fixture.node.held_by(&alice()).bytes, 0);
        assert_eq!(fixture.files("chunks"), Vec::<PathBuf>::new());
        assert_counted(&fixture, "a version of other nodes").await;
    }
}

fn limited(limits: Limits) -> Fixture {
    Fixture::with(Duration::from_secs(900), Quotas::all(limits))
}

#[tokio::test]
async fn a_large_chunk_over_the_quota_is_refused_at_its_header() {
    let file = File::new("a", 1, LARGE);
    let length = file.chunk(C1).len() as u64;
    for limits in [
        Limits { bytes: Some(2 * length - 1), ..Limits::default() },
        Limits { staged: Some(2 * length - 1), ..Limits::default() },
    ] {
        let fixture = limited(limits);
        fixture.put(&file, &[C1]).await.unwrap();
        let mut putting = fixture.node.start_put(alice());
        let refused = putting.header(file.announced(C2)).await;
        assert!(matches!(refused, Err(NodeError::Quota(_))), "{limits:?}");
        drop(putting);
        assert_counted(&fixture, "a refusal").await;
        let again = fixture.put(&file, &[C1]).await.unwrap().remove(0);
        assert_eq!(again.result, Ok(()), "what is here is here");
        fixture.commit(&file, 5).await.unwrap();
        let version = file.order(5).version;
        let restoring = fixture.node.start_restore(alice(), file.path.clone(), &version, C2);
        assert!(matches!(restoring.await.unwrap(), Ok(Some(_))), "copies home are not refused");
    }
}

#[tokio::test]
async fn room_is_set_aside_while_a_chunk_comes_and_given_up_with_its_stream() {
    let (one, other) = (File::new("a", 1, LARGE), File::new("b", 2, LARGE));
    let length = one.chunk(C1).len() as u64;
    let fixture = limited(Limits { bytes: Some(2 * length), ..Limits::default() });
    let node = &fixture.node;
    let mut first = node.start_put(alice());
    first.header(one.announced(C1)).await.unwrap();
    let mut second = node.start_put(alice());
    second.header(other.announced(C1)).await.unwrap();
    let held = Held { bytes: 2 * length, files: 0, staged_bytes: 2 * length, uploads: 2 };
    assert_eq!(node.held_by(&alice()), held);
    let refused = node.start_put(alice()).header(one.announced(C2)).await;
    assert!(matches!(refused, Err(NodeError::Quota(_))));
    drop(first);
    assert_eq!(node.held_by(&alice()).uploads, 1);
    node.start_put(alice()).header(one.announced(C2)).await.unwrap();
    drop(second);
    assert_eq!(node.held_by(&alice()), Held::default());
}

#[tokio::test]
async fn blocks_that_are_kept_of_a_broken_stream_count_but_not_twice() {
    let file = File::new("a", 1, LARGE);
    let length = file.chunk(C1).len() as u64;
    let fixture = limited(Limits { staged: Some(length), ..Limits::default() });
    let mut putting = fixture.node.start_put(alice());
    putting.header(file.announced(C1)).await.unwrap();
    let block = file.chunk(C1).slice(..BLOCK_BYTES as usize);
    putting.block(C1, 0, block.clone(), Crc32c::of(&block)).await.unwrap();
    drop(putting);
    let key = ChunkKey { user: alice(), upload: file.upload, chunk: C1 };
    while fixture.node.store.durable_bytes(&key, &file.path) == 0 {
        tokio::task::yield_now().await;
    }
    let other = File::new("b", 2, LARGE);
    let refused = fixture.node.start_put(alice()).header(other.announced(C1)).await;
    assert!(matches!(refused, Err(NodeError::Quota(_))), "the kept block counts");
    let mut resumed = fixture.node.start_put(alice());
    let on = Announced { first_block: 1, ..file.announced(C1) };
    resumed.header(on).await.unwrap();
}

#[tokio::test]
async fn of_small_files_in_one_stream_each_is_judged_alone() {
    let fixture = limited(Limits { files: Some(2), ..Limits::default() });
    let old = File::new("old", 1, SMALL);
    fixture.put(&old, &[C1, C2]).await.unwrap();
    fixture.commit(&old, 5).await.unwrap();
    let files = [File::new("a", 2, SMALL), File::new("b", 3, SMALL), File::new("old", 4, SMALL)];
    let mut putting = fixture.node.start_put(alice());
    for file in &files {
        for chunk in [C1, C2] {
            putting.header(file.announced(chunk)).await.unwrap();
            let data = file.chunk(chunk);
            putting.block(chunk, 0, data.clone(), Crc32c::of(&data)).await.unwrap();
        }
    }
    let (outcomes, _) = putting.finish().await.unwrap();
    let taken: Vec<bool> = outcomes.iter().map(|outcome| outcome.result.is_ok()).collect();
    assert_eq!(taken, [true, true, false, false, true, true]);
    assert_counted(&fixture, "the stream").await;
    let refused = fixture.put(&files[1], &[C1, C2]).await;
    assert!(matches!(refused, Err(NodeError::Quota(_))), "nothing in it was taken");
}
