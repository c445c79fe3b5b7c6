//! The phrases of the story: for connections, counts and rules.

use std::net::SocketAddr;

use ftp_conntrack::conntrack::{Direction, Tuple};
use ftp_conntrack::event::DestroyReason;
use ftp_conntrack::ftp::Sender;
use ftp_conntrack::inspect::CloseKind;
use ftp_conntrack::netfilter::nft::{NftChain, NftRuleset, NftTable};
use ftp_conntrack::netfilter::{Policy, Ruleset, TableName, Target};
use ftp_conntrack::replay::Summary;

use crate::replay::input::Input;
use crate::replay::session::{Ending, Outcome};
use crate::replay::story::{Story, Tally};
use crate::style::Style;

/// Describes the parts of the capture that were not understood.
pub(crate) fn not_understood(summary: &Summary) -> Vec<String> {
    let counts = [
        (summary.not_ip, "no IP packet", "no IP packets"),
        (summary.cut, "cut off inside the packet", "cut off inside the packet"),
    ];
    let told = |(count, one, many): (u64, &str, &str)| match count {
        0 => None,
        1 => Some(format!("1 frame not looked at: {one}")),
        _ => Some(format!("{count} frames not looked at: {many}")),
    };
    let mut told: Vec<String> = counts.into_iter().filter_map(told).collect();
    if summary.ignored > 0 {
        let devices = summary.ignored_on.iter().map(|(device, count)| format!("{device} ({count})"));
        let devices: Vec<String> = devices.collect();
        told.push(format!("{} not looked at: {}", plural(summary.ignored, "frame"), devices.join(", ")));
    }
    told
}

/// Describes lines of the kernel's tables that the capture has no packet of.
pub(crate) fn unseen(summary: &Summary) -> Option<String> {
    let lines = plural(summary.lines_unseen, "line");
    (summary.lines_unseen > 0).then(|| {
        format!("{lines} of the kernel's tables not compared: connections that the capture has no packet of (older, or left out by its filter)")
    })
}

/// Returns what makes a comparison fail besides packets and lines that differ.
pub(crate) fn failures(summary: &Summary) -> Vec<String> {
    let mut failures = Vec::new();
    if summary.contradicted > 0 {
        failures.push(format!(
            "{} had been taken for missing and was filled in: the replay follows the capture where it should not; please report it",
            plural(summary.contradicted, "packet of the capture")
        ));
    }
    if summary.helpers_full > 0 {
        failures.push(format!(
            "{} dropped because the table of FTP sessions is full; Linux has no such limit: name a larger one with --sessions",
            plural(summary.helpers_full, "packet")
        ));
    }
    failures
}

/// Describes the packets missing from the capture, and their replacement.
pub(crate) fn lacking(summary: &Summary) -> Option<String> {
    let counts = [
        (summary.supplied, "byte was filled in with a blank", "bytes were filled in with blanks"),
        (
            summary.adopted,
            "connection was taken over without its beginning",
            "connections were taken over without their beginning",
        ),
        (
            summary.lines_beyond,
            "line of the kernel's tables that no packet in it explains was not compared",
            "lines of the kernel's tables that no packet in it explains were not compared",
        ),
    ];
    let told = counts.into_iter().filter(|(count, ..)| *count > 0);
    let told: Vec<String> =
        told.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many })).collect();
    (!told.is_empty()).then(|| format!("packets are missing from the capture; {}", told.join(", ")))
}

pub(crate) fn ftp_line(story: &Story) -> String {
    let (mut announced, mut came) = story.announcements().fold((0, 0), |(announced, came), announcement| {
        (
            announced + u64::from(!announcement.said.again),
            came + u64::from(matches!(announcement.outcome, Outcome::Came(..))),
        )
    });
    for session in &story.sessions {
        let (heard, data) = session.balanced();
        announced += heard.max(data);
        came += data;
    }
    let sessions = plural(story.sessions.len() as u64, "control connection");
    match announced {
        0 => format!("{sessions}, no data connection announced"),
        _ => format!("{sessions}, {} announced, {came} came", plural(announced, "data connection")),
    }
}

/// Returns the sentence on whether the packets leave as the capture shows them leaving, where it does.
pub(crate) fn compared(summary: &Summary, style: Style) -> Option<String> {
    if summary.left == 0 {
        return None;
    }
    let tables = if summary.tables_compared { ", and the tables are the kernel's" } else { "" };
    Some(match summary.agrees() {
        true => {
            let aside = if summary.bad_checksums > 0 { " (checksums that arrived wrong aside)" } else { "" };
            style.good(format!("what leaves is what the capture shows leaving, to the byte{aside}{tables}"))
        }
        false => {
            let packets = (summary.differ > 0).then(|| plural(summary.differ, "packet"));
            let lines = (summary.table_lines > 0).then(|| plural(summary.table_lines, "table line"));
            let both = [packets, lines].into_iter().flatten().collect::<Vec<_>>().join(" and ");
            style.bad(format!("{both} differ from the capture; --verify shows them"))
        }
    })
}

/// Returns the number of packets that Linux would have sent otherwise, in words.
pub(crate) fn departures(summary: &Summary, style: Style) -> String {
    let (all, alike) = (summary.departures, summary.departures_alike);
    let told = all.saturating_sub(alike);
    let more = match (told, alike) {
        (_, 0) => String::new(),
        (_, alike) => format!(", {alike} for reasons already shown for that connection"),
    };
    match all {
        0 => style.good("would send the same packets"),
        1 => style.changed("would send something else for 1 packet"),
        _ => style.changed(format!("would send something else for {all} packets{more}")),
    }
}

pub(crate) fn rules(v4: Option<&Ruleset>, v6: Option<&Ruleset>, nft: Option<&NftRuleset>) -> String {
    let count = |rules: Option<&Ruleset>| {
        let told: Vec<_> = TableName::ALL.into_iter().filter_map(|name| table_rules(rules?, name)).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    };
    let families = format!("IPv4: {}; IPv6: {}", count(v4), count(v6));
    let Some(nft) = nft else { return families };
    let tables: Vec<_> = nft.tables.iter().map(nft_rules).collect();
    let nft = if tables.is_empty() { "none".to_owned() } else { tables.join(", ") };
    // Without a rule of iptables, nftables alone is worth a word.
    if v4.is_none() && v6.is_none() { format!("nftables: {nft}") } else { format!("{families}; nftables: {nft}") }
}

/// The rules of a table of nftables, and its chains that refuse what no rule accepts.
fn nft_rules(table: &NftTable) -> String {
    let count: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
    let refuses = |chain: &&NftChain| chain.base.is_some_and(|base| base.policy == Policy::Drop);
    let refusing: Vec<_> =
        table.chains.iter().filter(refuses).map(|chain| chain.name.escape_debug().to_string()).collect();
    let policy = if refusing.is_empty() { String::new() } else { format!(" (policy drop: {})", refusing.join(" ")) };
    format!("{count} in {} {}{policy}", table.family.name(), table.name.escape_debug())
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

/// Returns the reason why no helper reads a connection to a control port.
pub(crate) fn why_no_helper(input: &Input, tuple: &Tuple, begun: bool) -> String {
    let directory = &input.directory;
    let rules = if tuple.destination().is_ipv4() { &directory.rules4 } else { &directory.rules6 };
    let raw = rules.as_ref().map(|rules| rules.table(TableName::Raw));
    let attaching = |rule: &&ftp_conntrack::netfilter::Rule| matches!(rule.target, Target::Ct { helper: Some(_), .. });
    let count = raw.map_or(0, |raw| raw.chains.iter().flat_map(|chain| &chain.rules).filter(attaching).count());
    let module = directory.modules.as_ref().is_none_or(|modules| modules.has("nf_conntrack_ftp"));
    let has_nft = directory.nft.as_ref().is_some_and(|nft| !nft.is_empty());
    match count {
        0 if module && has_nft && begun => {
            "no rule attaches the helper to it (nft: ct helper set ..., an object of type \"ftp\")".to_owned()
        }
        0 if !module => "the module nf_conntrack_ftp is not loaded, and no rule attaches the helper".to_owned(),
        0 => "no rule attaches the helper (iptables -t raw ... -j CT --helper ftp)".to_owned(),
        _ if !begun => "it began before the capture".to_owned(),
        1 => "the rule that attaches the helper does not match it (other port, interface or address)".to_owned(),
        _ => format!("none of the {count} rules that attach a helper matches it (other port, interface or address)"),
    }
}

/// Returns true if a line names the endpoint of a data connection.
pub(crate) fn announces(line: &str) -> bool {
    let words = ["PORT", "EPRT", "LPRT", "227", "228", "229"];
    words.iter().any(|word| line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// The tuple as its destination sees it, if that is another one.
pub(crate) fn behind_nat(original: &Tuple, reply: &Tuple) -> Option<Tuple> {
    reply.reversed().filter(|seen| seen != original)
}

/// An expectation's tuple: any source port is `*`.
pub(crate) fn expectation(tuple: &Tuple) -> String {
    let to = SocketAddr::new(tuple.destination(), tuple.destination_port());
    match (tuple.source_port(), tuple.source()) {
        (0, std::net::IpAddr::V4(source)) => format!("{source}:* > {to}"),
        (0, std::net::IpAddr::V6(source)) => format!("[{source}]:* > {to}"),
        _ => tuple.to_string(),
    }
}

pub(crate) const fn given_up(reason: DestroyReason) -> &'static str {
    match reason {
        DestroyReason::Timeout => "its time was over",
        DestroyReason::Replaced => "it made way for another announcement",
        DestroyReason::Master => "the control connection is gone",
        DestroyReason::Evicted => "the table was full",
        _ => "it was taken back",
    }
}

pub(crate) fn how_ended(ending: &Ending, speakers: [Sender; 2]) -> String {
    let who = |direction: Direction| name(speakers[direction as usize]);
    let [original, reply] = ending.fin;
    let seen = match (ending.reset, original, reply) {
        _ if ending.how == Some(CloseKind::NeverAnswered) => "never answered".to_owned(),
        (Some((direction, frame)), ..) if ending.how == Some(CloseKind::Refused) => {
            format!("refused by the {} in frame {frame}", who(direction))
        }
        _ if ending.how == Some(CloseKind::Open) => "still open at the end of the capture".to_owned(),
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
        (None, Some(state)) => format!("{seen}; in the end {}", state.name()),
        (None, None) => seen,
    }
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

/// Returns the frame in which the end of a connection was seen.
pub(crate) fn last_frame(ending: &Ending) -> Option<u64> {
    ending.reset.map(|(_, frame)| frame).or(ending.fin.into_iter().flatten().max())
}

pub(crate) const fn name(speaker: Sender) -> &'static str {
    match speaker {
        Sender::Client => "client",
        _ => "server",
    }
}

pub(crate) fn plural(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

pub(crate) fn frames(tally: &Tally) -> String {
    let numbers: Vec<_> = tally.frames.iter().map(ToString::to_string).collect();
    let word = if tally.count == 1 { "frame" } else { "frames" };
    let more = if tally.count as usize > tally.frames.len() { " ..." } else { "" };
    format!("{word} {}{more}", numbers.join(" "))
}

pub(crate) fn ports(ports: &[u16]) -> String {
    let numbers: Vec<_> = ports.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}
