//! The call `List`, page by page, without a generated message for each entry.
//!
//! A page has thousands of entries, and each is small: what the generated code allocates for one is
//! most of what it costs. Here a node writes its entries one behind the other, and a client reads
//! them where they lie. On the wire there is no difference; an entry that is written in another
//! way than here, which is as good, is left to the generated code.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http_body::{Body, Frame};
use prost::Message;
use prost::encoding::{DecodeContext, encode_key};
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, skip_field};
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::convert::Malformed;
use super::frames::{PREFIX_BYTES, ended};
use super::{MAX_MESSAGE_BYTES, pb};
use crate::chunk::ChunkSet;
use crate::digest::Residue;
use crate::manifest::{Manifest, UploadId};
use crate::name::FilePath;
use crate::protocol::listing::{Entry, FileEntry};
use crate::tag::{Hlc, Tag};

const METHOD: &str = "/dfs.v1.DfsService/List";

/// Bytes of a writer's and of an upload's name.
const ID_BYTES: usize = 16;

/// About what an entry takes: room for those of a page is made at once.
const ENTRY_BYTES: usize = 96;

/// Numbers of the fields in `dfs.proto`.
const ENTRIES_FIELD: u32 = 1;
const MANIFEST_FIELD: u32 = 9;

/// The keys of an entry's fields as they are written: number and wire type in one byte.
mod key {
    pub(super) const PATH: u8 = 0x0a;
    pub(super) const TAG: u8 = 0x12;
    pub(super) const HLC: u8 = 0x08;
    pub(super) const WRITER: u8 = 0x12;
    pub(super) const KIND: u8 = 0x18;
    pub(super) const HAVE: u8 = 0x20;
    pub(super) const CONFIRMED: u8 = 0x28;
    pub(super) const SIZE: u8 = 0x30;
    pub(super) const X: u8 = 0x38;
    pub(super) const UPLOAD: u8 = 0x42;
    pub(super) const MANIFEST: u8 = 0x4a;
}

const FILE: u8 = pb::Kind::File as u8;
const TOMBSTONE: u8 = pb::Kind::Tombstone as u8;

/// What a node writes of a path.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The path.
    pub path: &'a FilePath,
    /// Its newest version.
    pub tag: Tag,
    /// The upload, or the removal's own id.
    pub upload: UploadId,
    /// Chunks of it on the node.
    pub have: ChunkSet,
    /// Whether it is known to be on three nodes.
    pub confirmed: bool,
    /// Length and turn of a file; `None` for a tombstone.
    pub file: Option<(u64, Residue)>,
    /// The manifest, in the full view.
    pub manifest: Option<&'a Manifest>,
}

/// A page that is being written, as the body of an answer.
pub struct Writer {
    /// From the start on a message in its frame, of which the length is still missing.
    out: Vec<u8>,
    entry: Vec<u8>,
}

impl Writer {
    /// Starts a page of about so many bytes.
    pub fn new(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(PREFIX_BYTES + bytes);
        out.extend([0; PREFIX_BYTES]);
        Self { out, entry: Vec::new() }
    }

    /// Appends a path.
    pub fn put(&mut self, row: &Row<'_>) {
        self.entry.clear();
        put_row(row, &mut self.entry);
        encode_key(ENTRIES_FIELD, WireType::LengthDelimited, &mut self.out);
        encode_varint(self.entry.len() as u64, &mut self.out);
        self.out.extend_from_slice(&self.entry);
    }

    /// Ends the page with what is not an entry.
    pub fn end(mut self, rest: &pb::ListResponse) -> Page {
        rest.encode(&mut self.out).expect("a buffer that grows has room");
        // A page has at most 4 MiB.
        let length = u32::try_from(self.out.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
        self.out[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        Page { data: Some(self.out.into()), trailers: true }
    }
}

fn put_row(row: &Row<'_>, out: &mut Vec<u8>) {
    let path = row.path.as_str().as_bytes();
    out.put_u8(key::PATH);
    encode_varint(path.len() as u64, out);
    out.extend_from_slice(path);
    put_tag(&row.tag, out);
    out.extend([key::KIND, if row.file.is_some() { FILE } else { TOMBSTONE }]);
    if !row.have.is_empty() {
        out.extend([key::HAVE, row.have.mask()]);
    }
    if row.confirmed {
        out.extend([key::CONFIRMED, 1]);
    }
    let (size, x) = row.file.map_or((0, 0), |(size, x)| (size, x.get()));
    if size > 0 {
        out.put_u8(key::SIZE);
        encode_varint(size, out);
    }
    if x > 0 {
        out.extend([key::X, x]);
    }
    put_id(key::UPLOAD, row.upload.bytes(), out);
    if let Some(manifest) = row.manifest {
        encode_key(MANIFEST_FIELD, WireType::LengthDelimited, out);
        let encoded = pb::Manifest::from(manifest).encode_length_delimited(out);
        encoded.expect("a buffer that grows has room");
    }
}

fn put_tag(tag: &Tag, out: &mut Vec<u8>) {
    out.extend([key::TAG, 0]);
    let start = out.len();
    if tag.hlc.get() > 0 {
        out.put_u8(key::HLC);
        encode_varint(tag.hlc.get(), out);
    }
    put_id(key::WRITER, &tag.writer, out);
    // At most 29.
    out[start - 1] = (out.len() - start) as u8;
}

fn put_id(key: u8, id: &[u8; ID_BYTES], out: &mut Vec<u8>) {
    out.extend([key, ID_BYTES as u8]);
    out.extend_from_slice(id);
}

/// A page as the body of an answer.
pub struct Page {
    data: Option<Bytes>,
    trailers: bool,
}

impl Body for Page {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if !std::mem::take(&mut self.trailers) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(ended(&Status::ok(""))))
    }
}

/// A page as it came.
#[derive(Debug)]
pub struct Received(Bytes);

/// Asks a node for a page.
pub async fn list<T>(node: T, request: Request<pb::ListRequest>) -> Result<Received, Status>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut node = Grpc::new(node).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let ready = node.ready().await;
    ready.map_err(|error: T::Error| Status::from_error(error.into()))?;
    let method = PathAndQuery::from_static(METHOD);
    Ok(node.unary(request, method, Pages::default()).await?.into_inner())
}

/// Requests as everywhere, answers as they come.
#[derive(Default)]
struct Pages(ProstCodec<pb::ListRequest, pb::ListResponse>);

impl Codec for Pages {
    type Encode = pb::ListRequest;
    type Decode = Received;
    type Encoder = <ProstCodec<pb::ListRequest, pb::ListResponse> as Codec>::Encoder;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl Decoder for Pages {
    type Item = Received;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Received>, Status> {
        Ok(Some(Received(message.copy_to_bytes(message.remaining()))))
    }
}

impl Received {
    /// The entries, and what is not an entry.
    pub fn read(&self) -> Result<(Vec<Entry>, pb::ListResponse), Malformed> {
        let not_a_page = |error: prost::DecodeError| Malformed::new("page", error.to_string());
        let mut entries = Vec::with_capacity(self.0.len() / ENTRY_BYTES);
        let mut rest = Vec::new();
        let mut input = &self.0[..];
        while !input.is_empty() {
            let field = input;
            let (number, wire_type) = decode_key(&mut input).map_err(not_a_page)?;
            if (number, wire_type) == (ENTRIES_FIELD, WireType::LengthDelimited) {
                let entry = take_field(&mut input).ok_or_else(|| cut_off("entries"))?;
                entries.push(entry_of(entry).map_err(not_a_page)??);
            } else {
                let context = DecodeContext::default();
                skip_field(wire_type, number, &mut input, context).map_err(not_a_page)?;
                rest.extend_from_slice(&field[..field.len() - input.len()]);
            }
        }
        let rest = pb::ListResponse::decode(&rest[..]).map_err(not_a_page)?;
        Ok((entries, rest))
    }
}

fn cut_off(field: &'static str) -> Malformed {
    Malformed::new(field, "ends too early")
}

fn entry_of(bytes: &[u8]) -> Result<Result<Entry, Malformed>, prost::DecodeError> {
    match read_row(bytes) {
        Some(entry) => Ok(Ok(entry)),
        None => pb::ListEntry::decode(bytes).map(|entry| Entry::try_from(&entry)),
    }
}

/// Reads an entry that is written as above and says nothing wrong.
fn read_row(mut input: &[u8]) -> Option<Entry> {
    let input = &mut input;
    take_key(input, key::PATH)?;
    let path = FilePath::from_bytes(take_field(input)?).ok()?;
    take_key(input, key::TAG)?;
    let tag = read_tag(take_field(input)?)?;
    take_key(input, key::KIND)?;
    let kind = take_byte(input)?;
    let have = u32::from(take_small(input, key::HAVE)?);
    let confirmed = match take_small(input, key::CONFIRMED)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let size = take_number(input, key::SIZE)?;
    let x = u32::from(take_small(input, key::X)?);
    let upload = UploadId::new(take_id(input, key::UPLOAD)?);
    let manifest = if input.is_empty() {
        None
    } else {
        take_key(input, key::MANIFEST)?;
        let manifest = pb::Manifest::decode(take_field(input)?).ok()?;
        Some(Box::new(Manifest::try_from(&manifest).ok()?))
    };
    if !input.is_empty() {
        return None;
    }
    let file = match kind {
        FILE => {
            let (x, have) = (Residue::new(x)?, ChunkSet::from_mask(have)?);
            Some(FileEntry { upload, size, x, have, manifest })
        }
        TOMBSTONE => None,
        _ => return None,
    };
    Some(Entry { path, tag, confirmed, file })
}

fn read_tag(mut input: &[u8]) -> Option<Tag> {
    let hlc = Hlc::new(take_number(&mut input, key::HLC)?);
    let writer = take_id(&mut input, key::WRITER)?;
    input.is_empty().then_some(Tag { hlc, writer })
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

fn take_key(input: &mut &[u8], key: u8) -> Option<()> {
    (take_byte(input)? == key).then_some(())
}

/// A field whose length is in front of it.
fn take_field<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(input).ok()?).ok()?;
    let (field, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(field)
}

/// A number of one byte; 0 where it is left out.
fn take_small(input: &mut &[u8], key: u8) -> Option<u8> {
    match input {
        [found, number @ 1..0x80, rest @ ..] if *found == key => {
            *input = rest;
            Some(*number)
        }
        [found, ..] if *found == key => None,
        _ => Some(0),
    }
}

/// A number; 0 where it is left out.
fn take_number(input: &mut &[u8], key: u8) -> Option<u64> {
    match input {
        [found, rest @ ..] if *found == key => {
            *input = rest;
            decode_varint(input).ok()
        }
        _ => Some(0),
    }
}

fn take_id(input: &mut &[u8], key: u8) -> Option<[u8; ID_BYTES]> {
    take_key(input, key)?;
    take_key(input, ID_BYTES as u8)?;
    let (id, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*id)
}

#[cfg(test)]
mod tests;
