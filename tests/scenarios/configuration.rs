//! Mistakes in configurations: one clear message each, nothing written.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::Cluster;
use harness::cluster::{NODES, USER, set_key};
use harness::content::tree;

use crate::{PROGRAMS, cluster};

/// Changes a configuration for the worse.
type Mistake<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

fn replace(file: &Path, text: &str) {
    fs::write(file, text).expect("a configuration can be written");
}

fn without(file: &Path, key: &str) {
    let text = fs::read_to_string(file).expect("a configuration can be read");
    let start = format!("{key}:");
    let lines = text.lines().filter(|line| !line.starts_with(&start));
    replace(file, &lines.collect::<Vec<_>>().join("\n"));
}

/// Runs `dfsd` in a way that must fail with exit code 2, say these words and write nothing.
#[track_caller]
fn assert_refused(cluster: &Cluster, what: &str, args: &[&str], words: &[&str]) {
    let before = tree(&cluster.dir());
    let (status, said) = cluster.dfsd(args.iter().copied());
    assert_eq!(status.code(), Some(2), "{what}: {said}");
    for word in words {
        assert!(said.contains(word), "{what}: no `{word}` in: {said}");
    }
    assert_eq!(tree(&cluster.dir()), before, "{what}");
}

#[test]
fn mistakes_in_a_nodes_configuration_are_named() {
    let cluster = Cluster::written(PROGRAMS);
    let config = cluster.node_config(1);
    let good = fs::read_to_string(&config).expect("dfsd dev made it");
    let mistakes: &[Mistake<'_>] = &[
        ("missing", &|f| fs::remove_file(f).expect("it is there"), &["dfs1.yaml"]),
        ("empty", &|f| replace(f, ""), &["dfs1.yaml", "cluster", "node", "listen"]),
        ("malformed", &|f| replace(f, "cluster: demo\nnode: [1\n"), &["dfs1.yaml", "line 2"]),
        ("no mapping", &|f| replace(f, "just a sentence\n"), &["dfs1.yaml"]),
        ("unknown key", &|f| set_key(f, "colour", "blue"), &["dfs1.yaml:", "colour"]),
        ("missing key", &|f| without(f, "data_dir"), &["dfs1.yaml", "data_dir"]),
        ("position", &|f| set_key(f, "node", "5"), &["dfs1.yaml:", "node:", "1, 2, 3 or 4"]),
        ("address", &|f| set_key(f, "listen", "here"), &["dfs1.yaml", "listen", "here"]),
        ("peers", &|f| set_key(f, "peers", "[127.0.0.1:1]"), &["dfs1.yaml", "peers"]),
        ("grace", &|f| set_key(f, "prune_grace", "soon"), &["dfs1.yaml", "prune_grace", "soon"]),
        ("cluster", &|f| set_key(f, "cluster", "'a b'"), &["dfs1.yaml", "cluster"]),
        ("users", &|f| set_key(f, "users_file", "no.yaml"), &["no.yaml"]),
        ("secret", &|f| set_key(f, "cluster_secret_file", "no.secret"), &["no.secret"]),
        ("open to all", &|f| set_key(f, "listen", "0.0.0.0:19999"), &["dfs1.yaml", "insecure"]),
    ];
    let path = config.to_str().expect("UTF-8");
    for (what, make, words) in mistakes {
        make(&config);
        for command in ["serve", "check"] {
            assert_refused(&cluster, what, &[command, "--config", path], words);
        }
        replace(&config, &good);
    }
    let (status, said) = cluster.dfsd(["check", "--config", path]);
    assert!(status.success(), "{said}");
}

#[test]
fn all_mistakes_are_named_at_once() {
    let cluster = Cluster::written(PROGRAMS);
    let config = cluster.node_config(2);
    set_key(&config, "node", "7");
    set_key(&config, "prune_grace", "soon");
    set_key(&config, "listen", "here");
    let path = config.to_str().expect("UTF-8");
    let words = ["node:", "prune_grace:", "soon", "listen:", "here"];
    assert_refused(&cluster, "three mistakes", &["serve", "--config", path], &words);
}

#[test]
fn a_users_file_that_is_damaged_is_refused() {
    let cluster = Cluster::written(PROGRAMS);
    let config = cluster.node_config(1);
    let path = config.to_str().expect("UTF-8");
    for text in ["users: [", "nonsense: true\n", "just words\n"] {
        replace(&cluster.dir().join("users.yaml"), text);
        let args = ["serve", "--config", path];
        assert_refused(&cluster, text, &args, &["users.yaml"]);
    }
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::written(PROGRAMS);
    let address = cluster.address(3);
    let _taken = TcpListener::bind(address).expect("the port is ours");
    let config = cluster.node_config(3);
    let config = config.to_str().expect("UTF-8");
    let identity = cluster.data_dir(3).join("identity");
    let before = fs::read(&identity).expect("dfsd dev made it");
    let (status, said) = cluster.dfsd(["serve", "--config", config]);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains(&address.to_string()) && said.contains("in use"), "{said}");
    assert_eq!(fs::read(&identity).expect("it stays"), before, "it was no start");
}

#[test]
fn a_data_directory_of_another_node_or_cluster_is_refused() {
    let cluster = Cluster::written(PROGRAMS);
    let config = cluster.node_config(1);
    let path = config.to_str().expect("UTF-8").to_owned();
    let good = fs::read_to_string(&config).expect("dfsd dev made it");
    let serve = ["serve", "--config", &path];

    set_key(&config, "data_dir", "dfs2");
    assert_refused(&cluster, "position", &serve, &["dfs2", "node 2"]);
    replace(&config, &good);

    set_key(&config, "cluster", "another-cluster");
    assert_refused(&cluster, "cluster", &serve, &["dfs1", "another-cluster"]);
    replace(&config, &good);

    let if_needed = ["init", "--if-needed", "--config", &path];
    set_key(&config, "data_dir", "dfs2");
    assert_refused(&cluster, "init of another's", &if_needed, &["dfs2", "node 2"]);
    replace(&config, &good);

    set_key(&config, "data_dir", "nowhere");
    assert_refused(&cluster, "no directory", &serve, &["nowhere", "dfsd init"]);
    replace(&config, &good);

    // A directory with something in it is not made into a data directory.
    assert_refused(&cluster, "init", &["init", "--config", &path], &["dfs1"]);
}

#[test]
fn a_start_in_a_container_makes_the_data_directory_once() {
    let cluster = Cluster::written(PROGRAMS);
    let config = cluster.node_config(1);
    let path = config.to_str().expect("UTF-8").to_owned();
    let if_needed = ["init", "--if-needed", "--config", &path];
    let identity = |dir: &str| fs::read(cluster.data_dir(1).with_file_name(dir).join("identity"));

    let before = identity("dfs1").expect("dfsd dev made it");
    let (done, said) = cluster.dfsd(if_needed);
    assert!(done.success() && said.contains("already"), "{said}");
    assert_eq!(identity("dfs1").expect("it stays"), before);

    set_key(&config, "data_dir", "new");
    let (done, said) = cluster.dfsd(if_needed);
    assert!(done.success() && said.contains("initialised"), "{said}");
    let made = identity("new").expect("it was made");
    let (done, said) = cluster.dfsd(if_needed);
    assert!(done.success() && said.contains("already"), "{said}");
    assert_eq!(identity("new").expect("it stays"), made);
}

#[test]
fn a_node_without_its_index_does_not_start() {
    let mut cluster = cluster();
    cluster.put("file", "content");
    cluster.kill(1);
    fs::remove_dir_all(cluster.data_dir(1).join("index")).expect("the index is a directory");
    let config = cluster.node_config(1);
    let before = tree(&cluster.data_dir(1));
    let (status, said) = cluster.dfsd(["serve", "--config", config.to_str().expect("UTF-8")]);
    assert!(!status.success(), "{said}");
    assert!(said.contains("dfsd rejoin"), "{said}");
    assert_eq!(tree(&cluster.data_dir(1)), before);
    assert_eq!(cluster.get("file"), b"content");
}

/// The changes of a client's configuration, and what `dfsctl` says.
#[test]
fn mistakes_in_a_clients_configuration_are_named() {
    let cluster = cluster();
    let config = cluster.client_config();
    let good = fs::read_to_string(&config).expect("dfsd dev made it");
    let mistakes: &[Mistake<'_>] = &[
        ("missing", &|f| fs::remove_file(f).expect("it is there"), &["dfs.yaml"]),
        ("empty", &|f| replace(f, ""), &["dfs.yaml", "cluster"]),
        ("malformed", &|f| replace(f, "cluster: demo\nnodes: [1\n"), &["dfs.yaml", "line"]),
        ("unknown key", &|f| set_key(f, "colour", "blue"), &["dfs.yaml", "colour", "line"]),
        ("nodes", &|f| set_key(f, "nodes", "[127.0.0.1:1]"), &["dfs.yaml", "nodes"]),
        ("address", &|f| set_key(f, "nodes", "[a, b, c, d]"), &["dfs.yaml", "nodes"]),
        ("user", &|f| set_key(f, "user", "Not A User"), &["dfs.yaml", "user"]),
        ("password", &|f| set_key(f, "password_file", "no.pass"), &["no.pass"]),
    ];
    cluster.file("local", "content");
    for (what, make, words) in mistakes {
        make(&config);
        let commands: [&[&str]; 3] = [&["list"], &["put", "local"], &["get", "x", "-"]];
        for args in commands {
            let refused = cluster.dfsctl().args(args).run();
            assert_eq!(refused.code, Some(2), "{what}: {refused}");
            for word in *words {
                assert!(refused.stderr.contains(word), "{what}: no `{word}`: {refused}");
            }
        }
        replace(&config, &good);
    }
    assert_eq!(cluster.list(), [""; 0]);
}

#[test]
fn without_any_configuration_dfsctl_says_where_it_looked() {
    let cluster = Cluster::written(PROGRAMS);
    let refused = cluster.bare_dfsctl().arg("list").run().exits(2);
    refused.says("dfs.yaml").says("DFS_CONFIG");
    // Found in the working directory, then at its place in the home directory.
    let home = cluster.work_dir().join(".config/dfs");
    fs::create_dir_all(&home).expect("a new directory");
    for place in [cluster.work_dir(), home] {
        let config = place.join("dfs.yaml");
        replace(&config, "colour: blue\n");
        let refused = cluster.bare_dfsctl().arg("list").run().exits(2);
        refused.says("colour");
        fs::remove_file(config).expect("it was just written");
    }
}

#[test]
fn addresses_that_are_swapped_are_refused_and_nothing_is_written() {
    let cluster = cluster();
    cluster.put("file", "content");
    cluster.file("new", harness::content::noise(1, 400_000));
    let [a, b, c, d] = cluster.addresses();
    for (number, swapped) in
        [[b, a, c, d], [a, b, d, c], [c, b, a, d], [d, a, b, c]].into_iter().enumerate()
    {
        let name = format!("swapped-{number}.yaml");
        let config: PathBuf = cluster.client_config_with(&name, swapped);
        for args in [&["put", "new"][..], &["list"], &["get", "file", "-"], &["rm", "file"]] {
            let run = cluster.dfsctl().arg("--config").arg(&config).args(args).run();
            run.exits(2).says(&name).says("node");
        }
    }
    for node in NODES {
        assert_eq!(cluster.chunk_files(node, USER), [""; 0], "node {node}");
    }
    assert_eq!(cluster.list(), ["file"]);
    assert_eq!(cluster.get("file"), b"content");
}

#[test]
fn wrong_arguments_are_refused() {
    let cluster = cluster();
    let lines: [&[&str]; 7] = [
        &[],
        &["nonsense"],
        &["put"],
        &["get"],
        &["get", "a", "--pair", "1,4"],
        &["list", "--nonsense"],
        &["--output", "xml", "list"],
    ];
    for args in lines {
        cluster.dfsctl().args(args).run().exits(2);
    }
    for args in [&["serve"][..], &["nonsense"], &["user", "add"]] {
        let (status, said) = cluster.dfsd(args.iter().copied());
        assert_eq!(status.code(), Some(2), "{said}");
    }
}

#[test]
fn what_a_node_writes_is_for_its_owner_only() {
    let cluster = cluster();
    cluster.put("small", "x");
    cluster.put("large", harness::content::noise(1, 1_000_000));
    let mut dirs = vec![cluster.data_dir(1)];
    let mut seen = 0;
    while let Some(path) = dirs.pop() {
        let about = fs::symlink_metadata(&path).expect("it is there");
        assert_eq!(about.permissions().mode() & 0o077, 0, "{}", path.display());
        if about.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory");
            dirs.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        seen += 1;
    }
    assert!(seen > 10, "the index and a chunk file are among them");
}

#[test]
fn a_node_does_not_start_with_secrets_that_others_can_read() {
    let cluster = Cluster::written(PROGRAMS);
    let config = cluster.node_config(1);
    let config = config.to_str().expect("UTF-8");
    for name in ["cluster.secret", "users.yaml"] {
        let path = cluster.dir().join(name);
        let open = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        open(0o644).expect("it is ours");
        for command in ["serve", "check"] {
            let (status, said) = cluster.dfsd([command, "--config", config]);
            assert_eq!(status.code(), Some(2), "{command}: {said}");
            assert!(said.contains(name) && said.contains("chmod 600"), "{command}: {said}");
        }
        open(0o600).expect("it is ours");
    }
    let (status, said) = cluster.dfsd(["check", "--config", config]);
    assert!(status.success(), "{said}");
}
