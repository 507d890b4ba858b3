//! A node as it was when the API was released: a proxy in front of one of today that knows the
//! messages and methods of `tests/released/dfs.proto`, and nothing that has come since.
//!
//! Fields that the released API does not have are taken out, in both directions, and methods that
//! it does not have are UNIMPLEMENTED. So what is behind it is an older node to a client of today,
//! and what is before it an older client, or another older node, to a node of today.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The API as it was released.
const RELEASED: &str = include_str!("../released/dfs.proto");
/// What is before each message of a stream: a flag and a length.
const PREFIX: usize = 5;

/// A proxy in front of one node. Ends with all its connections when dropped.
#[derive(Debug)]
pub struct Older {
    address: SocketAddr,
    /// Everything runs here; taken when dropped.
    runtime: Option<Runtime>,
}

impl Older {
    /// Starts a proxy in front of `node`.
    pub fn to(node: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let api = Arc::new(Api::parse(RELEASED));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, node, Arc::clone(&api)));
            }
        });
        Self { address, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Older {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Messages and methods of an API.
#[derive(Debug, Default)]
struct Api {
    /// Of each message its fields, and of those their types.
    messages: HashMap<String, HashMap<u64, String>>,
    /// Of each path what goes in and what comes out.
    methods: HashMap<String, (String, String)>,
}

impl Api {
    /// Reads what is regular as ours: one thing a line, no messages inside of messages.
    fn parse(text: &str) -> Self {
        let mut api = Self::default();
        let (mut service, mut message) = (String::new(), None);
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> =
                line.split([' ', '(', ')', ';']).filter(|word| !word.is_empty()).collect();
            match words[..] {
                ["service", name, ..] => name.clone_into(&mut service),
                ["message", name, ..] => {
                    api.messages.insert(name.to_owned(), HashMap::new());
                    message = (!line.ends_with("{}")).then(|| name.to_owned());
                }
                ["enum", ..] => message = None,
                ["rpc", name, ref types @ ..] => {
                    let mut types =
                        types.iter().filter(|word| !["stream", "returns"].contains(word));
                    let mut next = || (*types.next().expect("a type")).to_owned();
                    api.methods.insert(format!("/dfs.v1.{service}/{name}"), (next(), next()));
                }
                _ if line.starts_with("//") => {}
                _ => {
                    let fields = message.as_ref().and_then(|name| api.messages.get_mut(name));
                    let field = words.iter().position(|word| *word == "=");
                    let (Some(fields), Some(equals)) = (fields, field) else { continue };
                    let number = words[equals + 1].parse().expect("a field's number");
                    let kind = words[..equals - 1].last().expect("a field's type");
                    fields.insert(number, (*kind).to_owned());
                }
            }
        }
        assert!(api.methods.len() > 15 && api.messages.len() > 50, "{api:?}");
        api
    }

    /// A message without the fields that it does not have here. `None`: it is none.
    fn known(&self, kind: &str, mut bytes: &[u8]) -> Option<Vec<u8>> {
        let fields = self.messages.get(kind)?;
        let mut known = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            let start = bytes;
            let key = varint(&mut bytes)?;
            let length = match key & 7 {
                0 => {
                    varint(&mut bytes)?;
                    0
                }
                1 => 8,
                2 => usize::try_from(varint(&mut bytes)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (value, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            match fields.get(&(key >> 3)) {
                None => {}
                Some(kind) if key & 7 == 2 && self.messages.contains_key(kind) => {
                    let value = self.known(kind, value)?;
                    put_varint(&mut known, key);
                    put_varint(&mut known, value.len() as u64);
                    known.extend(value);
                }
                Some(_) => known.extend(&start[..start.len() - bytes.len()]),
            }
        }
        Some(known)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

async fn serve(tcp: TcpStream, node: SocketAddr, api: Arc<Api>) {
    let Ok(mut callers) = h2::server::handshake(tcp).await else { return };
    let Ok(to_node) = TcpStream::connect(node).await else { return };
    let Ok((client, connection)) = h2::client::handshake(to_node).await else { return };
    let driver = tokio::spawn(connection);
    while let Some(Ok((request, respond))) = callers.accept().await {
        tokio::spawn(pass(request, respond, client.clone(), node, Arc::clone(&api)));
    }
    driver.abort();
}

/// Passes one call on, if there was such a method.
async fn pass(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    client: SendRequest<Bytes>,
    node: SocketAddr,
    api: Arc<Api>,
) -> Option<()> {
    let path = request.uri().path().to_owned();
    let Some((input, output)) = api.methods.get(&path).cloned() else {
        let unknown = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "12")
            .header("grpc-message", "no such method");
        respond.send_response(unknown.body(()).ok()?, true).ok()?;
        return None;
    };
    let (head, body) = request.into_parts();
    let mut onward = Request::post(format!("http://{node}{path}"));
    onward.headers_mut()?.extend(head.headers);
    let mut client = client.ready().await.ok()?;
    let (answer, to_node) = client.send_request(onward.body(()).ok()?, false).ok()?;
    tokio::spawn(pump(body, to_node, Arc::clone(&api), input));
    let Ok(answer) = answer.await else {
        respond.send_reset(Reason::CANCEL);
        return None;
    };
    let (head, body) = answer.into_parts();
    let ended = body.is_end_stream();
    let to_client = respond.send_response(Response::from_parts(head, ()), ended).ok()?;
    if !ended {
        pump(body, to_client, api, output).await;
    }
    Some(())
}

/// Passes the messages of one direction on.
async fn pump(from: RecvStream, mut to: SendStream<Bytes>, api: Arc<Api>, kind: String) {
    if messages(from, &mut to, &api, &kind).await.is_none() {
        to.send_reset(Reason::CANCEL);
    }
}

async fn messages(
    mut from: RecvStream,
    to: &mut SendStream<Bytes>,
    api: &Api,
    kind: &str,
) -> Option<()> {
    let mut pending = BytesMut::new();
    while let Some(data) = from.data().await {
        let data = data.ok()?;
        // Nothing here grows: a test sends a few MiB.
        from.flow_control().release_capacity(data.len()).ok()?;
        pending.extend_from_slice(&data);
        while pending.len() >= PREFIX {
            let length = (&pending[1..PREFIX]).get_u32() as usize;
            if pending.len() < PREFIX + length {
                break;
            }
            let message = pending.split_to(PREFIX + length).split_off(PREFIX);
            let known = api.known(kind, &message)?;
            let mut framed = vec![0];
            framed.extend(u32::try_from(known.len()).ok()?.to_be_bytes());
            framed.extend(known);
            to.send_data(framed.into(), false).ok()?;
        }
    }
    match from.trailers().await.ok()? {
        Some(trailers) => to.send_trailers(trailers).ok(),
        None => to.send_data(Bytes::new(), true).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_taken_out_at_every_depth() {
        let text = "message Outer {\n  // A note = 3;\n  oneof one {\n    Inner inner = 1;\n  }\n  \
                    map<string, string> map = 2;\n}\nmessage Inner {\n  uint64 number = 1;\n}\n";
        let mut api = Api::default();
        let released = Api::parse(&(RELEASED.to_owned() + text));
        api.messages = released.messages;
        assert_eq!(api.messages["Outer"].len(), 2, "{:?}", api.messages["Outer"]);
        let bytes = [0x0a, 4, 0x08, 7, 0x10, 8, 0x12, 1, b'm', 0x1a, 1, b'n', 0x25, 0, 0, 0, 0];
        let known = api.known("Outer", &bytes);
        assert_eq!(known.as_deref(), Some(&[0x0a, 2, 0x08, 7, 0x12, 1, b'm'][..]));
        assert_eq!(api.known("Outer", &[0x0a, 9, 1]), None);
        assert_eq!(released.methods["/dfs.v1.DfsService/PutChunk"].0, "PutChunkRequest");
    }
}
