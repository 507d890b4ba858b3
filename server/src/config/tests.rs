use super::quota::Limits;
use super::*;
use dfs_proto::name::UserName;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

const GOOD: &str = "\
cluster: demo-7f3a
node: 2
listen: 127.0.0.1:10002
data_dir: dfs2
users_file: users.yaml
peers: [127.0.0.1:10001, 127.0.0.1:10002, 127.0.0.1:10003, \"[::1]:10004\"]
cluster_secret_file: cluster.secret
";

fn load(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dfs2.yaml");
    fs::write(&file, text).unwrap();
    let mut loaded = Config::load(&file);
    if let Err(error) = &mut loaded {
        let shown = format!("{}/", dir.path().display());
        error.mistakes.iter_mut().for_each(|mistake| *mistake = mistake.replace(&shown, ""));
    }
    loaded
}

/// The mistakes in the good file with one line replaced.
fn mistakes(key: &str, line: &str) -> String {
    let lines =
        GOOD.lines().map(|old| if old.starts_with(&format!("{key}:")) { line } else { old });
    load(&lines.collect::<Vec<_>>().join("\n")).unwrap_err().to_string()
}

#[test]
fn a_good_file_is_taken_and_paths_are_relative_to_it() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.node, NodeId::N2);
    assert_eq!(config.data_dir, config.file.with_file_name("dfs2"));
    assert_eq!(config.cluster_secret_file, config.file.with_file_name("cluster.secret"));
    assert_eq!(config.prune_grace, Duration::from_secs(900));
    assert_eq!(config.staging_ttl, Duration::from_secs(86_400));
    assert_eq!((&config.admin, config.disk_reserve), (&None, None));
    let more = "data_dir: /abs\nadmin_listen: 127.0.0.1:11002\nprune_grace: 500ms\n\
        staging_ttl: 2h\ninsecure: true\ndisk_reserve: 3MiB\n";
    let config = load(&(GOOD.replace("data_dir: dfs2\n", "") + more)).unwrap();
    assert_eq!(config.data_dir, Path::new("/abs"));
    assert_eq!(config.prune_grace, Duration::from_millis(500));
    assert_eq!(config.staging_ttl, Duration::from_secs(7200));
    assert_eq!(config.disk_reserve, Some(3 << 20));
    assert!(config.insecure && config.admin.is_some());
}

#[test]
fn quotas_are_for_all_and_for_some() {
    let user = |name| UserName::new(name).unwrap();
    let limits = |bytes, files, staged| Limits { bytes, files, staged };
    assert_eq!(load(GOOD).unwrap().quotas.of(&user("alice")), Limits::default());
    let text = "quota: { bytes: 100GiB, files: 1000, \
        users: { alice: { bytes: 1TiB, files: off }, bob: { staged: 7 } } }\n";
    let quotas = load(&(GOOD.to_owned() + text)).unwrap().quotas;
    assert_eq!(quotas.of(&user("carol")), limits(Some(100 << 30), Some(1000), None));
    assert_eq!(quotas.of(&user("alice")), limits(Some(1 << 40), None, None));
    assert_eq!(quotas.of(&user("bob")), limits(Some(100 << 30), Some(1000), Some(7)));
    let text = "\
quota:
  bytes: 5G
  files: -1
  size: 3
  users:
    Alice: { bytes: [] }
    bob: many
";
    let error = load(&(GOOD.to_owned() + text)).unwrap_err().to_string();
    let expected = "\
dfs2.yaml:8: quota: bytes: '5G' is no number of bytes, such as 1000, 64KiB, 8MiB, 1GiB or 2TiB, or off
dfs2.yaml:8: quota: files: '-1' is no number of files, such as 1000000, or off
dfs2.yaml:8: quota: size: is not known; correct or remove it
dfs2.yaml:8: quota: users: Alice: bytes: '?' is no number of bytes, such as 1000, 64KiB, 8MiB, 1GiB or 2TiB, or off
dfs2.yaml:8: quota: users: Alice: ";
    assert!(error.starts_with(expected), "{error}");
    let last = error.lines().last().unwrap();
    assert!(last.starts_with("dfs2.yaml:8: quota: users: bob: is a map"), "{error}");
    assert!(load(&(GOOD.to_owned() + "quota: 3GiB\n")).is_err());
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = "\
cluster: 'no spaces'
node: 5
listen: localhost
data_dir: ''
users_file: [x]
peers: [127.0.0.1:10001, 127.0.0.1:10001, host, ':1']
tls: { crt: a }
prune_grace: 15
insecure: yes please
clustr: x
disk_reserve: 5G
";
    assert_eq!(
        load(text).unwrap_err().to_string(),
        "\
dfs2.yaml:10: clustr: is not known; correct or remove it
dfs2.yaml:1: cluster: cluster names are 1..64 bytes of a-z, A-Z, 0-9, '.', '_' and '-'
dfs2.yaml:2: node: is this node's position, 1, 2, 3 or 4
dfs2.yaml:3: listen: 'localhost' is no IP:PORT, such as 127.0.0.1:10001
dfs2.yaml:4: data_dir: is empty
dfs2.yaml:5: users_file: is a text, not a list or a map
dfs2.yaml:6: peers: '127.0.0.1:10001' is listed twice
dfs2.yaml:6: peers: 'host' is no HOST:PORT, such as 127.0.0.1:10001
dfs2.yaml:6: peers: ':1' is no HOST:PORT, such as 127.0.0.1:10001
dfs2.yaml: cluster_secret_file: is missing
dfs2.yaml:7: tls.crt: is not known; correct or remove it
dfs2.yaml:7: tls.cert: is missing
dfs2.yaml:7: tls.key: is missing
dfs2.yaml:7: tls.ca: is missing; it names the authority of the nodes' certificates
dfs2.yaml:9: insecure: is true or false
dfs2.yaml:8: prune_grace: '15' is no duration, such as 500ms, 30s, 15m, 2h or 7d
dfs2.yaml:11: disk_reserve: '5G' is no number of bytes, such as 1000, 64KiB, 8MiB, 1GiB or 2TiB"
    );
}

#[test]
fn each_key_is_missed() {
    for key in GOOD.lines().map(|line| line.split(':').next().unwrap()) {
        let error = mistakes(key, "");
        assert!(error.starts_with(&format!("dfs2.yaml: {key}: ")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn plaintext_off_loopback_has_to_be_asked_for() {
    let error = mistakes("listen", "listen: 0.0.0.0:10002");
    assert!(error.contains("insecure: true"), "{error}");
    let open = GOOD.replace("127.0.0.1:10002\ndata", "0.0.0.0:10002\ninsecure: true\ndata");
    assert!(load(&open).unwrap().insecure);
}

#[test]
fn the_admin_address_is_encrypted_off_the_loopback_or_has_a_word_of_its_own() {
    let tls = "tls: { cert: n.pem, key: n.key, ca: ca.pem }\n";
    let own = "admin_tls: { cert: w.pem, key: w.key }\n";
    let admin =
        |more: &str| load(&(GOOD.to_owned() + more)).map(|config| config.admin.unwrap().tls);
    let cert = |more: &str| {
        let tls = admin(more).unwrap();
        tls.map(|tls| tls.cert.file_name().unwrap().to_str().unwrap().to_owned())
    };
    let (near, far) = ("admin_listen: 127.0.0.1:1\n", "admin_listen: 0.0.0.0:1\n");
    let insecure = "admin_insecure: true\n";
    for (more, expected) in [
        (near.to_owned(), None),
        (near.to_owned() + tls, None),
        (near.to_owned() + own, Some("w.pem")),
        (far.to_owned() + tls, Some("n.pem")),
        (far.to_owned() + tls + own, Some("w.pem")),
        (far.to_owned() + own, Some("w.pem")),
        (far.to_owned() + tls + insecure, None),
        (far.to_owned() + insecure, None),
    ] {
        assert_eq!(cert(&more).as_deref(), expected, "{more}");
    }
    for (more, words) in [
        (far.to_owned(), "dfs2.yaml:8: admin_listen: 0.0.0.0:1 is not a loopback address"),
        (far.to_owned() + "insecure: true\n", "add 'admin_insecure: true'"),
        (far.to_owned() + own + insecure, "dfs2.yaml:10: admin_insecure: contradicts 'admin_tls'"),
        (near.to_owned() + "admin_insecure: 1\n", "admin_insecure: is true or false"),
        (near.to_owned() + "admin_tls: { cert: x, ca: y }\n", "admin_tls.ca: is not known"),
        (near.to_owned() + "admin_tls: { cert: x }\n", "admin_tls.key: is missing"),
    ] {
        let error = admin(&more).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn tls_takes_the_place_of_loopback() {
    let tls = "tls:\n  # of this node\n  cert: n.pem\n  key: /k/n.key\n  client_ca: ca.pem\n";
    let open = GOOD.replace("127.0.0.1:10002\ndata", "0.0.0.0:10002\ndata");
    let config = load(&(open + tls)).unwrap();
    let beside = |name: &str| config.file.with_file_name(name);
    assert_eq!(
        config.tls,
        Some(TlsSettings {
            cert: beside("n.pem"),
            key: "/k/n.key".into(),
            ca: beside("ca.pem"),
            client_ca: Some(beside("ca.pem")),
        })
    );
    let tls = tls.replace("client_ca", "ca").replace("key", "kee");
    let error = load(&(GOOD.to_owned() + &tls)).unwrap_err().to_string();
    let expected = "dfs2.yaml:11: tls.kee: is not known; correct or remove it\n\
                    dfs2.yaml:8: tls.key: is missing";
    assert_eq!(error, expected);
    assert!(load(&format!("{GOOD}tls: yes\n")).unwrap_err().to_string().contains("is a map of"));
}

#[test]
fn limits_can_be_set() {
    assert_eq!(load(GOOD).unwrap().limits, LimitSettings::default());
    let usual = LimitSettings::default();
    assert!(usual.connections >= 1024 && usual.connections_per_address >= 256);
    assert!(usual.connections_per_address < usual.connections);
    let text = "limits: { connections: 7, streams: 3, first_call: 500ms }\n";
    let set = load(&format!("{GOOD}{text}")).unwrap().limits;
    let first_call = Duration::from_millis(500);
    assert_eq!(set, LimitSettings { connections: 7, streams: 3, first_call, ..usual });
    let text = "limits:\n  connections: 0\n  put_idle: 0s\n  streems: 1\n";
    let error = load(&format!("{GOOD}{text}")).unwrap_err().to_string();
    for part in ["9: limits.connections", "10: limits.put_idle", "11: limits.streems"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn missing_empty_and_malformed_files_are_named() {
    let missing = Config::load(Path::new("/nowhere/dfs1.yaml")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/dfs1.yaml: cannot be read"), "{missing}");
    for empty in ["", "# only a comment\n"] {
        let error = load(empty).unwrap_err().to_string();
        assert!(error.starts_with("dfs2.yaml: is empty"), "{error}");
    }
    for (text, line) in
        [("cluster: [x", "line 2"), ("a: b: c\n", "line 1"), ("node: 1\nnode: 2\n", "duplicate")]
    {
        let error = load(text).unwrap_err().to_string();
        assert!(error.starts_with("dfs2.yaml: is no valid"), "{error}");
        assert!(error.contains(line), "{error}");
    }
    assert!(load("just text").is_err());
    assert!(load("- a\n- b\n").is_err());
}

#[test]
fn a_secret_is_one_long_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = load(GOOD).unwrap();
    config.cluster_secret_file = dir.path().join("secret");
    assert!(config.read_secret().unwrap_err().to_string().contains("cannot be read"));
    fs::write(&config.cluster_secret_file, "0123456789abcdef").unwrap();
    fs::set_permissions(&config.cluster_secret_file, Permissions::from_mode(0o644)).unwrap();
    assert!(config.read_secret().unwrap_err().to_string().contains("chmod 600"));
    fs::set_permissions(&config.cluster_secret_file, Permissions::from_mode(0o600)).unwrap();
    for bad in ["", "short", "0123456789abcde\n", "0123456789abcdef \n", "0123456789abcdef\n\n"] {
        fs::write(&config.cluster_secret_file, bad).unwrap();
        assert!(config.read_secret().is_err(), "{bad:?}");
    }
    fs::write(&config.cluster_secret_file, "0123456789abcdef\n").unwrap();
    assert_eq!(config.read_secret().unwrap(), "0123456789abcdef");
}

#[test]
fn durations_have_a_unit() {
    let good = [("0s", 0), ("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("2h", 7_200_000)];
    assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
    for (text, ms) in good {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
    }
    for bad in
        ["", "s", "15", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "99999999999999999h"]
    {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn healing_can_be_set_and_turned_off() {
    assert_eq!(or_off("off"), Ok(None));
    assert_eq!(or_off("1m"), Ok(Some(Duration::from_secs(60))));
    assert!(or_off("never").is_err());
    assert_eq!(bytes("1000"), Ok(1000));
    assert_eq!(bytes("64KiB"), Ok(65_536));
    assert_eq!(bytes("2GiB"), Ok(2 << 30));
    assert_eq!(bytes("3TiB"), Ok(3 << 40));
    for bad in ["", "MiB", "1MB", "-1", "1.5MiB", "99999999999999999999", "99999999999GiB"] {
        assert!(bytes(bad).is_err(), "{bad}");
    }
}
