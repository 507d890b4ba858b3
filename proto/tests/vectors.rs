//! Golden vectors for clients in other languages: `tests/vectors/*.json` says what the rules
//! give. The files are checked against the code; `DFS_WRITE_VECTORS=1` writes them anew.
//!
//! 64-bit numbers are strings and bytes are base64, as in the JSON of protobuf; MD5s are
//! hexadecimal where they are no field of a message.

use std::fs;
use std::path::Path;

use dfs_proto::chunk::{BLOCK_BYTES, ChunkId, MAX_FILE_BYTES, block_count, block_range};
use dfs_proto::digest::{Crc32c, Md5Digest, Residue};
use dfs_proto::manifest::Manifest;
use dfs_proto::name::{FilePath, NameError};
use dfs_proto::placement::{NodeId, home_chunks, homes};
use dfs_proto::protocol::decide::{Verdict, View, decide, decide_without_write_back};
use dfs_proto::tag::{Hlc, Tag, TagAnswer, choose_hlc};
use dfs_proto::wire::pb;
use serde_json::{Value, json};

/// Compares a file with what the code gives: an object of notes and lists of cases, one a line.
fn check(name: &str, about: &str, lists: &[(&str, Vec<Value>)]) {
    let mut text = format!("{{\n  \"about\": {}", json!(about));
    for (list, cases) in lists {
        let lines: Vec<String> = cases.iter().map(|case| format!("    {case}")).collect();
        text += &format!(",\n  \"{list}\": [\n{}\n  ]", lines.join(",\n"));
    }
    text += "\n}\n";
    serde_json::from_str::<Value>(&text).expect("what is written is JSON");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name);
    if std::env::var_os("DFS_WRITE_VECTORS").is_some() {
        fs::write(&file, &text).expect("the file can be written");
    }
    let found = fs::read_to_string(&file).expect("the file is there");
    let differs = text.lines().zip(found.lines()).find(|(code, file)| code != file);
    assert!(
        text == found,
        "{name} and the code differ: {differs:?} (code, file). A client in another language \
         relies on the file; if the rule was meant to change, DFS_WRITE_VECTORS=1 writes it anew"
    );
}

/// Bytes that are easy to make in any language: byte i is (i * 31 + i / 256 * 7 + seed) mod 256.
fn pattern(size: u64, seed: u64) -> Vec<u8> {
    let byte = |i: u64| (i * 31 + i / 256 * 7 + seed) % 256;
    (0..size).map(|i| u8::try_from(byte(i)).expect("less than 256")).collect()
}

#[test]
fn placement() {
    let tables = Residue::ALL.map(|x| {
        let numbers = |node| home_chunks(x, node).iter().map(ChunkId::get).collect::<Vec<u8>>();
        let order = |chunk| homes(x, chunk).map(NodeId::get);
        json!({
            "x": x.get(),
            "chunks_of_nodes_1_to_4": NodeId::ALL.map(numbers),
            "homes_of_chunks_1_to_4": ChunkId::ALL.map(order),
        })
    });
    let text = |content: &str| {
        let md5 = Md5Digest::of(content.as_bytes());
        json!({ "text": content, "md5": md5.to_string(), "x": md5.residue().get() })
    };
    let texts = ["", "a", "b", "abc", "message digest", "dfs", "größe", "The quick brown fox"];
    let patterns = [1, 5, 4096, 65_537].into_iter().flat_map(|size| {
        (0..4).map(move |seed| {
            let md5 = Md5Digest::of(&pattern(size, seed));
            let x = md5.residue().get();
            json!({ "size": size, "seed": seed, "md5": md5.to_string(), "x": x })
        })
    });
    check(
        "placement.json",
        "x is the MD5 of the content as a big-endian number, mod 4. Chunks of a node in order of \
         their number. Homes of a chunk: first the node that sends it in a read from all four. \
         Byte i of a pattern is (i * 31 + i / 256 * 7 + seed) mod 256, with integer division.",
        &[
            ("tables", tables.to_vec()),
            ("texts", texts.map(text).to_vec()),
            ("patterns", patterns.collect()),
        ],
    );
}

#[test]
fn split() {
    let sizes = (0..=9).chain([
        4095,
        4096,
        65_535,
        65_536,
        65_537,
        BLOCK_BYTES * 4 - 1,
        BLOCK_BYTES * 4,
        BLOCK_BYTES * 4 + 1,
        5 * BLOCK_BYTES + 3,
        10_000_000_019,
        MAX_FILE_BYTES - 1,
        MAX_FILE_BYTES,
    ]);
    let case = |size: u64| {
        let chunks = ChunkId::ALL.map(|chunk| {
            let (range, length) = (chunk.range(size), chunk.length(size));
            let blocks = block_count(length);
            let last = block_range(length, blocks.saturating_sub(1));
            json!({
                "start": range.start.to_string(),
                "end": range.end.to_string(),
                "blocks": blocks.to_string(),
                "last_block_bytes": last.end - last.start,
            })
        });
        json!({ "size": size.to_string(), "chunks": chunks })
    };
    check(
        "split.json",
        "Chunk i, from 0, of n bytes is [i*n/4, (i+1)*n/4): integer division, and i*n may need \
         more than 53 bits. Blocks have 1 MiB, the last one of a chunk what is left.",
        &[("files", sizes.map(case).collect())],
    );
}

#[test]
fn crc32c() {
    let texts = ["", "123456789", "a", "dfs"];
    let text = |text: &str| json!({ "text": text, "crc32c": Crc32c::of(text.as_bytes()).get() });
    let combined = [(0, 0), (0, 9), (9, 0), (1, 1), (1000, 65_537), (1 << 20, 3)].map(|(a, b)| {
        let (first, second) = (pattern(a, 1), pattern(b, 2));
        let (one, two) = (Crc32c::of(&first), Crc32c::of(&second));
        json!({
            "first": { "size": a, "seed": 1, "crc32c": one.get() },
            "second": { "size": b, "seed": 2, "crc32c": two.get() },
            "crc32c": one.then(two, b).get(),
        })
    });
    let files = [0, 1, 3, 5, 65_537, 5 * BLOCK_BYTES + 3].map(|size| {
        let content = pattern(size, 3);
        let chunks = ChunkId::ALL.map(|chunk| {
            let range = chunk.range(size);
            let at = |n: u64| usize::try_from(n).expect("a test's file fits into memory");
            let data = &content[at(range.start)..at(range.end)];
            let length = data.len() as u64;
            let blocks: Vec<u32> = (0..block_count(length))
                .map(|index| block_range(length, index))
                .map(|range| Crc32c::of(&data[at(range.start)..at(range.end)]).get())
                .collect();
            json!({ "crc32c": Crc32c::of(data).get(), "blocks": blocks })
        });
        json!({ "size": size, "seed": 3, "crc32c": Crc32c::of(&content).get(), "chunks": chunks })
    });
    check(
        "crc32c.json",
        "CRC32C (Castagnoli) of texts, of two patterns one after the other, and of the chunks \
         and blocks of files. Patterns as in placement.json.",
        &[
            ("texts", texts.map(text).to_vec()),
            ("combined", combined.to_vec()),
            ("files", files.to_vec()),
        ],
    );
}

#[test]
fn paths() {
    let long_segment = "x".repeat(255);
    let longest = [&long_segment[..]; 4].join("/") + "y";
    let valid = [
        "a",
        "a/b",
        "a b",
        "-x",
        ".hidden",
        "...",
        "a..b",
        "a:b*c?",
        "größe/ü",
        "🦀",
        "a/b/c/d/e",
        "~",
        " ",
        "%2e%2e",
        &long_segment,
    ];
    let longest_valid = format!("{}/z", &longest[..1022]);
    let refused = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/./b",
        "../a",
        "a/..",
        "a\\b",
        "a\nb",
        "a\u{0}b",
        "a\u{7f}b",
        "a\u{85}b",
        &format!("{long_segment}x"),
        &"é".repeat(128),
        &format!("{longest_valid}z"),
    ];
    let accepts = |path: &str| FilePath::new(path).is_ok();
    let valid: Vec<Value> = valid
        .into_iter()
        .chain([&longest_valid[..]])
        .map(|path| {
            assert!(accepts(path), "{path:?}");
            json!({ "path": path, "bytes": path.len() })
        })
        .collect();
    let refused = refused.map(|path| {
        let why: NameError = FilePath::new(path).expect_err(path);
        json!({ "path": path, "bytes": path.len(), "why": why.to_string() })
    });
    check(
        "paths.json",
        "Paths that a node takes, as they are, and paths that it refuses with INVALID_FILE_NAME.",
        &[("valid", valid), ("refused", refused.to_vec())],
    );
}

#[test]
fn tags() {
    const MS: u64 = 1_800_000_000_000;
    let at = |ms: u64| Hlc::from_ms(MS + ms).get();
    let clocks = |clocks: &[u64]| clocks.iter().map(|ms| (None, at(*ms))).collect::<Vec<_>>();
    let cases = [
        vec![],
        clocks(&[5]),
        clocks(&[7, 5]),
        clocks(&[0, 1, 999_999]),
        clocks(&[0, 1, 2, 999_999]),
        clocks(&[4, 4, 4, 4]),
        vec![(Some(at(9)), at(1)), (None, at(2)), (None, at(3))],
        vec![(Some(at(9) + 41), at(1)), (Some(at(9) + 42), at(2)), (None, at(3))],
        vec![(Some(at(1)), at(5)), (Some(at(2)), at(6)), (Some(at(2)), at(7)), (None, at(8))],
        vec![(Some(at(3) - 1), at(3)), (None, at(3))],
        vec![(Some(at(3)), at(3)), (None, at(3))],
        vec![(Some(u64::MAX), at(1)), (None, at(1))],
    ];
    let case = |answers: Vec<(Option<u64>, u64)>| {
        let all: Vec<TagAnswer> = answers
            .iter()
            .map(|(current, proposed)| TagAnswer {
                current: current.map(Hlc::new),
                proposed: Hlc::new(*proposed),
            })
            .collect();
        let shown: Vec<Value> = answers
            .iter()
            .map(|(current, proposed)| {
                let current = current.map(|hlc| hlc.to_string());
                json!({ "current_hlc": current, "proposed_hlc": proposed.to_string() })
            })
            .collect();
        let hlc = choose_hlc(&all).map(|hlc| hlc.get().to_string());
        json!({ "answers": shown, "hlc": hlc })
    };
    let tag = |hlc, writer: [u8; 16]| Tag { hlc: Hlc::new(hlc), writer };
    let ends_with = |last| {
        let mut writer = [0; 16];
        writer[15] = last;
        writer
    };
    let pairs = [
        (tag(1, [9; 16]), tag(2, [0; 16])),
        (tag(2, [0; 16]), tag(2, [1; 16])),
        (tag(1, ends_with(255)), tag(1, [1; 16])),
        (tag(1, [0x7f; 16]), tag(1, [0x80; 16])),
        (tag(9_007_199_254_740_992, [0; 16]), tag(9_007_199_254_740_993, [0; 16])),
        (tag(i64::MAX.unsigned_abs(), [0; 16]), tag(1 << 63, [0; 16])),
    ];
    let shown =
        |tag: Tag| json!({ "hlc": tag.hlc.get().to_string(), "writer": base64(&tag.writer) });
    let order = |(smaller, larger): (Tag, Tag)| {
        assert!(smaller < larger);
        json!({ "smaller": shown(smaller), "larger": shown(larger) })
    };
    check(
        "tags.json",
        "The hlc of a new version: larger than every current one, and not below the \
         second-largest clock; null where none can be chosen. And the order of tags: first by \
         hlc, an unsigned 64-bit number, then by writer, as bytes.",
        &[("choices", cases.map(case).to_vec()), ("order", pairs.map(order).to_vec())],
    );
}

#[test]
fn reads() {
    let tag = |number: u64| Tag { hlc: Hlc::new(number), writer: [0; 16] };
    let here = |number: Option<u64>, confirmed| View::Here { tag: number.map(tag), confirmed };
    let kinds = [
        View::Waiting,
        View::Out,
        here(None, true),
        here(Some(1), false),
        here(Some(1), true),
        here(Some(2), false),
        here(Some(2), true),
    ];
    let shown_tag = |tag: Option<Tag>| tag.map(|tag| tag.hlc.get());
    let view = |view: &View| match view {
        View::Waiting => json!("waiting"),
        View::Out => json!("failed"),
        View::Here { tag, confirmed } => {
            json!({ "tag": shown_tag(*tag), "confirmed": confirmed })
        }
    };
    let verdict = |verdict: Verdict| match verdict {
        Verdict::Wait => json!({ "do": "wait" }),
        Verdict::Unavailable => json!({ "do": "unavailable" }),
        Verdict::Decided { tag, unconfirmed, .. } => {
            json!({ "do": "decided", "tag": shown_tag(tag), "unconfirmed": unconfirmed })
        }
        Verdict::WriteBack { tag, .. } => json!({ "do": "write back", "tag": tag.hlc.get() }),
    };
    let mut cases = Vec::new();
    for (a, one) in kinds.iter().enumerate() {
        for (b, two) in kinds.iter().enumerate().skip(a) {
            for (c, three) in kinds.iter().enumerate().skip(b) {
                for four in kinds.iter().skip(c) {
                    let views = [*one, *two, *three, *four];
                    cases.push(json!({
                        "nodes": views.each_ref().map(view),
                        "verdict": verdict(decide(&views)),
                        "if_it_cannot_be_written_back":
                            verdict(decide_without_write_back(&views)),
                    }));
                }
            }
        }
    }
    check(
        "reads.json",
        "What a read decides from what four nodes answered: every combination, the order of the \
         nodes does not matter. Tags are 1 < 2; null: the node has no version, which counts as a \
         removal below all tags. confirmed: the node knows its version to be on three nodes.",
        &[("cases", cases)],
    );
}

#[test]
fn manifests() {
    let made = [0, 1, 5, 4096, 5 * BLOCK_BYTES + 3].map(|size| {
        let content = pattern(size, 4);
        let message = message(&content);
        Manifest::try_from(&message).expect("a node takes it");
        json!({ "size": size, "seed": 4, "manifest": shown(&message) })
    });
    let spoil = |field: &str, spoil: fn(&mut pb::Manifest)| {
        let mut message = message(&pattern(5, 4));
        spoil(&mut message);
        let why = Manifest::try_from(&message).expect_err(field);
        json!({ "field": why.field, "why": why.why, "manifest": shown(&message) })
    };
    let refused = vec![
        spoil("x", |manifest| manifest.x = (manifest.x + 1) % 4),
        spoil("md5", |manifest| manifest.md5.truncate(15)),
        spoil("size", |manifest| manifest.size += 4),
        spoil("length", |manifest| manifest.chunks[0].length += 1),
        spoil("chunks", |manifest| manifest.chunks.truncate(3)),
        spoil("layout", |manifest| manifest.layout = 0),
        spoil("modified", |manifest| manifest.modified = "yesterday".to_owned()),
        spoil("zone", |manifest| manifest.modified = "2026-01-02T03:04:05".to_owned()),
        spoil("too large", |manifest| manifest.size = MAX_FILE_BYTES + 1),
        spoil("metadata", |manifest| {
            manifest.metadata.insert(String::new(), "x".to_owned());
        }),
    ];
    check(
        "manifest.json",
        "Manifests of patterns, as in placement.json, in the JSON of protobuf; and manifests \
         that a node refuses.",
        &[("made", made.to_vec()), ("refused", refused)],
    );
}

fn message(content: &[u8]) -> pb::Manifest {
    let size = content.len() as u64;
    let at = |n: u64| usize::try_from(n).expect("a test's file fits into memory");
    let sum = |chunk: ChunkId| {
        let range = chunk.range(size);
        Crc32c::of(&content[at(range.start)..at(range.end)])
    };
    let modified = "2026-01-02T03:04:05Z";
    let crcs = ChunkId::ALL.map(sum);
    let manifest = Manifest::new(Md5Digest::of(content), size, crcs, modified, [].into());
    (&manifest.expect("it is valid")).into()
}

/// A message as protobuf writes it in JSON.
fn shown(manifest: &pb::Manifest) -> Value {
    let chunk = |chunk: &pb::ChunkInfo| json!({ "length": chunk.length.to_string(), "crc32c": chunk.crc32c });
    json!({
        "size": manifest.size.to_string(),
        "md5": base64(&manifest.md5),
        "x": manifest.x,
        "layout": manifest.layout().as_str_name(),
        "chunks": manifest.chunks.iter().map(chunk).collect::<Vec<_>>(),
        "modified": manifest.modified,
        "metadata": manifest.metadata,
    })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |number: usize, i| {
            number << 8 | usize::from(three.get(i).copied().unwrap_or(0))
        });
        for i in 0..4 {
            let letter = char::from(LETTERS[number >> (18 - 6 * i) & 63]);
            text.push(if i <= three.len() { letter } else { '=' });
        }
    }
    text
}
