//! What an operator sees: metrics, the status page, probes, and the names of requests.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dfs_proto::wire::pb;
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::status::{Reason, request_id};
use harness::admin::{Answer, get, send};
use harness::api::{block_on, connect};
use harness::cluster::{NODES, set_key};
use harness::content::noise;
use harness::skip::skipped;
use harness::{Cluster, wait};
use serde_json::Value;
use tonic::Request;

use crate::cluster;

/// A pass over a few files, on a busy machine.
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// A name that must not be seen by anybody but its user.
const CANARY: &str = "canary-folder/canary-name.txt";

/// Nodes that look at their files all the time, so that what they show is young.
fn watchful() -> Cluster {
    let cluster = Cluster::written(crate::PROGRAMS);
    for node in NODES {
        set_key(&cluster.node_config(node), "heal_every", "300ms");
        set_key(&cluster.node_config(node), "scrub_every", "300ms");
    }
    cluster.started()
}

pub(crate) fn metrics(cluster: &Cluster, node: usize) -> String {
    let answer = get(cluster.admin_address(node), "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    answer.body
}

fn status(cluster: &Cluster, node: usize) -> Value {
    let answer = get(cluster.admin_address(node), "/status.json");
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The value of a metric, named with its labels.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// Runs promtool, if there is one (`PROMTOOL`, or in the search path), with this on its input.
fn promtool(args: &[&str], input: &str) {
    let program = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".into());
    let mut command = Command::new(&program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        return skipped(&format!("promtool {args:?}"), &format!("there is no {program}"));
    };
    let mut stdin = child.stdin.take().expect("it was asked for");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "promtool {args:?}: {said}");
}

#[test]
fn every_metric_that_rules_and_dashboard_use_is_there() {
    let cluster = watchful();
    cluster.put(CANARY, noise(1, 400_000));
    cluster.put("small", "x");
    cluster.get(CANARY);
    let wrong = cluster.dfsctl().env("DFS_PASSWORD", "wrong").args(["list"]).run();
    assert_eq!(wrong.code, Some(4));
    wait::until_true(
        "a pass has counted two files, and the scrub has read them",
        COUNTED_WITHIN,
        || {
            let metrics = metrics(&cluster, 1);
            value(&metrics, "dfs_files{state=\"complete\"}") == Some(2.0)
                && value(&metrics, "dfs_scrub_timestamp_seconds").is_some_and(|time| time > 0.0)
                // The first time it may have found nothing.
                && value(&metrics, "dfs_scrubbed_bytes_total").is_some_and(|bytes| bytes > 0.0)
        },
    );
    let metrics = metrics(&cluster, 1);
    for name in ["prometheus/dfs.rules.yml", "grafana/dfs.json"] {
        let text = fs::read_to_string(deploy(name)).expect("it is there");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let mut used: Vec<&str> = words.filter(|word| word.starts_with("dfs_")).collect();
        used.sort_unstable();
        used.dedup();
        assert!(used.len() > 10, "{name} uses metrics");
        for metric in used {
            let is = |line: &str| {
                line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            assert!(metrics.lines().any(is), "{name} uses {metric}, which no node has");
        }
    }
    for series in [
        "dfs_requests_total{code=\"OK\",method=\"DfsService/PutChunk\"}",
        "dfs_requests_total{code=\"UNAUTHENTICATED\",method=\"DfsService/Authenticate\"}",
        "dfs_auth_failures_total{reason=\"password\"}",
        "dfs_received_bytes_total{method=\"DfsService/PutChunk\"}",
        "dfs_blocks_total{way=\"received\"}",
        "dfs_fsync_seconds_count{of=\"chunk\"}",
        "dfs_fsync_seconds_count{of=\"directory\"}",
        "dfs_fsync_seconds_count{of=\"index\"}",
        "dfs_commit_group_size_count",
        "dfs_chunks{state=\"home\"}",
        "dfs_disk_free_bytes",
        "dfs_index_bytes",
        "dfs_scrubbed_bytes_total",
        "dfs_peer_seen_timestamp_seconds{peer=\"2\"}",
    ] {
        assert!(value(&metrics, series).is_some_and(|value| value > 0.0), "{series}\n{metrics}");
    }
    assert_eq!(value(&metrics, "dfs_ready"), Some(1.0));
    assert_eq!(value(&metrics, "dfs_poisoned"), Some(0.0));
    promtool(&["check", "metrics"], &metrics);
    let rules = deploy("prometheus/dfs.rules.yml");
    promtool(&["check", "rules", rules.to_str().expect("a plain path")], "");

    let all: Vec<Answer> = ["/", "/status.json", "/metrics", "/healthz", "/readyz"]
        .map(|path| get(cluster.admin_address(1), path))
        .into();
    for answer in all {
        assert_eq!(answer.status, 200, "{answer:?}");
        for secret in ["canary", harness::cluster::USER] {
            assert!(!answer.body.contains(secret), "{secret}: {}", answer.body);
        }
    }
}

#[test]
fn the_status_page_shows_what_failed_and_what_may_fail_next() {
    let mut cluster = watchful();
    for name in ["a", "b", CANARY] {
        cluster.put(name, noise(2, 5000));
    }
    wait::until_true("all files are counted", COUNTED_WITHIN, || {
        let status = status(&cluster, 2);
        status["verdict"]["level"] == "good" && status["files"]["complete"] == 3
    });
    let page = get(cluster.admin_address(2), "/");
    assert!(page.body.contains("All four nodes are up and every file is whole."), "{}", page.body);
    assert!(page.body.contains("nodes 1 and 3"), "{}", page.body);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!page.body.contains("<script") && !page.body.contains("src="), "{}", page.body);

    cluster.kill(3);
    wait::until_true("the node is seen to be down", COUNTED_WITHIN, || {
        let status = status(&cluster, 2);
        status["nodes"][2]["state"] == "down" && status["files"]["degraded"] == 3
    });
    let seen = status(&cluster, 2);
    assert_eq!(seen["verdict"]["level"], "warn");
    assert_eq!(seen["verdict"]["text"], "What may fail next without loss: node 1.");
    assert_eq!(seen["files"]["took_part"], serde_json::json!([true, true, false, true]));
    let ready = get(cluster.admin_address(2), "/readyz");
    assert_eq!(ready.status, 200, "a node does not depend on the others to be ready");

    cluster.kill(4);
    wait::until_true("files are out of reach", COUNTED_WITHIN, || {
        let status = status(&cluster, 2);
        status["verdict"]["level"] == "bad" && status["files"]["incomplete"] == 3
    });
    let seen = status(&cluster, 2);
    assert_eq!(seen["verdict"]["title"], "3 files cannot be read while nodes are down.");
    assert_eq!(seen["verdict"]["text"], "No further node may fail.");
    let page = get(cluster.admin_address(2), "/").body;
    assert!(!page.contains("canary"), "{page}");
}

#[test]
fn the_admin_address_tells_nothing_to_other_sites_and_changes_nothing() {
    let cluster = cluster();
    let address = cluster.admin_address(1);
    let ask = |request: &str| send(address, &format!("{request}\r\nConnection: close\r\n\r\n"));
    let of_evil = ask("GET /metrics HTTP/1.1\r\nHost: evil.example:11001");
    assert_eq!(of_evil.status, 403, "a name that somebody else owns: {of_evil:?}");
    let no_host = ask("GET / HTTP/1.0");
    assert_eq!(no_host.status, 403, "{no_host:?}");
    let embedded =
        ask("GET /status.json HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\
         Sec-Fetch-Mode: no-cors");
    assert_eq!(embedded.status, 403, "{embedded:?}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = ask(&format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0"));
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let head = ask("HEAD /metrics HTTP/1.1\r\nHost: localhost");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let unknown = ask("GET /../dfs1.yaml HTTP/1.1\r\nHost: localhost");
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let long = format!("GET /?{} HTTP/1.1\r\nHost: localhost", "x".repeat(20_000));
    let long = ask(&long);
    assert!(matches!(long.status, 400 | 414 | 431), "{long:?}");
    let health = get(address, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    assert_eq!(get(address, "/").header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn errors_name_the_request_that_they_answer() {
    let mut cluster = Cluster::written(crate::PROGRAMS);
    cluster.set_env(1, &[("DFS_LOG".to_owned(), "debug".to_owned())]);
    let cluster = cluster.started();
    block_on(async {
        let mut client = DfsServiceClient::new(connect(cluster.address(1)).await);
        for (sent, kept) in [("my-request.7", true), ("no good name!", false), ("", false)] {
            let mut request = Request::new(pb::StatRequest::default());
            if !sent.is_empty() {
                let value = sent.parse().expect("metadata");
                request.metadata_mut().insert("x-request-id", value);
            }
            let status = client.stat(request).await.expect_err("no token");
            assert_eq!(Reason::of(&status), Some(Reason::TokenMissing));
            let id = request_id(&status).expect("a name");
            assert_eq!(id == sent, kept, "{sent:?} {id:?}");
            let line = format!("id=\"{id}\"");
            assert!(cluster.log(1).contains(&line), "{line} is in the log");
        }
    });
}
