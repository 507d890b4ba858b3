//! Tricks with paths, tried on the client and, past it, on the nodes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use dfs_proto::wire::pb;
use dfs_proto::wire::status::Reason;
use harness::NodeApi;
use harness::api::{block_on, stream_of};
use harness::cluster::NODES;
use tonic::{Code, Status};

use crate::cluster;

/// What is no remote path.
fn tricks() -> Vec<String> {
    let mut tricks: Vec<String> = [
        "../x",
        "..",
        ".",
        "./x",
        "/x",
        "//x",
        "a//b",
        "a/../b",
        "a/./b",
        "a/..",
        "a/.",
        "/",
        "a\\b",
        "..\\x",
        "a\nb",
        "a\tb",
        "a\rb",
        "\u{7f}",
        "a\u{85}b",
        "\u{1b}[2J",
    ]
    .map(String::from)
    .into();
    tricks.push("p/".repeat(512) + "x");
    tricks.push("s".repeat(256));
    tricks
}

#[test]
fn dfsctl_refuses_what_is_no_path() {
    let cluster = cluster();
    cluster.file("local", "content");
    for trick in tricks() {
        let commands = [
            &["put", "--", "local", &trick][..],
            &["get", "--", &trick, "copy"],
            &["rm", "--", &trick],
            &["stat", "--", &trick],
        ];
        for command in commands.map(|args| cluster.dfsctl().args(args).start()) {
            // Where a put ends in a slash it is the folder that is refused.
            command.finish().exits(2).says("path");
        }
    }
    for name in [&b"\xff"[..], b"a/\xc3(/b", b"\xed\xa0\x80"] {
        let name = OsStr::from_bytes(name);
        cluster.dfsctl().args(["put", "local"]).arg(name).run().exits(2);
        cluster.dfsctl().arg("get").arg(name).arg("copy").run().exits(2);
    }
    cluster.ctl(["put", "local", "a/"]).ok();
    for refused in ["", "a//", "../"] {
        cluster.ctl(["put", "local", refused]).exits(2);
    }
    assert_eq!(cluster.list(), ["a/local"]);
    assert!(!cluster.work_dir().join("copy").exists());
}

/// Every method that takes a path, with this one.
async fn call_all(api: &mut NodeApi, path: &str) -> Vec<(&'static str, Option<Status>)> {
    use pb::get_chunks_request::Source;
    let client = &mut api.client;
    let upload = || Some(pb::UploadRef { path: path.to_owned(), upload_id: vec![5; 16] });
    let uploads = || upload().into_iter().collect::<Vec<_>>();
    let record = || pb::Record {
        tag: Some(pb::Tag { hlc: 1, writer: vec![1; 16] }),
        kind: pb::Kind::Tombstone.into(),
        upload_id: vec![5; 16],
        manifest: None,
        have: 0,
    };
    let header = pb::ChunkHeader {
        path: path.to_owned(),
        upload_id: vec![5; 16],
        chunk: 1,
        manifest: Some(pb::Manifest {
            size: 0,
            md5: dfs_proto::digest::Md5Digest::of(b"").bytes().to_vec(),
            x: 2,
            layout: pb::Layout::Pairs.into(),
            chunks: vec![pb::ChunkInfo::default(); 4],
            modified: "2026-11-22T10:00:00Z".into(),
            metadata: Default::default(),
        }),
        first_block: None,
    };
    let message =
        pb::PutChunkRequest { message: Some(pb::put_chunk_request::Message::Header(header)) };
    let query = pb::StatQuery { path: path.to_owned(), upload_id: None };
    let get = |source| pb::GetChunksRequest { source: Some(source) };
    let by_path = Source::ByPath(pb::PathSource {
        path: path.to_owned(),
        selection: pb::Selection::BothHomes.into(),
        max_chunk_bytes: 1 << 20,
    });
    let by_upload = Source::ByUpload(pb::UploadSource {
        path: path.to_owned(),
        upload_id: vec![5; 16],
        ranges: vec![pb::BlockRange { chunk: 1, first_block: 0, block_count: 0 }],
    });
    let entry = pb::CommitEntry {
        path: path.to_owned(),
        record: Some(record()),
        write_back: true,
        sources: Vec::new(),
    };
    let confirm = pb::ConfirmEntry { path: path.to_owned(), tag: record().tag };
    let drop_entry =
        pb::DropEntry { upload: upload(), never_committed: true, fenced_by: Vec::new() };
    vec![
        ("PutChunk", client.put_chunk(stream_of([message])).await.err()),
        ("GetChunks by path", first_error(client.get_chunks(get(by_path)).await).await),
        ("GetChunks by upload", first_error(client.get_chunks(get(by_upload)).await).await),
        (
            "Stat",
            client
                .stat(pb::StatRequest { queries: vec![query], include_superseded: false })
                .await
                .err(),
        ),
        ("Commit", client.commit(pb::CommitRequest { entries: vec![entry] }).await.err()),
        ("Confirm", client.confirm(pb::ConfirmRequest { entries: vec![confirm] }).await.err()),
        ("Fence", client.fence(pb::FenceRequest { uploads: uploads() }).await.err()),
        ("Drop", client.drop(pb::DropRequest { entries: vec![drop_entry] }).await.err()),
        (
            "QueryUpload",
            client.query_upload(pb::QueryUploadRequest { upload: upload() }).await.err(),
        ),
        (
            "CheckChunks",
            client
                .check_chunks(pb::CheckChunksRequest { upload: upload(), chunks: 15 })
                .await
                .err(),
        ),
    ]
}

async fn first_error(
    answer: Result<tonic::Response<tonic::Streaming<pb::GetChunksResponse>>, Status>,
) -> Option<Status> {
    match answer {
        Err(status) => Some(status),
        Ok(stream) => stream.into_inner().message().await.err(),
    }
}

#[test]
fn nodes_refuse_what_is_no_path_whoever_asks() {
    let cluster = cluster();
    block_on(async {
        for node in NODES {
            let mut api = cluster.api(node).await;
            for trick in tricks().iter().map(String::as_str).chain(["", "a\0b", "\0"]) {
                for (method, refused) in call_all(&mut api, trick).await {
                    let status = refused.unwrap_or_else(|| panic!("{method} took {trick:?}"));
                    assert_eq!(
                        status.code(),
                        Code::InvalidArgument,
                        "{method} {trick:?}: {status}"
                    );
                    let reason = Reason::of(&status);
                    assert_eq!(reason, Some(Reason::InvalidFileName), "{method} {trick:?}");
                }
            }
            for prefix in ["/x", "a\0b", "a\nb", "a\\b"] {
                let request = pb::ListRequest { prefix: prefix.into(), ..Default::default() };
                let refused = api.client.list(request).await;
                assert_eq!(refused.expect_err(prefix).code(), Code::InvalidArgument);
            }
            // A path that is not UTF-8 cannot even be written down with the generated code:
            // a StatRequest with one query whose path is the byte ff.
            let refused = api.send_raw("Stat", vec![0x0a, 0x03, 0x0a, 0x01, 0xff]).await;
            assert!(refused.is_err(), "a path that is not UTF-8 was taken");
        }
    });
    assert_eq!(cluster.list(), [""; 0]);
    for node in NODES {
        assert_eq!(cluster.chunk_files(node, harness::cluster::USER), [""; 0]);
    }
}
