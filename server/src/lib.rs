//! A node of dfs: library and the program `dfsd`.
//!
//! A node keeps the chunks and the version rows that clients give it, answers what it knows,
//! and looks after what it should hold. Who calls whom, top down: [`cli`] parses
//! the command line, `serve` runs the gRPC server behind the deny-by-default layer of `auth`,
//! `rpc` turns messages into calls of `node`, which owns the use cases and joins `store` (chunk
//! files) with `index` (everything else); `disk` opens those. `heal` makes files whole again, and
//! `peers` calls the other nodes for it.
//! The rules themselves are in `dfs_proto`.

pub mod cli;

mod config;

mod serve;

mod admin;

mod meter;

mod audit;

mod auth;

mod users;

mod password;

mod rpc;

mod heal;

mod peers;

mod node;

mod recover;

mod disk;

mod connections;

mod tls;

mod identity;

mod store;

mod index;

mod chunk_key;

mod codec;

mod telemetry;

mod poison;

mod request_id;

mod secret;

mod clock;

mod jitter;

mod hex;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

#[cfg(feature = "bench")]
pub mod bench;

#[cfg(feature = "simulated")]
pub mod simulated;
