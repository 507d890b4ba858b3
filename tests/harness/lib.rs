//! Runs whole clusters of real processes for the scenarios.
//!
//! A [`Cluster`] is a directory with the files of a development cluster and up to four `dfsd`
//! processes on free ports; [`Ctl`] runs `dfsctl` against it with a hard deadline. A [`Proxy`]
//! between the two loses connections at a chosen byte, an [`older::Older`] makes a node an older one, and [`NodeApi`] speaks to a node without
//! `dfsctl`; a [`mount::Mount`] is a file system of its own, and [`faults::Faults`] make a
//! node's calls of the system fail. All of them clean up when dropped, also while a test panics,
//! and a cluster then prints the ends of its nodes' logs.
//!
//! Nothing here sleeps to let something happen: [`wait::until`] asks until it has happened,
//! and panics when that takes too long.

pub mod wait;

pub mod seed;

pub mod content;

pub mod table;

pub mod machine;

mod ports;

pub mod process;

pub mod ctl;

mod frames;

pub mod proxy;

pub mod older;

pub mod api;

pub mod admin;

pub mod cluster;

pub mod skip;

pub mod mount;

mod preload;

pub mod faults;

pub mod counts;

pub mod history;

pub mod load;

pub use api::NodeApi;
pub use cluster::{Cluster, Programs};
pub use ctl::{Ctl, Output};
pub use proxy::Proxy;
pub use seed::Rng;
