//! A cluster: a directory, four addresses and the nodes that run.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use tempfile::TempDir;

use crate::api::NodeApi;
use crate::ctl::Ctl;
use crate::machine::Share;
use crate::ports::Ports;
use crate::process::{Process, Signal};
use crate::{content, wait};

/// The four positions.
pub const NODES: [usize; 4] = [1, 2, 3, 4];

/// The user of a development cluster.
pub const USER: &str = "alice";

/// A node opens its index and binds its port in a fraction of a second; a busy machine may
/// take longer.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A node ends within this time of SIGTERM.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How much of each node's log a failed test prints.
const LOG_TAIL_LINES: usize = 40;

/// The programs under test.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// Path of `dfsd`.
    pub dfsd: &'static str,
    /// Path of `dfsctl`.
    pub dfsctl: &'static str,
}

/// Four nodes, their files and a place to work in.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    nodes: [Option<Process>; 4],
    /// What each node finds in its environment when it is started.
    env: [Vec<(String, String)>; 4],
    ports: Ports,
    dir: TempDir,
    /// Given back last, when all processes are gone.
    _share: Share,
}

impl Cluster {
    /// Writes a development cluster and starts its four nodes.
    pub fn start(programs: Programs) -> Self {
        Self::written(programs).started()
    }

    /// Writes a development cluster of which nothing runs.
    ///
    /// Its user's password is hashed at next to no cost: a test is not to wait for four logins
    /// in every command, which are slow on purpose. Its nodes do not heal by themselves.
    pub fn written(programs: Programs) -> Self {
        Self::prepared(programs, &[])
    }

    /// Writes a development cluster that speaks TLS, of which nothing runs.
    pub fn written_with_tls(programs: Programs) -> Self {
        Self::prepared(programs, &["--tls"])
    }

    fn prepared(programs: Programs, options: &[&str]) -> Self {
        let cluster = Self::write(programs, Share::one(), options);
        let text = format!(
            "users:\n- name: {USER}\n  password_hash: {}\n  role: admin\n",
            cheap_hash(&cluster.password())
        );
        fs::write(cluster.dir().join("users.yaml"), text).expect("dfsd dev made it");
        for node in NODES {
            // What a test breaks stays broken until the test mends it.
            set_key(&cluster.node_config(node), "heal_every", "off");
            set_key(&cluster.node_config(node), "scrub_every", "off");
        }
        cluster
    }

    /// Starts a development cluster just as `dfsd dev` makes it, with no other test beside it.
    pub fn start_alone(programs: Programs) -> Self {
        Self::write(programs, Share::all(), &[]).started()
    }

    /// The password of the development cluster's user.
    pub fn password(&self) -> String {
        let text = fs::read_to_string(self.dir().join("alice.pass")).expect("dfsd dev made it");
        text.trim_end().to_owned()
    }

    fn write(programs: Programs, share: Share, options: &[&str]) -> Self {
        let cluster = Self {
            programs,
            nodes: [const { None }; 4],
            env: [const { Vec::new() }; 4],
            ports: Ports::reserve(),
            dir: tempfile::Builder::new()
                .prefix("dfs-test-")
                .tempdir()
                .expect("the temporary directory is writable"),
            _share: share,
        };
        fs::create_dir(cluster.work_dir()).expect("a new directory");
        let base = cluster.ports.base().to_string();
        let dir = cluster.dir();
        let dir = dir.to_str().expect("temporary directories are UTF-8");
        let args = ["dev", "--dir", dir, "--base-port", &base, "--init-only"];
        let written = cluster.dfsd(args.into_iter().chain(options.iter().copied()));
        assert!(written.0.success(), "dfsd dev: {}", written.1);
        cluster
    }

    /// Starts the four nodes of a cluster that was only written.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.run_only(&NODES);
        self
    }

    // ---- Files

    /// Where the cluster's files are.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// Where `dfsctl` runs, and the local files are.
    pub fn work_dir(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Makes a local file.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work_dir().join(name);
        fs::create_dir_all(path.parent().expect("it is below the work directory"))
            .expect("a directory for it");
        fs::write(&path, content).expect("a local file can be written");
        path
    }

    /// Reads a local file.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.work_dir().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The configuration of a node.
    pub fn node_config(&self, node: usize) -> PathBuf {
        self.dir().join(format!("dfs{node}.yaml"))
    }

    /// The configuration of the client.
    pub fn client_config(&self) -> PathBuf {
        self.dir().join("dfs.yaml")
    }

    /// The data directory of a node.
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.dir().join(format!("dfs{node}"))
    }

    /// The chunk files of a user on a node, and all that is staged there.
    pub fn chunk_files(&self, node: usize, user: &str) -> Vec<String> {
        let data = self.data_dir(node);
        let mut found = content::files(&data.join("chunks").join(user));
        found.extend(content::files(&data.join("staging")));
        found
    }

    /// Writes a client configuration with these addresses.
    pub fn client_config_with(&self, name: &str, addresses: [SocketAddr; 4]) -> PathBuf {
        let path = self.dir().join(name);
        fs::copy(self.client_config(), &path).expect("dfsd dev made it");
        let addresses = addresses.map(|address| address.to_string()).join(", ");
        set_key(&path, "nodes", &format!("[{addresses}]"));
        path
    }

    /// Adds a user whose password is his name and ` password`; for nodes that start later.
    pub fn add_user(&self, user: &str) {
        let users = self.dir().join("users.yaml");
        let users = users.to_str().expect("temporary directories are UTF-8");
        let args = ["user", "add", user, "--users", users, "--password-stdin"];
        let added = self.dfsd_with_input(args, &password_of(user));
        assert!(added.0.success(), "dfsd user add: {}", added.1);
    }

    /// Runs `dfsd` to its end and returns what it says.
    pub fn dfsd<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> (ExitStatus, String) {
        self.dfsd_with_input(args, "")
    }

    /// Runs `dfsd` to its end with this line on standard input.
    pub fn dfsd_with_input<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        line: &str,
    ) -> (ExitStatus, String) {
        let input = self.dir.path().join("input");
        let output = self.dir.path().join("output");
        fs::write(&input, format!("{line}\n")).expect("a file for the input");
        let log = File::create(&output).expect("a file for the output");
        let mut command = Command::new(self.programs.dfsd);
        command.args(args).current_dir(self.dir.path());
        command.stdin(File::open(&input).expect("it was just written"));
        command.stdout(log.try_clone().expect("a file descriptor"));
        command.stderr(log);
        let status = Process::spawn("dfsd", &mut command).wait(START_LIMIT);
        let said = fs::read(&output).expect("it was just written");
        (status, String::from_utf8_lossy(&said).into_owned())
    }

    // ---- Nodes

    /// Where a node listens.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.ports.address(node)
    }

    /// Where a node's metrics and status page are.
    pub fn admin_address(&self, node: usize) -> SocketAddr {
        self.ports.admin_address(node)
    }

    /// Where the four nodes listen.
    pub fn addresses(&self) -> [SocketAddr; 4] {
        NODES.map(|node| self.address(node))
    }

    /// Sets what a node finds in its environment from its next start on.
    pub fn set_env(&mut self, node: usize, env: &[(String, String)]) {
        self.env[node - 1] = env.to_vec();
    }

    /// Sets a key of a node's configuration, for its next start.
    pub fn configure(&self, node: usize, key: &str, value: &str) {
        set_key(&self.node_config(node), key, value);
    }

    /// How a node that was started ended; `None` while it runs.
    #[track_caller]
    pub fn ended(&mut self, node: usize) -> Option<ExitStatus> {
        self.nodes[node - 1].as_mut().expect("the node was started").ended()
    }

    /// Starts a node and waits until it answers.
    pub fn start_node(&mut self, node: usize) {
        self.nodes[node - 1] = Some(self.launch(node));
        self.await_ready(node);
    }

    /// Starts these nodes and ends all others as a power cut would.
    pub fn run_only(&mut self, live: &[usize]) {
        let down = NODES.into_iter().filter(|node| !live.contains(node));
        down.for_each(|node| self.kill(node));
        let absent = |node: &usize| self.nodes[node - 1].is_none();
        let starting: Vec<usize> = live.iter().copied().filter(absent).collect();
        starting.iter().for_each(|node| self.nodes[node - 1] = Some(self.launch(*node)));
        starting.iter().for_each(|node| self.await_ready(*node));
    }

    /// Starts all nodes but these and ends these as a power cut would.
    pub fn run_without(&mut self, down: &[usize]) {
        let live = NODES.into_iter().filter(|node| !down.contains(node));
        self.run_only(&live.collect::<Vec<_>>());
    }

    /// Ends a node at once (SIGKILL), if it runs.
    pub fn kill(&mut self, node: usize) {
        drop(self.nodes[node - 1].take());
    }

    /// Asks a node to end (SIGTERM) and returns how it did and how long that took.
    #[track_caller]
    pub fn stop(&mut self, node: usize) -> (ExitStatus, Duration) {
        let mut process = self.nodes[node - 1].take().expect("the node runs");
        let started = Instant::now();
        process.signal(Signal::TERM);
        let status = process.wait(STOP_LIMIT);
        (status, started.elapsed())
    }

    /// Stops a node without ending it: it accepts connections and never answers.
    pub fn freeze(&self, node: usize) {
        self.process(node).signal(Signal::STOP);
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, node: usize) {
        self.process(node).signal(Signal::CONT);
    }

    /// The process of a node that runs.
    #[track_caller]
    pub fn process(&self, node: usize) -> &Process {
        self.nodes[node - 1].as_ref().expect("the node runs")
    }

    /// What a node has logged so far.
    pub fn log(&self, node: usize) -> String {
        let bytes = fs::read(self.log_file(node)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node{node}.log"))
    }

    /// Starts a node that is not expected to stay, for the caller to watch.
    pub fn launch(&self, node: usize) -> Process {
        let mut options = OpenOptions::new();
        let log = options.append(true).create(true).open(self.log_file(node));
        let log = log.expect("a log file");
        let mut command = Command::new(self.programs.dfsd);
        command.arg("serve").arg("--config").arg(self.node_config(node));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file descriptor"));
        command.stderr(log).env_remove("RUST_LOG");
        command.envs(self.env[node - 1].iter().map(|(name, value)| (name, value)));
        Process::spawn(format!("node {node}"), &mut command)
    }

    /// Starts the four nodes as children of one `dfsd dev`.
    pub fn launch_dev(&self) -> Process {
        let log = File::create(self.dir.path().join("dev.log")).expect("a log file");
        let mut command = Command::new(self.programs.dfsd);
        command.arg("dev").arg("--dir").arg(self.dir());
        command.args(["--base-port", &self.ports.base().to_string()]);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file descriptor")).stderr(log);
        Process::spawn("dfsd dev", &mut command)
    }

    /// Waits until a node answers; it binds its port no sooner.
    fn await_ready(&mut self, node: usize) {
        let address = self.address(node);
        let process = self.nodes[node - 1].as_mut().expect("just launched");
        wait::until_true(&format!("node {node} listens"), START_LIMIT, || {
            let ended = process.ended();
            assert!(ended.is_none(), "node {node} ended at its start: {ended:?}");
            TcpStream::connect(address).is_ok()
        });
    }

    // ---- Clients

    /// `dfsctl` as the user of the development cluster.
    pub fn dfsctl(&self) -> Ctl {
        self.bare_dfsctl().env("DFS_CONFIG", self.client_config())
    }

    /// `dfsctl` as another user, made by [`Self::add_user`].
    pub fn dfsctl_as(&self, user: &str) -> Ctl {
        let ctl = self.dfsctl().args(["--user", user]);
        ctl.env("DFS_PASSWORD", password_of(user))
    }

    /// `dfsctl` that knows nothing of the cluster.
    pub fn bare_dfsctl(&self) -> Ctl {
        Ctl::new(self.programs.dfsctl, &self.work_dir())
    }

    /// Runs `dfsctl` as the user of the development cluster.
    #[track_caller]
    pub fn ctl<const N: usize>(&self, args: [&str; N]) -> crate::Output {
        self.dfsctl().args(args).run()
    }

    /// Fetches a file and returns its content; requires exit code 0.
    #[track_caller]
    pub fn get(&self, remote: &str) -> Vec<u8> {
        self.ctl(["get", "--", remote, "-"]).ok().stdout
    }

    /// Stores some content under a name; requires exit code 0.
    #[track_caller]
    pub fn put(&self, remote: &str, content: impl AsRef<[u8]>) {
        let put = self.dfsctl().args(["put", "--", "-", remote]);
        put.stdin(content.as_ref()).run().ok();
    }

    /// The names of all files, as `list` prints them; requires exit code 0.
    #[track_caller]
    pub fn list(&self) -> Vec<String> {
        let listing = self.ctl(["list"]).ok();
        listing.lines().into_iter().map(str::to_owned).collect()
    }

    /// Speaks to a node as the user of the development cluster.
    pub async fn api(&self, node: usize) -> NodeApi {
        NodeApi::log_in(self.address(node), USER, &self.password()).await
    }

    /// Speaks to a node as another user, made by [`Self::add_user`].
    pub async fn api_as(&self, user: &str, node: usize) -> NodeApi {
        NodeApi::log_in(self.address(node), user, &password_of(user)).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in NODES {
            let log = self.log(node);
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            let state = if self.nodes[node - 1].is_some() { "up" } else { "down" };
            eprintln!("---- log of node {node} ({state})\n{}", tail.join("\n"));
        }
    }
}

/// The password that [`Cluster::add_user`] gives to a user.
pub fn password_of(user: &str) -> String {
    format!("{user} password")
}

/// The hash of a password that costs next to nothing to check.
pub fn cheap_hash(password: &str) -> String {
    let params = Params::new(Params::MIN_M_COST, 1, 1, None).expect("the least there is");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password.as_bytes())
        .expect("a password can be hashed")
        .to_string()
}

/// Sets a key at the top of a YAML file, in place or as a new line.
pub fn set_key(file: &Path, key: &str, value: &str) {
    let text = fs::read_to_string(file).expect("the configuration can be read");
    let start = format!("{key}:");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with(&start));
    lines.push(format!("{key}: {value}"));
    fs::write(file, lines.join("\n") + "\n").expect("the configuration can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_replaced_or_added() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "a: 1\nb: 2\n").unwrap();
        set_key(file.path(), "a", "3");
        set_key(file.path(), "c", "[x]");
        let text = fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "b: 2\na: 3\nc: [x]\n");
    }
}
