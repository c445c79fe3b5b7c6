//! The differences that `--verify` found, for people.

use std::collections::VecDeque;
use std::ops::Range;

use ftp_conntrack::replay::{Departure, Difference, DifferenceKind, Sink, Summary, TableDifference};
use ftp_conntrack::router::Router;

use crate::output::Output;
use crate::replay::decode::{describe, fields, hex};
use crate::replay::input::Input;
use crate::replay::words::{departures, failures, lacking, not_understood, plural, unseen};
use crate::style::Style;

/// So many packets, and so many lines of tables, are shown.
const MOST: usize = 20;
/// So long it is remembered why something else left than Linux would have sent.
const REMEMBERED: usize = 4096;
/// So many bytes of a field are shown.
const FIELD: usize = 16;

/// A packet that differs.
struct Shown {
    difference: Difference,
    interface: String,
    /// Reason, where it is known.
    why: Option<String>,
}

/// Keeps what is to be shown.
#[derive(Default)]
pub(crate) struct Differences {
    packets: Vec<Shown>,
    departures: VecDeque<Departure>,
    lines: Vec<TableDifference>,
}

impl Sink for Differences {
    fn differs(&mut self, difference: &Difference, router: &Router) {
        if self.packets.len() < MOST {
            let interface = router.interfaces().get(difference.interface).map_or("?", |i| i.name.as_str());
            let interface = interface.escape_debug().to_string();
            self.packets.push(Shown { difference: difference.clone(), interface, why: self.why(difference) });
        }
    }

    fn departs(&mut self, departure: &Departure, _: &Router) {
        // A packet that was never seen leaving is reported before its reason is known.
        let untold = |shown: &&mut Shown| shown.why.is_none() && shown.difference.arrived == Some(departure.frame);
        for shown in self.packets.iter_mut().filter(untold) {
            shown.why = Some(departure.to_string());
        }
        self.departures.truncate(REMEMBERED - 1);
        self.departures.push_front(departure.clone());
    }

    fn table_differs(&mut self, difference: &TableDifference) {
        if self.lines.len() < MOST {
            self.lines.push(difference.clone());
        }
    }
}

impl Differences {
    /// Returns the reason why the router sent something else than Linux, where the packet that left is the one Linux
    /// would have sent.
    fn why(&self, difference: &Difference) -> Option<String> {
        let is_it = |departure: &&Departure| match difference.arrived {
            Some(arrived) => departure.frame == arrived,
            None => departure.theirs.contains(&difference.theirs),
        };
        self.departures.iter().find(is_it).map(ToString::to_string)
    }

    pub(crate) fn tell(&self, input: &Input, summary: &Summary, output: &mut Output) {
        let style = Style::standard();
        if summary.nothing_compared.is_some() {
            output.line(summary);
            return;
        }
        for Shown { difference, interface, why } in &self.packets {
            show_packet(difference, interface, style, output);
            if let Some(why) = why {
                output.line(format_args!("  {}", style.changed(why)));
            }
            output.blank();
        }
        more(self.packets.len(), summary.differ, "packets", output);
        for line in &self.lines {
            output.line(format_args!("{} {line}", style.bad("table:")));
        }
        more(self.lines.len(), summary.table_lines, "lines of the tables", output);
        if !self.lines.is_empty() {
            output.blank();
        }
        for line in notes(input, summary) {
            output.line(line);
        }
        if input.is_exact {
            output.line(format_args!("Linux {}", departures(summary, style)));
        }
        if summary.agrees() && summary.left > 0 {
            output.line(style.good(format!("OK: all {} leave as captured", plural(summary.left, "packet"))));
        }
        output.line(summary);
    }
}

fn more(shown: usize, all: u64, what: &str, output: &mut Output) {
    let hidden = all.saturating_sub(shown as u64);
    if hidden > 0 {
        output.line(format_args!("... and {hidden} more {what} that differ; --json shows all"));
        output.blank();
    }
}

/// Notes on questions that the numbers of the last line leave open.
fn notes(input: &Input, summary: &Summary) -> Vec<String> {
    let mut notes = not_understood(summary);
    notes.extend(lacking(summary));
    notes.extend(unseen(summary));
    notes.extend(failures(summary));
    if summary.older > 0 && !input.adopts && !summary.agrees() {
        let count = plural(summary.older, "TCP connection");
        notes.push(format!("older than the capture: {count}; --adopt takes them over"));
    }
    if summary.housekeeping > 0 {
        notes.push(format!(
            "{} of the router's own for its links (neighbour discovery, multicast listeners, DHCP) not compared",
            plural(summary.housekeeping, "packet")
        ));
    }
    if summary.bad_checksums > 0 {
        notes.push(format!(
            "{} packets arrived with a wrong transport checksum; that checksum is not compared",
            summary.bad_checksums
        ));
    }
    if summary.events_lost > 0 {
        notes.push(format!("{} events came faster than they were read, and are not shown", summary.events_lost));
    }
    if !summary.tables_compared {
        let timeless = input.directory.tables_time.is_none();
        notes.push(match timeless {
            true => "tables not compared: the directory has no tables.time".to_owned(),
            false => "tables not compared: the directory has no nf_conntrack or nf_conntrack_expect".to_owned(),
        });
    }
    notes
}

fn show_packet(difference: &Difference, interface: &str, style: Style, output: &mut Output) {
    let Difference { arrived, left, time, kind, ours, theirs, .. } = difference;
    let frame = |number: &Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let is_own = arrived == left;
    let (arrived, left) = (frame(arrived), frame(left));
    let heading = match kind {
        DifferenceKind::Bytes if is_own => format!("frame {left}, the router's own: other bytes"),
        DifferenceKind::Bytes => format!("frame {arrived} arrived, frame {left} left: other bytes"),
        DifferenceKind::Missing => format!("frame {arrived} arrived: replay sends a packet, the capture has none"),
        DifferenceKind::Unexpected => format!("frame {left} left: replay sends no such packet"),
        other => format!("frame {arrived} arrived, frame {left} left: {other:?}"),
    };
    output.line(format_args!("{} {}", style.bad(heading), style.faint(format!("(by {interface} at {time})"))));
    for (who, bytes) in [("replay ", ours), ("capture", theirs)] {
        if !bytes.is_empty() {
            output.line(format_args!("  {who}  {}", describe(bytes)));
        }
    }
    if !ours.is_empty() && !theirs.is_empty() {
        for line in differing_fields(ours, theirs) {
            output.line(format_args!("  {line}"));
        }
    }
}

fn differing_fields(ours: &[u8], theirs: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut end = 0;
    for (range, name) in fields(ours) {
        end = range.end;
        let (here, there) = (part(ours, &range), part(theirs, &range));
        let Some(first) = first_difference(here, there) else { continue };
        let at = range.start + first;
        lines.push(match name {
            "payload" => {
                format!(
                    "payload differs from byte {at}, {first} into it: replay {}, capture {}",
                    ten(here, first),
                    ten(there, first)
                )
            }
            _ => format!(
                "bytes {}-{}, {name}: replay {}, capture {}",
                range.start,
                range.end - 1,
                digits(here),
                digits(there)
            ),
        });
    }
    if let Some(beyond) = theirs.get(end..).filter(|beyond| !beyond.is_empty()) {
        lines.push(format!("bytes {end}-{}, only in the capture: {}", theirs.len() - 1, digits(beyond)));
    }
    lines
}

/// Returns the part of a range that a packet has.
fn part<'p>(bytes: &'p [u8], range: &Range<usize>) -> &'p [u8] {
    bytes.get(range.start..range.end.min(bytes.len())).unwrap_or_default()
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).position(|(a, b)| a != b);
    common.or_else(|| (a.len() != b.len()).then_some(a.len().min(b.len())))
}

/// A few bytes from where two texts part.
fn ten(bytes: &[u8], from: usize) -> String {
    digits(bytes.get(from..(from + 10).min(bytes.len())).unwrap_or_default())
}

fn digits(bytes: &[u8]) -> String {
    match bytes.split_at_checked(FIELD) {
        _ if bytes.is_empty() => "nothing".to_owned(),
        Some((beginning, [_, ..])) => format!("{}...", hex(beginning)),
        _ => hex(bytes),
    }
}
