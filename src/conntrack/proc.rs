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

    fn write_connection(&self, now: Instant, connection: &Connection, out: &mut impl Write) -> fmt::Result {
        let original = connection.tuple(Direction::Original);
        let seconds = connection.remaining(now).as_secs();
        write_families(original, out)?;
        write!(out, "{seconds} ")?;
        if let ProtocolState::Tcp(tracker) = &connection.protocol {
            write!(out, "{} ", tracker.state().name())?;
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
        writeln!(out, "mark={} zone={} use=2", connection.mark, original.zone())
    }

    /// Writes the expectations as `/proc/net/nf_conntrack_expect` shows them: one line each.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write_proc_expect(&self, now: Instant, out: &mut impl Write) -> fmt::Result {
        for expectation in self.iter_expectations(now) {
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
    out.write_str("ftp\n")
}

fn write_families(tuple: &Tuple, out: &mut impl Write) -> fmt::Result {
    let family = match tuple.family() {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let protocol = tuple.protocol();
    write!(out, "{family:<8} {} {:<8} {} ", tuple.family() as u8, protocol.name(), protocol.0)
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
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE => {
            write!(out, " sport={} dport={} ", tuple.source_port(), tuple.destination_port())
        }
        _ => out.write_str(" "),
    }
}

/// IPv6 addresses are written with every zero.
fn write_address(address: IpAddr, out: &mut impl Write) -> fmt::Result {
    match address {
        IpAddr::V4(address) => write!(out, "{address}"),
        IpAddr::V6(address) => {
            let [first, rest @ ..] = address.segments();
            write!(out, "{first:04x}")?;
            rest.iter().try_for_each(|group| write!(out, ":{group:04x}"))
        }
    }
}
