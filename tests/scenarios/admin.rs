//! The admin address off the loopback: encrypted, for administrators, and every login there is
//! one like any other.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use harness::admin::{Answer, get, send_over_tls};
use harness::cluster::{USER, password_of};
use harness::process::Signal;
use harness::{Cluster, wait};

use crate::PROGRAMS;

/// Lines and certificates are there within this time.
const SOON: Duration = Duration::from_secs(20);

/// `user:password` in base64, which no library of these tests knows.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS[bits as usize & 63]);
    let encoded = text.as_bytes().chunks(3).map(|three| {
        let bits = three
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0, |all, byte| all << 8 | u32::from(*byte));
        let four: String = [18, 12, 6, 0].map(|shift| digit(bits >> shift)).iter().collect();
        four[..=three.len()].to_owned() + &"=".repeat(3 - three.len())
    });
    encoded.collect()
}

/// A cluster whose first node is asked for its status off the loopback.
fn open_to_all() -> Cluster {
    let cluster = Cluster::written_with_tls(PROGRAMS);
    let port = cluster.admin_address(1).port();
    cluster.configure(1, "admin_listen", &format!("0.0.0.0:{port}"));
    cluster.configure(1, "audit_log", "audit.log");
    cluster
}

fn ca(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("ca.pem")
}

fn ask(cluster: &Cluster, path: &str, who: Option<(&str, &str)>) -> Answer {
    let address: SocketAddr = cluster.admin_address(1);
    let authorization = who.map_or(String::new(), |(user, password)| {
        format!("Authorization: Basic {}\r\n", base64(&format!("{user}:{password}")))
    });
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}");
    let request = format!("{head}Connection: close\r\n\r\n");
    send_over_tls(address, &ca(cluster), &request).expect("an answer over TLS")
}

#[test]
fn off_the_loopback_it_is_encrypted_and_logins_there_count_and_are_written_down() {
    let cluster = open_to_all();
    cluster.add_user("bob");
    let cluster = cluster.started();
    let password = cluster.password();
    let administrator = Some((USER, &*password));

    // Plaintext gets a TLS alert, nothing else.
    let plain = std::panic::catch_unwind(|| get(cluster.admin_address(1), "/healthz"));
    assert!(plain.is_err(), "{plain:?}");
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(ask(&cluster, probe, None).status, 200, "{probe}");
    }
    assert_eq!(ask(&cluster, "/metrics", None).status, 401);
    assert_eq!(ask(&cluster, "/", administrator).status, 200);
    assert_eq!(ask(&cluster, "/metrics", administrator).status, 200);
    let bob = password_of("bob");
    assert_eq!(ask(&cluster, "/", Some(("bob", &*bob))).status, 401, "no administrator");

    for _ in 0..10 {
        assert_eq!(ask(&cluster, "/", Some(("bob", "a-wrong-word"))).status, 401);
    }
    assert_eq!(ask(&cluster, "/", Some(("bob", "a-wrong-word"))).status, 503, "too many failed");
    // One bucket for both ways in.
    let refused = cluster.dfsctl_as("bob").arg("--no-token-cache").arg("list").run();
    refused.says("node 1").says("too many logins have failed");
    assert_eq!(ask(&cluster, "/", administrator).status, 200, "of another name");

    let audit = || fs::read_to_string(cluster.dir().join("audit.log")).unwrap_or_default();
    wait::until_true("the last line is written", SOON, || audit().contains("too many logins"));
    let audit = audit();
    for expected in [
        r#""from":"127.0.0.1","event":"login","user":"alice""#,
        r#""event":"login","user":"bob""#,
        r#""event":"refused","user":"bob","method":"admin address","why":"no administrator""#,
        r#""event":"login_refused","user":"bob","why":"user and password do not match""#,
    ] {
        assert!(audit.contains(expected), "no {expected} in {audit}");
    }
    for secret in ["a-wrong-word", &*password, &*bob] {
        assert!(!audit.contains(secret) && !cluster.log(1).contains(secret), "{secret}");
    }
}

#[test]
fn its_certificate_may_be_another_and_is_replaced_while_the_node_runs() {
    let cluster = open_to_all();
    let other = cluster.dir().join("other");
    let out = other.to_str().expect("temporary directories are UTF-8");
    for args in [
        &["cert", "create-ca", "--out", out][..],
        &["cert", "issue", "--ca", out, "--node", "1", "--host", "127.0.0.1", "--out", out],
    ] {
        let (status, said) = cluster.dfsd(args.iter().copied());
        assert!(status.success(), "{args:?}: {said}");
    }
    cluster.configure(1, "admin_tls", "{ cert: other/node1.pem, key: other/node1.key }");
    let port = cluster.admin_address(3).port();
    cluster.configure(3, "admin_listen", &format!("0.0.0.0:{port}"));
    cluster.configure(3, "admin_insecure", "true");
    let cluster = cluster.started();
    let head = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let shown_to = |ca: PathBuf| send_over_tls(cluster.admin_address(1), &ca, head);
    let of_cluster = || shown_to(ca(&cluster));
    assert!(of_cluster().is_err(), "signed by another authority");
    assert_eq!(shown_to(other.join("ca.pem")).expect("an answer").status, 200);

    for (from, to) in [("node1.key", "other/node1.key"), ("node1.pem", "other/node1.pem")] {
        fs::copy(cluster.dir().join(from), cluster.dir().join(to)).expect("dfsd dev made it");
    }
    cluster.process(1).signal(Signal::HUP);
    wait::until_true("the new certificate is shown", SOON, || of_cluster().is_ok());
    assert!(shown_to(other.join("ca.pem")).is_err(), "the former one is gone");

    // Plaintext has a word of its own, and is warned of.
    assert_eq!(get(cluster.admin_address(3), "/metrics").status, 401);
    assert!(cluster.log(3).contains("'admin_insecure: true'"), "{}", cluster.log(3));
}
