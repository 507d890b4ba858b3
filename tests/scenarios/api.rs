//! The API itself, as a program in any language meets it.

use std::time::Duration;

use dfs_proto::wire::pb;
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::pb::get_chunks_request::Source;
use dfs_proto::wire::pb::get_chunks_response::Message;
use dfs_proto::wire::pb::peer_service_client::PeerServiceClient;
use dfs_proto::wire::status::Reason;
use harness::api::{block_on, connect, stream_of};
use harness::content::noise;
use harness::{NodeApi, Rng};
use tonic::{Code, Status};

use crate::cluster;

#[test]
fn nothing_but_logging_in_works_without_a_token() {
    let cluster = cluster();
    block_on(async {
        let channel = connect(cluster.address(1)).await;
        let mut client = DfsServiceClient::new(channel.clone());
        let uploads = || vec![pb::UploadRef { path: "a".into(), upload_id: vec![1; 16] }];
        let upload = || uploads().pop();
        let nothing: [pb::PutChunkRequest; 0] = [];
        let refusals: Vec<Status> = vec![
            client.put_chunk(stream_of(nothing)).await.expect_err("put_chunk"),
            client.get_chunks(pb::GetChunksRequest::default()).await.expect_err("get_chunks"),
            client.list(pb::ListRequest::default()).await.expect_err("list"),
            client.stat(pb::StatRequest::default()).await.expect_err("stat"),
            client.commit(pb::CommitRequest::default()).await.expect_err("commit"),
            client.confirm(pb::ConfirmRequest::default()).await.expect_err("confirm"),
            client.fence(pb::FenceRequest { uploads: uploads() }).await.expect_err("fence"),
            client.drop(pb::DropRequest::default()).await.expect_err("drop"),
            client
                .query_upload(pb::QueryUploadRequest { upload: upload() })
                .await
                .expect_err("query_upload"),
            client
                .check_chunks(pb::CheckChunksRequest { upload: upload(), chunks: 1 })
                .await
                .expect_err("check_chunks"),
            client.get_node_info(pb::GetNodeInfoRequest {}).await.expect_err("get_node_info"),
        ];
        for status in refusals {
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
            assert_eq!(Reason::of(&status), Some(Reason::TokenMissing), "{status}");
        }
    });
}

#[test]
fn health_and_reflection_are_open_to_all() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let cluster = cluster();
    block_on(async {
        let channel = connect(cluster.address(1)).await;
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "dfs.v1.DfsService"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = health.check(request).await.expect("an answer").into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
        }
        for version in ["v1", "v1alpha"] {
            // A request for the list of services: field 7, one empty string.
            let method =
                format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            let answer = harness::api::send_raw(channel.clone(), &method, vec![0x3a, 0]).await;
            let answer = answer.expect("an answer");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.contains("dfs.v1.DfsService"), "{version}: {answer}");
        }
    });
}

#[test]
fn the_peers_service_takes_no_users_token() {
    let cluster = cluster();
    block_on(async {
        let api = cluster.api(1).await;
        let hello = || pb::HelloRequest { node: Some(api.node.clone()), index: None };
        let mut bare = PeerServiceClient::new(connect(cluster.address(1)).await);
        let refused = bare.hello(hello()).await.expect_err("no secret");
        assert_eq!(refused.code(), Code::Unauthenticated);
        let mut as_user = PeerServiceClient::with_interceptor(api.channel(), api.bearer());
        let refused = as_user.hello(hello()).await.expect_err("a user's token");
        assert!(
            matches!(refused.code(), Code::Unauthenticated | Code::PermissionDenied),
            "{refused}"
        );
    });
}

#[test]
fn every_node_says_who_it_is() {
    let cluster = cluster();
    block_on(async {
        let mut clusters = Vec::new();
        for node in harness::cluster::NODES {
            let mut api = cluster.api(node).await;
            let info = api.client.get_node_info(pb::GetNodeInfoRequest {}).await;
            let info = info.expect("an answer").into_inner();
            assert_eq!(info.node.as_ref(), Some(&api.node));
            assert_eq!(usize::try_from(api.node.position), Ok(node));
            assert_eq!(api.node.incarnation.len(), 16);
            assert_eq!(api.node.status(), pb::NodeStatus::Serving);
            assert!(info.disk_total_bytes >= info.disk_free_bytes);
            clusters.push(api.node.cluster);
        }
        clusters.dedup();
        assert_eq!(clusters.len(), 1);
    });
}

/// The answers to a GetChunks: what is known of each path, and how long the blocks after it are.
async fn told(
    api: &mut NodeApi,
    source: Source,
) -> Result<Vec<(pb::PathStat, Vec<usize>)>, Status> {
    let request = pb::GetChunksRequest { source: Some(source) };
    let mut answers = api.client.get_chunks(request).await?.into_inner();
    let mut told = Vec::new();
    while let Some(answer) = answers.message().await? {
        match answer.message.expect("a message that is known") {
            Message::Head(head) => {
                assert_eq!(head.node.is_some(), told.is_empty(), "the first head says who");
                told.push((head.stat.expect("a stat"), Vec::new()));
            }
            Message::Block(block) => {
                told.last_mut().expect("a head comes first").1.push(block.data.len());
            }
        }
    }
    Ok(told)
}

#[test]
fn several_paths_are_answered_like_each_alone() {
    let cluster = cluster();
    // In the index, in chunk files, too long to come along, removed, and one that never was.
    for (name, length) in [("small", 4000), ("middle", 800_000), ("large", 3_000_000), ("gone", 9)]
    {
        cluster.file(&format!("some/{name}"), noise(length as u64, length));
    }
    cluster.ctl(["put", "-r", "some"]).ok();
    cluster.ctl(["rm", "some/gone"]).ok();
    let names = ["some/middle", "some/none", "some/small", "some/large", "some/gone", "some/small"];
    let selection = pb::Selection::BothHomes.into();
    let source = |name: &str| pb::PathSource {
        path: name.to_owned(),
        selection,
        max_chunk_bytes: 256 << 10,
    };
    block_on(async {
        let mut api = cluster.api(3).await;
        let several = |names: &[&str], max_bytes| {
            let paths = names.iter().map(|name| source(name)).collect();
            Source::ByPaths(pb::PathsSource { paths, max_bytes })
        };
        let together = told(&mut api, several(&names, 1 << 20)).await.expect("answers");
        assert_eq!(together.len(), names.len());
        for (name, (mut stat, blocks)) in names.into_iter().zip(together) {
            let alone = told(&mut api, Source::ByPath(source(name))).await.expect("an answer");
            let [(alone, alone_blocks)] = &alone[..] else { panic!("{name}: {alone:?}") };
            stat.proposed_hlc = alone.proposed_hlc;
            assert_eq!((&stat, &blocks), (alone, alone_blocks), "{name}");
            let expected: &[usize] = match name {
                "some/middle" => &[200_000; 2],
                "some/small" => &[1000; 2],
                _ => &[],
            };
            assert_eq!(blocks, expected, "{name}");
        }
        // What does not fit any more is left out, and what comes after it and fits is not.
        let short = told(&mut api, several(&names, 200_000 + 3000)).await.expect("answers");
        let blocks: Vec<Vec<usize>> = short.into_iter().map(|(_, blocks)| blocks).collect();
        assert_eq!(blocks, [vec![200_000], vec![], vec![1000; 2], vec![], vec![], vec![1000]]);
        for (names, why) in [(vec![], "none"), (vec!["a"; 65], "too many"), (vec!["a", "/"], "bad")]
        {
            let refused = told(&mut api, several(&names, 1)).await.expect_err(why);
            assert!(Reason::of(&refused).is_some(), "{why}: {refused}");
            assert_eq!(refused.code(), Code::InvalidArgument, "{why}: {refused}");
        }
    });
}

#[test]
fn pages_of_a_listing_follow_each_other() {
    let cluster = cluster();
    for number in 0..25 {
        cluster.file(&format!("many/{number:02}"), "x");
    }
    cluster.ctl(["put", "-r", "many"]).ok();
    block_on(async {
        let mut api = cluster.api(2).await;
        for page_size in [1, 7, 24, 25, 26, 100_000] {
            let mut paths = Vec::new();
            let mut token = String::new();
            loop {
                let request = pb::ListRequest {
                    prefix: "many/".into(),
                    page_size,
                    page_token: token,
                    ..Default::default()
                };
                let page = api.client.list(request).await.expect("a page").into_inner();
                assert!(page.entries.len() <= usize::try_from(page_size).expect("positive"));
                paths.extend(page.entries.into_iter().map(|entry| entry.path));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            let expected: Vec<String> = (0..25).map(|n| format!("many/{n:02}")).collect();
            assert_eq!(paths, expected, "pages of {page_size}");
        }
        let request = pb::ListRequest { start_after: "many/20".into(), ..Default::default() };
        let page = api.client.list(request).await.expect("a page").into_inner();
        assert_eq!(page.entries.len(), 4);
        let request = pb::ListRequest { page_size: -1, ..Default::default() };
        let refused = api.client.list(request).await.expect_err("a negative size");
        assert_eq!(refused.code(), Code::InvalidArgument);
    });
}

/// Stores one chunk of noise directly, perhaps with a lie in it.
pub(crate) async fn put_chunk(
    api: &mut NodeApi,
    path: &str,
    change: impl Fn(&mut pb::ChunkHeader, &mut pb::Block),
) -> Result<Option<String>, Status> {
    use dfs_proto::digest::{Crc32c, Md5Digest};
    let content = noise(1, 4000);
    let crc = |chunk: usize| Crc32c::of(&content[chunk * 1000..][..1000]).get();
    let chunks = (0..4).map(|chunk| pb::ChunkInfo { length: 1000, crc32c: crc(chunk) });
    let md5 = Md5Digest::of(&content);
    let manifest = pb::Manifest {
        size: 4000,
        md5: md5.bytes().to_vec(),
        x: md5.residue().get().into(),
        layout: pb::Layout::Pairs.into(),
        chunks: chunks.collect(),
        modified: "2026-11-22T10:00:00Z".into(),
        metadata: Default::default(),
    };
    let mut header = pb::ChunkHeader {
        path: path.to_owned(),
        upload_id: Rng::new(7).id(),
        chunk: 2,
        manifest: Some(manifest),
        first_block: None,
    };
    let mut block =
        pb::Block { chunk: 2, index: 0, crc32c: crc(1), data: content[1000..2000].to_vec().into() };
    change(&mut header, &mut block);
    let message = |message| pb::PutChunkRequest { message: Some(message) };
    let messages = [
        message(pb::put_chunk_request::Message::Header(header)),
        message(pb::put_chunk_request::Message::Block(block)),
    ];
    let answer = api.client.put_chunk(stream_of(messages)).await?.into_inner();
    let [result] = <[pb::ChunkResult; 1]>::try_from(answer.results).expect("one result");
    Ok(result.refusal.map(|refusal| refusal.reason))
}

#[test]
fn a_chunk_that_contradicts_itself_is_refused() {
    type Change = fn(&mut pb::ChunkHeader, &mut pb::Block);
    let lies: [(&str, Change); 8] = [
        ("a wrong byte", |_, block| block.data = vec![7; 1000].into()),
        ("a wrong checksum", |_, block| block.crc32c ^= 1),
        ("a short chunk", |_, block| block.data = block.data.slice(..999)),
        ("another chunk's block", |_, block| block.chunk = 3),
        ("a block out of order", |_, block| block.index = 1),
        ("no such chunk", |header, _| header.chunk = 5),
        ("a short number", |header, _| header.upload_id.truncate(15)),
        ("no manifest", |header, _| header.manifest = None),
    ];
    let cluster = cluster();
    block_on(async {
        let mut api = cluster.api(3).await;
        for (what, change) in lies {
            match put_chunk(&mut api, "path", change).await {
                Ok(refusal) => assert!(refusal.is_some(), "{what} was taken"),
                Err(status) => assert!(
                    matches!(status.code(), Code::InvalidArgument | Code::DataLoss),
                    "{what}: {status}"
                ),
            }
        }
        let honest = put_chunk(&mut api, "path", |_, _| {}).await;
        assert_eq!(honest.expect("an answer"), None);
        assert_eq!(api.stat("path").await.current, None, "not visible before Commit");
    });
    assert_eq!(cluster.list(), [""; 0]);
}

#[test]
fn data_that_three_nodes_have_not_prepared_cannot_be_committed() {
    let cluster = cluster();
    block_on(async {
        let mut api = cluster.api(1).await;
        put_chunk(&mut api, "path", |_, _| {}).await.expect("an answer");
        let stat = api.stat("path").await;
        let record = |hlc| pb::Record {
            tag: Some(pb::Tag { hlc, writer: vec![1; 16] }),
            kind: pb::Kind::Tombstone.into(),
            upload_id: Rng::new(8).id(),
            manifest: None,
            have: 0,
        };
        let commit = |record| pb::CommitRequest {
            entries: vec![pb::CommitEntry {
                path: "path".into(),
                record: Some(record),
                write_back: false,
                sources: Vec::new(),
            }],
        };
        let far_ahead = stat.proposed_hlc + (120_000 << 16);
        let answer = api.client.commit(commit(record(far_ahead))).await;
        let refusal = answer.expect("an answer").into_inner().results.remove(0).refusal;
        assert_eq!(refusal.expect("two minutes ahead").reason, "FUTURE_TAG");

        let file = pb::Record {
            kind: pb::Kind::File.into(),
            manifest: Some(pb::Manifest {
                size: 0,
                md5: dfs_proto::digest::Md5Digest::of(b"").bytes().to_vec(),
                x: 2,
                layout: pb::Layout::Pairs.into(),
                chunks: vec![pb::ChunkInfo::default(); 4],
                modified: "2026-11-22T10:00:00Z".into(),
                metadata: Default::default(),
            }),
            ..record(stat.proposed_hlc)
        };
        let answer = api.client.commit(commit(file)).await;
        let refusal = answer.expect("an answer").into_inner().results.remove(0).refusal;
        assert_eq!(refusal.expect("nothing is prepared").reason, "NOT_PREPARED");
    });
    assert_eq!(cluster.list(), [""; 0]);
}

/// A chunk of noise of two blocks and a bit, as messages: its header for those from `first` on,
/// and they.
fn long_chunk(first: u32) -> Vec<pb::PutChunkRequest> {
    use dfs_proto::digest::{Crc32c, Md5Digest};
    const BLOCK: usize = 1 << 20;
    let chunk = noise(2, 2 * BLOCK + 1000);
    let content = chunk.repeat(4);
    let md5 = Md5Digest::of(&content);
    let sum = pb::ChunkInfo { length: chunk.len() as u64, crc32c: Crc32c::of(&chunk).get() };
    let header = pb::ChunkHeader {
        path: "long".to_owned(),
        upload_id: Rng::new(9).id(),
        chunk: 2,
        manifest: Some(pb::Manifest {
            size: content.len() as u64,
            md5: md5.bytes().to_vec(),
            x: md5.residue().get().into(),
            layout: pb::Layout::Pairs.into(),
            chunks: vec![sum; 4],
            modified: "2026-11-22T10:00:00Z".into(),
            metadata: Default::default(),
        }),
        first_block: Some(first),
    };
    let block = |(data, index): (&[u8], u32)| {
        let (crc32c, data) = (Crc32c::of(data).get(), data.to_vec().into());
        pb::put_chunk_request::Message::Block(pb::Block { chunk: 2, index, crc32c, data })
    };
    let blocks = chunk.chunks(BLOCK).zip(0..).skip(first as usize).map(block);
    let messages = std::iter::once(pb::put_chunk_request::Message::Header(header)).chain(blocks);
    messages.map(|message| pb::PutChunkRequest { message: Some(message) }).collect()
}

#[test]
fn what_has_come_of_a_chunk_is_told_of_and_gone_on_with() {
    let cluster = cluster();
    block_on(async {
        let mut api = cluster.api(1).await;
        let upload_id = Rng::new(9).id();
        let upload = pb::UploadRef { path: "long".into(), upload_id };
        let query = pb::QueryUploadRequest { upload: Some(upload) };

        // A header and two of three blocks.
        let some = long_chunk(0).into_iter().take(3);
        let short = api.client.put_chunk(stream_of(some)).await.expect_err("a block is missing");
        assert_eq!(Reason::of(&short), Some(Reason::InvalidArgument), "{short}");
        let mut durable = Vec::new();
        for _ in 0..200 {
            let answer = api.client.query_upload(query.clone()).await.expect("an answer");
            durable = answer.into_inner().durable_bytes;
            if durable[1] > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(durable, [0, 2 << 20, 0, 0]);

        let refused = api.client.put_chunk(stream_of(long_chunk(3))).await;
        let refused = refused.expect_err("the third block is not there");
        assert_eq!(Reason::of(&refused), Some(Reason::NotStaged), "{refused}");
        let answer = api.client.put_chunk(stream_of(long_chunk(2))).await;
        let answer = answer.expect("an answer").into_inner();
        assert_eq!(answer.results[0].refusal, None);
        let answer = api.client.query_upload(query).await.expect("an answer").into_inner();
        assert_eq!((answer.have, answer.durable_bytes[1]), (0b10, (2 << 20) + 1000));
    });
}
