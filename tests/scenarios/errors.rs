//! The table of errors, row by row, as a program in any language sees it: code, reason, facts,
//! which node, what next.

use std::collections::HashMap;
use std::fs;

use dfs_proto::wire::pb;
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::pb::get_chunks_request::Source;
use dfs_proto::wire::pb::peer_service_client::PeerServiceClient;
use dfs_proto::wire::status::{DOMAIN, Reason, request_id};
use harness::api::{NodeApi, block_on, connect, send_raw};
use harness::cluster::USER;
use harness::content::{files, noise};
use harness::{Cluster, Rng};
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use crate::PROGRAMS;
use crate::api::put_chunk;

/// The node that is asked.
const NODE: usize = 2;

/// What all errors have, and this one beside it. Returns its facts.
#[track_caller]
fn row(status: &Status, reason: Reason, words: &[&str]) -> HashMap<String, String> {
    assert_eq!(Reason::of(status), Some(reason), "{status:?}");
    assert_eq!(status.code(), reason.code());
    let info = status.get_details_error_info().expect("one ErrorInfo");
    let infos = status.get_error_details_vec();
    let infos = infos.iter().filter(|one| matches!(one, tonic_types::ErrorDetail::ErrorInfo(_)));
    assert_eq!((infos.count(), info.domain.as_str()), (1, DOMAIN));
    assert_eq!(info.metadata.get("node"), Some(&NODE.to_string()), "which node: {info:?}");
    assert_eq!(info.metadata.get("next").map(String::as_str), Some(reason.next()));
    assert!(request_id(status).is_some(), "which request");
    for word in words {
        assert!(status.message().contains(word), "no `{word}` in `{}`", status.message());
    }
    info.metadata
}

fn by_upload(path: &str, upload: &[u8], chunk: u32) -> pb::GetChunksRequest {
    let source = pb::UploadSource {
        path: path.to_owned(),
        upload_id: upload.to_vec(),
        ranges: vec![pb::BlockRange { chunk, ..Default::default() }],
    };
    pb::GetChunksRequest { source: Some(Source::ByUpload(source)) }
}

/// How a stream ends that is to end in an error.
async fn end_of(api: &mut NodeApi, request: pb::GetChunksRequest) -> Status {
    let mut stream = match api.client.get_chunks(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return status,
    };
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an error was expected"),
            Err(status) => return status,
        }
    }
}

#[test]
fn who_calls_is_refused_as_the_table_says() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.add_user("bob");
    let cluster = cluster.started();
    block_on(async {
        let channel = connect(cluster.address(NODE)).await;
        let mut bare = DfsServiceClient::new(channel.clone());
        let login = |user: &str| {
            let (user, password) = (user.to_owned(), "no".to_owned());
            pb::AuthenticateRequest { user, password }
        };
        let wrong = bare.authenticate(login("bob")).await.err().expect("a wrong password");
        row(&wrong, Reason::InvalidCredentials, &[]);
        assert_eq!(wrong.message(), "Invalid Username/Password. Please try again.");
        for _ in 0..9 {
            bare.authenticate(login("bob")).await.err().expect("a wrong password");
        }
        let busy = bare.authenticate(login("bob")).await.err().expect("the eleventh");
        let facts =
            row(&busy, Reason::Overloaded, &["too many logins have failed", "try again in"]);
        let wait = busy.get_details_retry_info().expect("RetryInfo").retry_delay;
        assert_eq!(
            wait.map(|wait| wait.as_secs().to_string()).as_ref(),
            facts.get("retry_after_seconds")
        );

        let missing = bare.stat(pb::StatRequest::default()).await.expect_err("no token");
        row(&missing, Reason::TokenMissing, &["authorization: Bearer"]);
        let api = cluster.api(NODE).await;
        let mut stranger = api.with_token("00ff");
        let expired = stranger.client.stat(pb::StatRequest::default()).await;
        row(&expired.expect_err("no such token"), Reason::TokenExpired, &["log in again"]);

        let mut peer = PeerServiceClient::new(channel.clone());
        let mut hello = Request::new(pb::HelloRequest::default());
        hello.metadata_mut().insert("authorization", MetadataValue::from_static("Peer wrong"));
        let foreign = peer.hello(hello).await.expect_err("another cluster's secret");
        row(&foreign, Reason::NotAllowed, &["another cluster"]);
        let mut bob = cluster.api_as("bob", 1).await;
        let all = pb::RepairRequest { all_users: true, ..Default::default() };
        let refused = bob.client.repair(all).await.expect_err("no administrator");
        assert_eq!(Reason::of(&refused), Some(Reason::NotAllowed), "{refused}");

        let unknown = send_raw(channel, "/dfs.v1.DfsService/Rename", Vec::new()).await;
        row(&unknown.expect_err("no such method"), Reason::UnknownMethod, &["no such method"]);
    });
}

#[test]
fn what_is_asked_for_is_refused_as_the_table_says() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.configure(NODE, "limits", "{ put_idle: 1s }");
    cluster.configure(NODE, "quota", "{ users: { bob: { bytes: 100 } } }");
    cluster.add_user("bob");
    let cluster = cluster.started();
    block_on(async {
        let mut api = cluster.api(NODE).await;
        let query = |path: &str| pb::StatRequest {
            queries: vec![pb::StatQuery { path: path.to_owned(), upload_id: None }],
            ..Default::default()
        };
        let name = api.client.stat(query("../x")).await.expect_err("a bad name");
        row(&name, Reason::InvalidFileName, &["queries.path"]);
        let fields = name.get_details_bad_request().expect("BadRequest").field_violations;
        assert_eq!(fields[0].field, "queries.path");
        let empty = api.client.stat(pb::StatRequest::default()).await.expect_err("no query");
        row(&empty, Reason::InvalidArgument, &["queries", "0 entries", "1..1000"]);
        let chunk = end_of(&mut api, by_upload("p", &[7; 16], 9)).await;
        row(&chunk, Reason::InvalidArgument, &["by_upload.ranges.chunk"]);

        let none = end_of(&mut api, by_upload("p", &[7; 16], 3)).await;
        assert_eq!(row(&none, Reason::ChunkNotFound, &["chunk 3"])["chunk"], "3");
        assert_eq!(none.get_details_resource_info().expect("ResourceInfo").resource_name, "3");

        let lie = put_chunk(&mut api, "p", |_, block| block.crc32c ^= 1).await;
        let facts =
            row(&lie.expect_err("a wrong checksum"), Reason::ChecksumMismatch, &["block 0"]);
        assert_eq!(facts["chunk"], "2");
        let gap = put_chunk(&mut api, "p", |header, _| header.first_block = Some(1)).await;
        if let Err(gap) = gap {
            assert!(matches!(Reason::of(&gap), Some(Reason::NotStaged | Reason::InvalidArgument)));
        }
        let mut bob = cluster.api_as("bob", NODE).await;
        match put_chunk(&mut bob, "p", |_, _| {}).await {
            Ok(refusal) => assert_eq!(refusal.as_deref(), Some("QUOTA_EXCEEDED")),
            Err(over) => {
                let facts = row(&over, Reason::QuotaExceeded, &["1000", "100"]);
                assert_eq!((&*facts["limit"], &*facts["allowed"]), ("bytes", "100"));
                assert!(over.get_details_quota_failure().is_some());
            }
        }
        let silent = tokio_stream::pending::<pb::PutChunkRequest>();
        let idle = api.client.put_chunk(Request::new(silent)).await.expect_err("nothing came");
        row(&idle, Reason::StreamIdle, &["no whole message for 1 s"]);

        let bytes = api.send_raw("Commit", vec![0xff; 20]).await.expect_err("no message");
        row(&bytes, Reason::MessageMalformed, &["decode"]);
        let long = api.send_raw("Commit", vec![b'x'; 8 << 20]).await.expect_err("too long");
        row(&long, Reason::MessageTooLarge, &["too large"]);
        let login = "/dfs.v1.DfsService/Authenticate";
        let long = send_raw(api.channel(), login, vec![b'x'; 100 << 10]).await;
        row(&long.expect_err("too long"), Reason::MessageTooLarge, &[]);
    });
}

#[test]
fn damage_names_its_node_chunk_and_block() {
    let cluster = crate::cluster();
    cluster.put("file", noise(3, 4 * 200_000));
    let chunks = cluster.data_dir(NODE).join("chunks").join(USER);
    for name in files(&chunks) {
        let path = chunks.join(name);
        // What is there but wrong is for the reader to find.
        let file = fs::File::options().write(true).open(&path).expect("a chunk");
        file.set_len(50_000).expect("a chunk");
    }
    block_on(async {
        let mut api = cluster.api(NODE).await;
        let record = api.stat("file").await.current.expect("a record");
        let chunk = (1..=4).find(|chunk| record.have & 1 << (chunk - 1) != 0).expect("one");
        let damaged = end_of(&mut api, by_upload("file", &record.upload_id, chunk)).await;
        let facts = row(&damaged, Reason::ChunkCorrupt, &[&format!("chunk {chunk}")]);
        assert_eq!((&*facts["chunk"], &*facts["block"]), (&*chunk.to_string(), "0"));
    });
}

#[test]
fn what_one_of_many_is_refused_for_is_in_the_table() {
    let cluster = crate::cluster();
    block_on(async {
        let mut api = cluster.api(NODE).await;
        let upload = Some(pb::UploadRef { path: "p".to_owned(), upload_id: Rng::new(7).id() });
        put_chunk(&mut api, "p", |_, _| {}).await.expect("an answer");
        let entries = vec![pb::DropEntry { upload, never_committed: true, fenced_by: Vec::new() }];
        let dropped = api.client.drop(pb::DropRequest { entries }).await;
        let dropped = match dropped {
            Ok(answer) => answer.into_inner().results.remove(0).refusal.expect("a refusal"),
            Err(status) => panic!("{status}"),
        };
        assert_eq!(Reason::from_name(&dropped.reason), Some(Reason::UploadNotFenced));
        assert!(!dropped.message.is_empty());
    });
}

#[test]
fn the_documented_table_is_the_one_that_is_sent() {
    let documented = include_str!("../../docs/protocol.md");
    for reason in Reason::ALL {
        let code = dfs_proto::wire::status::code_name(reason.code());
        let line = format!("| {} | {code} | {} |", reason.name(), reason.next());
        assert!(documented.lines().any(|found| found == line), "{line}");
    }
    let rows = documented.lines().filter(|line| {
        let name = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
        name.is_some_and(|name| Reason::from_name(name).is_some())
    });
    assert_eq!(rows.count(), Reason::ALL.len());
}
