//! The sources keep to the map in ARCHITECTURE.md: who may import what.

use std::fs;
use std::path::{Path, PathBuf};

use harness::content::files;

/// Words, and the modules of a crate in which alone they may appear.
struct Reserved {
    sources: &'static str,
    words: &'static [&'static str],
    modules: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        sources: "proto/src",
        words: &["tonic", "prost", "http::", "bytes::"],
        modules: &["wire"],
        why: "the rules and the machines know no wire",
    },
    Reserved {
        sources: "proto/src",
        words: &["std::fs", "std::net", "std::thread", "SystemTime", "Instant::now", "getrandom"],
        modules: &[],
        why: "the rules and the machines do no I/O, read no clock and draw no random numbers",
    },
    Reserved {
        sources: "server/src",
        words: &["tonic::", "tonic_health::", "tonic_reflection::"],
        modules: &["auth/layer", "meter", "serve", "rpc", "peers", "connections/stream"],
        why: "gRPC stays at the edge of a node",
    },
    Reserved {
        sources: "server/src",
        words: &["fjall::"],
        modules: &["index"],
        why: "one module knows the index crate",
    },
    Reserved {
        sources: "server/src",
        words: &["prometheus::"],
        modules: &["telemetry"],
        why: "metrics are made in one place, and counted by calling it",
    },
    Reserved {
        sources: "server/src",
        words: &["std::fs", "tokio::fs", "rustix::fs"],
        modules: &[
            "store", "index", "identity", "users", "config", "recover", "cli/dev", "cli/cert",
            "secret", "tls", "audit",
        ],
        why: "chunks are the store's, and every other file has one owner",
    },
    Reserved {
        sources: "server/src",
        words: &["rustls"],
        modules: &["tls", "connections"],
        why: "TLS is agreed on at the door",
    },
    Reserved {
        sources: "server/src",
        words: &["rcgen"],
        modules: &["tls/issue", "cli/cert"],
        why: "certificates are made in one place",
    },
    Reserved {
        sources: "server/src",
        words: &["dfs_client"],
        modules: &[],
        why: "server and client never import each other",
    },
    Reserved {
        sources: "client/src",
        words: &["dfs_server"],
        modules: &[],
        why: "server and client never import each other",
    },
    Reserved {
        sources: "client/src",
        words: &["tonic::"],
        modules: &["connect", "ask", "transfer", "repair"],
        why: "gRPC stays where connections are made and streams are read",
    },
    Reserved {
        sources: "client/src",
        words: &["std::fs", "tokio::fs"],
        modules: &[
            "source",
            "sink",
            "partial",
            "note",
            "locked",
            "swap",
            "tokens",
            "config",
            "tls",
            "cli/put",
            "cli/get",
            "cli/config",
            "cli/doctor",
            "cli/man",
        ],
        why: "local files are read and written in one place each",
    },
    Reserved {
        sources: "client/src",
        words: &["rustls"],
        modules: &["tls"],
        why: "one module knows what TLS says",
    },
    Reserved {
        sources: "client/src",
        words: &["clap", "indicatif", "rustyline", "println!"],
        modules: &["cli"],
        why: "the library talks to programs, not to people",
    },
];

/// The modules of a crate from top to bottom: each may import from those below it only.
const LAYERS: &[(&str, &[&[&str]])] = &[
    (
        "server/src",
        &[
            &["cli", "fuzz", "bench", "simulated"],
            &["serve", "recover"],
            &["rpc", "admin"],
            &["heal"],
            &["peers"],
            &["auth", "node", "disk", "meter"],
            &["connections"],
            &["store", "index", "users", "tls"],
            &["config", "identity", "password", "chunk_key", "codec", "poison", "jitter"],
            &["hex", "secret", "telemetry", "request_id", "audit"],
            &["clock"],
        ],
    ),
    (
        "client/src",
        &[
            &["cli", "fuzz"],
            &["verify", "folders"],
            &["put", "get", "list", "remove", "info", "repair"],
            &["look", "transfer"],
            &["nodes"],
            &["ask", "whole", "pairs"],
            &["upload", "lane", "room"],
            &["connect", "source", "sink"],
            &["partial", "note", "tokens"],
            &["drive"],
            &["error"],
            &["trace"],
            &["swap"],
            &["config", "random", "locked", "stop", "range"],
            &["tls"],
            &["origin", "bandwidth"],
        ],
    ),
];

struct Source {
    /// Path of the module below the crate's sources, without `.rs` and `/mod`.
    module: String,
    /// Line numbers and lines, without comments and without the tests at the end.
    code: Vec<(usize, String)>,
}

fn sources(dir: &str) -> Vec<Source> {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(dir);
    let names = files(&root).into_iter().filter(|name| name.ends_with(".rs"));
    let is_test = |name: &String| name.split(['/', '.']).any(|part| part == "tests");
    let found: Vec<Source> = names
        .filter(|name| !is_test(name))
        .map(|name| Source {
            code: code(&fs::read_to_string(root.join(&name)).expect("a source is text")),
            module: name.trim_end_matches(".rs").trim_end_matches("/mod").to_owned(),
        })
        .collect();
    assert!(!found.is_empty(), "{dir} has sources");
    found
}

fn code(text: &str) -> Vec<(usize, String)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let product = numbered.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let bare = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    product.map(|(number, line)| (number, bare(line))).collect()
}

/// Whether `module` is `root` or inside of it.
fn is_in(module: &str, root: &str) -> bool {
    module.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[test]
fn libraries_are_used_only_where_they_belong() {
    let mut broken = Vec::new();
    for rule in RESERVED {
        let mut used = false;
        for source in sources(rule.sources) {
            let allowed = rule.modules.iter().any(|root| is_in(&source.module, root));
            for (number, line) in source.code {
                let found = rule.words.iter().any(|word| line.contains(word));
                used |= found;
                if found && !allowed {
                    let place = format!("{}/{}:{number}", rule.sources, source.module);
                    broken.push(format!("{place}: `{}`: {}", line.trim(), rule.why));
                }
            }
        }
        let stale = !used && !rule.modules.is_empty();
        assert!(!stale, "{:?} are nowhere in {}", rule.words, rule.sources);
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn imports_point_downwards() {
    let mut broken = Vec::new();
    for (dir, layers) in LAYERS {
        let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
        for Source { module, code } in sources(dir) {
            let own = module.split('/').next().unwrap_or_default();
            if matches!(own, "lib" | "main") {
                continue;
            }
            let Some(layer) = layer_of(own) else {
                broken.push(format!("{dir}/{module}: has no place among the layers"));
                continue;
            };
            for (number, line) in code {
                let names = line.split("crate::").skip(1);
                let names =
                    names.map(|rest| rest.split(|c: char| c != '_' && !c.is_alphanumeric()));
                for name in names.filter_map(|mut words| words.next()) {
                    let upward = layer_of(name).is_some_and(|other| other <= layer);
                    if upward && name != own {
                        broken.push(format!("{dir}/{module}:{number}: imports {name}"));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
