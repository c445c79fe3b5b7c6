//! Tells the story of a replay, for people.

use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::Direction;
use ftp_conntrack::ftp::Sender;
use ftp_conntrack::inspect::{FramePos, Helper};
use ftp_conntrack::replay::Summary;

use crate::output::Output;
use crate::replay::input::Input;
use crate::replay::session::{Announced, Data, Ending, Outcome, Said, Seen, Session, Step};
use crate::replay::story::Story;
use crate::replay::words::{
    announces, behind_nat, compared, departures, expectation, frames, ftp_line, given_up, how_ended, lacking,
    last_frame, name, not_understood, plural, ports, rules, why_no_helper,
};
use crate::style::Style;

/// So many lines of a table are shown.
const MOST: usize = 40;
/// The width of a label at the beginning of a line.
const LABEL: usize = 11;

/// Tells it, from the summary to the tables.
pub(crate) fn tell(story: &Story, input: &Input, summary: &Summary, output: &mut Output) {
    let mut teller = Teller::new(output, story.first.unwrap_or_default());
    teller.summary(story, input, summary);
    teller.router(input);
    for (number, session) in story.sessions.iter().enumerate() {
        teller.output.blank();
        teller.session(number + 1, session);
    }
    teller.strays(story, input);
    teller.tables(story, input);
}

/// Writes for people; times are told from the start of the capture.
pub(crate) struct Teller<'o> {
    pub(crate) style: Style,
    pub(crate) output: &'o mut Output,
    start: Instant,
}

impl<'o> Teller<'o> {
    pub(crate) fn new(output: &'o mut Output, start: Instant) -> Self {
        Self { style: Style::standard(), output, start }
    }

    fn summary(&mut self, story: &Story, input: &Input, summary: &Summary) {
        let place = format!("{}, {}", input.router_name, input.capture_name);
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
        if input.is_exact {
            self.label("Linux", &departures(summary, self.style));
        }
        for line in not_understood(summary).into_iter().chain(lacking(summary)) {
            self.label("Note", &line);
        }
        for (hole, frame) in &story.holes {
            let seen = frame.map_or_else(|| " (by configuration)".to_owned(), |frame| format!(" (frame {frame})"));
            self.label("Warning", &format!("{}{}", self.style.bad(hole.to_string()), self.style.faint(seen)));
        }
    }

    fn router(&mut self, input: &Input) {
        let directory = &input.directory;
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
        let all = rules(directory.rules4.as_ref(), directory.rules6.as_ref(), directory.nft.as_ref());
        self.label("Rules", &all);
        if !input.ports.is_empty() {
            self.label("Helper", &format!("by rule, and on port {}", ports(&input.ports)));
        }
    }

    pub(crate) fn session(&mut self, number: usize, session: &Session) {
        let line = format!("Control connection {number}: {}", session.original);
        self.output.line(self.style.heading(line));
        if let Some(translated) = behind_nat(&session.original, &session.reply) {
            self.output.line(format_args!("    the server sees {}", self.style.changed(translated.to_string())));
        }
        if let Some((client, server)) = &session.other_side {
            let other = self.style.changed(format!("{client} > {server}"));
            self.output.line(format_args!("    on the other side of NAT it is {other}"));
        }
        if let Some(balance) = &session.balance {
            self.output.line(format_args!("    {}", balance.told()));
        }
        self.output.line(self.style.faint("  frame       time"));
        let begins = if session.begun { "opened by the client" } else { "picked up in mid-stream" };
        match &session.tunnel {
            Some(tunnel) => self.at(session.opened, &format!("{begins}, in a tunnel: {tunnel}")),
            None => self.at(session.opened, begins),
        }
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
                let dropped = |step: &Step| match step {
                    Step::Dropped { at, .. } | Step::Noted { at, bad: true, .. } => at.frame == said.at.frame,
                    _ => false,
                };
                if announces(&said.line) && !said.balanced && !after.iter().take(2).any(dropped) {
                    self.under(&self.style.faint("  the helper reads no announcement here"));
                }
            }
            Step::Announced(announced) => self.announced(announced),
            Step::Data(step) => {
                self.data(&step.data, step.opener);
                let why = if step.bad { self.style.bad(&step.why) } else { step.why.clone() };
                self.under(&format!("      {why}"));
            }
            Step::Dropped { at, reason, what } => match before.last() {
                Some(Step::Said(said)) if said.at.frame == at.frame => {
                    self.under(&self.style.bad(format!("  dropped: {reason}")));
                }
                Some(Step::Announced(announced)) if announced.said.at.frame == at.frame => {
                    self.under(&self.style.bad("  dropped"));
                }
                _ => self.at(*at, &format!("{} {what}", self.style.bad(format!("dropped, {reason}:")))),
            },
            Step::Noted { at, what, bad } => {
                let what = if *bad { self.style.bad(what) } else { self.style.faint(what) };
                self.at(*at, &what);
            }
            Step::Departs { at, why } => match before.last() {
                Some(Step::Said(said)) if said.at.frame == at.frame => {
                    self.under(&self.style.changed(format!("  {why}")))
                }
                _ => self.at(*at, &self.style.changed(why)),
            },
            Step::More(steps) => self.under(&self.style.faint(format!("and {steps} more; --all tells them"))),
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
                self.under("  +0: sequence numbers do not shift");
            }
            _ => {}
        }
        match &announced.outcome {
            Outcome::Refused(reason) => self.under(&self.style.bad(format!("  refused: {reason}"))),
            Outcome::Foreign => {
                self.under(&self.style.bad("  not the speaker's address: nothing is expected, nothing rewritten"));
            }
            Outcome::Seen(seen) => self.seen(seen, announced),
            outcome => self.expected(outcome, announced.said.sender),
        }
    }

    fn seen(&mut self, seen: &Seen, announced: &Announced) {
        let speaker = announced.said.sender;
        match seen.wrong {
            Some(wrong) if wrong.is_lack() => self.under(&self.style.bad(format!("  {wrong}"))),
            Some(wrong) => self.under(&self.style.bad(format!("  malformed: {wrong}"))),
            None => {}
        }
        match seen.helper {
            Helper::Acts { expected } => self.under(&format!("  the helper expects {}", expectation(&expected))),
            Helper::Drops(_) => self.under(&self.style.bad(format!("  helper: {}", seen.helper))),
            Helper::Passes(_) => self.under(&format!("  ignored by Linux's helper: {}", seen.why)),
            _ => self.under(&format!("  Linux's helper: {}", seen.helper)),
        }
        if let Some(line) = seen.translated.as_ref().filter(|line| **line != announced.said.line) {
            self.under(&format!("  on the other side of NAT it is {}", self.style.changed(line)));
        }
        if let Some((address, port)) = seen.helper_reads {
            let there = std::net::SocketAddr::new(address, port);
            self.under(&self.style.changed(format!("  the helper reads another endpoint: {there}")));
        }
        for (data, remark) in &seen.data {
            if let Some(remark) = remark {
                self.under(&self.style.changed(format!("  {remark}")));
            }
            self.data(data, speaker.other());
        }
        for error in &seen.icmp {
            self.under(&self.style.bad(format!("      {error}")));
        }
        match seen.unfulfilled {
            Some(why) if !why.is_failure() => self.under(&self.style.faint(format!("  no data connection: {why}"))),
            Some(why) => self.under(&self.style.bad(format!("  nothing came: {why}"))),
            None => {}
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
            let (packets, bytes) = (data.ending.packets[way as usize], data.ending.bytes[way as usize]);
            let who = name(speakers[way as usize]);
            let frames = data.ending.frame_bytes.map(|bytes| format!(" (frames: {})", bytes[way as usize]));
            format!("{who} {}, {bytes} bytes{}", plural(packets, "packet"), frames.unwrap_or_default())
        });
        let within = data.ending.duration.map(|time| format!(", in {:.3} s", time.as_secs_f64())).unwrap_or_default();
        self.under(&format!("      sent: {}{within}", ways.join("; ")));
        self.under(&format!("      {}", how_ended(&data.ending, speakers)));
    }

    fn ending(&mut self, ending: &Ending, speakers: [Sender; 2]) {
        let told = how_ended(ending, speakers);
        match last_frame(ending) {
            Some(frame) => self.output.line(format_args!("{frame:>7}  {:>11}  {told}", "")),
            None => self.output.line(format_args!("{:>7}  {:>11}  {told}", "", "")),
        }
    }

    fn strays(&mut self, story: &Story, input: &Input) {
        if story.drops.is_empty()
            && story.undecided.is_empty()
            && story.departures.is_empty()
            && story.others == 0
            && story.unhelped.is_empty()
        {
            return;
        }
        self.output.blank();
        self.output.line(self.style.heading("Besides"));
        for (frame, tuple, begun) in &story.unhelped {
            let why = why_no_helper(input, tuple, *begun);
            let text = self.style.bad(format!("connection without FTP helper: {tuple}"));
            self.output.line(format_args!("    {text} (frame {frame}): {why}"));
        }
        if story.others > 0 {
            self.output.line(format_args!("    {} to other ports", plural(story.others, "connection")));
        }
        for (reason, tally) in &story.drops {
            let count = plural(tally.count, "packet");
            self.output.line(format_args!("    {}: {count}, {}", self.style.bad(reason), frames(tally)));
        }
        for (frame, why) in &story.departures {
            self.output.line(format_args!("    frame {frame}: {}", self.style.changed(why)));
        }
        for (place, tally) in &story.undecided {
            let rule = self.style.bad(format!("undecided: {place}"));
            self.output.line(format_args!("    {rule}: {}, {}", plural(tally.count, "packet"), frames(tally)));
        }
    }

    fn tables(&mut self, story: &Story, input: &Input) {
        let kernels = input.directory.tables_time;
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
        let Some(ipvs) = input.replay.router().ipvs() else { return };
        let (mut services, mut entries) = (String::new(), String::new());
        let _ = ipvs.write_proc(&mut services);
        let _ = ipvs.write_proc_conn(now, &mut entries);
        self.output.blank();
        self.table(&format!("/proc/net/ip_vs, {when}"), &services);
        self.output.blank();
        self.table(&format!("/proc/net/ip_vs_conn, {when}"), &entries);
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

    pub(crate) fn label(&mut self, label: &str, text: &str) {
        let label = self.style.heading(format!("{label:LABEL$}"));
        self.output.line(format_args!("{label}{text}"));
    }

    fn at(&mut self, at: FramePos, text: &str) {
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
