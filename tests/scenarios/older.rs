//! Clients and nodes of different age: a node that does not know what was added to the API.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dfs_client::{FilePath, GetOptions};
use dfs_proto::wire::pb;
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::pb::dfs_service_server::{DfsService, DfsServiceServer};
use dfs_proto::wire::pb::get_chunks_request::Source;
use dfs_proto::wire::status::Reason;
use harness::api::{block_on, client, connect};
use harness::content::noise;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::cluster;

/// Stands in front of a node and answers as one from before GetChunks took several paths.
struct Older {
    node: DfsServiceClient<Channel>,
    asked: Arc<Asked>,
}

/// What it was asked.
#[derive(Default)]
struct Asked {
    one_path: AtomicUsize,
    several_paths: AtomicUsize,
}

macro_rules! refused {
    ($($name:ident $request:ident $response:ident)*) => {
        #[tonic::async_trait]
        impl DfsService for Older {
            type GetChunksStream = Streaming<pb::GetChunksResponse>;
            type RepairStream = Streaming<pb::RepairResponse>;

            async fn authenticate(
                &self,
                request: Request<pb::AuthenticateRequest>,
            ) -> Result<Response<pb::AuthenticateResponse>, Status> {
                self.node.clone().authenticate(request.into_inner()).await
            }

            async fn get_chunks(
                &self,
                request: Request<pb::GetChunksRequest>,
            ) -> Result<Response<Self::GetChunksStream>, Status> {
                if let Some(Source::ByPaths(_)) = request.get_ref().source {
                    self.asked.several_paths.fetch_add(1, Ordering::Relaxed);
                    return Err(Reason::InvalidArgument.status("source: is missing"));
                }
                self.asked.one_path.fetch_add(1, Ordering::Relaxed);
                let (metadata, _, message) = request.into_parts();
                let on = Request::from_parts(metadata, Default::default(), message);
                self.node.clone().get_chunks(on).await
            }

            async fn put_chunk(
                &self,
                _: Request<Streaming<pb::PutChunkRequest>>,
            ) -> Result<Response<pb::PutChunkResponse>, Status> {
                Err(Status::unimplemented("not here"))
            }

            async fn repair(
                &self,
                _: Request<pb::RepairRequest>,
            ) -> Result<Response<Self::RepairStream>, Status> {
                Err(Status::unimplemented("not here"))
            }

            $(async fn $name(
                &self,
                _: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("not here"))
            })*
        }
    };
}

refused! {
    list ListRequest ListResponse
    stat StatRequest StatResponse
    commit CommitRequest CommitResponse
    confirm ConfirmRequest ConfirmResponse
    fence FenceRequest FenceResponse
    drop DropRequest DropResponse
    query_upload QueryUploadRequest QueryUploadResponse
    check_chunks CheckChunksRequest CheckChunksResponse
    get_node_info GetNodeInfoRequest GetNodeInfoResponse
    logout LogoutRequest LogoutResponse
}

/// Puts an older node in front of the one at `address`.
async fn older(address: SocketAddr) -> (SocketAddr, Arc<Asked>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let (here, asked) = (listener.local_addr().expect("an address"), Arc::<Asked>::default());
    let node = DfsServiceClient::new(connect(address).await);
    let service = DfsServiceServer::new(Older { node, asked: asked.clone() });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    (here, asked)
}

#[test]
fn an_older_node_is_asked_for_one_path_at_a_time() {
    const FILES: usize = 40;
    /// Of so many at once each asks all four nodes.
    const FEW: usize = 7;
    let cluster = cluster();
    for number in 0..FILES {
        cluster.file(&format!("few/{number}"), noise(number as u64, 100 + number));
    }
    cluster.ctl(["put", "-r", "few"]).ok();
    block_on(async {
        let [one, two, three, four] = cluster.addresses();
        let nodes = [older(one).await, older(two).await, older(three).await, older(four).await];
        let addresses = nodes.each_ref().map(|(address, _)| *address);
        let client = client(&cluster.client_config_with("older.yaml", addresses)).await;
        for first in (0..FILES).step_by(FEW) {
            let mut gets = tokio::task::JoinSet::new();
            for number in first..FILES.min(first + FEW) {
                let client = client.clone();
                let local = cluster.work_dir().join(format!("{number}"));
                gets.spawn(async move {
                    let path = FilePath::new(format!("few/{number}")).expect("a path");
                    client.get(path, &local, GetOptions::default()).await.expect("it is there");
                });
            }
            while let Some(got) = gets.join_next().await {
                got.expect("a get");
            }
        }
        for number in 0..FILES {
            let content = cluster.read(&number.to_string());
            assert_eq!(content, noise(number as u64, 100 + number), "{number}");
        }
        for (_, asked) in &nodes {
            assert_eq!(asked.several_paths.load(Ordering::Relaxed), 1, "it says so once");
            assert_eq!(asked.one_path.load(Ordering::Relaxed), FILES);
        }
    });
}
