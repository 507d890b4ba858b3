//! Contents of files: of any length, of any kind, and of any x.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dfs_proto::digest::Md5Digest;

use crate::seed::Rng;

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    Rng::new(seed).bytes(length)
}

/// Lines of text, cut at `length` bytes.
pub fn text(length: usize) -> Vec<u8> {
    let lines =
        (1u64..).flat_map(|n| format!("line {n}: grüße from a file of text\n").into_bytes());
    lines.take(length).collect()
}

/// What gzip makes of `bytes`.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let program =
        "import gzip,sys; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read()))";
    python(&["-c", program], bytes)
}

/// Noise of `length` bytes (at least 8) whose MD5 mod 4 is `x`.
pub fn with_x(x: u8, seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = noise(seed, length);
    for counter in 0u64.. {
        bytes[..8].copy_from_slice(&counter.to_be_bytes());
        if x_of(&bytes) == x {
            break;
        }
    }
    bytes
}

/// MD5 mod 4 of some content, as the product computes it.
pub fn x_of(content: &[u8]) -> u8 {
    Md5Digest::of(content).residue().get()
}

/// MD5 mod 4 of the content of each file, as Python's hashlib computes it from the
/// definition: the digest as a big-endian number.
pub fn x_by_python(files: &[PathBuf]) -> Vec<u8> {
    let program = "import hashlib,sys\n\
        for f in sys.argv[1:]:\n    \
        print(int.from_bytes(hashlib.md5(open(f,'rb').read()).digest(),'big')%4)";
    let names = files.iter().map(|file| file.to_str().expect("a UTF-8 name"));
    let arguments: Vec<&str> = ["-c", program].into_iter().chain(names).collect();
    let printed = String::from_utf8(python(&arguments, b"")).expect("python prints text");
    printed.lines().map(|line| line.parse().expect("python prints numbers")).collect()
}

/// Runs python3 and returns what it prints.
pub fn python(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("python3")
        .args(arguments)
        // What it starts leaves nothing in the home of who runs the tests.
        .env("DFS_NO_TOKEN_CACHE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("python3 runs");
    writer.join().expect("no panic").expect("python3 reads");
    assert!(output.status.success(), "python3 failed");
    output.stdout
}

/// Makes a file of `length` bytes that is mostly a hole: a block of noise every 16 MiB and at
/// both ends, so that no two parts of it are alike and it is written in no time.
pub fn sparse_file(path: &Path, seed: u64, length: u64) {
    const PIECE: u64 = 64 << 10;
    let file = File::create(path).expect("a new file");
    file.set_len(length).expect("room for a hole");
    let mut rng = Rng::new(seed);
    let last = length.saturating_sub(PIECE);
    for offset in (0..last).step_by(16 << 20).chain([last]) {
        file.write_all_at(&rng.bytes(64 << 10), offset).expect("room for a little noise");
    }
}

/// All files and directories under `root` by relative path, sorted, symbolic links not
/// followed.
pub fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        // What vanishes while we look was not there.
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("it is below the root");
            found.push(name.to_string_lossy().into_owned());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The regular files under `root` by relative path, sorted.
pub fn files(root: &Path) -> Vec<String> {
    let mut found = tree(root);
    found.retain(|name| root.join(name).is_file());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_what_they_are_called() {
        for x in 0..4 {
            let content = with_x(x, 5, 100);
            assert_eq!((x_of(&content), content.len()), (x, 100));
        }
        assert_eq!(noise(1, 100), noise(1, 100));
        assert_ne!(noise(1, 100), noise(2, 100));
        assert_eq!(text(99).len(), 99);
        assert!(gzip(&text(10_000)).len() < 5000);
    }

    #[test]
    fn a_tree_is_listed_with_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/c"), "").unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(tree(dir.path()), ["a", "b", "b/c"]);
        assert_eq!(files(dir.path()), ["a", "b/c"]);
    }
}
