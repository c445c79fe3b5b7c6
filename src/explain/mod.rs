//! Explains why an FTP session fails, and names the changes: from captures of it, at any place, and from the router's
//! files.
//!
//! Several captures are views of the same sessions: what one has and another lacks shows where a packet was lost. Times are
//! compared within one view only; distances are read from the packets' TTLs.
//!
//! ```
//! use ftp_conntrack::explain::{Code, Explanation, Options};
//!
//! let explanation = Explanation::of(Options::default());
//! let report = explanation.report();
//! assert!(report.sessions.is_empty());
//! assert_eq!(Code::NoHelper.name(), "no-helper");
//! ```

mod announced;
mod cause;
mod control;
mod crowded;
mod data_path;
mod diagnose;
mod dialogue;
mod fate;
mod filter;
mod flow;
mod places;
mod remedy;
mod retell;
mod router;
mod server;
mod server_change;
mod session;
mod settings;
mod stalled;
mod text;
mod transcript;
mod trial;
mod view;
mod what_if;

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::format;
use std::io::Read;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::Instant;
use crate::capture::{ReadError, Reader};
pub use cause::{Cause, Certainty, Code, Evidence, Machine};
use diagnose::Diagnosis;
pub use remedy::{Language, Part, Remedy};
pub use router::{RouterFiles, RulesForm};
pub use server::{ServerFileError, ServerFiles, ServerHost, ServerSettings, ServerTls, Setting};
use session::Scene;
pub use trial::Trial;
use trial::Trials;
use view::{View, Views};
pub use what_if::{TransferWhatIf, WhatIf};

/// The options of an explanation.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Control ports, if only these are to be looked at.
    pub ports: Vec<u16>,
    /// The router's files.
    pub router: Option<RouterFiles>,
    /// The FTP server's own files: their lines are evidence, and remedies come in their language.
    pub server: Option<ServerFiles>,
    /// The number of the session whose remedies are tried, if not all are.
    pub session: Option<usize>,
}

/// Maximum number of sessions whose remedies are tried, unless one is named.
const TRIED: usize = 24;

/// Captures, while they are read.
pub struct Explanation {
    options: Options,
    views: Vec<View>,
    files: usize,
    frames: u64,
    notes: Vec<String>,
}

impl core::fmt::Debug for Explanation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Explanation").field("files", &self.files).field("frames", &self.frames).finish_non_exhaustive()
    }
}

/// A session, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionReport {
    /// From 1, in the order in which sessions begin.
    pub number: usize,
    /// The client, as the view nearest to it has it.
    pub client: SocketAddr,
    /// The server that it dialled.
    pub server: SocketAddr,
    /// When the first packet was captured.
    pub began: Instant,
    /// The user's name, where it can be read.
    pub user: Option<String>,
    /// Commands that could be read.
    pub commands: usize,
    /// Transfers that the server called complete.
    pub transfers: usize,
    /// The views that have it.
    pub views: Vec<String>,
    /// The causes, the likeliest first; never empty: a healthy session has the cause [`Code::Healthy`].
    pub causes: Vec<Cause>,
}

impl SessionReport {
    /// The likeliest cause's code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.causes.first().map_or(Code::Unknown, |cause| cause.code)
    }
}

/// The findings of an explanation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The sessions.
    pub sessions: Vec<SessionReport>,
    /// Further notes on the captures and files.
    pub notes: Vec<String>,
    /// Frames read.
    pub frames: u64,
}

impl Report {
    /// Returns the codes with the number of their sessions, the most frequent failure first, healthy last.
    #[must_use]
    pub fn counts(&self) -> Vec<(Code, usize)> {
        let mut counts: BTreeMap<Code, usize> = BTreeMap::new();
        for session in &self.sessions {
            *counts.entry(session.code()).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(code, count)| (*code == Code::Healthy, core::cmp::Reverse(*count)));
        counts
    }

    /// True if there are sessions, and all are healthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.sessions.is_empty() && self.sessions.iter().all(|session| session.code() == Code::Healthy)
    }
}

impl Explanation {
    /// Begins with the files at hand.
    #[must_use]
    pub const fn of(options: Options) -> Self {
        Self { options, views: Vec::new(), files: 0, frames: 0, notes: Vec::new() }
    }

    /// Reads a capture from a file. `is_router`: it was taken on the router.
    ///
    /// # Errors
    /// When the file is no capture. A capture that breaks off is read up to there, and noted.
    pub fn read_file(&mut self, path: &Path, is_router: bool) -> Result<(), ReadError> {
        let mut capture = Reader::open(path)?;
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
        self.read(&name, &mut capture, is_router);
        Ok(())
    }

    /// Reads a capture to its end. `name` is what it is called in evidence.
    pub fn read<R: Read>(&mut self, name: &str, capture: &mut Reader<R>, is_router: bool) {
        self.files += 1;
        let router = self.options.router.as_ref();
        let device = |index: u32| router.filter(|_| is_router).and_then(|router| router.device(index));
        let (views, totals, broken) = Views::new(name, self.files, is_router).read(capture, &device);
        self.frames += totals.frames;
        if let Some(error) = broken {
            self.notes.push(format!("{name}: {error}"));
        }
        for view in &views {
            if view.left_out > 0 {
                self.notes.push(format!(
                    "{}: {} packets of connections that were too many were not looked at",
                    view.name, view.left_out
                ));
            }
        }
        self.views.extend(views);
    }

    /// Reads a client's log instead of a capture: FileZilla's, curl's, lftp's, WinSCP's, ftplib's. Returns false if it has no
    /// FTP line.
    pub fn read_log(&mut self, name: &str, log: &str) -> bool {
        self.files += 1;
        let view = transcript::read(name, self.files, log);
        let found = view.is_some();
        self.frames += u64::from(found);
        self.views.extend(view);
        found
    }

    /// Finds the causes.
    #[must_use]
    pub fn report(self) -> Report {
        let Self { options, views, frames, mut notes, .. } = self;
        let (scene, sessions) = Scene::new(views, &options.ports);
        if let Some(server) = &options.server {
            notes.extend(server.notes.iter().cloned());
        }
        if let Some(router) = &options.router {
            for rule in router.not_judged() {
                notes.push(format!("{rule} has words that are not judged here; the packets decide"));
            }
        }
        for (number, session) in sessions.iter().enumerate() {
            if session.main().gap {
                notes.push(format!(
                    "session {}: bytes of the control connection are missing from the capture",
                    number + 1
                ));
            }
        }
        let report = |(number, session): (usize, &session::Session)| {
            let place = session.places[0];
            let flow = scene.flow(place);
            let said = session.main();
            let diagnosis = Diagnosis {
                scene: &scene,
                session,
                router: options.router.as_ref(),
                server_files: options.server.as_ref(),
            };
            let mut causes = diagnosis.causes();
            if !causes.is_empty()
                && let Some(cause) = crowded::same_endpoint(&scene, &sessions, number, options.router.as_ref())
            {
                causes.insert(0, cause);
            }
            let transfers = said.exchanges.iter().filter(|e| e.is_transfer() && (200..300).contains(&e.code())).count();
            if causes.is_empty() {
                causes.push(healthy(transfers, said, flow));
            }
            SessionReport {
                number: number + 1,
                client: dialogue::plain(flow.ends[0]),
                server: dialogue::plain(flow.ends[1]),
                began: Instant::from_micros(flow.first.time),
                user: said.user.clone(),
                commands: said.exchanges.iter().filter(|exchange| !exchange.verb.is_empty()).count(),
                transfers,
                views: session.places.iter().map(|place| scene.view(*place).name.to_string()).collect(),
                causes,
            }
        };
        let mut reports: Vec<SessionReport> = sessions.iter().enumerate().map(report).collect();
        let healthy: Vec<bool> = reports.iter().map(|report| report.code() == Code::Healthy).collect();
        let trials = Trials::new(
            &scene,
            &sessions,
            options.router.as_ref(),
            options.server.as_ref().map(|files| files.language),
        );
        let wanted = options.session.map(|number| number.wrapping_sub(1));
        let failed = (0..reports.len()).filter(|number| !healthy[*number]);
        let tried: Vec<usize> =
            failed.filter(|number| wanted.is_none_or(|wanted| wanted == *number)).take(TRIED).collect();
        for (number, report) in reports.iter_mut().enumerate().filter(|(number, _)| !healthy[*number]) {
            if tried.contains(&number) {
                trials.judge(number, &mut report.causes, &healthy);
            } else {
                trial::leave(&mut report.causes, number + 1);
            }
        }
        Report { sessions: reports, notes, frames }
    }
}

/// The cause of a session in which nothing failed.
fn healthy(transfers: usize, said: &dialogue::Dialogue, flow: &flow::Flow) -> Cause {
    let sentence = match (transfers, said.tls) {
        (0, Some(_)) => "Nothing failed that can be seen; the dialogue is encrypted.".to_string(),
        (0, None) if said.exchanges.is_empty() && flow.has_syn() => {
            let cause =
                Cause::new(Code::TooShort, Certainty::Shown, "The capture has nothing that client or server said.");
            return cause.lacking("let the capture run until the client reports its error");
        }
        (0, None) if said.exchanges.is_empty() => {
            let cause = Cause::new(Code::BeginsLate, Certainty::Shown, "The capture begins after what was said.");
            return cause.lacking("begin the capture before the client connects");
        }
        (0, None) => "Nothing failed; no file or listing was transferred.".to_string(),
        (1, _) => "Nothing failed: 1 transfer is complete.".to_string(),
        (n, _) => format!("Nothing failed: {n} transfers are complete."),
    };
    Cause::new(Code::Healthy, Certainty::Shown, sentence)
}
