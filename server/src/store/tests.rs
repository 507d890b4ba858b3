use super::format::Header;
use super::reader::ReadError;
use super::writer::{ChunkWriter, WriteError};
use super::*;
use bytes::Bytes;
use dfs_proto::chunk::BLOCK_BYTES;
use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::manifest::Manifest;
use dfs_proto::name::FilePath;
use proptest::prelude::*;
use std::os::unix::fs::MetadataExt;
use tempfile::TempDir;

const BLOCK: usize = BLOCK_BYTES as usize;

fn store() -> (TempDir, ChunkStore) {
    let dir = tempfile::tempdir().unwrap();
    ChunkStore::create(dir.path()).unwrap();
    let store = ChunkStore::open(dir.path(), Duration::from_secs(3600)).unwrap();
    (dir, store)
}

/// The content of chunk 2 of a file, and the header that announces it.
fn chunk(length: usize) -> (Header, Bytes) {
    let data: Bytes = (0..length).map(|i| (i * 7 % 251) as u8).collect();
    let mut crcs = [Crc32c::of(&data); 4];
    if length == 0 {
        crcs = [Crc32c::default(); 4];
    }
    let manifest = Manifest::new(
        Md5Digest::of(&data),
        4 * length as u64,
        crcs,
        "2026-11-22T10:00:00Z",
        Default::default(),
    );
    let key = ChunkKey {
        user: UserName::new("alice").unwrap(),
        upload: UploadId::new([0xab; 16]),
        chunk: ChunkId::C2,
    };
    let header = Header {
        key,
        path: FilePath::new("a/ü").unwrap(),
        manifest: manifest.unwrap(),
        written_ms: 1,
    };
    (header, data)
}

fn blocks(data: &Bytes) -> Vec<Bytes> {
    (0..data.len()).step_by(BLOCK).map(|at| data.slice(at..data.len().min(at + BLOCK))).collect()
}

fn fill(writer: &mut ChunkWriter, data: &Bytes) {
    for (block, index) in blocks(data).iter().zip(0..) {
        writer.append(index, block, Crc32c::of(block)).unwrap();
    }
}

fn stored(store: &ChunkStore, length: usize) -> (Header, Bytes) {
    let (header, data) = chunk(length);
    let mut writer = store.start(header.clone()).unwrap();
    fill(&mut writer, &data);
    store.publish(writer.finish().unwrap()).unwrap();
    (header, data)
}

fn files(dir: &TempDir, name: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.path().join(name)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn verify(store: &ChunkStore, header: &Header) -> Result<(), ReadError> {
    store.open_chunk(&header.key, header.sum())?.verify()
}

#[test]
fn chunks_come_back_block_by_block() {
    for length in [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
        let (dir, store) = store();
        let (header, data) = stored(&store, length);
        assert_eq!(files(&dir, STAGING), Vec::<String>::new());
        let reader = store.open_chunk(&header.key, header.sum()).unwrap();
        for (block, index) in blocks(&data).into_iter().zip(0..) {
            let crc = Crc32c::of(&block);
            assert_eq!(reader.read_block(index).unwrap(), (block, crc));
        }
        let end = blocks(&data).len() as u64;
        assert!(matches!(reader.read_block(end), Err(ReadError::NoBlock(_))));
        assert!(reader.read_block(u64::MAX).is_err());
        reader.verify().unwrap();
    }
}

#[test]
fn the_place_of_a_chunk_is_its_users_and_its_own() {
    let (dir, store) = store();
    stored(&store, 9);
    let expected = format!("chunks/alice/ab/{}.2", "ab".repeat(16));
    assert!(dir.path().join(expected).is_file());
}

#[test]
fn a_chunk_that_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let (header, data) = chunk(2 * BLOCK + 5);
    let all = blocks(&data);
    let crc = |i: usize| Crc32c::of(&all[i]);
    let (dir, store) = store();
    let start = || store.start(header.clone()).unwrap();

    let mut flipped = all[0].to_vec();
    flipped[77] ^= 1;
    assert!(matches!(
        start().append(0, &flipped.clone().into(), crc(0)),
        Err(WriteError::Block { index: 0, why: "does not match its checksum" })
    ));
    assert!(matches!(start().append(1, &all[1], crc(1)), Err(WriteError::Block { .. })));
    let half = all[0].slice(..9);
    assert!(matches!(
        start().append(0, &half, Crc32c::of(&half)),
        Err(WriteError::Block { why: "has the wrong length", .. })
    ));

    let mut writer = start();
    writer.append(0, &all[0], crc(0)).unwrap();
    assert!(writer.append(0, &all[0], crc(0)).is_err(), "the same block again");
    assert!(matches!(writer.finish(), Err(WriteError::Incomplete { .. })));

    let mut writer = start();
    fill(&mut writer, &data);
    assert!(writer.append(3, &all[2], crc(2)).is_err(), "one more than the chunk has");
    drop(writer);

    // Blocks that match their own checksums but not the manifest.
    let mut writer = start();
    let flipped = Bytes::from(flipped);
    writer.append(0, &flipped, Crc32c::of(&flipped)).unwrap();
    writer.append(1, &all[1], crc(1)).unwrap();
    writer.append(2, &all[2], crc(2)).unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Checksum { .. })));

    assert_eq!(files(&dir, STAGING), Vec::<String>::new());
    assert_eq!(files(&dir, CHUNKS), Vec::<String>::new());
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let (dir, store) = store();
    let (header, data) = chunk(BLOCK);
    let mut writer = store.start(header.clone()).unwrap();
    assert_eq!(files(&dir, STAGING).len(), 1);
    fill(&mut writer, &data);
    drop(writer);
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());

    let mut writer = store.start(header.clone()).unwrap();
    fill(&mut writer, &data);
    drop(writer.finish().unwrap());
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());
    assert!(matches!(verify(&store, &header), Err(ReadError::Missing)));
}

#[test]
fn a_missing_or_cut_file_is_a_bad_chunk() {
    let (_dir, store) = store();
    let (header, _) = stored(&store, BLOCK + 9);
    let path = store.path(&header.key);
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, 19, 20, 4095, 4096, 5000, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = verify(&store, &header).unwrap_err();
        assert!(error.is_bad_chunk(), "{length}: {error}");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(verify(&store, &header).unwrap_err().is_bad_chunk());
    fs::remove_file(&path).unwrap();
    assert!(verify(&store, &header).unwrap_err().is_bad_chunk());
    fs::create_dir(&path).unwrap();
    assert!(verify(&store, &header).unwrap_err().is_bad_chunk(), "not even a file");
}

#[test]
fn another_chunks_file_is_a_bad_chunk() {
    let (_dir, store) = store();
    let (header, _) = stored(&store, 100);
    let other = ChunkKey { chunk: ChunkId::C3, ..header.key.clone() };
    fs::rename(store.path(&header.key), store.path(&other)).unwrap();
    let error = store.open_chunk(&other, header.sum()).err().unwrap();
    assert!(matches!(error, ReadError::Foreign));
}

#[test]
fn being_out_of_descriptors_is_no_bad_chunk() {
    for code in [23, 24, 12] {
        assert!(!ReadError::Io(io::Error::from_raw_os_error(code)).is_bad_chunk());
    }
    assert!(ReadError::Io(io::Error::from_raw_os_error(5)).is_bad_chunk(), "EIO is");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_flipped_bit_is_found(at: prop::sample::Index, bit in 0u32..8) {
        let (_dir, store) = store();
        let (header, data) = stored(&store, 1000);
        let path = store.path(&header.key);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        match verify(&store, &header) {
            Err(error) => prop_assert!(error.is_bad_chunk(), "{}", error),
            // The padding behind the header and two spare bytes carry nothing.
            Ok(()) => {
                let reader = store.open_chunk(&header.key, header.sum()).unwrap();
                prop_assert_eq!(reader.read_block(0).unwrap().0, data);
            }
        }
    }
}

#[test]
fn the_sweep_puts_aside_what_nobody_knows() {
    let (dir, store) = store();
    let (known, _) = stored(&store, 10);
    let unknown = ChunkKey { chunk: ChunkId::C4, ..known.key.clone() };
    fs::copy(store.path(&known.key), store.path(&unknown)).unwrap();
    fs::write(dir.path().join("staging/x.1.2"), "half").unwrap();
    fs::write(dir.path().join("chunks/alice/ab/notes"), "").unwrap();
    fs::write(dir.path().join("chunks/alice/readme"), "").unwrap();
    fs::create_dir(dir.path().join("chunks/Not A User")).unwrap();
    let misplaced = dir.path().join("chunks/alice/00");
    fs::create_dir(&misplaced).unwrap();
    fs::copy(store.path(&known.key), misplaced.join(file_name(&known.key))).unwrap();

    let swept = store.sweep(42, |key| Ok::<_, io::Error>(*key == known.key)).unwrap();
    assert_eq!(swept, Swept { staged: 1, unknown: 1, foreign: 4 });
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());
    assert!(!store.path(&unknown).exists());
    assert_eq!(files(&dir, QUARANTINE), [format!("alice.{}.4.42", "ab".repeat(16))]);
    verify(&store, &known).unwrap();
}

#[test]
fn a_bad_chunk_goes_to_quarantine_and_a_good_one_may_take_its_place() {
    let (dir, store) = store();
    let (header, _) = stored(&store, 10);
    store.quarantine(&header.key, 42).unwrap();
    store.quarantine(&header.key, 43).unwrap();
    assert_eq!(files(&dir, QUARANTINE), [format!("alice.{}.2.42", "ab".repeat(16))]);
    assert!(matches!(verify(&store, &header), Err(ReadError::Missing)));
    stored(&store, 10);
    verify(&store, &header).unwrap();
    store.remove(&header.key).unwrap();
    store.remove(&header.key).unwrap();
    assert!(matches!(verify(&store, &header), Err(ReadError::Missing)));
}

/// Writes the first blocks of a chunk and goes no further.
fn begun(store: &ChunkStore, header: &Header, data: &Bytes, count: usize) -> ChunkWriter {
    let mut writer = store.start(header.clone()).unwrap();
    for (block, index) in blocks(data).iter().zip(0..).take(count) {
        writer.append(index, block, Crc32c::of(block)).unwrap();
    }
    writer
}

fn swept(dir: &TempDir, now_ms: u64) -> (ChunkStore, Swept) {
    let store = ChunkStore::open(dir.path(), Duration::from_secs(3600)).unwrap();
    let swept = store.sweep(now_ms, |_| Ok::<_, io::Error>(false)).unwrap();
    (store, swept)
}

fn now_ms() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

#[test]
fn after_a_crash_the_blocks_that_were_synced_are_kept() {
    let (dir, store) = store();
    let (header, data) = chunk(34 * BLOCK + 5);
    // As a process leaves it that is killed: 33 blocks written, 32 of them synced.
    let mut writer = begun(&store, &header, &data, 33);
    writer.end_sync().unwrap();
    std::mem::forget(writer);
    std::mem::forget(begun(&store, &header, &data, 1));
    let (store, found) = swept(&dir, now_ms());
    assert_eq!((found.staged, found.foreign), (1, 0), "one of them is of no use");
    assert_eq!(store.durable_bytes(&header.key, &header.path), 32 << 20);
    let (store, found) = swept(&dir, now_ms());
    assert_eq!(found.staged, 0, "it stays over the next start");

    let mut writer = store.resume(&header, 32).unwrap();
    for (block, index) in blocks(&data).iter().zip(0..).skip(32) {
        writer.append(index, block, Crc32c::of(block)).unwrap();
    }
    store.publish(writer.finish().unwrap()).unwrap();
    verify(&store, &header).unwrap();
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());
}

#[test]
fn what_is_kept_goes_by_age() {
    let (dir, store) = store();
    let (header, data) = chunk(3 * BLOCK);
    let hour = 3_600_000;
    store.keep(begun(&store, &header, &data, 2), 1000).unwrap();
    assert_eq!(files(&dir, STAGING), [format!("{}.alice.partial", file_name(&header.key))]);
    assert_eq!(store.expire(1000 + hour).unwrap(), 0);
    assert_eq!(store.durable_bytes(&header.key, &header.path), 2 << 20);
    assert_eq!(store.expire(1001 + hour).unwrap(), 1);
    assert_eq!(store.durable_bytes(&header.key, &header.path), 0);
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());

    store.keep(begun(&store, &header, &data, 2), 1000).unwrap();
    let (_, found) = swept(&dir, now_ms() + 2 * hour);
    assert_eq!(found.staged, 1);
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());
}

#[test]
fn of_two_that_broke_the_longer_one_is_kept() {
    let (dir, store) = store();
    let (header, data) = chunk(4 * BLOCK);
    let durable = || store.durable_bytes(&header.key, &header.path);
    for (count, expected) in [(0, 0), (2, 2), (1, 2), (3, 3)] {
        store.keep(begun(&store, &header, &data, count), 1000).unwrap();
        assert_eq!(durable(), expected << 20, "{count}");
    }
    let first = store.resume(&header, 3).unwrap();
    let second = store.resume(&header, 3).err().unwrap();
    assert!(matches!(second, WriteError::NotStaged { staged: 0, .. }), "one at a time");
    drop(first);
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());
}

/// A store of the same directory for whose chunks the disk has no room.
fn full(dir: &TempDir) -> ChunkStore {
    let store = ChunkStore::open(dir.path(), Duration::from_secs(3600)).unwrap();
    let store = store.keeping(Some(u64::MAX));
    store.sweep(now_ms(), |_| Ok::<_, io::Error>(false)).unwrap();
    store
}

/// Bytes that a file takes on the disk.
fn taken(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn what_is_kept_stays_where_the_disk_has_no_room_for_the_rest() {
    let (dir, store) = store();
    let (header, data) = chunk(8 * BLOCK);
    store.keep(begun(&store, &header, &data, 2), 1000).unwrap();
    let path = store.partial_path(&header.key);
    let kept = taken(&path);

    let store = full(&dir);
    for first_block in [2, 1] {
        let refused = store.resume(&header, first_block).err().expect("it is refused");
        assert!(matches!(refused, WriteError::Full { needed: n } if n >= 6 << 20), "{refused}");
        assert_eq!(store.durable_bytes(&header.key, &header.path), 2 << 20);
        assert_eq!(taken(&path), kept, "nothing was taken of what is kept free");
    }

    let (store, _) = swept(&dir, now_ms());
    let mut writer = store.resume(&header, 2).unwrap();
    for (block, index) in blocks(&data).iter().zip(0..).skip(2) {
        writer.append(index, block, Crc32c::of(block)).unwrap();
    }
    store.publish(writer.finish().unwrap()).unwrap();
    verify(&store, &header).unwrap();
}

#[test]
fn what_is_whole_but_for_its_name_needs_no_more_room() {
    let (dir, store) = store();
    let (header, data) = chunk(2 * BLOCK);
    store.keep(begun(&store, &header, &data, 2), 1000).unwrap();
    let store = full(&dir);
    store.publish(store.resume(&header, 2).unwrap().finish().unwrap()).unwrap();
    verify(&store, &header).unwrap();
}

#[test]
fn room_is_looked_for_where_it_is_taken() {
    let (dir, store) = store();
    let store = store.keeping(Some(u64::MAX));
    let (header, _) = chunk(2 * BLOCK);
    let refused = store.start(header).err().expect("it is refused");
    assert!(matches!(refused, WriteError::Full { .. }), "{refused}");
    assert_eq!(files(&dir, STAGING), Vec::<String>::new());
}

#[test]
fn an_unfinished_file_that_is_damaged_is_not_kept() {
    for at in [3, 30, 4096 + 4 * BLOCK] {
        let (dir, store) = store();
        let (header, data) = chunk(4 * BLOCK);
        store.keep(begun(&store, &header, &data, 2), 1000).unwrap();
        let path = store.partial_path(&header.key);
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len().min(at + 4);
        bytes[at..end].fill(0);
        fs::write(&path, bytes).unwrap();
        let (store, found) = swept(&dir, now_ms());
        assert_eq!(found.staged, 1, "offset {at}");
        assert_eq!(store.durable_bytes(&header.key, &header.path), 0);
    }
}

#[test]
fn a_block_that_was_damaged_while_it_was_kept_is_not_acknowledged() {
    let (dir, store) = store();
    let (header, data) = chunk(3 * BLOCK);
    store.keep(begun(&store, &header, &data, 2), 1000).unwrap();
    let path = store.partial_path(&header.key);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + BLOCK + 7] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut writer = store.resume(&header, 2).unwrap();
    let last = &blocks(&data)[2];
    writer.append(2, last, Crc32c::of(last)).unwrap();
    let refused = writer.finish().err().expect("it is refused");
    assert!(matches!(refused, WriteError::Block { index: 1, .. }), "{refused}");
    assert_eq!(files(&dir, STAGING), Vec::<String>::new(), "nobody goes on with it");
}

#[test]
fn a_directory_that_cannot_be_synced_is_a_failed_sync() {
    // The one thing at hand that can be opened but not synced.
    let dir = File::open("/dev/null").unwrap();
    let failed = staging::sync_entries(&dir).unwrap_err();
    assert!(matches!(failed, WriteError::Sync(_)), "{failed:?}");
}
