use super::issue::{Holder, Issued};
use super::*;
use crate::identity::replace_file;
use crate::peers::dial::Dial;
use dfs_proto::placement::NodeId;
use dfs_proto::wire::network;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The files of a node, and what they are made with.
struct Files {
    dir: tempfile::TempDir,
    authority: Issued,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = issue::authority(1000 * DAY).unwrap();
        replace_file(&dir.path().join("ca.pem"), authority.cert.as_bytes()).unwrap();
        let files = Self { dir, authority };
        files.put(&files.issue(Holder::Node, "localhost", 100 * DAY));
        files
    }

    fn issue(&self, holder: Holder, host: &str, life: Duration) -> Issued {
        let hosts = [host.to_owned(), "127.0.0.1".to_owned()];
        issue::certificate(&self.authority.key, holder, "node1", &hosts, life).unwrap()
    }

    fn put(&self, issued: &Issued) {
        self.write("node.pem", &issued.cert);
        self.write("node.key", &issued.key);
    }

    fn write(&self, name: &str, text: &str) {
        replace_file(&self.dir.path().join(name), text.as_bytes()).unwrap();
    }

    fn load(&self, client_ca: bool) -> Result<Tls, TlsError> {
        Tls::load(&TlsSettings::in_dir(self.dir.path(), client_ca), "localhost")
    }

    #[track_caller]
    fn refused(&self, words: &str) {
        let error = self.load(true).err().expect("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn good_files_are_taken() {
    let files = Files::new();
    for client_ca in [false, true] {
        let tls = files.load(client_ca).unwrap();
        let left = tls.current().ends.0.duration_since(SystemTime::now()).unwrap();
        assert!(left < 100 * DAY && left > 99 * DAY, "{left:?}");
        assert_eq!(tls.current().ends_soon(), None);
    }
    files.put(&files.issue(Holder::Node, "localhost", 20 * DAY + Duration::from_secs(60)));
    let soon = files.load(true).unwrap().current().ends_soon().unwrap();
    assert!(soon.contains("node.pem: ends in 20 days"), "{soon}");
}

#[test]
fn what_others_would_not_accept_is_refused() {
    let files = Files::new();
    let other = issue::authority(DAY).unwrap();
    files.write("ca.pem", &other.cert);
    files.refused("not signed by the authority");
    files.write("ca.pem", "nothing");
    files.refused("ca.pem: there is no certificate");
    files.write("ca.pem", &files.authority.cert);
    files.write("node.key", &other.key);
    files.refused("node.key: does not fit");
    files.write("node.key", "nothing");
    files.refused("node.key: there is no private key");
    files.put(&files.issue(Holder::Node, "elsewhere", DAY));
    files.refused("not for 'localhost'");
    files.put(&files.issue(Holder::Client, "localhost", DAY));
    files.refused("cannot be used");
    files.put(&files.issue(Holder::Node, "localhost", Duration::from_secs(1)));
    std::thread::sleep(Duration::from_millis(2100));
    files.refused("its time is over");
    files.put(&files.issue(Holder::Node, "localhost", DAY));
    assert!(files.load(true).is_ok());
    let key = files.dir.path().join("node.key");
    set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    files.refused("chmod 600");
}

#[test]
fn what_cannot_be_used_leaves_what_there_is() {
    let files = Files::new();
    let tls = files.load(false).unwrap();
    let before = (tls.current().generation, tls.stamps());
    files.put(&files.issue(Holder::Node, "elsewhere", DAY));
    assert!(tls.reload().is_err());
    assert_eq!(tls.current().generation, before.0);
    assert_ne!(tls.stamps(), before.1, "the change was seen");
    files.put(&files.issue(Holder::Node, "localhost", 50 * DAY));
    tls.reload().unwrap();
    assert_eq!(tls.current().generation, 2);
    let left = tls.current().ends.0.duration_since(SystemTime::now()).unwrap();
    assert!(left < 50 * DAY);
}

#[test]
fn the_host_of_an_address_has_no_brackets() {
    assert_eq!(host("a.example:1"), "a.example");
    assert_eq!(host("[::1]:10001"), "::1");
    assert_eq!(host("127.0.0.1:1"), "127.0.0.1");
}

#[test]
fn a_foreign_key_is_noticed() {
    let (one, other) = (issue::authority(DAY).unwrap(), issue::authority(DAY).unwrap());
    let made = issue::certificate(&one.key, Holder::Client, "c", &[], DAY).unwrap();
    assert!(issue::is_signed_by(&made, &one.cert));
    assert!(!issue::is_signed_by(&made, &other.cert));
}

#[tokio::test]
async fn a_handshake_that_nobody_answers_ends() {
    // The system takes the connection, and nobody ever reads from it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let tls = Some(Arc::new(Files::new().load(false).unwrap()));
    let dial = Dial::new(&NodeId::ALL.map(|_| address.clone()), tls, network::system());
    let connecting = tokio::time::timeout(Duration::from_secs(10), dial.connect(NodeId::N2));
    let error = connecting.await.expect("it ends by itself").unwrap_err();
    assert!(error.to_string().contains("no connection within 3 s"), "{error}");
}
