//! Lines of the kernel's tables that nothing in the capture leads to, since it lacks packets.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashSet;
use std::vec::Vec;

use super::streams::Streams;
use super::tables::TableDifference;
use crate::packet::{Headers, Protocol};

/// A line of a table, as far as it names a connection.
struct Line<'l> {
    protocol: Protocol,
    /// True for a connection, false for an expectation.
    is_connection: bool,
    /// Both ends in original direction, with ports of 0 where the protocol has none.
    ends: [SocketAddr; 2],
    /// Both ends in reply direction; an expectation has none.
    reply: Option<[SocketAddr; 2]>,
    /// The state; an expectation has none.
    state: Option<&'l str>,
}

/// The evidence of the capture about a line that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// All that led to it: it differs.
    Whole,
    /// Not all: the kernel's connection is in a state that nothing in the capture leads to, or its streams have gaps. A
    /// line that only the library has is the same connection in an earlier state; an expectation, one whose announcement
    /// or connection is missing.
    Gaps,
    /// Nothing: the connection is older than the capture, or left out by its filter.
    Nothing,
}

/// Returns the evidence for each line that differs.
pub(super) fn of(streams: &Streams, flows: &Flows, differences: &[TableDifference]) -> Vec<Evidence> {
    let lines: Vec<Option<Line<'_>>> = differences.iter().map(|difference| Line::read(text(difference))).collect();
    let is_kernels = |difference: &TableDifference| !matches!(difference, TableDifference::OnlyHere(_));
    let lacking: HashSet<[SocketAddr; 2]> = lines
        .iter()
        .zip(differences)
        .filter(|(_, difference)| is_kernels(difference))
        .filter_map(|(line, _)| line.as_ref())
        .filter(|line| line.state.is_some_and(|state| streams.lacks_of(line.ends, state)))
        .map(|line| line.ends)
        .collect();
    let pair = |a: IpAddr, b: IpAddr| (a.min(b), a.max(b));
    let hosts: HashSet<(IpAddr, IpAddr)> = lacking.iter().map(|[a, b]| pair(a.ip(), b.ip())).collect();
    let has_gaps = |line: &Line<'_>| match line.state {
        _ if line.protocol != Protocol::TCP => false,
        Some(_) => lacking.contains(&line.ends) || streams.has_holes(line.ends),
        None => {
            let (a, b) = (line.ends[0].ip(), line.ends[1].ip());
            hosts.contains(&pair(a, b)) || streams.lacks_between(a, b)
        }
    };
    let evidence = |(line, difference): (&Option<Line<'_>>, &TableDifference)| match line {
        None => Evidence::Whole,
        Some(line) if is_kernels(difference) && line.is_connection && !line.was_seen(streams, flows) => {
            Evidence::Nothing
        }
        Some(line) if has_gaps(line) => Evidence::Gaps,
        Some(_) => Evidence::Whole,
    };
    lines.iter().zip(differences).map(evidence).collect()
}

/// The ends of packets other than TCP that the capture shows.
#[derive(Debug, Default)]
pub(super) struct Flows(HashSet<(Protocol, SocketAddr, SocketAddr)>);

impl Flows {
    /// Notes a packet, in whatever direction it goes.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let Ok(headers) = Headers::find(bytes) else { return };
        if headers.protocol != Protocol::TCP {
            let (source, destination) = headers.ports(bytes).unwrap_or_default();
            let end = |address, port| SocketAddr::new(address, port);
            let (source, destination) =
                (end(headers.source(bytes), source), end(headers.destination(bytes), destination));
            self.0.insert((headers.protocol, source, destination));
        }
    }

    fn has(&self, protocol: Protocol, [a, b]: [SocketAddr; 2]) -> bool {
        self.0.contains(&(protocol, a, b)) || self.0.contains(&(protocol, b, a))
    }
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
        let of_connection = || words().skip_while(|word| !matches!(*word, "ipv4" | "ipv6")).nth(3)?.parse().ok();
        let of_expectation = || words().find_map(|word| word.strip_prefix("proto=")?.parse().ok());
        let protocol = of_connection();
        let is_connection = protocol.is_some();
        let protocol = Protocol(protocol.or_else(of_expectation)?);
        let values = |key: &'static str| words().filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='));
        let end = |address: &'static str, port: &'static str, number: usize| {
            let port = match values(port).nth(number) {
                Some(port) => port.parse().ok()?,
                None => 0,
            };
            Some(SocketAddr::new(values(address).nth(number)?.parse().ok()?, port))
        };
        let ends = |number| Some([end("src", "sport", number)?, end("dst", "dport", number)?]);
        let mut states =
            words().filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte == b'2'));
        let state = states.find(|word| word.len() > 1);
        Some(Self { protocol, is_connection, ends: ends(0)?, reply: ends(1), state })
    }

    /// Returns true if the capture has a packet of it, in either direction, translated or not.
    fn was_seen(&self, streams: &Streams, flows: &Flows) -> bool {
        let ends = [Some(self.ends), self.reply];
        ends.into_iter().flatten().any(|ends| match self.protocol {
            Protocol::TCP => streams.has_seen(ends),
            protocol => flows.has(protocol, ends),
        })
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
        let udp = Line::read("ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2").unwrap();
        assert_eq!((udp.protocol, udp.ends[1], udp.reply), (Protocol::UDP, "10.0.0.2:2".parse().unwrap(), None));
        let igmp = "ipv4 2 unknown 2 597 src=10.77.1.1 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=10.77.1.1 mark=0";
        assert_eq!(Line::read(igmp).unwrap().reply.unwrap()[1], "10.77.1.1:0".parse().unwrap());
    }

    #[test]
    fn a_connection_that_was_never_seen_is_beyond_the_capture() {
        let line = "ipv4 2 tcp 6 119 TIME_WAIT src=10.77.1.2 dst=198.51.100.9 sport=1 dport=21 \
                    src=198.51.100.9 dst=10.77.1.2 sport=21 dport=1 [ASSURED] mark=0 zone=0 use=3";
        let ours = line.replace("TIME_WAIT", "LAST_ACK");
        let kernels = TableDifference::OnlyKernel(line.into());
        let differences = [kernels.clone(), TableDifference::OnlyHere(ours.clone())];
        let (streams, mut flows) = (Streams::default(), Flows::default());
        assert_eq!(of(&streams, &flows, &differences), [Evidence::Nothing, Evidence::Gaps]);
        assert_eq!(of(&streams, &flows, &[TableDifference::OnlyHere(ours)]), [Evidence::Whole]);
        let udp =
            "ipv4 2 udp 17 29 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1";
        let differences = [TableDifference::OnlyKernel(udp.into())];
        assert_eq!(of(&streams, &flows, &differences), [Evidence::Nothing]);
        flows.0.insert((Protocol::UDP, "10.0.0.2:2".parse().unwrap(), "10.0.0.1:1".parse().unwrap()));
        assert_eq!(of(&streams, &flows, &differences), [Evidence::Whole]);
    }
}
