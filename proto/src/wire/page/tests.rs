use std::collections::BTreeMap;
use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::digest::{Crc32c, Md5Digest};

/// What [`Row`] borrows.
#[derive(Debug, Clone)]
struct Owned {
    path: FilePath,
    tag: Tag,
    upload: UploadId,
    have: ChunkSet,
    confirmed: bool,
    manifest: Option<Manifest>,
}

impl Owned {
    fn row(&self, full: bool) -> Row<'_> {
        Row {
            path: &self.path,
            tag: self.tag,
            upload: self.upload,
            have: self.have,
            confirmed: self.confirmed,
            file: self.manifest.as_ref().map(|manifest| (manifest.size(), manifest.x())),
            manifest: self.manifest.as_ref().filter(|_| full),
        }
    }

    fn message(&self, full: bool) -> pb::ListEntry {
        let manifest = self.manifest.as_ref();
        let kind = if manifest.is_some() { pb::Kind::File } else { pb::Kind::Tombstone };
        pb::ListEntry {
            path: self.path.as_str().to_owned(),
            tag: Some(self.tag.into()),
            kind: kind.into(),
            have: self.have.mask().into(),
            confirmed: self.confirmed,
            size: manifest.map_or(0, Manifest::size),
            x: manifest.map_or(0, |manifest| manifest.x().get().into()),
            upload_id: self.upload.bytes().to_vec(),
            manifest: manifest.filter(|_| full).map(Into::into),
        }
    }
}

fn manifest((size, md5): (u64, [u8; 16])) -> Manifest {
    let crcs = [Crc32c::default(); 4];
    let notes = BTreeMap::from([("note".to_owned(), "ü".to_owned())]);
    Manifest::new(Md5Digest::new(md5), size, crcs, "2026-11-22T10:00:00Z", notes).unwrap()
}

fn rows() -> impl Strategy<Value = Owned> {
    let sizes = prop_oneof![0..3u64, 100..300u64, 0..1u64 << 50];
    let manifest = prop::option::of((sizes, any::<[u8; 16]>()).prop_map(manifest));
    let hlc = prop_oneof![0..300u64, any::<u64>()];
    let path = "[a-zü ]{1,60}(/[a-z🦀]{1,60}){0,3}";
    (path, hlc, any::<[u8; 16]>(), any::<[u8; 16]>(), 0u32..16, any::<bool>(), manifest).prop_map(
        |(path, hlc, writer, upload, have, confirmed, manifest)| Owned {
            path: FilePath::new(path).unwrap(),
            tag: Tag { hlc: Hlc::new(hlc), writer },
            upload: UploadId::new(upload),
            have: ChunkSet::from_mask(have).unwrap(),
            confirmed,
            manifest,
        },
    )
}

/// The message in the body of an answer that ends well.
fn message_in(mut page: Page) -> Bytes {
    let mut frames = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = Pin::new(&mut page).poll_frame(&mut context) {
        frames.push(frame.unwrap());
    }
    let [data, trailers] = <[_; 2]>::try_from(frames).unwrap();
    assert_eq!(trailers.into_trailers().unwrap()["grpc-status"], "0");
    let mut data = data.into_data().unwrap();
    assert_eq!(data.get_u8(), 0, "not compressed");
    assert_eq!(data.get_u32() as usize, data.len());
    data
}

/// What the generated code reads of a page.
fn generated(bytes: &[u8]) -> Option<(Vec<Entry>, pb::ListResponse)> {
    let mut page = pb::ListResponse::decode(bytes).ok()?;
    let entries = std::mem::take(&mut page.entries);
    Some((entries.iter().map(Entry::try_from).collect::<Result<_, _>>().ok()?, page))
}

#[track_caller]
fn assert_read_alike(bytes: &[u8]) {
    let read = Received(Bytes::copy_from_slice(bytes)).read();
    assert_eq!(read.ok(), generated(bytes), "{bytes:02x?}");
}

fn rest() -> pb::ListResponse {
    let node = pb::NodeIdentity { cluster: "c".into(), position: 2, ..Default::default() };
    let (entries, next_page_token) = (Vec::new(), "2:token".to_owned());
    pb::ListResponse { entries, next_page_token, node: Some(node) }
}

proptest! {
    #[test]
    fn a_page_is_what_the_generated_code_writes_and_reads(
        rows in prop::collection::vec(rows(), 0..9), full: bool,
    ) {
        let mut writer = Writer::new(0);
        rows.iter().for_each(|row| writer.put(&row.row(full)));
        let bytes = message_in(writer.end(&rest()));
        let entries = rows.iter().map(|row| row.message(full)).collect();
        prop_assert_eq!(&bytes[..], &pb::ListResponse { entries, ..rest() }.encode_to_vec()[..]);
        for row in &rows {
            let message = row.message(full).encode_to_vec();
            prop_assert!(read_row(&message).is_some(), "no way around for what is as usual");
        }
        let read = Received(bytes.clone()).read().unwrap();
        prop_assert_eq!(Some(read), generated(&bytes));
    }

    #[test]
    fn a_page_that_is_damaged_is_read_as_the_generated_code_reads_it(
        row in rows(), full: bool, at: prop::sample::Index, byte: u8, cut: bool,
    ) {
        let entries = vec![row.message(full), row.message(false)];
        let mut bytes = pb::ListResponse { entries, ..rest() }.encode_to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        assert_read_alike(&bytes);
    }

    #[test]
    fn any_bytes_are_read_as_the_generated_code_reads_them(bytes: Vec<u8>) {
        assert_read_alike(&bytes);
        assert_read_alike(&[&[0x0a, bytes.len().min(127) as u8][..], &bytes].concat());
    }
}

/// Another program may write fields in another order, twice, or ones of a later version.
#[test]
fn an_entry_that_is_written_in_another_way_is_as_good() {
    let row = Owned {
        path: FilePath::new("a").unwrap(),
        tag: Tag { hlc: Hlc::new(7), writer: [1; 16] },
        upload: UploadId::new([2; 16]),
        have: ChunkSet::ALL,
        confirmed: true,
        manifest: Some(manifest((1000, [3; 16]))),
    };
    let usual = row.message(false).encode_to_vec();
    let later = [&usual[..], &[0x98, 0x06, 1]].concat();
    let twice = [&usual[..], &usual].concat();
    let swapped = [&usual[3..], &usual[..3]].concat();
    let zero = [&[0x20, 0][..], &usual].concat();
    for odd in [later, twice, swapped, zero] {
        assert_eq!(read_row(&odd), None);
        let page = [&[0x0a][..], &prost_length(&odd), &odd, &rest().encode_to_vec()].concat();
        let read = Received(page.clone().into()).read().unwrap();
        assert_eq!(read.0[0], Entry::try_from(&row.message(false)).unwrap());
        assert_read_alike(&page);
    }
}

fn prost_length(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(bytes.len() as u64, &mut out);
    out
}
