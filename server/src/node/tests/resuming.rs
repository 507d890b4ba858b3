//! Chunks whose stream broke, and streams that go on with them.

use super::*;
use crate::store::room::NoRoom;

/// Chunks of this file have four blocks, the last one short.
const LONG: usize = 4 * (3 << 20) + 4 * 77;

fn block(file: &File, chunk: ChunkId, index: u64) -> (Bytes, Crc32c) {
    let data = file.chunk(chunk);
    let range = dfs_proto::chunk::block_range(data.len() as u64, index);
    let block = data.slice(range.start as usize..range.end as usize);
    let crc = Crc32c::of(&block);
    (block, crc)
}

impl Fixture {
    /// Sends these blocks of a chunk; the stream may end or break after them.
    async fn send(
        &self,
        file: &File,
        chunk: ChunkId,
        blocks: std::ops::Range<u64>,
    ) -> Result<put::Putting, NodeError> {
        let mut putting = self.node.start_put(alice());
        let first_block = blocks.start;
        putting.header(Announced { first_block, ..file.announced(chunk) }).await?;
        for index in blocks {
            let (data, crc) = block(file, chunk, index);
            putting.block(chunk, index, data, crc).await?;
        }
        Ok(putting)
    }

    /// Sends these blocks and breaks the stream; waits until what has come is kept.
    async fn break_off(&self, file: &File, chunk: ChunkId, blocks: std::ops::Range<u64>) {
        drop(self.send(file, chunk, blocks).await.unwrap());
        self.settle().await;
    }

    async fn settle(&self) {
        self.node.tasks.close();
        self.node.tasks.wait().await;
        self.node.tasks.reopen();
    }

    fn durable(&self, file: &File) -> [u64; 4] {
        self.node.upload_status(&alice(), &file.path, file.upload).unwrap().durable_bytes
    }

    fn staged(&self) -> usize {
        self.files("staging").len()
    }
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_chunk_goes_on_where_its_stream_broke() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LONG);
    fixture.break_off(&file, C1, 0..1).await;
    assert_eq!(fixture.durable(&file), [MIB, 0, 0, 0]);
    fixture.break_off(&file, C1, 1..3).await;
    assert_eq!(fixture.durable(&file), [3 * MIB, 0, 0, 0]);
    let other = FilePath::new("b").unwrap();
    let elsewhere = fixture.node.upload_status(&alice(), &other, file.upload).unwrap();
    assert_eq!(elsewhere.durable_bytes, [0; 4]);
    let put = fixture.send(&file, C1, 3..4).await.unwrap().finish().await.unwrap();
    assert_eq!(put.0[0].result, Ok(()));
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
    assert!(fixture.check(&file).await.bad.is_empty());
    assert_eq!(fixture.staged(), 0);
}

#[tokio::test]
async fn a_stream_that_ends_too_soon_leaves_what_has_come() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LONG);
    let put = fixture.send(&file, C1, 0..2).await.unwrap().finish().await;
    let short =
        |error| matches!(error, NodeError::Data { source: WriteError::Incomplete { .. }, .. });
    assert!(put.is_err_and(short));
    fixture.settle().await;
    assert_eq!(fixture.durable(&file), [2 * MIB, 0, 0, 0]);
}

#[tokio::test]
async fn a_chunk_goes_on_after_a_restart_and_from_further_back() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LONG);
    fixture.break_off(&file, C1, 0..4).await;
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.durable(&file), [file.chunk(C1).len() as u64, 0, 0, 0]);
    fixture.break_off(&file, C1, 1..2).await;
    assert_eq!(fixture.durable(&file), [2 * MIB, 0, 0, 0], "what came later counts no more");
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.durable(&file), [2 * MIB, 0, 0, 0], "nor after a restart");
    let put = fixture.send(&file, C1, 2..4).await.unwrap().finish().await.unwrap();
    assert_eq!(put.0[0].result, Ok(()));
    assert!(fixture.check(&file).await.bad.is_empty());
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
}

#[tokio::test]
async fn a_chunk_finds_no_room_for_its_rest_and_goes_on_when_there_is_some() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LONG);
    fixture.break_off(&file, C1, 0..2).await;

    let fixture = fixture.reopen_keeping(Some(u64::MAX)).await;
    let refused = fixture.send(&file, C1, 2..2).await.err().expect("it is refused");
    let rest = file.chunk(C1).len() as u64 - 2 * MIB;
    let full = NoRoom::Bytes { needed: rest, free: 0 };
    assert!(matches!(refused, NodeError::Full(found) if found == full), "{refused}");
    fixture.settle().await;
    assert_eq!(fixture.durable(&file), [2 * MIB, 0, 0, 0]);

    let fixture = fixture.reopen().await;
    let put = fixture.send(&file, C1, 2..4).await.unwrap().finish().await.unwrap();
    assert_eq!(put.0[0].result, Ok(()));
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
}

#[tokio::test]
async fn blocks_that_are_not_here_are_refused() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LONG);
    fixture.break_off(&file, C1, 0..1).await;
    let not_staged = |result: Result<put::Putting, NodeError>| async {
        let error = match result {
            Ok(putting) => putting.finish().await.err(),
            Err(error) => Some(error),
        };
        matches!(error, Some(NodeError::Data { source: WriteError::NotStaged { .. }, .. }))
    };
    assert!(not_staged(fixture.send(&file, C1, 2..4).await).await);
    assert!(not_staged(fixture.send(&file, C2, 1..2).await).await);
    let mut changed = File::new("a", 2, LONG);
    changed.upload = file.upload;
    assert!(not_staged(fixture.send(&changed, C1, 1..2).await).await);
    let mut moved = File::new("b", 1, LONG);
    moved.upload = file.upload;
    assert!(not_staged(fixture.send(&moved, C1, 1..2).await).await);
    let small = File::new("small", 3, SMALL);
    assert!(not_staged(fixture.send(&small, C1, 1..1).await).await);
    fixture.settle().await;
    assert_eq!(fixture.durable(&file), [MIB, 0, 0, 0], "what is here stays");
}

#[tokio::test]
async fn blocks_of_another_content_never_make_a_chunk() {
    let fixture = Fixture::new();
    let file = File::new("a", 1, LONG);
    let mut other = File::new("a", 2, LONG);
    (other.upload, other.manifest) = (file.upload, file.manifest.clone());
    fixture.break_off(&other, C1, 0..2).await;
    let put = fixture.send(&file, C1, 2..4).await.unwrap().finish().await;
    let wrong =
        |error| matches!(error, NodeError::Data { source: WriteError::Checksum { .. }, .. });
    assert!(put.is_err_and(wrong));
    fixture.settle().await;
    assert_eq!((fixture.durable(&file), fixture.staged()), ([0; 4], 0));
    fixture.put(&file, &[C1]).await.unwrap();
    assert_eq!(fixture.read(&file, C1).await.unwrap(), file.chunk(C1));
}

#[tokio::test]
async fn what_is_kept_goes_when_nobody_may_go_on() {
    let fixture = Fixture::new();
    let user = alice();

    let fenced = File::new("a", 1, LONG);
    fixture.break_off(&fenced, C1, 0..2).await;
    let under_way = fixture.send(&fenced, C2, 0..2).await.unwrap();
    let uploads = vec![(fenced.path.clone(), fenced.upload)];
    assert_eq!(fixture.node.fence(user, uploads).await.unwrap(), [Ok(FenceAnswer::Fenced)]);
    assert_eq!(fixture.durable(&fenced), [0; 4]);
    drop(under_way);
    fixture.settle().await;
    assert_eq!(fixture.staged(), 0, "what comes after a fence is not kept");

    let whole = File::new("b", 2, LONG);
    fixture.break_off(&whole, C1, 0..2).await;
    fixture.put(&whole, &[C1]).await.unwrap();
    assert_eq!(fixture.staged(), 0, "it came whole another way");

    let committed = File::new("c", 3, LONG);
    fixture.put(&committed, &[C1]).await.unwrap();
    fixture.break_off(&committed, C2, 0..2).await;
    fixture.commit(&committed, 5).await.unwrap();
    assert_eq!(fixture.staged(), 0, "its client sends no more");
}
