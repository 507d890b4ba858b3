use super::*;
use std::os::unix::fs::PermissionsExt;

const HOUR: Duration = Duration::from_secs(3600);

fn place(node: NodeId, user: &str) -> Place {
    Place {
        cluster: ClusterName::new("demo").unwrap(),
        node,
        address: format!("127.0.0.1:{node}"),
        user: UserName::new(user).unwrap(),
    }
}

fn keep(cache: &TokenCache, place: &Place, password: &str, token: &str) {
    cache.keep(place, password, token.to_owned(), HOUR, false).unwrap();
}

#[test]
fn a_token_is_found_with_its_own_password_at_its_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    let here = place(NodeId::N1, "alice");
    let cache = TokenCache::open(&folder);
    assert_eq!(cache.find(&here, Some("secret")), None);
    keep(&cache, &here, "secret", "t1");
    for cache in [cache, TokenCache::open(&folder)] {
        assert_eq!(cache.find(&here, Some("secret")).as_deref(), Some("t1"));
        for wrong in ["", "Secret", "secret "] {
            assert_eq!(cache.find(&here, Some(wrong)), None, "{wrong:?}");
        }
        assert_eq!(cache.find(&here, None), None, "it was no login");
        let elsewhere = Place { address: "other:1".to_owned(), ..here.clone() };
        let cluster = ClusterName::new("other").unwrap();
        let other_cluster = Place { cluster, ..here.clone() };
        for other in
            [place(NodeId::N2, "alice"), place(NodeId::N1, "bob"), elsewhere, other_cluster]
        {
            assert_eq!(cache.find(&other, Some("secret")), None, "{other:?}");
        }
        cache.forget(&here);
        assert_eq!(cache.find(&here, Some("secret")), None);
    }
    assert!(TokenCache::open(&folder).find(&here, Some("secret")).is_some(), "only here");
}

#[test]
fn neither_passwords_nor_their_plain_hashes_are_in_the_file() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let texts = [dir, other].map(|dir| {
        let cache = TokenCache::open(dir.path());
        keep(&cache, &place(NodeId::N1, "alice"), "hunter2hunter2", "t");
        let file = dir.path().join("tokens.yaml");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::read_to_string(file).unwrap()
    });
    let hashes = texts.map(|text| {
        assert!(!text.contains("hunter2"), "{text}");
        let line = text.lines().find(|line| line.contains("password:")).unwrap();
        line.trim().to_owned()
    });
    assert_ne!(hashes[0], hashes[1], "keyed");
}

#[test]
fn a_login_needs_no_password_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, here) = (TokenCache::open(dir.path()), place(NodeId::N1, "alice"));
    assert!(!cache.has_login(&here.cluster, &here.user));
    cache.keep(&here, "secret", "t1".to_owned(), HOUR, true).unwrap();
    assert!(cache.has_login(&here.cluster, &here.user));
    assert_eq!(cache.find(&here, None).as_deref(), Some("t1"));
    keep(&cache, &here, "secret", "t2");
    assert_eq!(cache.find(&here, None).as_deref(), Some("t2"), "renewed, still a login");
    cache.remove(&here).unwrap();
    assert!(!TokenCache::open(dir.path()).has_login(&here.cluster, &here.user));
    cache.keep(&here, "secret", "t3".to_owned(), MARGIN / 2, true).unwrap();
    assert_eq!(cache.find(&here, None), None, "about to end");
}

#[test]
fn programs_at_the_same_time_keep_what_the_others_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for node in NodeId::ALL {
            let folder = dir.path();
            scope.spawn(move || {
                let cache = TokenCache::open(folder);
                for user in ["alice", "bob", "carol"] {
                    keep(&cache, &place(node, user), "secret", user);
                }
            });
        }
    });
    let cache = TokenCache::open(dir.path());
    for node in NodeId::ALL {
        for user in ["alice", "bob", "carol"] {
            assert_eq!(cache.find(&place(node, user), Some("secret")).as_deref(), Some(user));
        }
    }
}

#[test]
fn a_file_that_others_can_read_or_that_is_damaged_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (file, here) = (dir.path().join("tokens.yaml"), place(NodeId::N1, "alice"));
    keep(&TokenCache::open(dir.path()), &here, "secret", "t1");
    let found = || TokenCache::open(dir.path()).find(&here, Some("secret"));
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
    mode(0o640).unwrap();
    assert_eq!(found(), None);
    mode(0o600).unwrap();
    assert!(found().is_some());
    std::fs::write(&file, "version: 1\nkey: ''\ntokens: []\n").unwrap();
    assert_eq!(found(), None);
    std::fs::write(&file, "tokens: [").unwrap();
    assert_eq!(found(), None);
    keep(&TokenCache::open(dir.path()), &here, "secret", "t2");
    assert_eq!(found().as_deref(), Some("t2"), "made anew");
}

#[test]
fn the_cache_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let cache = TokenCache::open(dir.path());
    for i in 0..40 {
        let user = place(NodeId::N1, &format!("user{i}"));
        cache.keep(&user, "secret", "t".to_owned(), HOUR, false).unwrap();
    }
    cache
        .change(|content| {
            for i in 0..MAX_ENTRIES as u64 {
                let mut entry = content.tokens[0].clone();
                entry.ends += 1 + i;
                content.tokens.push(entry);
            }
        })
        .unwrap();
    assert_eq!(cache.content().tokens.len(), MAX_ENTRIES);
    assert_eq!(cache.find(&place(NodeId::N1, "user39"), Some("secret")), None, "ended first");
}
