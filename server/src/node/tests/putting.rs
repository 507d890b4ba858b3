//! Chunks coming in and being read back.

use super::*;
use crate::telemetry::state::Uploads;

#[tokio::test]
async fn what_is_put_and_committed_is_read_back_after_a_restart() {
    for size in [0, 1, 3, SMALL, 4 * 65536, 4 * 65536 + 4, LARGE] {
        let fixture = Fixture::new();
        let file = File::new("a/b", 1, size);
        let outcomes = fixture.put(&file, &[C1, C2]).await.unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.result == Ok(())), "{size}");
        let on_disk = fixture.files("chunks").len();
        assert_eq!(on_disk, if size > 4 * 65536 { 2 } else { 0 }, "{size}");
        assert_eq!(fixture.commit(&file, 5).await, Ok(Ack { superseded: false }));

        let fixture = fixture.reopen().await;
        let stats = fixture.node.stat(alice(), vec![(file.path.clone(), None)], true).await;
        let current = stats.unwrap().remove(0).current.unwrap();
        assert_eq!(current.record.version.manifest(), Some(&file.manifest));
        assert_eq!(current.record.have.mask(), 0b11);
        for chunk in [C1, C2] {
            assert_eq!(fixture.read(&file, chunk).await.unwrap(), file.chunk(chunk), "{size}");
        }
        let missing = fixture.read(&file, ChunkId::C3).await;
        assert!(matches!(missing, Err(fetch::FetchError::NotFound(ChunkId::C3))));
    }
}

#[tokio::test]
async fn users_and_paths_do_not_see_each_others_uploads() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, SMALL);
    fixture.put(&file, &[C1]).await.unwrap();
    let node = &fixture.node;
    let bob = UserName::new("bob").unwrap();
    let other = FilePath::new("b").unwrap();
    assert!(node.fetch(&bob, &file.path, file.upload, C1, (0, 0)).await.is_err());
    assert!(node.fetch(&alice(), &other, file.upload, C1, (0, 0)).await.is_err());
    let status = node.upload_status(&bob, &file.path, file.upload).unwrap();
    assert!(status.have.is_empty());
}

#[tokio::test]
async fn putting_again_is_harmless_and_putting_other_content_is_refused() {
    for size in [SMALL, LARGE] {
        let fixture = Fixture::new();
        let file = File::new("a", 1, size);
        for _ in 0..2 {
            assert_eq!(fixture.put(&file, &[C1]).await.unwrap()[0].result, Ok(()));
        }
        let mut other = File::new("a", 2, size);
        other.upload = file.upload;
        assert_eq!(
            fixture.put(&other, &[C1]).await.unwrap()[0].result,
            Err(Refused::TagConflict.into())
        );
        let mut elsewhere = File::new("b", 1, size);
        elsewhere.upload = file.upload;
        let refused = fixture.put(&elsewhere, &[C1]).await.unwrap().remove(0);
        assert_eq!(refused.result, Err(Refused::TagConflict.into()));
        assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
        assert_eq!(fixture.files("staging").len(), 0);
    }
}

#[tokio::test]
async fn two_streams_with_different_content_for_one_chunk_do_not_mix() {
    let fixture = Fixture::new();
    let first = File::new("a", 1, LARGE);
    let mut second = File::new("a", 2, LARGE);
    second.upload = first.upload;
    let (a, b) = tokio::join!(fixture.put(&first, &[C1]), fixture.put(&second, &[C1]));
    let results = [a.unwrap().remove(0).result, b.unwrap().remove(0).result];
    let won = if results[0].is_ok() { &first } else { &second };
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(fixture.read(won, C1).await.unwrap(), won.chunk(C1));
    assert!(fixture.check(won).await.bad.is_empty());
}

#[tokio::test]
async fn bad_streams_fail_as_a_whole_and_leave_nothing() {
    let fixture = Fixture::new();
    for size in [SMALL, LARGE] {
        let file = File::new("a", 1, size);
        let block = file.chunk(C1).slice(..file.chunk(C1).len().min(BLOCK_BYTES as usize));
        let crc = Crc32c::of(&block);
        let start = || fixture.node.start_put(alice());

        let mut putting = start();
        assert!(putting.block(C1, 0, block.clone(), crc).await.is_err(), "no header");

        let mut putting = start();
        putting.header(file.announced(C1)).await.unwrap();
        assert!(putting.block(C2, 0, block.clone(), crc).await.is_err(), "another chunk");

        let mut putting = start();
        putting.header(file.announced(C1)).await.unwrap();
        let error = putting.finish().await.unwrap_err();
        let incomplete = WriteError::Incomplete { found: 0, expected: file.chunk(C1).len() as u64 };
        assert_eq!(error.to_string(), format!("chunk 1: {incomplete}"));

        let mut putting = start();
        putting.header(file.announced(C1)).await.unwrap();
        let wrong = Crc32c::new(crc.get() ^ 1);
        let taken = putting.block(C1, 0, block.clone(), wrong).await;
        assert!(taken.is_err() || putting.finish().await.is_err(), "wrong checksum");

        let mut dropped = start();
        dropped.header(file.announced(C1)).await.unwrap();
        let _ = dropped.block(C1, 0, block, crc).await;
        drop(dropped);
    }
    // What blocking threads still do ends before the node closes.
    let fixture = fixture.reopen().await;
    // Of the stream that broke, not contradicting itself, the block that came is kept.
    assert_eq!(fixture.files("staging").len(), 1);
    assert_eq!(fixture.files("chunks").len(), 0);
}

#[tokio::test]
async fn a_file_larger_than_the_disk_is_refused_at_its_header() {
    let fixture = Fixture::new();
    let huge = Manifest::new(
        Md5Digest::of(b""),
        1 << 50,
        [Crc32c::new(1); 4],
        "2026-11-22T10:00:00Z",
        Default::default(),
    );
    let announced = Announced { manifest: huge.unwrap(), ..File::new("a", 1, SMALL).announced(C1) };
    let refused = fixture.node.start_put(alice()).header(announced).await;
    assert!(matches!(refused, Err(NodeError::Full(_))));
}

#[tokio::test]
async fn many_small_chunks_go_in_one_stream() {
    let fixture = Fixture::new();
    let files: Vec<File> =
        (0..200).map(|i| File::new(&format!("f{i}"), i as u8, SMALL + i)).collect();
    let mut putting = fixture.node.start_put(alice());
    for file in &files {
        for chunk in [C1, C2] {
            putting.header(file.announced(chunk)).await.unwrap();
            let data = file.chunk(chunk);
            let crc = Crc32c::of(&data);
            putting.block(chunk, 0, data, crc).await.unwrap();
        }
    }
    let (outcomes, stats) = putting.finish().await.unwrap();
    assert_eq!((outcomes.len(), stats.len()), (400, 200));
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(fixture.node.uploads_by_state().await.unwrap().prepared, 200);
    let orders: Vec<_> = files.iter().map(|f| (f.path.clone(), f.order(7))).collect();
    let acks = fixture.node.commit(alice(), orders).await.unwrap();
    assert!(acks.iter().all(Result::is_ok));
    assert_eq!(fixture.node.uploads_by_state().await.unwrap(), Uploads::default());

    let limit = look::PageLimit { entries: 150, bytes: 1 << 20, full: true };
    let list = |after, limit| {
        fixture.node.list(alice(), Prefix::default(), after, limit, Vec::new(), Vec::push)
    };
    let first = list(None, limit).await.unwrap();
    assert_eq!(first.entries.len(), 150);
    assert_eq!(first.more_after.as_ref(), Some(&first.entries[149].path));
    let last = first.entries[149].path.as_str().to_owned();
    // The last page may be full, too; none that is empty follows it.
    for entries in [150, 50] {
        let limit = look::PageLimit { entries, ..limit };
        let second = list(Some(last.clone()), limit).await.unwrap();
        assert!(second.more_after.is_none() && second.entries.len() == 50);
    }
    let short = list(None, look::PageLimit { bytes: 1000, ..limit }).await.unwrap();
    assert!(short.more_after.is_some() && short.entries.len() < 10);
}
