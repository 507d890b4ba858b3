//! The rules and the protocol of dfs, and its wire format.
//!
//! A file is cut into four chunks; every chunk lives on two of four nodes; `x`, the file's MD5
//! mod 4, turns the table that says which. Any one node, or two opposite ones, may be lost.
//! Versions of a path are ordered by [`tag::Tag`]; the newest one that three nodes have counts.
//!
//! The modules, in reading order: [`name`], [`digest`], [`chunk`], [`placement`], [`tag`],
//! [`manifest`], [`identity`], [`similar`], then [`protocol`], the machines that client and node drive,
//! and [`wire`], the generated API with its conversions. All but `wire` do no I/O, read no clock and draw no
//! random numbers.

pub mod name;

pub mod digest;

pub mod chunk;

pub mod placement;

pub mod tag;

pub mod manifest;

pub mod identity;

pub mod similar;

pub mod protocol;

#[cfg(feature = "wire")]
pub mod wire;
