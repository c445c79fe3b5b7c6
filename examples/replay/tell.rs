//! Tells the story of a replay, for people.

use std::net::SocketAddr;

use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{Direction, TcpState, Tuple};
use ftp_conntrack::event::DestroyReason;
use ftp_conntrack::ftp::Sender;
use ftp_conntrack::netfilter::{Policy, Ruleset, TableName};
use ftp_conntrack::replay::Summary;

use crate::input::Input;
use crate::output::Output;
use crate::session::{Announced, Data, Ending, Moment, Outcome, Said, Session, Step};
use crate::story::{Story, Tally};
use crate::style::Style;

/// So many lines of a table are shown.
const MOST: usize = 40;
/// The width of a label at the beginning of a line.
const LABEL: usize = 11;

/// Tells it, from the summary to the tables.
pub(crate) fn tell(story: &Story, input: &Input, summary: &Summary, output: &mut Output) {
    let mut teller = Teller { style: Style::standard(), output, start: story.first.unwrap_or_default() };
    teller.summary(story, input, summary);
    teller.router(input);
    for (number, session) in story.sessions.iter().enumerate() {
        teller.output.blank();
        teller.session(number + 1, session);
    }
    teller.strays(story);
    teller.tables(story, input);
}

/// What of the capture was not understood.
pub(crate) fn not_understood(summary: &Summary) -> Vec<String> {
    let counts = [
        (summary.not_ip, "no IP packet", "no IP packets"),
        (
            summary.ignored,
            "on a device the router's files do not name, or for another host",
            "on devices the router's files do not name, or for other hosts",
        ),
        (summary.cut, "cut off inside the packet", "cut off inside the packet"),
    ];
    let told = |(count, one, many): (u64, &str, &str)| match count {
        0 => None,
        1 => Some(format!("1 frame not looked at: {one}")),
        _ => Some(format!("{count} frames not looked at: {many}")),
    };
    counts.into_iter().filter_map(told).collect()
}

struct Teller<'o> {
    style: Style,
    output: &'o mut Output,
    /// When the capture begins.
    start: Instant,
}

impl Teller<'_> {
    fn summary(&mut self, story: &Story, input: &Input, summary: &Summary) {
        let place = match input.router_name.as_str() {
            "" => input.capture_name.clone(),
            router => format!("{router}, {}", input.capture_name),
        };
        let seconds = story.last.since(self.start).as_secs_f64();
        self.label("Capture", &format!("{place}: {} in {seconds:.3} s", plural(story.packets, "packet")));
        self.label("FTP", &ftp_line(story));
        let dropped = if story.dropped == 0 { "none".to_owned() } else { self.style.bad(story.dropped.to_string()) };
        self.label("Packets", &format!("{} leave, {dropped} dropped", story.leaving));
        if let Some(line) = compared(summary, self.style) {
            self.label("Compared", &line);
        }
        if summary.choices > 0 {
            let ports = plural(summary.choices, "port");
            self.label("", &format!("{ports} that the kernel chose at random taken from the capture"));
        }
        for line in not_understood(summary) {
            self.label("Note", &line);
        }
    }

    fn router(&mut self, input: &Input) {
        let Some(directory) = &input.directory else {
            self.label("Router", "none given: each packet passes one that has no rules and translates nothing");
            self.label("Helper", &format!("on port {}", ports(&input.ports)));
            return;
        };
        let interfaces = input.replay.router().interfaces();
        let width = interfaces.iter().map(|interface| interface.name.len()).max().unwrap_or(0);
        let own = interfaces.iter().filter(|interface| interface.addresses.iter().any(|a| !a.address.is_loopback()));
        let mut label = "Router";
        for interface in own {
            let addresses: Vec<_> = interface.addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix)).collect();
            let name = interface.name.escape_debug().to_string();
            self.label(label, &format!("{name:width$}  {}", addresses.join(", ")));
            label = "";
        }
        self.label("Rules", &rules(directory.rules4.as_ref(), directory.rules6.as_ref()));
        if !input.ports.is_empty() {
            self.label("Helper", &format!("by rule, and on port {}", ports(&input.ports)));
        }
    }

    fn session(&mut self, number: usize, session: &Session) {
        let line = format!("Control connection {number}: {}", session.original);
        self.output.line(self.style.heading(line));
        if let Some(translated) = behind_nat(&session.original, &session.reply) {
            self.output.line(format_args!("    the server sees {}", self.style.changed(translated.to_string())));
        }
        self.output.line(self.style.faint("  frame       time"));
        self.at(session.opened, if session.begun { "opened by the client" } else { "picked up in mid-stream" });
        let nothing: &[Step] = &[];
        for (place, step) in session.steps.iter().enumerate() {
            let (before, after) = session.steps.split_at_checked(place).unwrap_or((nothing, nothing));
            self.step(step, before, after.get(1..).unwrap_or_default());
        }
        self.ending(&session.ending, [Sender::Client, Sender::Server]);
    }

    fn step(&mut self, step: &Step, before: &[Step], after: &[Step]) {
        match step {
            Step::Said(said) => {
                self.said(said);
                let dropped = |step: &Step| matches!(step, Step::Dropped { at, .. } if at.frame == said.at.frame);
                if announces(&said.line) && !after.iter().take(2).any(dropped) {
                    self.under(&self.style.faint("  the helper reads no announcement here"));
                }
            }
            Step::Announced(announced) => self.announced(announced),
            Step::Dropped { at, reason, what } => match before.last() {
                Some(Step::Said(said)) if said.at.frame == at.frame => {
                    self.under(&self.style.bad(format!("  dropped: {reason}")));
                }
                Some(Step::Announced(announced)) if announced.said.at.frame == at.frame => {
                    self.under(&self.style.bad("  dropped"));
                }
                _ => self.at(*at, &format!("{} {what}", self.style.bad(format!("dropped, {reason}:")))),
            },
        }
    }

    fn said(&mut self, said: &Said) {
        let who = self.style.speaker(if said.sender == Sender::Client { "C" } else { "S" });
        let again = if said.again { self.style.faint(" (sent again)") } else { String::new() };
        self.at(said.at, &format!("{who} {}{again}", said.line));
        match &said.sent_on {
            Some(line) if *line == said.line => self.under("  leaves as it came"),
            Some(line) => self.under(&format!("  leaves as {}", self.style.changed(line))),
            None => {}
        }
    }

    fn announced(&mut self, announced: &Announced) {
        self.said(&announced.said);
        match &announced.moved {
            Some(moved) if moved.growth != 0 => {
                let way = if moved.offset_after < 0 { "lower" } else { "higher" };
                self.under(&format!(
                    "  {:+}: sequence numbers after {} leave {} {way}",
                    moved.growth,
                    moved.position.0,
                    moved.offset_after.unsigned_abs(),
                ));
            }
            Some(_) if announced.said.sent_on.as_ref() != Some(&announced.said.line) => {
                self.under("  +0: as long as before, nothing shifts");
            }
            _ => {}
        }
        match &announced.outcome {
            Outcome::Refused(reason) => self.under(&self.style.bad(format!("  refused: {reason}"))),
            Outcome::Foreign => {
                self.under(&self.style.bad("  not the speaker's address: nothing is expected, nothing rewritten"));
            }
            outcome => self.expected(outcome, announced.said.sender),
        }
    }

    fn expected(&mut self, outcome: &Outcome, speaker: Sender) {
        if let Some(expected) = outcome.expected() {
            self.under(&format!("  expected: {}", expectation(&expected)));
        }
        match outcome {
            Outcome::Came(_, data) => self.data(data, speaker.other()),
            Outcome::GivenUp(_, at, reason) => {
                let why = given_up(*reason);
                let when = format!("frame {}, {}", at.frame, self.offset(at.time));
                self.under(&self.style.bad(format!("  nothing came: {why} ({when})")));
            }
            _ => self.under(&self.style.bad("  nothing came by the end of the capture")),
        }
    }

    /// A data connection; `opener` is who opened it.
    fn data(&mut self, data: &Data, opener: Sender) {
        let Some((original, reply)) = &data.tuples else {
            self.under(
                &self.style.bad(format!("  its first packet came in frame {} and did not leave", data.opened.frame)),
            );
            return;
        };
        self.at(data.opened, &format!("    {}", self.style.good(format!("data connection: {original}"))));
        if let Some(translated) = behind_nat(original, reply) {
            let translated = self.style.changed(translated.to_string());
            self.under(&format!("      the {} sees {translated}", name(opener.other())));
        }
        let speakers = [opener, opener.other()];
        let ways = [Direction::Original, Direction::Reply].map(|way| {
            let counters = data.ending.counters[way as usize];
            let who = name(speakers[way as usize]);
            format!("{who} {}, {} bytes", plural(counters.packets, "packet"), counters.bytes)
        });
        self.under(&format!("      sent: {}", ways.join("; ")));
        self.under(&format!("      {}", how_ended(&data.ending, speakers)));
    }

    fn ending(&mut self, ending: &Ending, speakers: [Sender; 2]) {
        let told = how_ended(ending, speakers);
        match last_frame(ending) {
            Some(frame) => self.output.line(format_args!("{frame:>7}  {:>11}  {told}", "")),
            None => self.output.line(format_args!("{:>7}  {:>11}  {told}", "", "")),
        }
    }

    fn strays(&mut self, story: &Story) {
        if story.drops.is_empty() && story.undecided.is_empty() && story.others == 0 {
            return;
        }
        self.output.blank();
        self.output.line(self.style.heading("Besides"));
        if story.others > 0 {
            self.output.line(format_args!("    {} that no helper reads", plural(story.others, "connection")));
        }
        for (reason, tally) in &story.drops {
            let count = plural(tally.count, "packet");
            self.output.line(format_args!("    {}: {count}, {}", self.style.bad(reason), frames(tally)));
        }
        for (place, tally) in &story.undecided {
            let rule = self.style.bad(format!("undecided: {place}"));
            self.output.line(format_args!("    {rule}: {}, {}", plural(tally.count, "packet"), frames(tally)));
        }
    }

    fn tables(&mut self, story: &Story, input: &Input) {
        let kernels = input.directory.as_ref().and_then(|directory| directory.tables_time);
        let now = kernels.unwrap_or(story.last);
        let conntrack = input.replay.router().conntrack();
        let (mut connections, mut expectations) = (String::new(), String::new());
        // Writing to a String cannot fail.
        let _ = conntrack.write_proc(now, &mut connections);
        let _ = conntrack.write_proc_expect(now, &mut expectations);
        let when = format!("{} after the capture began", self.offset(now));
        self.output.blank();
        self.table(&format!("/proc/net/nf_conntrack, {when}"), &connections);
        self.output.blank();
        self.table(&format!("/proc/net/nf_conntrack_expect, {when}"), &expectations);
    }

    fn table(&mut self, heading: &str, text: &str) {
        self.output.line(self.style.heading(heading));
        if text.is_empty() {
            self.output.line(self.style.faint("(empty)"));
        }
        text.lines().take(MOST).for_each(|line| self.output.line(line));
        let hidden = text.lines().count().saturating_sub(MOST);
        if hidden > 0 {
            self.output.line(format_args!("... and {hidden} more"));
        }
    }

    fn label(&mut self, label: &str, text: &str) {
        let label = self.style.heading(format!("{label:LABEL$}"));
        self.output.line(format_args!("{label}{text}"));
    }

    fn at(&mut self, at: Moment, text: &str) {
        let offset = self.offset(at.time);
        self.output.line(format_args!("{:>7}  {offset:>11}  {text}", at.frame));
    }

    /// More about the line above.
    fn under(&mut self, text: &str) {
        self.output.line(format_args!("{:>7}  {:>11}  {text}", "", ""));
    }

    fn offset(&self, time: Instant) -> String {
        let micros = time.micros().saturating_sub(self.start.micros());
        let sign = if micros < 0 { '-' } else { '+' };
        let micros = micros.unsigned_abs();
        format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

fn ftp_line(story: &Story) -> String {
    let (announced, came) = story.announcements().fold((0, 0), |(announced, came), announcement| {
        (
            announced + u64::from(!announcement.said.again),
            came + u64::from(matches!(announcement.outcome, Outcome::Came(..))),
        )
    });
    let sessions = plural(story.sessions.len() as u64, "control connection");
    match announced {
        0 => format!("{sessions}, no data connection announced"),
        _ => format!("{sessions}, {} announced, {came} came", plural(announced, "data connection")),
    }
}

/// Whether the packets leave as the capture shows them leaving, where it does.
fn compared(summary: &Summary, style: Style) -> Option<String> {
    if summary.left == 0 {
        return None;
    }
    let tables = if summary.tables_compared { ", and the tables are the kernel's" } else { "" };
    Some(match summary.agrees() {
        true => style.good(format!("what leaves is what the capture shows leaving, to the byte{tables}")),
        false => {
            let (packets, lines) = (plural(summary.differ, "packet"), plural(summary.table_lines, "table line"));
            style.bad(format!("{packets} and {lines} differ from the kernel's; --verify shows them"))
        }
    })
}

fn rules(v4: Option<&Ruleset>, v6: Option<&Ruleset>) -> String {
    let count = |rules: Option<&Ruleset>| {
        let told: Vec<_> = TableName::ALL.into_iter().filter_map(|name| table_rules(rules?, name)).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    };
    format!("IPv4: {}; IPv6: {}", count(v4), count(v6))
}

fn table_rules(rules: &Ruleset, name: TableName) -> Option<String> {
    let chains = &rules.table(name).chains;
    let count: usize = chains.iter().map(|chain| chain.rules.len()).sum();
    let refusing: Vec<_> =
        chains.iter().filter(|c| c.policy == Some(Policy::Drop)).map(|c| c.name.escape_debug().to_string()).collect();
    match (count, refusing.as_slice()) {
        (0, []) => None,
        (_, []) => Some(format!("{count} in {}", name.name())),
        _ => Some(format!("{count} in {} (policy DROP: {})", name.name(), refusing.join(" "))),
    }
}

/// Whether a line says where a data connection will be.
fn announces(line: &str) -> bool {
    let words = ["PORT", "EPRT", "LPRT", "227", "228", "229"];
    words.iter().any(|word| line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// The tuple as its destination sees it, if that is another one.
fn behind_nat(original: &Tuple, reply: &Tuple) -> Option<Tuple> {
    reply.reversed().filter(|seen| seen != original)
}

/// An expectation's tuple: any source port is `*`.
fn expectation(tuple: &Tuple) -> String {
    let to = SocketAddr::new(tuple.destination(), tuple.destination_port());
    match (tuple.source_port(), tuple.source()) {
        (0, std::net::IpAddr::V4(source)) => format!("{source}:* > {to}"),
        (0, std::net::IpAddr::V6(source)) => format!("[{source}]:* > {to}"),
        _ => tuple.to_string(),
    }
}

const fn given_up(reason: DestroyReason) -> &'static str {
    match reason {
        DestroyReason::Timeout => "its time was over",
        DestroyReason::Replaced => "it made way for another announcement",
        DestroyReason::Master => "the control connection is gone",
        DestroyReason::Evicted => "the table was full",
        _ => "it was taken back",
    }
}

fn how_ended(ending: &Ending, speakers: [Sender; 2]) -> String {
    let who = |direction: Direction| name(speakers[direction as usize]);
    let [original, reply] = ending.fin;
    let seen = match (ending.reset, original, reply) {
        (Some((direction, frame)), ..) => format!("reset by the {} in frame {frame}", who(direction)),
        (None, Some(a), Some(b)) => {
            let (first, second) =
                if a <= b { (Direction::Original, Direction::Reply) } else { (Direction::Reply, Direction::Original) };
            format!("closed by the {} in frame {}, by the {} in frame {}", who(first), a.min(b), who(second), a.max(b))
        }
        (None, Some(frame), None) => {
            format!("closed by the {} in frame {frame}, not by the other", who(Direction::Original))
        }
        (None, None, Some(frame)) => {
            format!("closed by the {} in frame {frame}, not by the other", who(Direction::Reply))
        }
        (None, None, None) => "not closed".to_owned(),
    };
    match (ending.forgotten, ending.state) {
        (Some((at, reason)), _) => format!("{seen}; forgotten by frame {}: {}", at.frame, forgotten(reason)),
        (None, Some(state)) => format!("{seen}; in the end {}", state_name(state)),
        (None, None) => seen,
    }
}

fn state_name(state: TcpState) -> &'static str {
    state.name()
}

const fn forgotten(reason: DestroyReason) -> &'static str {
    match reason {
        DestroyReason::Timeout => "its time was over",
        DestroyReason::Reopened => "its ports were used again",
        DestroyReason::Reset => "reset before it was answered",
        DestroyReason::Evicted => "the table was full",
        DestroyReason::Master => "its master is gone",
        DestroyReason::Rerouted => "its first packet left by another interface",
        _ => "deleted",
    }
}

/// Where the end of a connection was seen.
fn last_frame(ending: &Ending) -> Option<u64> {
    ending.reset.map(|(_, frame)| frame).or(ending.fin.into_iter().flatten().max())
}

const fn name(speaker: Sender) -> &'static str {
    match speaker {
        Sender::Client => "client",
        _ => "server",
    }
}

fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

fn frames(tally: &Tally) -> String {
    let numbers: Vec<_> = tally.frames.iter().map(ToString::to_string).collect();
    let word = if tally.count == 1 { "frame" } else { "frames" };
    let more = if tally.count as usize > tally.frames.len() { " ..." } else { "" };
    format!("{word} {}{more}", numbers.join(" "))
}

fn ports(ports: &[u16]) -> String {
    let numbers: Vec<_> = ports.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}
