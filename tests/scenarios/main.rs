//! What the whole system does, seen from outside: real nodes, real clients, real failures.
//!
//! Every test has a cluster of its own and may run beside any other. In reading order: what a
//! put leaves on the nodes and what a get brings back ([`placement`], [`contents`], [`names`],
//! [`folders`], [`listing`], [`traffic`], [`turns`]), nodes that are gone or come back ([`outages`],
//! [`losses`], [`removal`], [`restarts`]), disks that fail ([`damage`], [`verification`]), files that
//! become whole again ([`healing`]), disks that are replaced ([`rejoining`]) or
//! only read ([`recovery`]), nodes that neither
//! answer nor refuse ([`stalls`]), clients in each other's way or gone ([`races`], [`interruptions`],
//! [`resumption`], [`crowd`]), other versions ([`skew`]), who may do what
//! ([`accounts`], [`logins`], [`api`], [`older`], [`errors`], [`paths`], [`configuration`],
//! [`settings`], [`encryption`], [`attacks`]), what people at a terminal see ([`terminal`],
//! [`doctor`], [`golden`]) and operators ([`seeing`], [`admin`]), and what it costs ([`memory`],
//! [`costs`]).
//! [`tidy`] reads the sources.

mod placement;

mod contents;

mod names;

mod folders;

mod listing;

mod traffic;

mod turns;

mod outages;

mod pauses;

mod losses;

mod removal;

mod restarts;

mod damage;

mod verification;

mod healing;

mod rejoining;

mod recovery;

mod stalls;

mod races;

mod ranges;

mod interruptions;

mod resumption;

mod crowd;

mod skew;

mod accounts;

mod logins;

mod quotas;

mod api;

mod older;

mod errors;

mod paths;

mod configuration;

mod settings;

mod terminal;

mod doctor;

mod golden;

mod encryption;

mod expiry;

mod attacks;

mod seeing;

#[cfg(feature = "otlp")]
mod traces;

mod admin;

mod memory;

mod costs;

mod tidy;

use harness::{Cluster, Programs};

/// The programs that cargo built for these tests.
const PROGRAMS: Programs = Programs {
    dfsd: env!("CARGO_BIN_EXE_dfsd-under-test"),
    dfsctl: env!("CARGO_BIN_EXE_dfsctl-under-test"),
};

/// Four nodes that run, and a user.
fn cluster() -> Cluster {
    Cluster::start(PROGRAMS)
}
