//! The text for people: the cause first, then the frames that show it, then the changes.

use ftp_conntrack::explain::{Cause, Certainty, Code, Evidence, Language, Remedy, Report, SessionReport};

use crate::failure::Failure;
use crate::output::Output;

/// Maximum number of sessions that are shown in full without `--session`.
const IN_FULL: usize = 4;
/// Maximum number of remedies that are shown with their lines.
const REMEDIES: usize = 3;
/// Maximum number of sessions that a table names for each cause.
const NAMED: usize = 5;

pub(super) fn print(report: &Report, chosen: Option<usize>) -> Result<(), Failure> {
    let mut out = Output::standard();
    match chosen {
        Some(number) => {
            report.sessions.iter().filter(|session| session.number == number).for_each(|s| show(&mut out, s))
        }
        None if report.sessions.is_empty() => {
            out.line(format_args!("No FTP session in {} frames.", report.frames));
            out.line("  Missing: a capture of the control connection (port 21, or the port that the server uses), from its first packet on.");
        }
        None if report.sessions.len() <= IN_FULL => report.sessions.iter().for_each(|s| show(&mut out, s)),
        None => table(&mut out, report),
    }
    for note in &report.notes {
        out.line(format_args!("Note: {note}"));
    }
    out.finish()
}

fn table(out: &mut Output, report: &Report) {
    out.line(format_args!("{} FTP sessions in {} frames", report.sessions.len(), report.frames));
    for (code, count) in report.counts() {
        let all = report.sessions.iter().filter(|session| session.code() == code);
        let mut named: Vec<String> = all.take(NAMED).map(|session| session.number.to_string()).collect();
        if count > NAMED {
            named.push("...".into());
        }
        out.line(format_args!("  {count:>6}  {:<22} session {}", code.name(), named.join(", ")));
    }
    out.blank();
    let mut shown: Vec<Code> = Vec::new();
    for session in &report.sessions {
        if session.code() != Code::Healthy && !shown.contains(&session.code()) && shown.len() < IN_FULL {
            shown.push(session.code());
            show(out, session);
        }
    }
    out.line("--session N shows any other in full.");
}

fn show(out: &mut Output, session: &SessionReport) {
    let user = session.user.as_ref().map(|user| format!(", user {user}")).unwrap_or_default();
    out.line(format_args!(
        "FTP session {}: {} > {}, {}{user}",
        session.number,
        session.client,
        session.server,
        date(session.began.micros())
    ));
    for (number, cause) in session.causes.iter().enumerate() {
        if number > 0 {
            out.line("  Besides:");
        }
        show_cause(out, cause);
    }
    out.blank();
}

fn show_cause(out: &mut Output, cause: &Cause) {
    let sure = if cause.certainty == Certainty::Inferred { ", inferred" } else { "" };
    out.line(format_args!("  {} [{}{sure}]", cause.sentence, cause.code));
    for evidence in &cause.evidence {
        show_evidence(out, evidence);
    }
    if !cause.candidates.is_empty() {
        let names: Vec<&str> = cause.candidates.iter().map(|code| code.name()).collect();
        out.line(format_args!("  Possible too: {}", names.join(", ")));
    }
    for missing in &cause.missing {
        out.line(format_args!("  Missing: {missing}"));
    }
    for (number, remedy) in cause.remedies.iter().take(REMEDIES).enumerate() {
        show_remedy(out, remedy, number == 0);
    }
}

fn show_evidence(out: &mut Output, evidence: &Evidence) {
    let place = if evidence.view.is_empty() {
        "rules".to_owned()
    } else if evidence.frame == 0 {
        evidence.view.clone()
    } else {
        format!("{} frame {}", evidence.view, evidence.frame)
    };
    out.line(format_args!("    {place}  {}", evidence.shown));
    if !evidence.means.is_empty() {
        out.line(format_args!("        {}", evidence.means));
    }
}

fn show_remedy(out: &mut Output, remedy: &Remedy, is_first: bool) {
    for (number, part) in remedy.parts.iter().enumerate() {
        let lead = match (number, is_first) {
            (0, true) => "Fix",
            (0, false) => "Or",
            _ => "and",
        };
        let language = match part.language {
            Language::Words | Language::Iptables | Language::Shell => String::new(),
            other => format!(" ({})", other.name()),
        };
        out.line(format_args!("  {lead}, on {}{language}:", part.machine));
        for line in &part.lines {
            out.line(format_args!("    {line}"));
        }
    }
    out.line(format_args!("  {}", remedy.trial));
}

/// Returns a time in microseconds since the Unix epoch as a date.
fn date(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(super::date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(super::date(951_782_400_000_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(super::date(1_764_350_042_000_000), "2025-11-28 17:14:02 UTC");
    }
}
