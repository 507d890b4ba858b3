//! TLS between clients and nodes and among nodes: what works, what is refused and how that is
//! said, and certificates that are replaced while everybody works.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use harness::api::{block_on, send_raw};
use harness::cluster::{NODES, set_key};
use harness::content::noise;
use harness::process::Signal;
use harness::{Cluster, wait};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::PROGRAMS;

/// Nothing here goes on for longer, even if something else fails.
const LONG: Duration = Duration::from_secs(120);

/// A node has seen what it was told within this time.
const SOON: Duration = Duration::from_secs(20);

fn cluster() -> Cluster {
    Cluster::written_with_tls(PROGRAMS)
}

/// Runs `dfsd cert` and requires that it works.
#[track_caller]
fn cert<const N: usize>(cluster: &Cluster, args: [&str; N]) {
    let (status, said) = cluster.dfsd(["cert"].into_iter().chain(args));
    assert!(status.success(), "dfsd cert {args:?}: {said}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories are UTF-8")
}

/// A client configuration like the cluster's with another `tls`; empty: none.
fn client_with(cluster: &Cluster, tls: &str) -> PathBuf {
    let path = cluster.client_config_with("other.yaml", cluster.addresses());
    set_key(&path, "tls", tls);
    path
}

/// Waits until a node has logged this.
#[track_caller]
fn logged(cluster: &Cluster, node: usize, words: &str) {
    let what = format!("node {node} logs `{words}`");
    wait::until_true(&what, SOON, || cluster.log(node).contains(words));
}

async fn channel(cluster: &Cluster, node: usize) -> Channel {
    let ca = fs::read(cluster.dir().join("ca.pem")).expect("dfsd dev made it");
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let endpoint = Endpoint::from_shared(format!("https://{}", cluster.address(node)));
    let endpoint = endpoint.expect("an address").tls_config(tls).expect("a good authority");
    endpoint.connect().await.expect("the node listens")
}

#[test]
fn files_are_put_read_listed_and_repaired_over_tls() {
    let mut cluster = cluster().started();
    let contents = [("small", noise(1, 3000)), ("large", noise(2, 5_000_000))];
    for (name, content) in &contents {
        cluster.file(name, content);
    }
    for node in NODES {
        for other in NODES.into_iter().filter(|other| *other != node) {
            logged(&cluster, node, &format!("met node={other}"));
        }
    }
    cluster.run_without(&[2]);
    for (name, _) in &contents {
        cluster.ctl(["put", name]).ok().says("node 2");
    }
    cluster.run_only(&NODES);
    cluster.ctl(["repair"]).ok();
    for (name, content) in &contents {
        for pair in ["1,3", "2,4"] {
            let get = cluster.ctl(["get", "--pair", pair, name, "-"]).ok();
            assert!(get.stdout == *content, "{name} of {pair}");
        }
    }
    assert_eq!(cluster.list(), ["large", "small"]);
    cluster.ctl(["verify"]).ok();
    cluster.ctl(["rm", "small"]).ok();
    assert_eq!(cluster.list(), ["large"]);
}

#[test]
fn nothing_but_logging_in_works_without_a_token_over_tls() {
    let cluster = cluster().started();
    let definition = include_str!("../../proto/dfs.proto");
    let mut service = "";
    let mut methods = Vec::new();
    for line in definition.lines().map(str::trim_start) {
        if let Some(rest) = line.strip_prefix("service ") {
            service = rest.split(' ').next().expect("a name");
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            let method = rest.split('(').next().expect("a name");
            methods.push(format!("/dfs.v1.{service}/{method}"));
        }
    }
    assert!(methods.len() >= 17, "{methods:?}");
    block_on(async {
        let channel = channel(&cluster, 1).await;
        for method in methods.iter().filter(|method| !method.ends_with("/Authenticate")) {
            let refused = send_raw(channel.clone(), method, Vec::new()).await;
            let refused = refused.expect_err(method);
            assert_eq!(refused.code(), Code::Unauthenticated, "{method}: {refused}");
        }
    });
}

#[test]
fn what_is_wrong_with_tls_is_said_with_what_to_do() {
    let cluster = cluster();
    let elsewhere = cluster.dir().join("elsewhere");
    let other_ca = elsewhere.join("ca.pem");
    cert(&cluster, ["create-ca", "--out", text(&elsewhere)]);
    // The nodes are told apart: 2 is for another host, 3 has soon been good, 4 has no TLS.
    set_key(&cluster.node_config(4), "tls", "");
    let out = cluster.dir().join("named");
    let ca = cluster.dir().join("ca");
    let args = ["issue", "--ca", text(&ca), "--node", "2", "--host", "node2.example"];
    let args: Vec<&str> = args.into_iter().chain(["--out", text(&out)]).collect();
    cert(&cluster, <[&str; 9]>::try_from(args).expect("nine"));
    let tls = "{ cert: named/node2.pem, key: named/node2.key, ca: ca.pem }";
    set_key(&cluster.node_config(2), "tls", tls);
    let peers = cluster.addresses().map(|address| address.to_string());
    // Its name stands for nothing here, but it is what the certificate is for.
    let named = [&peers[0], "node2.example:1", &peers[2], &peers[3]].join(", ");
    set_key(&cluster.node_config(2), "peers", &format!("[{named}]"));
    expiring(&cluster, 3, Duration::from_secs(8));
    let cluster = cluster.started();

    let list = |config: &Path| {
        let list = cluster.bare_dfsctl().args(["--config", text(config), "list"]);
        list.run().within(Duration::from_secs(8))
    };
    let over = |output: &str| output.contains("node 3") && output.contains("is over");
    let mut seen = list(&cluster.client_config());
    wait::until_true("the certificate's end", SOON, || {
        seen = list(&cluster.client_config());
        over(&seen.stderr)
    });
    seen.clone().exits(5).says("time of its certificate is over").says("dfsd cert issue");
    seen.clone().says("its certificate is not for '127.0.0.1'").says("server_name");
    seen.says("it does not speak TLS");

    let stranger = client_with(&cluster, &format!("{{ ca: {} }}", text(&other_ca)));
    let seen = list(&stranger).exits(5).says("not signed by the authority in");
    seen.says("node 1").says("'tls: ca'");
    let plain = client_with(&cluster, "");
    list(&plain).exits(5).says("node 1").says("if that node speaks TLS");
    let named = client_with(&cluster, "{ ca: ca.pem, server_name: node2.example }");
    let seen = list(&named);
    assert!(!seen.stderr.contains("node 2"), "its name was given: {seen}");
}

/// Gives a node a certificate of another authority that is good for this long only; client and
/// node know that authority.
fn expiring(cluster: &Cluster, node: usize, life: Duration) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    params.not_after = (SystemTime::now() + life).into();
    let cert = params.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a certificate");
    let ca_file = cluster.dir().join("ca.pem");
    let both = fs::read_to_string(&ca_file).expect("dfsd dev made it") + &ca_cert.pem();
    fs::write(&ca_file, both).expect("it can be written");
    fs::write(cluster.dir().join(format!("node{node}.pem")), cert.pem()).expect("as before");
    fs::write(cluster.dir().join(format!("node{node}.key")), key.serialize_pem())
        .expect("as before");
}

#[test]
fn addresses_in_the_wrong_order_are_noticed_over_tls_too() {
    let cluster = cluster().started();
    let [one, two, three, four] = cluster.addresses();
    let swapped = cluster.client_config_with("swapped.yaml", [two, one, three, four]);
    let list = cluster.bare_dfsctl().args(["--config", text(&swapped), "list"]).run();
    list.exits(2).says("in the order of the nodes' positions");
}

#[test]
fn nodes_may_want_certificates_of_their_clients() {
    let cluster = cluster();
    let ca = cluster.dir().join("ca");
    let mine = cluster.dir().join("mine");
    let foreign = cluster.dir().join("foreign");
    for node in NODES {
        let tls = format!("{{ cert: node{node}.pem, key: node{node}.key, client_ca: ca.pem }}");
        set_key(&cluster.node_config(node), "tls", &tls);
    }
    cert(&cluster, ["issue", "--ca", text(&ca), "--client", "alice", "--out", text(&mine)]);
    cert(&cluster, ["create-ca", "--out", text(&foreign)]);
    cert(&cluster, ["issue", "--ca", text(&foreign), "--client", "m", "--out", text(&foreign)]);
    let cluster = cluster.started();
    for node in NODES {
        let other = node % 4 + 1;
        logged(&cluster, node, &format!("met node={other}"));
    }
    let list = |tls: &str| {
        let config = client_with(&cluster, tls);
        cluster.bare_dfsctl().args(["--config", text(&config), "list"]).run()
    };
    list("{ ca: ca.pem, cert: mine/alice.pem, key: mine/alice.key }").ok();
    list("{ ca: ca.pem }").exits(5).says("it wants a certificate of its clients");
    let seen = list("{ ca: ca.pem, cert: foreign/m.pem, key: foreign/m.key }");
    seen.exits(5).says("it refuses this client's certificate").says("client_ca");
}

#[test]
fn certificates_are_replaced_while_everybody_works() {
    let cluster = cluster().started();
    let new = cluster.dir().join("new");
    let ca = cluster.dir().join("ca");
    let working = AtomicBool::new(true);
    let replace = |node: usize| {
        for kind in ["key", "pem"] {
            let name = format!("node{node}.{kind}");
            fs::copy(new.join(&name), cluster.dir().join(&name)).expect("it was just made");
        }
        cluster.process(node).signal(Signal::HUP);
    };
    block_on(async {
        let old = channel(&cluster, 1).await;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let started = Instant::now();
                while working.load(Ordering::Relaxed) && started.elapsed() < LONG {
                    let put = cluster.dfsctl().args(["put", "-", "file"]).stdin(noise(3, 200_000));
                    put.run().ok().does_not_say("TLS");
                }
            });
            for node in NODES {
                let position = node.to_string();
                let args = ["issue", "--ca", text(&ca), "--node", &position, "--host"];
                let args = args.into_iter().chain(["127.0.0.1", "--out", text(&new)]);
                cert(&cluster, <[&str; 9]>::try_from(args.collect::<Vec<_>>()).expect("nine"));
                replace(node);
                logged(&cluster, node, "certificates were read again");
            }
            // What cannot be used is not: the key of another node.
            fs::copy(new.join("node2.key"), cluster.dir().join("node1.key")).expect("a file");
            cluster.process(1).signal(Signal::HUP);
            logged(&cluster, 1, "the former ones stay");
            cluster.ctl(["list"]).ok().does_not_say("TLS");
            working.store(false, Ordering::Relaxed);
        });
        let refused = send_raw(old, "/dfs.v1.DfsService/List", Vec::new()).await;
        let code = refused.expect_err("no token").code();
        assert_eq!(code, Code::Unauthenticated, "the old connection is there still");
    });
    // Without a signal, by looking at the files.
    fs::copy(new.join("node1.key"), cluster.dir().join("node1.key")).expect("a file");
    let count = || cluster.log(1).matches("certificates were read again").count();
    wait::until_true("the change is seen", Duration::from_secs(30), || count() == 2);
}

#[test]
fn certificates_are_made_and_never_overwritten() {
    let cluster = cluster();
    let dir = cluster.dir().join("made");
    let issue = |more: &[&str]| {
        let args = ["cert", "issue", "--ca", text(&dir), "--out", text(&dir)];
        cluster.dfsd(args.into_iter().chain(more.iter().copied()))
    };
    let (status, said) = issue(&["--node", "1", "--host", "a.example"]);
    assert!(!status.success() && said.contains("create-ca"), "{said}");
    cert(&cluster, ["create-ca", "--out", text(&dir)]);
    let (status, said) = cluster.dfsd(["cert", "create-ca", "--out", text(&dir)]);
    assert!(status.code() == Some(2) && said.contains("is not overwritten"), "{said}");
    let (status, said) = issue(&["--node", "1", "--host", "a.example", "10.0.0.1", "--days", "20"]);
    assert!(status.success() && said.contains("good until 20"), "{said}");
    let (status, said) = issue(&["--node", "1", "--host", "a.example"]);
    assert!(status.code() == Some(2) && said.contains("is not overwritten"), "{said}");
    for wrong in [&["--node", "1"][..], &["--node", "5", "--host", "a"], &["--client", "../x"], &[]]
    {
        assert_eq!(issue(wrong).0.code(), Some(2), "{wrong:?}");
    }
    use std::os::unix::fs::PermissionsExt;
    for (name, mode) in [("ca.key", 0o600), ("node1.key", 0o600), ("node1.pem", 0o644)] {
        let found = fs::metadata(dir.join(name)).expect("it was made").permissions().mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }

    let config = cluster.node_config(1);
    let check = || cluster.dfsd(["check", "--config", text(&config)]);
    let (status, said) = check();
    assert!(status.success() && !said.contains("warning"), "{said}");
    let tls = "{ cert: made/node1.pem, key: made/node1.key, ca: made/ca.pem }";
    set_key(&config, "tls", tls);
    let (status, said) = check();
    assert!(status.code() == Some(2) && said.contains("it is not for '127.0.0.1'"), "{said}");
    let peers = cluster.addresses().map(|address| address.to_string());
    let peers = ["10.0.0.1:1", &peers[1], &peers[2], &peers[3]].join(", ");
    set_key(&config, "peers", &format!("[{peers}]"));
    let (status, said) = check();
    assert!(status.success() && said.contains("warning") && said.contains("in 19 days"), "{said}");
    set_key(&config, "tls", "{ cert: made/node1.pem, key: made/ca.key, ca: made/ca.pem }");
    let (status, said) = check();
    assert!(status.code() == Some(2) && said.contains("does not fit"), "{said}");
}
