//! The tools of `ftp-conntrack`: thin commands that read arguments, call the library and print. Decisions belong into the
//! library.
//!
//! A subcommand is a file of [`command`], and a line in its list; what it needs besides is a module here. Each command
//! exits with 0 (done), 1 (something differs, or was found) or 2 (the arguments or an input are wrong).

pub mod command;
pub mod explain;
pub mod replay;

mod archive;
mod failure;
mod output;
mod style;

/// The exit status where something differs.
const DIFFERS: u8 = 1;
/// The exit status where the arguments or an input are wrong.
const WRONG_INPUT: u8 = 2;
