//! How many small changes of the index a second become durable, by how many wait at once.
//!
//! ```sh
//! cargo bench -p dfs-server --features bench
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use dfs_server::bench::Chunks;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 16, 64, 256], sample_count = 20, sample_size = 1)]
fn group_commit(bencher: Bencher, at_once: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let (chunks, next) = (Chunks::new(dir.path()), AtomicU64::new(0));
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        chunks.write(next.fetch_add(at_once, Ordering::Relaxed), at_once, 256);
    });
}
