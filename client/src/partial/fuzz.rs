//! Partial files from any bytes.

use std::cell::RefCell;

use dfs_proto::digest::Md5Digest;
use dfs_proto::manifest::{Content, UploadId};
use dfs_proto::tag::{Hlc, Tag};

use super::*;

thread_local! {
    /// One file for all of it: making one takes longer than all the rest.
    static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Five bytes say what happens to the file; the others are the content. Whatever happens, what
/// counts as come is what the manifest says.
pub(crate) fn partial(bytes: &[u8]) -> bool {
    let [chunks, kind, low, high, value, ref content @ ..] = *bytes else { return false };
    let file = FILE.with_borrow_mut(|file| match file {
        Some(file) => file.try_clone(),
        None => Ok(file.insert(tempfile::tempfile()?).try_clone()?),
    });
    let file = file.expect("there can be a temporary file");
    file.set_len(0).expect("it can be emptied");
    let partial = Partial { path: PathBuf::new(), file };
    let (version, manifest) = version(content);
    let size = manifest.size();
    let begin = || partial.begin(&version, &manifest).expect("it can be read");
    assert_eq!(begin(), [Prefix::default(); 4], "nothing has come");

    let sent = |chunk: &ChunkId| chunks & (1 << chunk.index()) != 0;
    let sent: Vec<ChunkId> = ChunkId::ALL.into_iter().filter(sent).collect();
    for chunk in &sent {
        if let Some(block) = part(content, *chunk).filter(|block| !block.is_empty()) {
            let at = chunk.range(size).start;
            Partial::write(&partial.file, size, at, block).expect("it can be written");
        }
    }
    let come = begin();
    for chunk in ChunkId::ALL {
        let bytes = if sent.contains(&chunk) { chunk.length(size) } else { 0 };
        assert_eq!(come[chunk.index()].bytes, bytes, "chunk {chunk}");
    }

    let length = partial.file.metadata().expect("it is open").len();
    let at = u64::from(u16::from_be_bytes([high, low])) % length;
    match kind % 4 {
        0 => partial.file.write_all_at(&[value], at),
        1 => partial.file.set_len(at),
        2 => partial.file.write_all_at(content, at),
        _ => partial.file.write_all_at(&[0xff; 8], at),
    }
    .expect("it can be damaged");
    for chunk in ChunkId::ALL {
        let Prefix { bytes, crc, .. } = begin()[chunk.index()];
        assert!(bytes == 0 || bytes == chunk.length(size), "chunk {chunk}");
        if bytes > 0 {
            assert_eq!(crc, manifest.chunk(chunk).crc);
            let mut found = vec![0; usize::try_from(bytes).expect("it is short")];
            let read = partial.file.read_exact_at(&mut found, chunk.range(size).start);
            read.expect("it has come");
            assert_eq!(Some(&*found), part(content, chunk), "chunk {chunk}");
        }
    }
    true
}

fn part(content: &[u8], chunk: ChunkId) -> Option<&[u8]> {
    let range = chunk.range(u64::try_from(content.len()).ok()?);
    content.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

fn version(content: &[u8]) -> (Version, Manifest) {
    let crcs =
        ChunkId::ALL.map(|chunk| part(content, chunk).map_or_else(Crc32c::default, Crc32c::of));
    let (md5, size) = (Md5Digest::of(content), content.len() as u64);
    let manifest = Manifest::new(md5, size, crcs, "2026-11-22T10:00:00Z", Default::default());
    let manifest = manifest.expect("it is a short file");
    let tag = Tag { hlc: Hlc::new(1), writer: [2; 16] };
    let content = Content::File(manifest.clone());
    (Version { tag, upload: UploadId::new([3; 16]), content }, manifest)
}
