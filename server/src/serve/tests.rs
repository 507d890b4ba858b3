use super::*;
use crate::config::HealSettings;
use crate::connections::door;
use crate::identity::replace_file;
use crate::node::known::Meeting;
use crate::users::Role;
use dfs_proto::chunk::ChunkId;
use dfs_proto::digest::{Crc32c, Md5Digest};
use dfs_proto::identity::{Boot, Identity, IndexAge, Introduction};
use dfs_proto::manifest::{Incarnation, Manifest};
use dfs_proto::name::{ClusterName, UserName};
use dfs_proto::placement::NodeId;
use dfs_proto::protocol::rejoin::{Event, Peer};
use dfs_proto::wire::network;
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::status::Reason;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

const PASSWORD: &str = "correct horse";

/// A node that serves on a port that the system chose.
struct Running {
    dir: TempDir,
    config: Config,
    address: SocketAddr,
    node: Arc<Node>,
    poison: Poison,
    stop: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

/// Starts a node that believes the other three to be at `others`.
async fn start(position: NodeId, others: SocketAddr) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config {
        file: dir.path().join("dfs.yaml"),
        cluster: ClusterName::new("demo").unwrap(),
        node: position,
        listen: address,
        data_dir: dir.path().join("data"),
        users_file: dir.path().join("users.yaml"),
        peers: NodeId::ALL.map(|_| others.to_string()),
        cluster_secret_file: dir.path().join("secret"),
        admin: None,
        tls: None,
        insecure: false,
        limits: LimitSettings::default(),
        prune_grace: Duration::from_secs(900),
        staging_ttl: Duration::from_secs(86_400),
        disk_reserve: None,
        quotas: Default::default(),
        audit_log: None,
        healing: HealSettings::default(),
    };
    replace_file(&config.cluster_secret_file, b"0123456789abcdef\n").unwrap();
    let mut users = Users::load_or_empty(&config.users_file).unwrap();
    users.add(UserName::new("alice").unwrap(), PASSWORD, Role::User).unwrap();
    users.save().unwrap();
    Disk::create(&config, Incarnation::new([position.get(); 16])).unwrap();
    let parts = Parts::open(config.clone(), network::system()).unwrap();
    let (node, poison) = (Arc::clone(&parts.node), parts.poison.clone());
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(Some(address), door::tcp(listener), parts, stop.clone()));
    Running { dir, config, address, node, poison, stop, served }
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Running {
    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn client(&self) -> DfsServiceClient<Channel> {
        DfsServiceClient::new(self.channel().await)
    }

    async fn login(&self, user: &str, password: &str) -> Result<String, Status> {
        let request =
            pb::AuthenticateRequest { user: user.to_owned(), password: password.to_owned() };
        let answer = self.client().await.authenticate(request).await?.into_inner();
        assert_eq!(answer.node.unwrap().position, u32::from(self.node.position().get()));
        Ok(answer.token)
    }

    async fn stop(self) -> Result<(), ServeError> {
        self.stop.cancel();
        let served = tokio::time::timeout(Duration::from_secs(10), self.served);
        served.await.expect("stops within ten seconds").unwrap()
    }
}

/// A node introduces itself; nothing is said of its index.
fn says(identity: Identity) -> Introduction {
    Introduction { identity, index: IndexAge::default() }
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

fn reason(status: &Status) -> Reason {
    Reason::of(status).expect("a reason of ours")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_and_moves_data() {
    let running = start(NodeId::N1, nobody()).await;
    let refused = running.login("alice", "wrong").await.unwrap_err();
    assert_eq!(reason(&refused), Reason::InvalidCredentials);
    assert_eq!(refused.message(), "Invalid Username/Password. Please try again.");
    let unknown = running.login("mallory", PASSWORD).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (refused.code(), refused.message()));
    let token = running.login("alice", PASSWORD).await.unwrap();

    let content = b"four chunks";
    let crcs = ChunkId::ALL.map(|chunk| {
        let range = chunk.range(content.len() as u64);
        Crc32c::of(&content[range.start as usize..range.end as usize])
    });
    let manifest = Manifest::new(
        Md5Digest::of(content),
        content.len() as u64,
        crcs,
        "2026-11-22T10:00:00Z",
        Default::default(),
    );
    let header = pb::ChunkHeader {
        path: "a".to_owned(),
        upload_id: vec![7; 16],
        chunk: 1,
        manifest: Some((&manifest.unwrap()).into()),
        first_block: None,
    };
    let block =
        pb::Block { chunk: 1, index: 0, crc32c: crcs[0].get(), data: content[..2].to_vec().into() };
    use pb::put_chunk_request::Message;
    let messages = [Message::Header(header), Message::Block(block.clone())];
    let stream = messages.map(|message| pb::PutChunkRequest { message: Some(message) });
    let mut client = running.client().await;
    let put = client.put_chunk(with_token(&token, tokio_stream::iter(stream))).await.unwrap();
    let put = put.into_inner();
    assert_eq!((put.results.len(), put.stats.len()), (1, 1));
    assert_eq!(put.results[0].refusal, None);

    let source = pb::UploadSource {
        path: "a".to_owned(),
        upload_id: vec![7; 16],
        ranges: vec![pb::BlockRange { chunk: 1, first_block: 0, block_count: 0 }],
    };
    let source = pb::get_chunks_request::Source::ByUpload(source);
    let request = |source| with_token(&token, pb::GetChunksRequest { source: Some(source) });
    let answer = client.get_chunks(request(source)).await.unwrap().into_inner();
    let got: Vec<_> = answer.map(|message| message.unwrap().message.unwrap()).collect().await;
    assert_eq!(got, [pb::get_chunks_response::Message::Block(block)]);

    let list = client.list(with_token(&token, pb::ListRequest::default())).await.unwrap();
    assert_eq!(list.into_inner().entries, [], "nothing is committed");
    let bad = pb::ListRequest { prefix: "/".to_owned(), ..Default::default() };
    let bad = client.list(with_token(&token, bad)).await.unwrap_err();
    assert_eq!(reason(&bad), Reason::InvalidFileName);
    let empty = client.stat(with_token(&token, pb::StatRequest::default())).await.unwrap_err();
    assert_eq!(reason(&empty), Reason::InvalidArgument);

    let other = start(NodeId::N2, nobody()).await;
    let mut client = other.client().await;
    let elsewhere = client.list(with_token(&token, pb::ListRequest::default())).await;
    assert_eq!(reason(&elsewhere.unwrap_err()), Reason::TokenExpired);
    running.stop().await.unwrap();
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_public_and_the_rest_is_not() {
    let running = start(NodeId::N1, nobody()).await;
    let channel = running.channel().await;
    for service in SERVICES {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(answer.into_inner().status, ServingStatus::Serving as i32);
    }

    use v1::server_reflection_client::ServerReflectionClient;
    let list = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let answer = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::once(list))
        .await;
    let answer = answer.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("dfs.v1.DfsService"));

    use v1alpha::server_reflection_client::ServerReflectionClient as Alpha;
    let file = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "dfs.v1.DfsService".to_owned(),
            ),
        ),
    };
    let answer = Alpha::new(channel.clone()).server_reflection_info(tokio_stream::once(file)).await;
    let answer = answer.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("FileDescriptorResponse"));

    let mut client = DfsServiceClient::new(channel);
    let refused = client.list(pb::ListRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::TokenMissing);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_first_that_it_does_not_serve() {
    let running = start(NodeId::N1, nobody()).await;
    let request = HealthCheckRequest { service: "dfs.v1.DfsService".to_owned() };
    let mut health = HealthClient::new(running.channel().await);
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
    running.stop.cancel();
    let told = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
    let told = told.expect("it says so at once").unwrap().unwrap();
    assert_eq!(told.status, ServingStatus::NotServing as i32);
    drop(watch);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_node_ends_with_an_error() {
    let running = start(NodeId::N1, nobody()).await;
    running.poison.trip("on purpose");
    let ended = tokio::time::timeout(Duration::from_secs(5), running.served).await;
    let error = ended.expect("at once").unwrap().unwrap_err();
    assert!(matches!(&error, ServeError::Poisoned(reason) if reason == "on purpose"), "{error}");
    assert!(!error.needs_operator());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_meet_and_one_with_a_lost_disk_stops() {
    let other = start(NodeId::N2, nobody()).await;
    // What node 2 remembers of node 1 is an earlier disk.
    let earlier = Identity {
        cluster: ClusterName::new("demo").unwrap(),
        node: NodeId::N1,
        incarnation: Incarnation::new([99; 16]),
        boot: Boot { count: 1, nonce: 1 },
        rejoining: false,
    };
    assert_eq!(other.node.meet(says(earlier)).await.unwrap().0, Meeting::Expected);
    let emptied = start(NodeId::N1, other.address).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), emptied.served).await;
    let error = ended.expect("soon").unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Stale(StaleDisk::Replaced(NodeId::N2))), "{error}");
    assert!(error.to_string().contains("dfsd rejoin") && error.needs_operator());

    // One that it has not met yet is remembered by both.
    let third = start(NodeId::N3, other.address).await;
    let met = async {
        while third.node.known().peer(NodeId::N2).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), met).await.expect("they meet");
    let remembered = other.node.known().peer(NodeId::N3).unwrap();
    assert_eq!(remembered.incarnation, third.node.identity().incarnation);
    third.stop().await.unwrap();
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_and_the_start_is_not_counted() {
    let Running { dir, config, node, stop, served, .. } = start(NodeId::N1, nobody()).await;
    stop.cancel();
    served.await.unwrap().unwrap();
    drop(node);
    let other = TcpListener::bind(config.listen).await.unwrap();
    let identity = || std::fs::read_to_string(dir.path().join("data/identity")).unwrap();
    let before = identity();
    let refused =
        run(Parts::open(config.clone(), network::system()).unwrap(), CancellationToken::new())
            .await;
    let error = refused.unwrap_err();
    assert!(error.to_string().contains(&format!("listen: {}", config.listen)), "{error}");
    assert!(error.to_string().contains("dfs.yaml: "), "{error}");
    assert!(error.needs_operator());
    assert_eq!(identity(), before);

    drop(other);
    let stop = CancellationToken::new();
    stop.cancel();
    run(Parts::open(config, network::system()).unwrap(), stop).await.unwrap();
    assert_ne!(identity(), before, "this one was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_rejoins_records_whom_it_meets() {
    let other = start(NodeId::N2, nobody()).await;
    // It says hello to nobody by itself.
    let own = start(NodeId::N1, nobody()).await;
    let identity = own.node.identity();
    let addresses = NodeId::ALL.map(|_| other.address.to_string());
    let peers = Peers::new(
        identity.clone(),
        Dial::new(&addresses, None, network::system()),
        "0123456789abcdef",
    )
    .unwrap();
    let settings = HealSettings::default();
    let ttl = Duration::from_secs(60);
    let healer = Healer::new(Arc::clone(&own.node), peers, settings, ttl, None);
    let (event, _) = healer.introduce(NodeId::N2).await;
    let expected = Peer {
        incarnation: other.node.identity().incarnation,
        serving: true,
        remembers: Some(identity.incarnation),
    };
    assert_eq!(event, Event::Met(NodeId::N2, expected));
    let remembered = own.node.known().peer(NodeId::N2).expect("it is recorded");
    assert_eq!(remembered.incarnation, expected.incarnation);

    // Once more, with another disk in the memory of the first.
    let replaced = Identity {
        incarnation: Incarnation::new([98; 16]),
        rejoining: true,
        ..other.node.identity()
    };
    own.node.meet(says(replaced)).await.unwrap();
    assert_eq!(healer.introduce(NodeId::N2).await.0, Event::Failed(NodeId::N2));
    own.stop().await.unwrap();
    other.stop().await.unwrap();
}
