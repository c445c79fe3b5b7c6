//! The tables in the kernel's words.

use core::fmt::{self, Write};
use core::net::IpAddr;

use super::connection::{Connection, Direction, ProtocolState, Status};
use super::{Conntrack, Expectation, Tuple};
use crate::Instant;
use crate::packet::{Family, Protocol};

impl Conntrack {
    /// Writes the table of connections as `/proc/net/nf_conntrack` shows it: one line each.
    ///
    /// `use=` is what the kernel shows for a connection that nobody else refers to.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_proc(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        for (_, connection) in self.iter(now) {
            self.write_connection(now, connection, out)?;
        }
        Ok(())
    }

    /// Writes the IPv4 connections as `/proc/net/ip_conntrack` showed them until Linux 4.x: without the columns for the
    /// family and the zone.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_proc_ip(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        for (_, connection) in self.iter(now) {
            let original = connection.tuple(Direction::Original);
            if original.family() == Family::V4 {
                write_protocol(original, out)?;
                self.write_state(now, connection, out)?;
                writeln!(out, "mark={} use=2", connection.mark)?;
            }
        }
        Ok(())
    }

    fn write_connection(&self, now: Instant, connection: &Connection, out: &mut impl Write) -> fmt::Result {
        let original = connection.tuple(Direction::Original);
        write_family(original, out)?;
        write_protocol(original, out)?;
        self.write_state(now, connection, out)?;
        writeln!(out, "mark={} zone={} use=2", connection.mark, original.zone())
    }

    /// Time, state, tuples and flags: what all formats have in common.
    fn write_state(&self, now: Instant, connection: &Connection, out: &mut impl Write) -> fmt::Result {
        write!(out, "{} ", connection.remaining(now).as_secs())?;
        match &connection.protocol {
            ProtocolState::Tcp(tracker) => write!(out, "{} ", tracker.state().name())?,
            ProtocolState::Sctp(tracker) => write!(out, "{} ", tracker.state().name())?,
            ProtocolState::Gre => {
                let config = self.config();
                write!(out, "timeout={}, stream_timeout={} ", config.gre.as_secs(), config.gre_stream.as_secs())?;
            }
            _ => {}
        }
        for direction in [Direction::Original, Direction::Reply] {
            write_tuple(connection.tuple(direction), out)?;
            if self.config().accounting {
                let counters = connection.counters(direction);
                write!(out, "packets={} bytes={} ", counters.packets, counters.bytes)?;
            }
            if direction == Direction::Original && !connection.status.has(Status::SEEN_REPLY) {
                out.write_str("[UNREPLIED] ")?;
            }
        }
        if connection.status.has(Status::ASSURED) {
            out.write_str("[ASSURED] ")?;
        }
        Ok(())
    }

    /// Writes the expectations as `/proc/net/nf_conntrack_expect` shows them: one line each.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_proc_expect(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        for (_, expectation) in self.iter_expectations(now) {
            write_expectation(now, expectation, out)?;
        }
        Ok(())
    }
}

fn write_expectation(now: Instant, expectation: &Expectation, out: &mut impl Write) -> fmt::Result {
    let tuple = expectation.tuple;
    let (family, protocol) = (tuple.family() as u8, tuple.protocol().0);
    write!(out, "{} l3proto = {family} proto={protocol} ", expectation.remaining(now).as_secs())?;
    write_tuple(&tuple, out)?;
    if let Some(last) = expectation.last_port {
        write!(out, "last_dport={last} PERMANENT ")?;
    }
    out.write_str("ftp\n")
}

fn write_family(tuple: &Tuple, out: &mut impl Write) -> fmt::Result {
    let name = match tuple.family() {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    write!(out, "{name:<8} {} ", tuple.family() as u8)
}

fn write_protocol(tuple: &Tuple, out: &mut impl Write) -> fmt::Result {
    let protocol = tuple.protocol();
    write!(out, "{:<8} {} ", protocol.name(), protocol.0)
}

fn write_tuple(tuple: &Tuple, out: &mut impl Write) -> fmt::Result {
    out.write_str("src=")?;
    write_address(tuple.source(), out)?;
    out.write_str(" dst=")?;
    write_address(tuple.destination(), out)?;
    match tuple.protocol() {
        Protocol::ICMP | Protocol::ICMPV6 => {
            let [kind, code] = tuple.destination_port().to_be_bytes();
            write!(out, " type={kind} code={code} id={} ", tuple.source_port())
        }
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => {
            write!(out, " sport={} dport={} ", tuple.source_port(), tuple.destination_port())
        }
        Protocol::GRE => write!(out, " srckey=0x{:x} dstkey=0x{:x} ", tuple.source_port(), tuple.destination_port()),
        _ => out.write_str(" "),
    }
}

/// IPv6 addresses are written with every zero.
pub(crate) fn write_address(address: IpAddr, out: &mut impl Write) -> fmt::Result {
    match address {
        IpAddr::V4(address) => write!(out, "{address}"),
        IpAddr::V6(address) => {
            let [first, rest @ ..] = address.segments();
            write!(out, "{first:04x}")?;
            rest.iter().try_for_each(|group| write!(out, ":{group:04x}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::ConntrackConfig;
    use crate::packet::Headers;

    #[test]
    fn the_older_format_has_no_families() {
        let syn = [
            0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9, //
            0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
        ];
        let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
        let now = Instant::from_secs(0);
        let tracked = conntrack.track(now, &syn, &Headers::find(&syn).unwrap(), Default::default()).unwrap();
        conntrack.confirm(now, tracked.connection.unwrap()).unwrap();
        let mut text = alloc::string::String::new();
        conntrack.write_proc_ip(now, &mut text).unwrap();
        let expected = "tcp      6 120 SYN_SENT src=10.77.1.2 dst=198.51.100.9 sport=40000 dport=21 [UNREPLIED] \
                        src=198.51.100.9 dst=10.77.1.2 sport=21 dport=40000 mark=0 use=2\n";
        assert_eq!(text, expected);
    }
}
