//! The sources keep to the map: who may import what.

use std::fs;
use std::path::Path;

use harness::content::files;

/// A word in the code, and the files in which it may appear.
struct Rule {
    crate_dir: &'static str,
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        crate_dir: "server/src",
        words: &["fjall::"],
        allowed: &["index"],
        why: "one module knows the index crate",
    },
    Rule {
        crate_dir: "server/src",
        words: &["dfs_client"],
        allowed: &[],
        why: "server and client never import each other",
    },
    Rule {
        crate_dir: "client/src",
        words: &["dfs_server"],
        allowed: &[],
        why: "server and client never import each other",
    },
];

#[test]
fn imports_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut broken = Vec::new();
    for rule in RULES {
        let dir = root.join(rule.crate_dir);
        let sources = files(&dir);
        assert!(!sources.is_empty(), "{} has sources", rule.crate_dir);
        for file in sources.iter().filter(|file| file.ends_with(".rs")) {
            let module = file.trim_end_matches(".rs");
            let allowed = |prefix: &&str| {
                module == *prefix
                    || module.strip_prefix(*prefix).is_some_and(|rest| rest.starts_with('/'))
            };
            if rule.allowed.iter().any(allowed) {
                continue;
            }
            let text = fs::read_to_string(dir.join(file)).expect("a source is text");
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if rule.words.iter().any(|word| code.contains(word)) {
                    let place = format!("{}/{file}:{}", rule.crate_dir, number + 1);
                    broken.push(format!("{place}: `{}`: {}", line.trim(), rule.why));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
