//! `--what-if`: every session re-enacted through the router as it is, and with changes.

use std::fs;
use std::path::Path;

use ftp_conntrack::explain::{Explanation, Options, RouterFiles, TransferWhatIf, WhatIf};
use ftp_conntrack::reenact::Failure as TransferFailure;
use serde_json::json;

use crate::failure::{Failure, warn};
use crate::output::Output;
use crate::replay::arguments::Arguments;
use crate::replay::input::name_of;

/// Returns true if every session works with the changes.
pub(super) fn run(changes: &Path, arguments: &Arguments) -> Result<bool, Failure> {
    let Some(directory) = &arguments.router else { return Err(Failure::new("--what-if needs --router DIR")) };
    let text = fs::read(changes).map_err(|error| Failure::of_file(changes, error))?;
    let router = RouterFiles::read(directory).map_err(|error| Failure::of_file(directory, error))?;
    let captures = arguments.capture.clone().map_or_else(|| router.captures(), |capture| vec![capture]);
    if captures.is_empty() {
        return Err(Failure::of_file(
            directory,
            "has no router.pcapng or router.pcap; put one there or name a CAPTURE",
        ));
    }
    let mut options = Options::default();
    options.ports.clone_from(&arguments.ports);
    options.router = Some(router);
    let mut explanation = Explanation::of(options);
    for capture in &captures {
        explanation.read_file(capture, true).map_err(|error| Failure::of_file(capture, error))?;
    }
    let name = name_of(changes);
    let (sessions, warnings) =
        explanation.what_if(&name, &String::from_utf8_lossy(&text)).map_err(|error| Failure::new(error.to_string()))?;
    for warning in warnings {
        warn(format_args!("warning: {warning}"));
    }
    if sessions.is_empty() {
        return Err(Failure::new("the capture has no FTP session"));
    }
    let mut output = Output::standard();
    for session in &sessions {
        if arguments.json {
            output.line(as_json(session));
        } else {
            tell(session, &name, &mut output);
        }
    }
    output.finish()?;
    Ok(sessions.iter().all(works))
}

fn works(session: &WhatIf) -> bool {
    session.transfers.as_ref().is_ok_and(|transfers| transfers.iter().all(|transfer| transfer.after.is_ok()))
}

fn tell(session: &WhatIf, name: &str, output: &mut Output) {
    output.line(format_args!("FTP session {}: {} > {}", session.session, session.client, session.server));
    match &session.transfers {
        Err(reason) => output.line(format_args!("  cannot be re-enacted: {reason}")),
        Ok(transfers) => {
            for transfer in transfers {
                let captured = if transfer.worked { "worked" } else { "failed" };
                output.line(format_args!("  {}", transfer.command));
                output.line(format_args!("    captured: {captured}"));
                output.line(format_args!("    re-enacted as it was: {}", shown(transfer.before)));
                output.line(format_args!("    with {name}: {}", shown(transfer.after)));
            }
        }
    }
}

fn shown(result: Result<(), TransferFailure>) -> String {
    match result {
        Ok(()) => "works".to_owned(),
        Err(TransferFailure::NoControl) => "the control connection does not open".to_owned(),
        Err(TransferFailure::Refused(code)) => format!("the server refuses with {code}"),
        Err(TransferFailure::NotOpened) => "the data connection does not open".to_owned(),
        Err(TransferFailure::Incomplete) => "the data connection opens, and not everything arrives".to_owned(),
        Err(TransferFailure::NotReached) => "the session ends before".to_owned(),
        Err(_) => "fails".to_owned(),
    }
}

/// `{"session", "client", "server", "transfers": [{"command", "worked", "before", "after"}]}`, or `"reason"` for what
/// cannot be re-enacted.
fn as_json(session: &WhatIf) -> serde_json::Value {
    let transfer = |transfer: &TransferWhatIf| {
        json!({
            "command": transfer.command,
            "worked": transfer.worked,
            "before": shown(transfer.before),
            "after": shown(transfer.after),
        })
    };
    let (client, server) = (session.client.to_string(), session.server.to_string());
    match &session.transfers {
        Ok(transfers) => {
            let transfers: Vec<_> = transfers.iter().map(transfer).collect();
            json!({ "session": session.session, "client": client, "server": server, "transfers": transfers })
        }
        Err(reason) => json!({ "session": session.session, "client": client, "server": server, "reason": reason }),
    }
}
