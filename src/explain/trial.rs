//! Remedies tried: the session is re-enacted as it was, and then with each of them.

use core::fmt;
use core::time::Duration;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::cause::{Cause, Code, Machine};
use super::remedy::{Language, Part, Remedy};
use super::retell::{Reteller, Retold};
use super::router::RouterFiles;
use super::server_change::ServerChange;
use super::session::{Scene, Session};
use crate::config::{Directory, WarningKind};
use crate::reenact::{Outcome, Script, Setup, play};

/// Maximum number of sessions at the same time that are re-enacted together.
const TOGETHER: usize = 16;
/// Maximum number of other sessions that a remedy is tried on.
const OTHERS: usize = 32;

/// The result of trying a remedy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trial {
    /// It was not tried, for this reason.
    NotTried(String),
    /// Nothing was said of it yet.
    #[default]
    Open,
    /// With it the session works, and so do this many others that worked before.
    Works {
        /// The number of other sessions.
        others: usize,
    },
    /// The failure stays.
    Fails,
    /// The session works, and one that worked before does not.
    Breaks {
        /// The other session's number, from 1.
        session: usize,
    },
}

impl Trial {
    /// True if the remedy was tried, and everything works with it.
    #[must_use]
    pub const fn works(&self) -> bool {
        matches!(self, Self::Works { .. })
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTried(reason) => write!(f, "Not tried: {reason}."),
            Self::Open => f.write_str("Not tried: assumed."),
            Self::Works { others: 0 } => {
                f.write_str("Tried: with this the session works (same rules, same dialogue, re-enacted).")
            }
            Self::Works { others } => write!(
                f,
                "Tried: with this the session works (same rules, same dialogue, re-enacted), and so do {others} others that worked."
            ),
            Self::Fails => f.write_str("Tried: with this the failure stays."),
            Self::Breaks { session } => {
                write!(f, "Tried: with this the session works, and session {session}, which worked, does not.")
            }
        }
    }
}

/// All sessions, as they can be re-enacted.
pub(super) struct Trials<'a> {
    router: Option<&'a RouterFiles>,
    server_file: Option<Language>,
    retold: Vec<Option<Retold>>,
    /// Each session's first and last moment, and its file.
    spans: Vec<(usize, i64, i64)>,
}

impl<'a> Trials<'a> {
    pub(super) fn new(
        scene: &'a Scene,
        sessions: &'a [Session],
        router: Option<&'a RouterFiles>,
        server_file: Option<Language>,
    ) -> Self {
        let retold = sessions.iter().map(|session| Reteller { scene, session, router }.retell()).collect();
        let span = |session: &Session| {
            let place = session.places[0];
            let flow = scene.flow(place);
            (scene.view(place).file, flow.first.time, flow.last.time)
        };
        Self { router, server_file, retold, spans: sessions.iter().map(span).collect() }
    }

    /// Tries the remedies of a session's causes. Remedies with which the failure stays are left out if another works.
    pub(super) fn judge(&self, number: usize, causes: &mut [Cause], healthy: &[bool]) {
        let before = self.before(number);
        for cause in causes.iter_mut().filter(|cause| cause.code != Code::Healthy) {
            for remedy in &mut cause.remedies {
                remedy.trial = match &before {
                    Ok(()) => self.attempt(number, remedy, healthy),
                    Err(reason) => Trial::NotTried(self.out_of_reach(remedy).unwrap_or_else(|| reason.clone())),
                };
            }
            let works = cause.remedies.iter().any(|remedy| remedy.trial.works());
            cause.remedies.retain(|remedy| !works || remedy.trial != Trial::Fails);
            cause.remedies.sort_by_key(|remedy| !remedy.trial.works());
            leave_out_more_than_enough(&mut cause.remedies);
        }
    }

    /// The reason for which a remedy changes nothing that can be re-enacted.
    fn out_of_reach(&self, remedy: &Remedy) -> Option<String> {
        let reason = |part: &Part| match part.machine {
            _ if part.language == Language::Words => Some("assumed".to_string()),
            Machine::Router if self.router.is_some() => None,
            Machine::Server if self.server_file == Some(part.language) => None,
            Machine::Server => Some("assumed; --server FILE names the server's own file".to_string()),
            machine => Some(format!("assumed; nobody recorded {machine}")),
        };
        remedy.parts.iter().find_map(reason)
    }

    /// The sessions that are re-enacted with this one, itself first.
    fn together(&self, number: usize) -> Vec<usize> {
        let (file, first, last) = self.spans[number];
        let overlaps = |other: &usize| {
            let (its_file, its_first, its_last) = self.spans[*other];
            *other != number && its_file == file && its_first <= last && its_last >= first
        };
        core::iter::once(number).chain((0..self.spans.len()).filter(overlaps)).take(TOGETHER).collect()
    }

    fn scripts(&self, numbers: &[usize], change: &ServerChange) -> Vec<Script> {
        let first = numbers.iter().map(|number| self.spans[*number].1).min().unwrap_or(0);
        let script = |number: &usize| {
            let mut script = change.applied(&self.retold[*number].as_ref()?.script);
            let starts = u64::try_from(self.spans[*number].1.saturating_sub(first)).unwrap_or(0);
            script.starts = Duration::from_micros(starts);
            Some(script)
        };
        numbers.iter().filter_map(script).collect()
    }

    /// Returns a session's transfers: the command, and whether it worked when it was captured.
    pub(super) fn captured(&self, number: usize) -> Vec<(String, bool)> {
        let Some(retold) = &self.retold[number] else { return Vec::new() };
        let command = |turn: usize| {
            let line = retold.script.turns.get(turn).map(|turn| turn.command.as_slice()).unwrap_or_default();
            String::from_utf8_lossy(line).into_owned()
        };
        retold.script.transfers().map(command).zip(retold.worked.iter().copied()).collect()
    }

    /// Re-enacts a session, with those at the same time.
    pub(super) fn outcome(
        &self,
        number: usize,
        directory: &Directory,
        change: &ServerChange,
    ) -> Result<Outcome, String> {
        if self.retold[number].is_none() {
            return Err("the capture shows too little of the session".to_string());
        }
        let setup = match self.router {
            Some(router) => {
                let mut config = directory.router_config().map_err(|error| error.to_string())?;
                if let Some((_, count)) = router.full_table() {
                    // The others' connections leave as much room as the control connection had.
                    let others = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
                    let limits = &mut config.conntrack.limits;
                    limits.connections = limits.connections.saturating_sub(others).max(1);
                }
                Setup::through(config)
            }
            None => Setup::default(),
        };
        let scripts = self.scripts(&self.together(number), change);
        let outcomes = play(&setup, &scripts).map_err(|error| error.to_string())?;
        outcomes.into_iter().next().ok_or_else(|| "nothing was re-enacted".to_string())
    }

    pub(super) fn directory(&self) -> Directory {
        self.router.map(|router| router.directory.clone()).unwrap_or_default()
    }

    /// Re-enacts the session as it was.
    ///
    /// # Errors
    /// The reason for which it does not fail as it did.
    fn before(&self, number: usize) -> Result<(), String> {
        let outcome = self.outcome(number, &self.directory(), &ServerChange::default())?;
        let worked = self.retold[number].as_ref().map(|retold| &retold.worked[..]).unwrap_or_default();
        let results: Vec<(bool, bool)> =
            worked.iter().copied().zip(outcome.transfers.iter().map(|(_, result)| result.is_ok())).collect();
        if !outcome.finished {
            return Err("the re-enactment takes too long".to_string());
        }
        if results.iter().any(|(worked, works)| *worked && !works) {
            return Err("a transfer that worked fails in the re-enactment, which is not faithful then".to_string());
        }
        if results.iter().any(|(worked, works)| !worked && !works) {
            return Ok(());
        }
        Err("the failure could not be reproduced with the files at hand".to_string())
    }

    fn attempt(&self, number: usize, remedy: &Remedy, healthy: &[bool]) -> Trial {
        if let Some(reason) = self.out_of_reach(remedy) {
            return Trial::NotTried(reason);
        }
        let on_router = remedy.parts.iter().filter(|part| part.machine == Machine::Router);
        let commands: Vec<&str> = on_router.flat_map(|part| &part.lines).map(String::as_str).collect();
        let (after, warnings) = match self.directory().after("remedy", &commands.join("\n")) {
            Ok(after) => after,
            Err(error) => return Trial::NotTried(format!("assumed; not re-enacted: {error}")),
        };
        let is_unread = |kind| {
            matches!(kind, WarningKind::UnknownMatch | WarningKind::UnknownTarget | WarningKind::UnknownStatement)
        };
        if let Some(warning) = warnings.iter().find(|warning| is_unread(warning.kind)) {
            return Trial::NotTried(format!("assumed; not re-enacted: {warning}"));
        }
        let change = ServerChange::of(remedy.parts.iter().filter(|part| part.machine == Machine::Server));
        match self.outcome(number, &after, &change) {
            Ok(outcome) if outcome.works() => self.others(number, &after, &change, healthy),
            Ok(_) => Trial::Fails,
            Err(reason) => Trial::NotTried(reason),
        }
    }

    /// Tries a remedy on sessions that worked.
    fn others(&self, number: usize, after: &Directory, change: &ServerChange, healthy: &[bool]) -> Trial {
        let works = |other: usize, directory: &Directory, change: &ServerChange| {
            self.outcome(other, directory, change).is_ok_and(|outcome| outcome.works())
        };
        let worked = (0..self.spans.len()).filter(|other| *other != number && healthy.get(*other) == Some(&true));
        let worked = worked.filter(|other| self.retold[*other].is_some()).take(OTHERS);
        let mut others = 0;
        for other in worked.filter(|other| works(*other, &self.directory(), &ServerChange::default())) {
            if !works(other, after, change) {
                return Trial::Breaks { session: other + 1 };
            }
            others += 1;
        }
        Trial::Works { others }
    }
}

/// Says of remedies that are not tried which command tries them.
pub(super) fn leave(causes: &mut [Cause], session: usize) {
    for remedy in causes.iter_mut().flat_map(|cause| &mut cause.remedies) {
        remedy.trial = Trial::NotTried(format!("assumed; --session {session} tries it, if it can be tried"));
    }
}

/// Leaves remedies out that do more than one that works.
fn leave_out_more_than_enough(remedies: &mut Vec<Remedy>) {
    let enough: Vec<Vec<Part>> =
        remedies.iter().filter(|remedy| remedy.trial.works()).map(|remedy| remedy.parts.clone()).collect();
    remedies.retain(|remedy| {
        !enough.iter().any(|parts| parts.len() < remedy.parts.len() && remedy.parts.starts_with(parts))
    });
}
