use super::*;

/// The names of all metrics, each with what its HELP and TYPE lines say.
fn families(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect()
}

#[test]
fn every_metric_is_named_and_explained_as_is_usual() {
    limit_hit(Limit::Disk);
    auth_failed(AuthFailure::Password);
    group_committed(3);
    blocks_sent(2);
    block_received();
    assert_eq!(timed(Synced::Chunk, || 7), 7);
    let mut meter = RequestMeter::start("Stat");
    meter.sent(5);
    meter.received().add(3);
    meter.set_code("OK");
    drop(meter);
    let state = state::State {
        cluster: "demo".into(),
        node: 2,
        uploads: Some(state::Uploads::default()),
        census: Some(state::CensusState::default()),
        disk_free_bytes: Some(17),
        ..Default::default()
    };
    let text = render(&state);
    let families = families(&text);
    assert!(families.len() > 25, "{text}");
    for family in families {
        let (name, kind) = family.split_once(' ').expect("a name and a type");
        assert!(name.starts_with("dfs_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{family}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    for line in [
        "dfs_requests_total{code=\"OK\",method=\"Stat\"} 1",
        "dfs_sent_bytes_total{method=\"Stat\"} 5",
        "dfs_received_bytes_total{method=\"Stat\"} 3",
        "dfs_disk_free_bytes 17",
        "dfs_fsync_seconds_count{of=\"chunk\"} ",
        "dfs_commit_group_size_bucket{le=\"4\"} ",
        "dfs_peer_seen_timestamp_seconds{peer=\"4\"} 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("dfs_disk_total_bytes "), "what is not known is left out");
}

#[test]
fn labels_have_each_value_once() {
    let mut names: Vec<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Limit::ALL.len());
}

/// `cargo test --release -p dfs-server --lib what_it_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn what_it_costs_to_count_a_request() {
    const ROUNDS: u32 = 1_000_000;
    let started = Instant::now();
    for _ in 0..ROUNDS {
        let mut meter = RequestMeter::start("Stat");
        meter.received().add(100);
        meter.sent(100);
        meter.set_code("OK");
    }
    eprintln!("{:?} a request", started.elapsed() / ROUNDS);
}
