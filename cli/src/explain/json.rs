//! `--json`: one object with all that was found.
//!
//! ```text
//! {"frames": N, "notes": [TEXT], "sessions": [{"session": N, "client", "server", "began": SECONDS, "user", "commands",
//!   "transfers", "views": [TEXT], "code": CODE, "causes": [{"code", "machine", "certainty": "shown"|"inferred", "sentence",
//!   "evidence": [{"view", "frame", "shown", "means"}], "candidates": [CODE], "missing": [TEXT],
//!   "remedies": [{"parts": [{"machine", "language", "lines": [TEXT]}], "works": BOOL, "trial": TEXT}]}]}]}
//! ```

use ftp_conntrack::explain::{Cause, Evidence, Part, Remedy, Report, SessionReport};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::Output;

pub(super) fn print(report: &Report, chosen: Option<usize>) -> Result<(), Failure> {
    let sessions = report.sessions.iter().filter(|session| chosen.is_none_or(|number| session.number == number));
    let sessions: Vec<Value> = sessions.map(session).collect();
    let mut out = Output::standard();
    out.line(json!({ "frames": report.frames, "notes": report.notes, "sessions": sessions }));
    out.finish()
}

fn session(session: &SessionReport) -> Value {
    json!({
        "session": session.number,
        "client": session.client.to_string(),
        "server": session.server.to_string(),
        "began": session.began.micros() as f64 / 1e6,
        "user": session.user,
        "commands": session.commands,
        "transfers": session.transfers,
        "views": session.views,
        "code": session.code().name(),
        "causes": session.causes.iter().map(cause).collect::<Vec<_>>(),
    })
}

fn cause(cause: &Cause) -> Value {
    let evidence = |e: &Evidence| json!({ "view": e.view, "frame": e.frame, "shown": e.shown, "means": e.means });
    let part = |p: &Part| json!({ "machine": p.machine.to_string(), "language": p.language.name(), "lines": p.lines });
    let remedy = |r: &Remedy| {
        let parts: Vec<Value> = r.parts.iter().map(part).collect();
        json!({ "parts": parts, "works": r.trial.works(), "trial": r.trial.to_string() })
    };
    json!({
        "code": cause.code.name(),
        "machine": cause.machine.to_string(),
        "certainty": cause.certainty.name(),
        "sentence": cause.sentence,
        "evidence": cause.evidence.iter().map(evidence).collect::<Vec<_>>(),
        "candidates": cause.candidates.iter().map(|code| code.name()).collect::<Vec<_>>(),
        "missing": cause.missing,
        "remedies": cause.remedies.iter().map(remedy).collect::<Vec<_>>(),
    })
}
