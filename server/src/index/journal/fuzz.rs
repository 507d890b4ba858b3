//! Journals from any bytes.

use std::io::Cursor;

use super::*;

/// Bytes of a batch that its checksum does not cover: the number.
const NUMBER: std::ops::Range<usize> = 5..13;

/// The bytes as they are, and as the values of sound batches that are then damaged.
pub(crate) fn journal(bytes: &[u8]) -> bool {
    let found = scanned(bytes);
    if found.end > 0 {
        let end = usize::try_from(found.end).expect("it is in memory");
        let sound = Sound { torn: false, ..found };
        assert_eq!(scanned(&bytes[..end]), sound, "the sound part is sound alone");
        let zeros = [&bytes[..end], &[0; 99]].concat();
        assert_eq!(scanned(&zeros), sound, "zeros are no damage");
    }
    made(bytes);
    found.end > 0
}

fn scanned(bytes: &[u8]) -> Sound {
    let sound = scan(Cursor::new(bytes)).expect("memory can be read");
    assert!(sound.end <= bytes.len() as u64);
    sound
}

/// Makes a batch of each piece of the bytes, and then damages one byte of them.
fn made(bytes: &[u8]) {
    let [at, flip, ref data @ ..] = *bytes else { return };
    let mut journal = Vec::new();
    let mut ends = vec![0];
    for (number, piece) in (1..).zip(data.chunks(40).take(6)) {
        journal.extend(batch(number, piece));
        ends.push(journal.len());
    }
    let count = ends.len() - 1;
    let last = |count: usize| (count > 0).then(|| u64::try_from(count).expect("there are few"));
    let whole = Sound { end: journal.len() as u64, group: last(count), torn: false };
    assert_eq!(scanned(&journal), whole);
    if count == 0 || flip == 0 {
        return;
    }
    let at = usize::from(at) * journal.len() / 256;
    journal[at] ^= flip;
    let before = ends.iter().rposition(|end| *end <= at).expect("it is in memory");
    if NUMBER.contains(&(at - ends[before])) {
        return;
    }
    let found = Sound { end: ends[before] as u64, group: last(before), torn: true };
    assert_eq!(scanned(&journal), found, "byte {at} is damaged");
}

/// A batch as the database writes it: its group's number and a row with `data`.
fn batch(number: u64, data: &[u8]) -> Vec<u8> {
    let mut items = item(b"some row", data);
    items.extend(item(codec::GROUP_KEY, &codec::put_group(number)));
    let mut out = vec![START];
    out.extend(2u32.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(&items);
    out.push(END);
    out.extend(xxhash_rust::xxh3::xxh3_64(&items).to_le_bytes());
    out.extend(MAGIC);
    out
}

fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("it is short").to_le_bytes();
    let mut out = vec![ITEM, 0, 0];
    out.extend([0; 8]);
    out.extend(u16::try_from(key.len()).expect("it is short").to_le_bytes());
    out.extend(length);
    out.extend(length);
    out.extend(key);
    out.extend(value);
    out
}
