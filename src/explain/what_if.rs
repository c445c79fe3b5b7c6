//! Sessions re-enacted through a router with changes that somebody asks about.

use core::net::SocketAddr;
use std::string::String;
use std::vec::Vec;

use super::dialogue::plain;
use super::server_change::ServerChange;
use super::session::Scene;
use super::trial::Trials;
use super::{Explanation, Options};
use crate::config::{Error, Warning};
use crate::reenact::Failure;

/// A session re-enacted through the router as it is, and with changes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WhatIf {
    /// The number, from 1, in the order in which sessions begin.
    pub session: usize,
    /// The client.
    pub client: SocketAddr,
    /// The server that it dialled.
    pub server: SocketAddr,
    /// The transfers; or the reason for which the session cannot be re-enacted.
    pub transfers: Result<Vec<TransferWhatIf>, String>,
}

/// A transfer as it was captured, and as it is re-enacted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferWhatIf {
    /// The command that asks for it.
    pub command: String,
    /// True if it worked when it was captured.
    pub worked: bool,
    /// The result through the router as it is.
    pub before: Result<(), Failure>,
    /// The result through the router with the changes.
    pub after: Result<(), Failure>,
}

impl Explanation {
    /// Re-enacts every session through the router of [`Options::router`], as it is and after commands, one a line, as
    /// [`Directory::after`](crate::config::Directory::after) takes them. `file` is the name of the commands in errors.
    ///
    /// # Errors
    /// A command that is not known, or that its own tool would refuse.
    pub fn what_if(self, file: &str, changes: &str) -> Result<(Vec<WhatIf>, Vec<Warning>), Error> {
        let Options { ports, router, server, .. } = self.options;
        let (scene, sessions) = Scene::new(self.views, &ports);
        let trials = Trials::new(&scene, &sessions, router.as_ref(), server.map(|files| files.language));
        let (after, warnings) = trials.directory().after(file, changes)?;
        let (before, unchanged) = (trials.directory(), ServerChange::default());
        let result = |number: usize| -> Result<Vec<TransferWhatIf>, String> {
            let worked = trials.captured(number);
            let before = trials.outcome(number, &before, &unchanged)?;
            let after = trials.outcome(number, &after, &unchanged)?;
            if !before.finished || !after.finished {
                return Err("the re-enactment takes too long".into());
            }
            let pairs = before.transfers.iter().zip(&after.transfers).zip(worked);
            let transfer = |((before, after), (command, worked)): ((&(usize, Result<(), Failure>), _), _)| {
                let after: &(usize, Result<(), Failure>) = after;
                TransferWhatIf { command, worked, before: before.1, after: after.1 }
            };
            Ok(pairs.map(transfer).collect())
        };
        let what_if = |(number, session): (usize, &super::session::Session)| {
            let [client, server] = scene.flow(session.places[0]).ends.map(plain);
            WhatIf { session: number + 1, client, server, transfers: result(number) }
        };
        Ok((sessions.iter().enumerate().map(what_if).collect(), warnings))
    }
}
