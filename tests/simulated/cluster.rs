//! The files of four nodes and their clients, and the software of one node.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dfs_client::{Client, Config, Credentials, UserName};
use harness::cluster::{NODES, USER, cheap_hash};
use tempfile::TempDir;

use crate::network::{PORT, Simulated, incoming};

const PASSWORD: &str = "correct horse";

/// Short beside the length of a run: what is abandoned or superseded goes meanwhile.
const SETTINGS: &str = "insecure: true\nheal_every: 3s\nscrub_every: off\nprune_grace: 1s\n\
                        staging_ttl: 2s\n";

/// How long the threads of a node that was crashed may take to end, in reality.
const LET_GO_WITHIN: Duration = Duration::from_secs(20);

/// The name of a node's host.
pub(crate) fn host(node: usize) -> String {
    format!("node{node}")
}

/// Four disks that are no longer there when it is dropped.
pub(crate) struct Cluster {
    dir: TempDir,
}

impl Cluster {
    /// Makes the disks of four new nodes.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dfs-simulated-").tempdir();
        let cluster = Self { dir: dir.expect("the temporary directory is writable") };
        let write = |name: &str, text: &str| {
            // Nobody else may read secrets.
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(cluster.path(name));
            file.expect("a new file").write_all(text.as_bytes()).expect("a short text is written");
        };
        let hash = cheap_hash(PASSWORD);
        let user = format!("users:\n- name: {USER}\n  password_hash: {hash}\n  role: admin\n");
        write("users.yaml", &user);
        write("secret", "a-secret-of-the-cluster\n");
        let nodes = NODES.map(|node| format!("'{}:{PORT}'", host(node))).join(", ");
        for node in NODES {
            let dir = cluster.dir.path().display();
            let text = format!(
                "cluster: demo\nnode: {node}\nlisten: 0.0.0.0:{PORT}\ndata_dir: {dir}/data{node}\n\
                 users_file: {dir}/users.yaml\ncluster_secret_file: {dir}/secret\n\
                 peers: [{nodes}]\n{SETTINGS}"
            );
            write(&format!("node{node}.yaml"), &text);
            dfs_server::simulated::create(&cluster.node_config(node)).expect("a new disk");
        }
        write("client.yaml", &format!("cluster: demo\nnodes: [{nodes}]\n"));
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn node_config(&self, node: usize) -> PathBuf {
        self.path(&format!("node{node}.yaml"))
    }

    /// The configuration of the clients.
    pub(crate) fn client_config(&self) -> PathBuf {
        self.path("client.yaml")
    }

    /// Where clients keep what they got.
    pub(crate) fn work_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

/// A node from its start to its crash.
pub(crate) async fn node(config: PathBuf) -> turmoil::Result {
    let node = open(&config);
    node.serve(incoming().await?).await.map_err(|error| error as Box<dyn Error>)
}

/// Opens a node as soon as the threads of its last run have let go of the disk.
fn open(config: &Path) -> dfs_server::simulated::Node {
    let began = Instant::now();
    loop {
        match dfs_server::simulated::Node::open(config, Arc::new(Simulated)) {
            Ok(node) => return node,
            Err(error) => {
                assert!(began.elapsed() < LET_GO_WITHIN, "{}: {error}", config.display());
                sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Connects a client.
pub(crate) async fn client(config: &Path) -> Result<Client, dfs_client::Error> {
    let config = Config::load(config).expect("a valid configuration");
    let user = UserName::new(USER).expect("a valid name");
    let credentials = Credentials::new(user, PASSWORD);
    Client::connect_over(Arc::new(Simulated), &config, credentials, Arc::new(|_| {})).await
}
