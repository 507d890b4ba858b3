//! Messages on their way out, without a copy of the blocks in them.
//!
//! The generated code serialises a message into one buffer, which for a block means to copy a
//! MiB. Here the bytes before the payload are one buffer and the payload itself is the next. On
//! the wire there is no difference: in the serialised block the payload is the last field.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tokio_stream::Stream;
use tonic::Status;

use super::pb;

/// A payload of up to this many bytes is copied: one more frame costs more.
const COPIED_BYTES: usize = 8 << 10;

/// Small messages are gathered until a frame has so many bytes.
const GATHERED_BYTES: usize = 32 << 10;

/// Bytes before each message: not compressed (1), its length (4).
pub(super) const PREFIX_BYTES: usize = 5;

/// Numbers of the fields in `dfs.proto`.
const BLOCK_FIELD: u32 = 2;
const DATA_FIELD: u32 = 4;

/// A message that may carry a block, as the field with the number 2.
pub trait Carrier: Message + Sized {
    /// The block, or the message as it was.
    fn into_block(self) -> Result<pb::Block, Self>;
}

impl Carrier for pb::PutChunkRequest {
    fn into_block(self) -> Result<pb::Block, Self> {
        match self.message {
            Some(pb::put_chunk_request::Message::Block(block)) => Ok(block),
            message => Err(Self { message }),
        }
    }
}

impl Carrier for pb::GetChunksResponse {
    fn into_block(self) -> Result<pb::Block, Self> {
        match self.message {
            Some(pb::get_chunks_response::Message::Block(block)) => Ok(block),
            message => Err(Self { message }),
        }
    }
}

/// Appends a message to `out`, but for a large payload, which is returned.
fn put<M: Carrier>(message: M, out: &mut BytesMut) -> Bytes {
    let mut block = match message.into_block() {
        Ok(block) => block,
        Err(message) => {
            put_prefix(message.encoded_len(), out);
            message.encode(out).expect("a buffer that grows has room");
            return Bytes::new();
        }
    };
    let data = std::mem::take(&mut block.data);
    let length = data.len() as u64;
    let before = block.encoded_len() + key_len(DATA_FIELD) + encoded_len_varint(length);
    let block_bytes = before + data.len();
    let front = key_len(BLOCK_FIELD) + encoded_len_varint(block_bytes as u64);
    put_prefix(front + block_bytes, out);
    encode_key(BLOCK_FIELD, WireType::LengthDelimited, out);
    encode_varint(block_bytes as u64, out);
    block.encode(out).expect("a buffer that grows has room");
    encode_key(DATA_FIELD, WireType::LengthDelimited, out);
    encode_varint(length, out);
    if data.len() > COPIED_BYTES {
        return data;
    }
    out.put_slice(&data);
    Bytes::new()
}

fn put_prefix(length: usize, out: &mut BytesMut) {
    out.reserve(PREFIX_BYTES + length.min(GATHERED_BYTES));
    out.put_u8(0);
    // A message has at most 4 MiB.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// The body of a request or an answer: the frames of a stream of messages.
pub struct Frames<S> {
    messages: S,
    /// Goes out next.
    payload: Bytes,
    /// What the stream ended with.
    end: Option<Status>,
    /// Whether an answer, which says in its trailers how it ended.
    trailers: bool,
    done: bool,
}

impl<S> Frames<S> {
    /// The body of a request.
    pub fn request(messages: S) -> Self {
        Self { messages, payload: Bytes::new(), end: None, trailers: false, done: false }
    }

    /// The body of an answer.
    pub fn answer(messages: S) -> Self {
        Self { trailers: true, ..Self::request(messages) }
    }
}

impl<S, M> Body for Frames<S>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
    M: Carrier,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if !this.payload.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.payload)))));
        }
        let mut out = BytesMut::new();
        while !this.done && this.payload.is_empty() && out.len() < GATHERED_BYTES {
            let next = Pin::new(&mut this.messages).poll_next(context);
            let next = if out.is_empty() {
                ready!(next)
            } else if let Poll::Ready(next) = next {
                next
            } else {
                break;
            };
            match next {
                Some(Ok(message)) => this.payload = put(message, &mut out),
                Some(Err(status)) => (this.end, this.done) = (Some(status), true),
                None => this.done = true,
            }
        }
        if !out.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
        }
        if !std::mem::take(&mut this.trailers) {
            return Poll::Ready(this.end.take().map(Err));
        }
        let end = this.end.take().unwrap_or_else(|| Status::ok(""));
        Poll::Ready(Some(ended(&end)))
    }
}

/// The last frame of an answer, which says how it ended.
pub(super) fn ended(end: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    end.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn block(length: usize, index: u32) -> pb::Block {
        let data: Vec<u8> = (0..length).map(|i| (i * 31) as u8).collect();
        pb::Block { chunk: 3, index, crc32c: 0x0102_0304, data: data.into() }
    }

    fn request(block: pb::Block) -> pb::PutChunkRequest {
        pb::PutChunkRequest { message: Some(pb::put_chunk_request::Message::Block(block)) }
    }

    fn header() -> pb::PutChunkRequest {
        let header = pb::ChunkHeader { path: "a/b".into(), ..Default::default() };
        pb::PutChunkRequest { message: Some(pb::put_chunk_request::Message::Header(header)) }
    }

    fn frames<M: Carrier>(
        mut body: Frames<impl Stream<Item = Result<M, Status>> + Unpin>,
    ) -> (Vec<Bytes>, HeaderMap) {
        let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
            match frame.unwrap().into_data() {
                Ok(bytes) => data.push(bytes),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        (data, trailers)
    }

    #[test]
    fn what_goes_out_is_what_the_generated_code_writes() {
        // No block is empty.
        for length in [1, 127, 128, COPIED_BYTES, COPIED_BYTES + 1, 1 << 20] {
            for index in [0, 1, 300] {
                let messages = [header(), request(block(length, index)), header()];
                let mut expected = Vec::new();
                for message in &messages {
                    expected.put_u8(0);
                    expected.put_u32(message.encoded_len() as u32);
                    message.encode(&mut expected).unwrap();
                }
                let stream = tokio_stream::iter(messages.map(Ok));
                let (data, _) = frames(Frames::request(stream));
                assert_eq!(data.concat(), expected, "{length} bytes");
                assert_eq!(data.len(), if length > COPIED_BYTES { 3 } else { 1 });
            }
        }
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let block = block(1 << 20, 0);
        let place = block.data.as_ptr();
        let message = pb::get_chunks_response::Message::Block(block);
        let message = pb::GetChunksResponse { message: Some(message) };
        let (data, _) = frames(Frames::answer(tokio_stream::iter([Ok(message)])));
        assert_eq!(data[1].as_ptr(), place);
    }

    #[test]
    fn an_answer_says_how_it_ended() {
        let message = pb::GetChunksResponse { message: None };
        let well = tokio_stream::iter([Ok(message.clone())]);
        assert_eq!(frames(Frames::answer(well)).1["grpc-status"], "0");
        let badly = tokio_stream::iter([Ok(message), Err(Status::data_loss("why"))]);
        let (data, trailers) = frames(Frames::answer(badly));
        assert_eq!((data.len(), &trailers["grpc-status"]), (1, &"15".parse().unwrap()));
        assert_eq!(trailers["grpc-message"], "why");
    }
}
