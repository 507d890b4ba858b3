//! Speaks to a node directly, as any program could that has `dfs.proto` and a password.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use dfs_client::{Client, Config, Credentials, FilePath, GetOptions, GetReport};
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::{MAX_MESSAGE_BYTES, pb};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::InterceptedService;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Runs asynchronous code in a test.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// A client with this configuration, logged in.
pub async fn client(config: &Path) -> Client {
    let config = Config::load(config).expect("a configuration");
    let password = config.password_file.as_deref().expect("a password file");
    let password = Config::read_password(password).expect("a password");
    let user = config.user.clone().expect("a user");
    Client::connect(&config, Credentials::new(user, password)).await.expect("a client")
}

/// Gets `folder/0`, `folder/1` and so on, `count` of them, at once; panics when one fails.
pub async fn get_all(client: &Client, folder: &str, count: u64) -> Vec<(Bytes, GetReport)> {
    let gets = (0..count).map(|file| async move {
        let path = FilePath::new(format!("{folder}/{file}")).expect("a path");
        let got = client.get_bytes(path, u64::MAX, GetOptions::default()).await;
        got.unwrap_or_else(|error| panic!("{error}"))
    });
    futures_util::future::join_all(gets).await
}

/// A logged-in connection to one node.
#[derive(Debug, Clone)]
pub struct NodeApi {
    /// The generated client; it sends the token.
    pub client: DfsServiceClient<InterceptedService<Channel, Bearer>>,
    /// Who the node says it is.
    pub node: pb::NodeIdentity,
    channel: Channel,
    bearer: Bearer,
}

impl NodeApi {
    /// Connects and logs in; panics when the node does not take the password.
    pub async fn log_in(address: SocketAddr, user: &str, password: &str) -> Self {
        let channel = connect(address).await;
        let request =
            pb::AuthenticateRequest { user: user.to_owned(), password: password.to_owned() };
        let answer = DfsServiceClient::new(channel.clone())
            .authenticate(request)
            .await
            .expect("the node knows this user")
            .into_inner();
        let node = answer.node.expect("a node says who it is");
        Self::over(channel, Bearer::new(&answer.token), node)
    }

    fn over(channel: Channel, bearer: Bearer, node: pb::NodeIdentity) -> Self {
        let client = DfsServiceClient::with_interceptor(channel.clone(), bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, node, channel, bearer }
    }

    /// The same token, sent to another node.
    pub async fn at(&self, address: SocketAddr) -> Self {
        let channel = connect(address).await;
        Self::over(channel, self.bearer.clone(), self.node.clone())
    }

    /// The same node with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self::over(self.channel.clone(), Bearer::new(token), self.node.clone())
    }

    /// The connection, for other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// What puts the token on requests.
    pub fn bearer(&self) -> Bearer {
        self.bearer.clone()
    }

    /// Sends bytes that the generated client would not send, as one unary request.
    pub async fn send_raw(&self, method: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.0.clone());
        send(self.channel.clone(), &format!("/dfs.v1.DfsService/{method}"), request).await
    }

    /// What the node knows of a path.
    pub async fn stat(&mut self, path: &str) -> pb::PathStat {
        let query = pb::StatQuery { path: path.to_owned(), upload_id: None };
        let request = pb::StatRequest { queries: vec![query], include_superseded: true };
        let answer = self.client.stat(request).await.expect("a stat").into_inner();
        let [stat] = <[pb::PathStat; 1]>::try_from(answer.stats).expect("one answer");
        stat
    }
}

/// Sends bytes as a stream of one message to any method of any service, without a token, and
/// returns the first message of the answer.
pub async fn send_raw(channel: Channel, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    send(channel, path, Request::new(message)).await
}

/// On the wire a unary call is a stream of one message in each direction.
async fn send(channel: Channel, path: &str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("the connection is up");
    let path: PathAndQuery = path.parse().expect("a path");
    let (metadata, extensions, message) = request.into_parts();
    let stream = Request::from_parts(metadata, extensions, tokio_stream::once(message));
    let answer = grpc.streaming(stream, path, RawCodec).await?;
    let first = answer.into_inner().message().await?;
    first.ok_or_else(|| Status::internal("an answer without a message"))
}

/// Connects to a node; nothing is sent yet.
pub async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .connect()
        .await
        .expect("the node listens")
}

/// A request stream of these messages.
pub fn stream_of<M: Send + 'static>(
    messages: impl IntoIterator<Item = M, IntoIter: Send + 'static>,
) -> impl tonic::IntoStreamingRequest<Message = M> {
    Request::new(tokio_stream::iter(messages))
}

/// Puts a token on every request.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Takes a token.
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().expect("a token is ASCII"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Messages as they are.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
