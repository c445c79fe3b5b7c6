//! A capture from one side of a masquerading router, as the other side would have seen it.

use std::net::IpAddr;
use std::path::Path;

use ftp_conntrack::Instant;
use ftp_conntrack::capture::{ReadError, Record};
use ftp_conntrack::masquerade::{Frames, Known, Line, Masquerade, Outcome, Rewriting, Sink, Summary};
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::Side;

use crate::failure::Failure;
use crate::output::Output;
use crate::replay::arguments::Arguments;
use crate::replay::decode::{describe, escaped, short};
use crate::replay::input;
use crate::replay::json::Object;
use crate::replay::notices::Notices;
use crate::replay::progress::Progress;
use crate::replay::record::Recorder;
use crate::replay::story::Tally;
use crate::replay::words::{frames, plural};
use crate::style::Style;

/// The private ranges (RFC 1918, RFC 4193).
const PRIVATE: [(IpAddr, u8); 4] = [
    (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V6(std::net::Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
];
/// So many rewritten lines are shown.
const SHOWN: usize = 200;
/// So many frames are named where many have the same fate.
const NAMED: usize = 8;
/// So much is shown of a line, and of a packet.
const WIDTH: usize = 100;
/// The width of a label at the beginning of a line.
const LABEL: usize = 11;

/// Which way is translated.
enum Way {
    /// The outside sees this.
    Out(IpAddr),
    /// This is brought back to the host that it stands for.
    Back(IpAddr, IpAddr),
}

/// Translates the capture, and tells what became of it.
pub(crate) fn run(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let (way, masquerade) = translation(arguments)?;
    let mut capture = input::open(path)?;
    let name = input::name_of(path);
    let ports = if arguments.ports.is_empty() { Vec::from([21]) } else { arguments.ports.clone() };
    let recorder = Recorder::create(arguments.write.as_deref(), &[path.to_owned()], &[])?;
    let progress = if arguments.json { Progress::beside_lines() } else { Progress::alone() };
    let mut output = Output::standard();
    let mut teller = Teller {
        recorder,
        notices: Notices::new(&name),
        progress,
        json: arguments.json.then_some(&mut output),
        rewritten: Vec::new(),
        unasked: Vec::new(),
        malformed: Vec::new(),
        not_rewritten: Vec::new(),
    };
    let summary = Frames::new(masquerade, ports).run(&mut capture, &mut teller);
    let Teller { recorder, notices, progress, rewritten, unasked, malformed, not_rewritten, .. } = teller;
    drop(progress);
    if arguments.json {
        tell_json(&summary, &mut output);
    } else {
        let told = Told { name, way, inside: inside(arguments), rewritten, unasked, malformed, not_rewritten };
        told.tell(&summary, &mut output);
    }
    notices.finish()?;
    recorder.finish()?;
    output.finish()
}

fn inside(arguments: &Arguments) -> Vec<Cidr> {
    if arguments.inside.is_empty() {
        return PRIVATE.iter().filter_map(|(address, prefix)| Cidr::new(*address, *prefix)).collect();
    }
    arguments.inside.clone()
}

fn translation(arguments: &Arguments) -> Result<(Way, Masquerade), Failure> {
    if let Some(outside) = arguments.masquerade {
        return Ok((Way::Out(outside), Masquerade::new(inside(arguments), outside)));
    }
    let wanted = || Failure::new("--unmasquerade needs the one host that the address stands for: --inside 10.0.0.5");
    let outside = arguments.unmasquerade.ok_or_else(wanted)?;
    let host = match arguments.inside.as_slice() {
        [host] if host.prefix() == (if host.address().is_ipv4() { 32 } else { 128 }) => host.address(),
        _ => return Err(wanted()),
    };
    if host.is_ipv4() != outside.is_ipv4() {
        return Err(Failure::new(format_args!("{host} and {outside} are of different families")));
    }
    Ok((Way::Back(outside, host), Masquerade::back(outside, host)))
}

/// Takes what is translated.
struct Teller<'o> {
    recorder: Recorder,
    notices: Notices,
    progress: Progress,
    json: Option<&'o mut Output>,
    /// The lines that leave otherwise: frame, line, and how it leaves.
    rewritten: Vec<(u64, String, String)>,
    unasked: Vec<(u64, String)>,
    malformed: Vec<(u64, String)>,
    not_rewritten: Vec<u64>,
}

impl Sink for Teller<'_> {
    fn frame(&mut self, record: &Record<'_>, outcome: Outcome) {
        self.progress.count();
        self.recorder.copy(record);
        match outcome {
            Outcome::Translated { known: Known::First, side: Side::Destination, .. } => {
                let packet = || short(&packet_of(record), WIDTH);
                match &mut self.json {
                    Some(output) => output
                        .line(Object::new("unasked").with("frame", record.frame).with("packet", packet()).finish()),
                    None if self.unasked.len() < NAMED => self.unasked.push((record.frame, packet())),
                    None => {}
                }
            }
            Outcome::NotRewritten => match &mut self.json {
                Some(output) => output.line(Object::new("not_rewritten").with("frame", record.frame).finish()),
                None if self.not_rewritten.len() < NAMED => self.not_rewritten.push(record.frame),
                None => {}
            },
            _ => {}
        }
    }

    fn rewritten(&mut self, line: &Line<'_>, rewriting: &Rewriting) {
        let (before, after) = (escaped(line.text), escaped(&rewriting.line(line)));
        match &mut self.json {
            Some(output) => {
                let object = Object::new("rewritten").with("frame", line.frame);
                let object = object.with("from", line.from.to_string()).with("to", line.to.to_string());
                let object = object.with("line", before).with("leaves_as", after);
                let endpoint = rewriting.endpoint;
                output.line(object.with("address", endpoint.ip().to_string()).with("port", endpoint.port()).finish());
            }
            None if self.rewritten.len() < SHOWN => {
                self.rewritten.push((line.frame, short(&before, WIDTH), short(&after, WIDTH)));
            }
            None => {}
        }
    }

    fn malformed(&mut self, line: &Line<'_>) {
        let text = escaped(line.text);
        match &mut self.json {
            Some(output) => {
                output.line(Object::new("malformed").with("frame", line.frame).with("line", text).finish());
            }
            None if self.malformed.len() < NAMED => self.malformed.push((line.frame, short(&text, WIDTH))),
            None => {}
        }
    }

    fn broken(&mut self, error: &ReadError) {
        if let Some(output) = &mut self.json {
            output.line(Object::new("damaged").with("error", error.to_string()).finish());
        }
        self.notices.damaged(error);
    }
}

fn packet_of(record: &Record<'_>) -> String {
    let offset =
        ftp_conntrack::packet::link::find_network(record.link_type, record.data).map_or(0, |found| found.offset);
    describe(record.data.get(offset..).unwrap_or_default())
}

/// The last line of `--json`.
fn tell_json(summary: &Summary, output: &mut Output) {
    let counts = [
        ("frames", summary.frames),
        ("outwards", summary.outwards),
        ("inwards", summary.inwards),
        ("unasked", summary.unasked),
        ("rewritten", summary.rewritten),
        ("malformed", summary.malformed),
        ("not_rewritten", summary.not_rewritten),
        ("unreadable", summary.unreadable),
        ("other_family", summary.other_family),
        ("both_near", summary.both_near),
        ("neither_near", summary.neither_near),
        ("multicast", summary.multicast),
        ("damaged", summary.damaged),
    ];
    let object = counts.iter().fold(Object::new("summary"), |object, (name, count)| object.with(name, *count));
    output.line(object.finish());
}

/// The counts that are printed for people.
struct Told {
    name: String,
    way: Way,
    inside: Vec<Cidr>,
    rewritten: Vec<(u64, String, String)>,
    unasked: Vec<(u64, String)>,
    malformed: Vec<(u64, String)>,
    not_rewritten: Vec<u64>,
}

impl Told {
    fn tell(&self, summary: &Summary, output: &mut Output) {
        let style = Style::standard();
        let mut label = |label: &str, text: &str| output.line(format_args!("{label:LABEL$}{text}"));
        let (first, last) = summary.span.unwrap_or((Instant::default(), Instant::default()));
        let seconds = last.since(first).as_secs_f64();
        label("Capture", &format!("{}: {} in {seconds:.3} s", self.name, plural(summary.frames, "frame")));
        match self.way {
            Way::Out(outside) => {
                let inside: Vec<String> = self.inside.iter().map(ToString::to_string).collect();
                label("Masquerade", &format!("{} as {}", inside.join(", "), style.changed(outside.to_string())));
            }
            Way::Back(outside, host) => {
                label("Back", &format!("{outside} is {}", style.changed(host.to_string())));
            }
        }
        label("Frames", &format!("{} outwards, {} inwards; {}", summary.outwards, summary.inwards, untouched(summary)));
        if summary.outwards + summary.inwards == 0 {
            label("Note", &style.bad("nothing was translated; --inside says which addresses are inside"));
        }
        label("Rewritten", &plural(summary.rewritten, "announcement"));
        for (frame, before, after) in &self.rewritten {
            output.line(format_args!("{frame:>7}  {before}"));
            output.line(format_args!("{:>7}  {}", "", style.changed(after)));
        }
        if summary.rewritten > self.rewritten.len() as u64 {
            output.line(format_args!("{:>7}  and {} more", "...", summary.rewritten - self.rewritten.len() as u64));
        }
        for (frame, line) in &self.malformed {
            output.line(style.bad(format!("{frame:>7}  {line}: malformed, and left as it is")));
        }
        if summary.unasked > 0 {
            let count = plural(summary.unasked, "packet");
            output.line(format_args!("{:LABEL$}{count} to what nobody inside had begun or announced", "Unasked"));
            for (frame, packet) in &self.unasked {
                output.line(format_args!("{frame:>7}  {packet}"));
            }
        }
        if summary.not_rewritten > 0 {
            let tally = Tally { count: summary.not_rewritten, frames: self.not_rewritten.clone() };
            let which = frames(&tally);
            let text = format!("{which}: only a part of an announcement is there, left as it is");
            output.line(format_args!("{:LABEL$}{}", "Note", style.bad(text)));
        }
    }
}

fn untouched(summary: &Summary) -> String {
    let counts = [
        (summary.both_near, "between inside hosts"),
        (summary.neither_near, "between outside hosts"),
        (summary.multicast, "to many"),
        (summary.other_family, "of the other family"),
        (summary.unreadable, "no packets that can be read"),
    ];
    let told: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if told.is_empty() { "all translated".to_owned() } else { format!("as they were: {}", told.join(", ")) }
}
