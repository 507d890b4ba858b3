//! Journals as the database writes them, and then torn or damaged.

use super::*;
use crate::index::mark::Mark;
use crate::index::txn::Txn;
use crate::index::{Database, Index, IndexError, OpenError, Space, mark_of};
use crate::poison::Poison;
use bytes::Bytes;
use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::Crc32c;
use dfs_proto::manifest::{ChunkSum, Incarnation, UploadId};
use dfs_proto::name::{FilePath, UserName};
use tempfile::TempDir;

use crate::chunk_key::ChunkKey;
use crate::index::codec::ChunkEntry;
use crate::index::txn::Lookup;

const LIFE: Incarnation = Incarnation::new([7; 16]);
/// As large as a chunk in the index may be: most of a torn batch is the middle of one.
const DATA: usize = 64 << 10;

/// An index with three chunks, each in a group of its own.
struct Sample {
    dir: TempDir,
    /// Where the journal ended after each of them, and the mark then.
    ends: Vec<u64>,
    marks: Vec<Vec<u8>>,
}

fn key(number: u8) -> ChunkKey {
    let user = UserName::new("alice").unwrap();
    ChunkKey { user, upload: UploadId::new([number; 16]), chunk: ChunkId::C1 }
}

fn put(txn: &mut Txn<'_>, number: u8) -> Result<(), IndexError> {
    let data = vec![number; DATA];
    let sum = ChunkSum { length: DATA as u64, crc: Crc32c::of(&data) };
    let path = FilePath::new("a").unwrap();
    txn.put_chunk(&key(number), &ChunkEntry { path, sum, inline: Some(Bytes::from(data)) });
    Ok(())
}

impl Sample {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut sample = Self { dir, ends: Vec::new(), marks: Vec::new() };
        Index::create(&sample.index(), LIFE).unwrap();
        let index = Index::open(&sample.index(), LIFE, Poison::default()).unwrap();
        for number in 1..=3 {
            index.update(move |txn| put(txn, number)).await.unwrap();
            sample.ends.push(read(&sample.journal()).unwrap().end);
            sample.marks.push(fs::read(mark_of(&sample.index())).unwrap());
        }
        index.close().await;
        sample
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    fn journal(&self) -> PathBuf {
        list(&self.index()).unwrap().pop().unwrap()
    }

    /// Takes the mark back to where it was when `number` chunks were durable.
    fn only_durable(&self, number: usize) {
        fs::write(mark_of(&self.index()), &self.marks[number - 1]).unwrap();
    }

    fn data(&self) -> Vec<u8> {
        let length = usize::try_from(self.ends[2]).unwrap();
        let mut data = fs::read(self.journal()).unwrap();
        data.truncate(length);
        data
    }

    /// Writes a journal that goes on with zeros, as a fresh one does.
    fn write(&self, data: &[u8]) {
        fs::write(self.journal(), data).unwrap();
        let file = OpenOptions::new().write(true).open(self.journal()).unwrap();
        file.set_len(data.len() as u64 + 100_000).unwrap();
    }

    /// Opens the index and closes it again: its writer's thread would keep it locked for a moment.
    async fn open(&self) -> Result<Vec<u8>, OpenError> {
        let index = Index::open(&self.index(), LIFE, Poison::default())?;
        let view = index.view();
        let there = (1..=3).filter(|number| view.chunk(&key(*number)).unwrap().is_some()).collect();
        drop(view);
        index.close().await;
        Ok(there)
    }
}

#[tokio::test]
async fn a_torn_end_that_nobody_was_answered_for_is_cut_off() {
    let sample = Sample::new().await;
    let whole = sample.data();
    let (start, end) = (sample.ends[1] as usize, whole.len());
    let zeroed = |from: usize, to: usize| {
        let mut data = whole.clone();
        data[from..to].fill(0);
        data
    };
    let mut garbled = whole.clone();
    garbled[start + 40..].iter_mut().step_by(512).for_each(|byte| *byte ^= 0x5a);
    let torn = [
        ("cut in the value", whole[..start + DATA / 2].to_vec()),
        ("cut in the first entry", whole[..start + 5].to_vec()),
        ("cut in the last one", whole[..end - 3].to_vec()),
        ("the first page is missing", zeroed(start, start + 4096)),
        ("a page of the value is missing", zeroed(start + DATA / 2, start + DATA / 2 + 4096)),
        ("the last page is missing", zeroed(end - 100, end)),
        ("pages are not what was written", garbled),
    ];
    for (what, data) in torn {
        sample.write(&data);
        sample.only_durable(2);
        let found = sample.open().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found, [1, 2], "{what}");
        assert_eq!(sample.open().await.unwrap(), [1, 2], "{what}, opened once more");
    }
    // It may as well have come through whole.
    sample.write(&whole);
    sample.only_durable(2);
    assert_eq!(sample.open().await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn the_loss_of_what_was_acknowledged_is_noticed() {
    let sample = Sample::new().await;
    let whole = sample.data();
    for number in [1, 2, 3] {
        for at in [sample.ends[number - 1] as usize - 9, sample.ends[number - 1] as usize - DATA] {
            let mut data = whole.clone();
            data[at] ^= 1;
            sample.write(&data);
            sample.only_durable(3);
            for round in 0..2 {
                let refused = sample.open().await.err();
                let refused = refused.unwrap_or_else(|| panic!("{number} at {at} is damaged"));
                assert!(refused.to_string().contains("made durable"), "{round}: {refused}");
            }
            assert_eq!(fs::read(sample.journal()).unwrap()[..whole.len()], data, "left alone");
        }
    }
    sample.write(&whole[..sample.ends[1] as usize]);
    assert!(sample.open().await.is_err(), "the end is missing");
    sample.write(&[]);
    assert!(sample.open().await.is_err(), "all is missing");
    fs::remove_file(mark_of(&sample.index())).unwrap();
    assert!(sample.open().await.unwrap_err().to_string().contains("its mark"));
}

#[tokio::test]
async fn an_index_is_compared_with_its_mark_also_where_the_journal_says_nothing() {
    let sample = Sample::new().await;
    let database = Database::builder(&sample.index()).open().unwrap();
    for space in Space::ALL {
        let space = database.keyspace(space.name(), || space.options()).unwrap();
        space.rotate_memtable_and_wait().unwrap();
    }
    drop(database);
    // All of it is in the tables now, and the database has begun a new journal.
    fs::remove_file(sample.journal()).unwrap();
    fs::write(sample.index().join("999.jnl"), [0; 4096]).unwrap();
    assert_eq!(sample.open().await.unwrap(), [1, 2, 3]);
    let (mark, _) = Mark::open(&mark_of(&sample.index())).unwrap();
    mark.set(4).unwrap();
    let refused = sample.open().await;
    assert!(matches!(refused, Err(OpenError::Lost { found: 3, expected: 4, .. })), "{refused:?}");
}

#[tokio::test]
async fn every_damaged_byte_is_found() {
    let sample = Sample::new().await;
    let whole = sample.data();
    let start = sample.ends[0] as usize;
    let path = sample.dir.path().join("1.jnl");
    let second = sample.ends[1] as usize;
    // All of what is around the values, and some of what is in them. Only what the next batch
    // shows to be wrong is not found in the last one: that its number is too large.
    let around = |at: &usize| {
        let from_start = (*at - start) % (second - start);
        let around = !(200..=DATA).contains(&from_start) || at.is_multiple_of(999);
        around && !(second + 5..second + 13).contains(at)
    };
    for at in (start..whole.len()).filter(around) {
        let mut data = whole.clone();
        data[at] ^= 0x10;
        fs::write(&path, &data).unwrap();
        let found = read(&path).unwrap();
        let is_number = (start + 5..start + 13).contains(&at);
        let end = if is_number { second } else { at };
        assert!(found.torn && found.end <= end as u64, "byte {at}: {found:?}");
    }
    fs::write(&path, &whole).unwrap();
    let sound = Sound { end: whole.len() as u64, group: Some(3), torn: false };
    assert_eq!(read(&path).unwrap(), sound);
}

#[tokio::test]
async fn a_journal_that_is_not_the_newest_must_be_whole() {
    let sample = Sample::new().await;
    let whole = sample.data();
    let newer = sample.index().join("999.jnl");
    fs::copy(sample.journal(), &newer).unwrap();
    let first = list(&sample.index()).unwrap().swap_remove(0);
    assert!(check(&sample.index(), 3).is_ok());
    fs::write(first, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(check(&sample.index(), 3), Err(JournalError::Damaged(_))));
}

#[test]
fn any_bytes_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1.jnl");
    for bytes in [&[][..], &[0; 50], &[1], &[1; 99], &[4; 99], &[255; 40]] {
        fs::write(&path, bytes).unwrap();
        let torn = bytes.iter().any(|byte| *byte != 0);
        assert_eq!(read(&path).unwrap(), Sound { end: 0, group: None, torn });
    }
}
