//! Plays a session again, in a closed loop. Two TCP stacks send what the capture says they sent, dial the announced
//! endpoints, and make the same transfers. Between them is a [`Router`](crate::router::Router) with a configuration
//! that may be another than the captured one.
//!
//! A recorded packet cannot be replayed through changed rules: its sender acknowledges text that was never sent to it.
//! So the ends are played. A [`Script`] holds their steps, [`play`] runs them, and an [`Outcome`] says which transfers
//! worked. The clock is virtual: hours of waiting take no time.

mod client;
mod data;
mod host;
mod script;
mod segments;
mod server;
mod setup;
mod talk;
mod world;

use std::vec::Vec;

use crate::router::RouterError;
pub use script::{Act, DIALS_FIRST, Failure, Outcome, Script, Turn};
pub use setup::Setup;

/// Plays sessions, each from its time on, and returns what became of each.
///
/// # Errors
/// When the router's configuration cannot be meant.
pub fn play(setup: &Setup, scripts: &[Script]) -> Result<Vec<Outcome>, RouterError> {
    Ok(world::World::new(setup, scripts)?.run())
}
