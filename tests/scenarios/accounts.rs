//! Users: who is let in, and what they see of each other.

use std::fs;

use dfs_proto::wire::pb;
use harness::api::block_on;
use harness::cluster::{NODES, USER, password_of, set_key};
use harness::content::{noise, python};
use harness::{Cluster, NodeApi, Rng};
use tonic::Code;

use crate::{PROGRAMS, cluster};

const REFUSAL: &str = "Invalid Username/Password. Please try again.";

/// Alice and Bob.
fn cluster_of_two() -> Cluster {
    let cluster = Cluster::written(PROGRAMS);
    cluster.add_user("bob");
    cluster.started()
}

#[test]
fn a_wrong_password_is_refused_by_all_and_nothing_happens() {
    let cluster = cluster_of_two();
    cluster.put("file", "content");
    cluster.file("new", "content");
    let commands: [&[&str]; 5] =
        [&["put", "new"], &["get", "file", "-"], &["list"], &["rm", "file"], &["stat", "file"]];
    for args in commands {
        let wrong = cluster.dfsctl().env("DFS_PASSWORD", "wrong");
        let refused = wrong.args(args).run().exits(4).says(REFUSAL);
        assert_eq!(refused.stdout, b"", "{refused}");
    }
    for user in ["nobody", "bob"] {
        let wrong = cluster.dfsctl().args(["--user", user, "list"]);
        wrong.env("DFS_PASSWORD", "wrong").run().exits(4).says(REFUSAL);
    }
    assert_eq!(cluster.list(), ["file"]);
}

#[test]
fn a_password_comes_from_the_flag_the_environment_or_the_configuration() {
    let cluster = cluster_of_two();
    let file = cluster.file("bob.pass", password_of("bob") + "\n");
    cluster.file("mine", "mine");
    let bob = || cluster.dfsctl().args(["--user", "bob"]);
    bob().arg("--password-file").arg(&file).args(["put", "mine"]).run().ok();
    bob().env("DFS_PASSWORD", password_of("bob")).arg("list").run().ok();

    let config = cluster.client_config_with("bob.yaml", cluster.addresses());
    set_key(&config, "user", "bob");
    set_key(&config, "password_file", "../work/bob.pass");
    let listing = cluster.dfsctl().arg("--config").arg(&config).arg("list").run();
    assert_eq!(listing.ok().lines(), ["mine"]);
    // The flag goes before the environment.
    let both = bob().env("DFS_PASSWORD", "wrong").arg("--password-file");
    both.arg(&file).arg("list").run().ok();
}

#[test]
fn at_a_terminal_a_refused_password_is_asked_for_again() {
    /// Runs a command on a terminal and answers its prompts with one password after another.
    const TERMINAL: &str = r#"
import json, os, pty, re, select, sys, termios, time
answers = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
seen, start, deadline = b'', 0, time.monotonic() + 60
while time.monotonic() < deadline:
    if not select.select([terminal], [], [], 1)[0]:
        continue
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        piece = b''
    if not piece:
        break
    seen += piece
    if answers and re.search(rb'assword[^\n]*: ?$', seen[start:]):
        start = len(seen)
        # The prompt comes before the echo is turned off.
        while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < deadline:
            time.sleep(0.001)
        os.write(terminal, answers.pop(0).encode() + b'\n')
else:
    os.kill(pid, 9)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(b'exit %d\n' % status + seen)
"#;
    let cluster = cluster_of_two();
    cluster.dfsctl_as("bob").args(["put", "-", "mine"]).stdin("x").run().ok();
    let config = cluster.client_config_with("bob.yaml", cluster.addresses());
    let text = fs::read_to_string(&config).expect("it was just written");
    let lines = text.lines().filter(|line| !line.starts_with("password_file:"));
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).expect("it can be written");
    set_key(&config, "user", "bob");

    let answers = serde_json::json!(["wrong", "still wrong", password_of("bob")]).to_string();
    let config = config.to_str().expect("UTF-8");
    let command = ["-c", TERMINAL, &answers, PROGRAMS.dfsctl, "--config", config, "list"];
    let seen = String::from_utf8_lossy(&python(&command, b"")).into_owned();
    assert!(seen.starts_with("exit 0\n"), "{seen}");
    assert_eq!(seen.matches(REFUSAL).count(), 2, "{seen}");
    assert!(seen.lines().any(|line| line.trim_end() == "mine"), "{seen}");
    assert!(!seen.contains(&password_of("bob")), "the password is not shown: {seen}");
}

#[test]
fn a_node_that_refuses_the_password_is_left_out_and_named() {
    let cluster = Cluster::written(PROGRAMS);
    let users = cluster.dir().join("users.yaml");
    let others = cluster.dir().join("others.yaml");
    fs::copy(users, &others).expect("dfsd dev made it");
    let others = others.to_str().expect("UTF-8");
    let args = ["user", "passwd", USER, "--users", others, "--password-stdin"];
    let (status, said) = cluster.dfsd_with_input(args, "another password");
    assert!(status.success(), "{said}");
    set_key(&cluster.node_config(2), "users_file", "others.yaml");
    let mut cluster = cluster.started();

    cluster.file("file", noise(1, 300_000));
    cluster.ctl(["put", "file"]).ok().says("node 2");
    let get = cluster.ctl(["get", "file", "copy"]).ok().says("node 2");
    assert!(!get.stderr.contains("node 1"), "{get}");
    cluster.ctl(["list"]).ok().says("node 2");
    assert!(cluster.read("copy") == noise(1, 300_000));
    for lost in [[1, 3], [2, 4]] {
        cluster.run_without(&lost);
        let get = cluster.ctl(["get", "file", "copy"]);
        if lost.contains(&2) {
            get.ok();
            assert!(cluster.read("copy") == noise(1, 300_000));
        } else {
            get.exits(5);
        }
    }
}

#[test]
fn two_users_may_have_files_of_the_same_name() {
    let cluster = cluster_of_two();
    let bob = || cluster.dfsctl_as("bob");
    cluster.put("same", "of alice");
    bob().args(["put", "-", "same"]).stdin("of bob").run().ok();
    bob().args(["put", "-", "only bob's"]).stdin("x").run().ok();

    assert_eq!(cluster.get("same"), b"of alice");
    assert_eq!(bob().args(["get", "same", "-"]).run().ok().stdout, b"of bob");
    assert_eq!(cluster.list(), ["same"]);
    assert_eq!(bob().arg("list").run().ok().lines(), ["only bob's", "same"]);
    cluster.ctl(["get", "only bob's", "-"]).exits(3);
    cluster.ctl(["rm", "only bob's"]).exits(3);

    cluster.ctl(["rm", "same"]).ok();
    assert_eq!(cluster.list(), [""; 0]);
    assert_eq!(bob().args(["get", "same", "-"]).run().ok().stdout, b"of bob");
}

/// Everything that an upload's number could be good for, tried by another user.
async fn meddle(bob: &mut NodeApi, path: &str, upload: &[u8], manifest: pb::Manifest) {
    let upload_ref = || pb::UploadRef { path: path.to_owned(), upload_id: upload.to_vec() };
    assert_eq!(bob.stat(path).await.current, None, "the path is free for this user");

    let range = |chunk| pb::BlockRange { chunk, first_block: 0, block_count: 0 };
    for chunk in 1..=4 {
        let source = pb::UploadSource {
            path: path.to_owned(),
            upload_id: upload.to_vec(),
            ranges: vec![range(chunk)],
        };
        let request =
            pb::GetChunksRequest { source: Some(pb::get_chunks_request::Source::ByUpload(source)) };
        let code = match bob.client.get_chunks(request).await {
            Err(status) => status.code(),
            Ok(stream) => {
                let first = stream.into_inner().message().await;
                first.expect_err("no data for this user").code()
            }
        };
        assert_eq!(code, Code::NotFound, "chunk {chunk}");
    }

    let query = pb::StatQuery { path: path.to_owned(), upload_id: Some(upload.to_vec()) };
    let request = pb::StatRequest { queries: vec![query], include_superseded: true };
    let stat = bob.client.stat(request).await.expect("a stat").into_inner();
    assert_eq!(stat.stats[0].upload_have.unwrap_or(0), 0);

    let request = pb::QueryUploadRequest { upload: Some(upload_ref()) };
    if let Ok(answer) = bob.client.query_upload(request).await {
        let answer = answer.into_inner();
        assert_eq!((answer.have, answer.committed), (0, false));
        assert!(answer.durable_bytes.iter().all(|bytes| *bytes == 0));
    }

    let request = pb::CheckChunksRequest { upload: Some(upload_ref()), chunks: 15 };
    if let Ok(answer) = bob.client.check_chunks(request).await {
        assert_eq!(answer.into_inner().have, 0);
    }

    // What follows may be taken: it is about an upload of this user's own with that number.
    let _ = bob.client.fence(pb::FenceRequest { uploads: vec![upload_ref()] }).await;
    let entry =
        pb::DropEntry { upload: Some(upload_ref()), never_committed: true, fenced_by: Vec::new() };
    let _ = bob.client.drop(pb::DropRequest { entries: vec![entry] }).await;
    let record = pb::Record {
        tag: Some(pb::Tag { hlc: 1 << 20, writer: vec![9; 16] }),
        kind: pb::Kind::File.into(),
        upload_id: upload.to_vec(),
        manifest: Some(manifest),
        have: 15,
    };
    let entry = pb::CommitEntry {
        path: path.to_owned(),
        record: Some(record),
        write_back: true,
        sources: Vec::new(),
    };
    let _ = bob.client.commit(pb::CommitRequest { entries: vec![entry] }).await;
    let stat = bob.stat(path).await;
    assert_eq!(stat.current.map_or(0, |record| record.have), 0, "nothing was gained");
}

#[test]
fn another_users_upload_can_be_neither_read_nor_harmed_by_its_number() {
    let cluster = cluster_of_two();
    let contents = [("small", noise(1, 2000)), ("large", noise(2, 2_000_000))];
    for (name, content) in &contents {
        cluster.put(name, content);
    }
    block_on(async {
        for node in NODES {
            let mut alice = cluster.api(node).await;
            let mut bob = cluster.api_as("bob", node).await;
            for (name, _) in &contents {
                let record = alice.stat(name).await.current.expect("alice has it");
                let manifest = record.manifest.expect("it is a file");
                meddle(&mut bob, name, &record.upload_id, manifest.clone()).await;
                let other_path = format!("another path than {name}");
                meddle(&mut bob, &other_path, &record.upload_id, manifest).await;
                let after = alice.stat(name).await.current.expect("alice has it");
                assert_eq!((after.tag, after.have), (record.tag, record.have));
            }
        }
    });
    for (name, content) in &contents {
        for pair in ["1,3", "2,4"] {
            let get = cluster.ctl(["get", "--pair", pair, name, "-"]).ok();
            assert!(get.stdout == *content, "{name}");
        }
    }
}

#[test]
fn users_are_added_changed_and_removed() {
    let mut cluster = cluster_of_two();
    cluster.dfsctl_as("bob").args(["put", "-", "mine"]).stdin("x").run().ok();
    let users = cluster.dir().join("users.yaml");
    let users = users.to_str().expect("UTF-8");
    let user = |cluster: &Cluster, args: [&str; 2], input: &str| {
        let more = ["--users", users, "--password-stdin"];
        let more = if input.is_empty() { &more[..2] } else { &more };
        let all = ["user"].into_iter().chain(args).chain(more.iter().copied());
        cluster.dfsd_with_input(all, input)
    };
    let (listed, names) = cluster.dfsd(["user", "list", "--users", users]);
    assert!(listed.success(), "{names}");
    assert_eq!(names.lines().collect::<Vec<_>>(), ["alice", "bob"]);
    let (again, said) = user(&cluster, ["add", "bob"], "x");
    assert!(!again.success() && said.contains("bob"), "{said}");
    let (odd, said) = user(&cluster, ["add", "../bob"], "x");
    assert!(!odd.success(), "{said}");

    assert!(user(&cluster, ["passwd", "bob"], "another").0.success());
    cluster.run_only(&[]);
    cluster.run_only(&NODES);
    cluster.dfsctl_as("bob").arg("list").run().exits(4);
    let bob = cluster.dfsctl().args(["--user", "bob"]).env("DFS_PASSWORD", "another");
    assert_eq!(bob.arg("list").run().ok().lines(), ["mine"]);

    assert!(user(&cluster, ["remove", "bob"], "").0.success());
    cluster.run_only(&[]);
    cluster.run_only(&NODES);
    let bob = cluster.dfsctl().args(["--user", "bob"]).env("DFS_PASSWORD", "another");
    bob.arg("list").run().exits(4);
    let text = fs::read_to_string(users).expect("it is there");
    assert!(!text.contains("another") && !text.contains("password\n"), "only hashes: {text}");
}

#[test]
fn a_token_is_good_for_its_node_only() {
    let cluster = cluster();
    block_on(async {
        let one = cluster.api(1).await;
        let two = one.at(cluster.address(2)).await;
        let request = pb::ListRequest::default();
        let refused = two.clone().client.list(request).await;
        assert_eq!(refused.expect_err("a token of node 1").code(), Code::Unauthenticated);
        let made_up = Rng::fresh().next_u64().to_string();
        let made_up = one.with_token(&made_up);
        let refused = made_up.clone().client.list(pb::ListRequest::default()).await;
        assert_eq!(refused.expect_err("a made-up token").code(), Code::Unauthenticated);
    });
}
