//! Lines of the kernel's tables that nothing in the capture leads to, since it lacks packets.

use core::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use super::streams::Streams;
use super::tables::TableDifference;

/// A line of a table, as far as it names a TCP connection.
struct Line<'l> {
    ends: [SocketAddr; 2],
    /// The state; an expectation has none.
    state: Option<&'l str>,
}

/// Of each difference, whether the capture lacks what would show who is right: the kernel's connection is in a state that
/// nothing in the capture leads to, or its streams have holes. A line that only the library has is then the same
/// connection in an earlier state; an expectation, one whose announcement or whose connection passed unseen.
pub(super) fn of(streams: &Streams, differences: &[TableDifference]) -> Vec<bool> {
    let lines: Vec<Option<Line<'_>>> = differences.iter().map(|difference| Line::read(text(difference))).collect();
    let is_kernels = |difference: &TableDifference| !matches!(difference, TableDifference::OnlyHere(_));
    let lacking: Vec<[SocketAddr; 2]> = lines
        .iter()
        .zip(differences)
        .filter(|(_, difference)| is_kernels(difference))
        .filter_map(|(line, _)| line.as_ref())
        .filter(|line| line.state.is_some_and(|state| streams.lacks_of(line.ends, state)))
        .map(|line| line.ends)
        .collect();
    let between = |a: IpAddr, b: IpAddr| {
        let pairs = |ends: &[SocketAddr; 2]| [ends[0].ip(), ends[1].ip()];
        lacking.iter().any(|ends| pairs(ends) == [a, b] || pairs(ends) == [b, a]) || streams.lacks_between(a, b)
    };
    let is_beyond = |line: &Line<'_>| match line.state {
        Some(_) => lacking.contains(&line.ends) || streams.has_holes(line.ends),
        None => between(line.ends[0].ip(), line.ends[1].ip()),
    };
    lines.iter().map(|line| line.as_ref().is_some_and(is_beyond)).collect()
}

const fn text(difference: &TableDifference) -> &str {
    match difference {
        TableDifference::OnlyKernel(line) | TableDifference::OnlyHere(line) => line.as_str(),
        TableDifference::Seconds { line, .. } => line.as_str(),
    }
}

impl<'l> Line<'l> {
    fn read(line: &'l str) -> Option<Self> {
        let words = || line.split_whitespace();
        if !words().any(|word| word == "tcp" || word == "proto=6") {
            return None;
        }
        let value = |key: &str| words().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let end = |address: &str, port: &str| {
            Some(SocketAddr::new(value(address)?.parse().ok()?, value(port)?.parse().ok()?))
        };
        let mut states =
            words().filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte == b'2'));
        let state = states.find(|word| word.len() > 1);
        Some(Self { ends: [end("src", "sport")?, end("dst", "dport")?], state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "ipv4     2 tcp      6 119 TIME_WAIT src=10.77.1.2 dst=198.51.100.9 sport=46194 dport=21 \
                    src=198.51.100.9 dst=198.51.100.1 sport=21 dport=46194 [ASSURED] mark=0 zone=0 use=3";
        let read = Line::read(line).unwrap();
        assert_eq!(read.state, Some("TIME_WAIT"));
        assert_eq!(read.ends, ["10.77.1.2:46194".parse().unwrap(), "198.51.100.9:21".parse().unwrap()]);
        let expectation = "298 l3proto = 2 proto=6 src=198.51.100.9 dst=203.0.113.1 sport=0 dport=5 ftp";
        assert_eq!(Line::read(expectation).unwrap().state, None);
        assert!(Line::read("ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2").is_none());
    }

    #[test]
    fn a_connection_that_was_never_seen_is_beyond_the_capture() {
        let line = "ipv4 2 tcp 6 119 TIME_WAIT src=10.77.1.2 dst=198.51.100.9 sport=1 dport=21 \
                    src=198.51.100.9 dst=10.77.1.2 sport=21 dport=1 [ASSURED] mark=0 zone=0 use=3";
        let ours = line.replace("TIME_WAIT", "LAST_ACK");
        let differences = [TableDifference::OnlyKernel(line.into()), TableDifference::OnlyHere(ours.clone())];
        assert_eq!(of(&Streams::default(), &differences), [true, true]);
        assert_eq!(of(&Streams::default(), &[TableDifference::OnlyHere(ours)]), [false]);
    }
}
