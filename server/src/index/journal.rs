//! The database's journals, looked through before the database opens them.
//!
//! The database ends its recovery without a word at the first entry that it cannot decode, and
//! refuses to open where a batch's checksum is wrong. The first hides the loss of what was
//! acknowledged; the second would keep a node down for a batch that a power loss tore before
//! anybody was answered. So this module goes first. What is behind the last sound batch of the
//! newest journal is cut off if all that the mark names is in front of it; damage anywhere
//! else is an error.
//!
//! ```text
//! batch: 1  1: start     item: 1  2: item                      end: 1  3: end
//!        4  items              1  kind of value                     8  XXH3 of the items
//!        8  number: it grows   1  0: not compressed                 4  magic "FJL" 3
//!        …  items              8  keyspace
//!        …  end                2  length of the key          clear: 1  4: clear a keyspace
//!                              4  length of the value               8  keyspace
//!                              4  the same
//!                              …  key, value
//! ```
//!
//! Numbers are little-endian. A journal is made with a length of 64 MiB; what has not been
//! written yet is zeros.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::codec;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8; 4] = b"FJL\x03";

/// Read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Values up to this length are looked at; that of a group's number is shorter.
const SHORT_BYTES: usize = 64;

/// Why the journals cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("it has no journal")]
    None,
    #[error("{0} is damaged")]
    Damaged(PathBuf),
    #[error("{path} ends at change {found:?}, change {expected} was made durable")]
    Lost { path: PathBuf, found: Option<u64>, expected: u64 },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl JournalError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Checks all journals in `dir` and cuts off a torn end. `durable` is the group up to which
/// the mark says that everything was synced.
pub(super) fn check(dir: &Path, durable: u64) -> Result<(), JournalError> {
    let journals = list(dir).map_err(JournalError::io(dir))?;
    let Some((newest, sealed)) = journals.split_last() else {
        return Err(JournalError::None);
    };
    let mut group = None;
    for path in sealed {
        let sound = read(path).map_err(JournalError::io(path))?;
        if sound.torn {
            // It was synced as a whole before the next one was begun.
            return Err(JournalError::Damaged(path.clone()));
        }
        group = sound.group.or(group);
    }
    let sound = read(newest).map_err(JournalError::io(newest))?;
    let group = sound.group.or(group);
    // Without any number the tables have the last one: who opens them compares it.
    if group.is_some_and(|group| group < durable) {
        return Err(JournalError::Lost { path: newest.clone(), found: group, expected: durable });
    }
    if sound.torn {
        tracing::warn!(
            journal = %newest.display(), at = sound.end,
            "the end of the journal was being written when the machine stopped; it is cut off"
        );
        cut(newest, sound.end).map_err(JournalError::io(newest))?;
    }
    Ok(())
}

/// The journals from the oldest to the newest.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            found.push((number.ok_or(io::ErrorKind::InvalidFilename)?, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn cut(path: &Path, end: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(end)?;
    file.sync_all()
}

/// What a journal has.
#[derive(Debug, PartialEq, Eq)]
struct Sound {
    /// Where its last sound batch ends.
    end: u64,
    /// The last group whose number is in front of that.
    group: Option<u64>,
    /// Whether anything but zeros follows.
    torn: bool,
}

fn read(path: &Path) -> io::Result<Sound> {
    scan(File::open(path)?)
}

fn scan(journal: impl Read + Seek) -> io::Result<Sound> {
    let mut input = Input::new(journal);
    let mut sound = Sound { end: 0, group: None, torn: false };
    let mut last = None;
    while let Some(batch) = input.batch()? {
        // No checksum covers the number.
        if last >= Some(batch.number) {
            break;
        }
        last = Some(batch.number);
        sound.end = input.position;
        sound.group = batch.group.or(sound.group);
    }
    let mut rest = input.reader.into_inner();
    rest.seek(SeekFrom::Start(sound.end))?;
    sound.torn = !is_zero(rest)?;
    Ok(sound)
}

fn is_zero(mut input: impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(true),
            length if buffer.iter().take(length).all(|byte| *byte == 0) => {}
            _ => return Ok(false),
        }
    }
}

struct Batch {
    number: u64,
    /// The number of its group.
    group: Option<u64>,
}

struct Input<R> {
    reader: BufReader<R>,
    position: u64,
    checksum: Xxh3,
}

impl<R: Read> Input<R> {
    fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        Self { reader, position: 0, checksum: Xxh3::new() }
    }

    /// The next batch; `None` where there is no sound one.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        match self.sound_batch() {
            Ok(batch) => Ok(Some(batch)),
            Err(error) => match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn sound_batch(&mut self) -> io::Result<Batch> {
        self.expect(START)?;
        let items = u32::from_le_bytes(self.array()?);
        let number = u64::from_le_bytes(self.array()?);
        self.checksum.reset();
        let mut group = None;
        for _ in 0..items {
            group = self.item()?.or(group);
        }
        let computed = self.checksum.digest();
        self.expect(END)?;
        let stored = u64::from_le_bytes(self.array()?);
        let magic = self.array()?;
        sound(stored == computed && magic == *MAGIC)?;
        Ok(Batch { number, group })
    }

    /// An item of a batch; the group's number if it is in it.
    fn item(&mut self) -> io::Result<Option<u64>> {
        let [tag] = self.array()?;
        if tag == CLEAR {
            let _keyspace: [u8; 8] = self.array()?;
            return Ok(None);
        }
        let [_kind, compression] = self.array()?;
        let _keyspace: [u8; 8] = self.array()?;
        let key_length = usize::from(u16::from_le_bytes(self.array()?));
        let [length, stored_length] = [self.array()?, self.array()?].map(u32::from_le_bytes);
        sound(tag == ITEM && compression == 0 && length == stored_length)?;
        let key = self.bytes(key_length)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if key != codec::GROUP_KEY || length > SHORT_BYTES {
            self.skip(length)?;
            return Ok(None);
        }
        Ok(codec::read_group(&self.bytes(length)?).ok())
    }

    fn expect(&mut self, tag: u8) -> io::Result<()> {
        sound(self.array()? == [tag])
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads past `length` bytes without believing that there are so many.
    fn skip(&mut self, mut length: usize) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while length > 0 {
            let part = length.min(buffer.len());
            self.fill(buffer.get_mut(..part).unwrap_or_default())?;
            length -= part;
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(bytes)?;
        self.checksum.update(bytes);
        self.position += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

fn sound(is_sound: bool) -> io::Result<()> {
    if is_sound { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;

#[cfg(test)]
mod tests;
