//! `--json`: one object with all that was found.
//!
//! ```text
//! {"frames": N, "notes": [TEXT], "sessions": [{"session": N, "client", "server", "began": SECONDS, "user", "commands",
//!   "transfers", "views": [TEXT], "code": CODE, "causes": [{"code", "machine", "certainty": "shown"|"inferred", "sentence",
//!   "evidence": [{"view", "frame", "shown", "means"}], "candidates": [CODE], "missing": [TEXT],
//!   "remedies": [{"machine", "language", "lines": [TEXT], "tried": BOOL}]}]}]}
//! ```

use ftp_conntrack::explain::{Cause, Evidence, Remedy, Report, SessionReport};
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
    let remedy = |r: &Remedy| json!({ "machine": r.machine.to_string(), "language": r.language.name(), "lines": r.lines, "tried": r.tried });
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
