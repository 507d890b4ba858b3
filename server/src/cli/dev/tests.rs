use super::*;
use crate::password::HashMemory;
use std::os::unix::fs::PermissionsExt;

fn args(dir: &Path) -> DevArgs {
    DevArgs { dir: dir.to_owned(), base_port: 20101, init_only: true, tls: false }
}

#[test]
fn makes_what_four_nodes_and_a_client_need_and_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(&args(dir)).unwrap();
    for (node, port) in NodeId::ALL.into_iter().zip(20101..) {
        let config = Config::load(&dir.join(format!("dfs{node}.yaml"))).unwrap();
        assert_eq!(config.node, node);
        assert_eq!(config.listen.port(), port);
        assert_eq!(config.admin.as_ref().unwrap().listen.port(), port + 1000);
        assert_eq!(config.peers[node.index()], config.listen.to_string());
        config.read_secret().unwrap();
        let identity = dir.join(format!("dfs{node}/identity"));
        assert!(identity.is_file());
    }
    for secret in ["alice.pass", "cluster.secret", "users.yaml"] {
        let mode = fs::metadata(dir.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let password = fs::read_to_string(dir.join("alice.pass")).unwrap();
    let users = Users::load(&dir.join("users.yaml")).unwrap();
    assert!(users.verify("alice", password.trim_end(), &mut HashMemory::default()).is_some());

    let before = fs::read(dir.join("dfs1/identity")).unwrap();
    prepare(&args(dir)).unwrap();
    assert_eq!(fs::read(dir.join("dfs1/identity")).unwrap(), before, "nothing is made again");
}

#[test]
fn a_directory_with_other_things_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let error = prepare(&args(dir.path())).err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
