//! The call `PutChunk` as the client makes it: blocks go out without being copied.

use std::future::poll_fn;

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, Streaming};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::frames::Frames;
use super::{MAX_MESSAGE_BYTES, pb};

const METHOD: &str = "/dfs.v1.DfsService/PutChunk";

/// Sends `messages` to a node and returns its answer.
pub async fn put_chunk<T>(
    mut node: T,
    metadata: MetadataMap,
    messages: impl Stream<Item = pb::PutChunkRequest> + Send + Unpin + 'static,
) -> Result<pb::PutChunkResponse, Status>
where
    T: GrpcService<Body, ResponseBody = Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |error: T::Error| Status::from_error(error.into());
    poll_fn(|context| node.poll_ready(context)).await.map_err(failed)?;
    let mut request = http::Request::new(Body::new(Frames::request(messages.map(Ok))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(METHOD);
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers(metadata);
    let (head, body) = node.call(request).await.map_err(failed)?.into_parts();
    // One that ends at once says how in its headers.
    if let Some(status) = Status::from_header_map(&head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let decoder = ProstCodec::<pb::PutChunkRequest, pb::PutChunkResponse>::default().decoder();
    let limit = Some(MAX_MESSAGE_BYTES);
    let mut answer = Streaming::new_response(decoder, body, head.status, None, limit);
    let message = answer.message().await?;
    let message = message.ok_or_else(|| Status::internal("the answer is missing"))?;
    // The status may still say that it failed.
    answer.trailers().await?;
    Ok(message)
}

fn headers(metadata: MetadataMap) -> HeaderMap {
    let mut headers = metadata.into_headers();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers
}
