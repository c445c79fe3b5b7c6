//! The router's answers to the sender of a packet that does not go on.

use core::net::IpAddr;

use super::interfaces::Destination;
use super::packet_context::PacketContext;
use super::{Outbox, Router};
use crate::Instant;
use crate::event::DropReason;
use crate::netfilter::{AddressTypes, HostInfo, RejectWith};
use crate::packet::{DEFAULT_HOP_LIMIT, Entry, Family, Headers, IcmpError, MAX_OPTIONS, Packet, write_reset};

/// A packet is dropped, and maybe its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    pub(super) answer: Option<Answer>,
}

/// The kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Reset,
    Icmp(IcmpError),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, answer: None }
    }
}

impl Refusal {
    pub(super) const fn with_error(reason: DropReason, error: IcmpError) -> Self {
        Self { reason, answer: Some(Answer::Icmp(error)) }
    }

    /// Returns the answer of a REJECT rule.
    pub(super) const fn rejected(family: Family, with: RejectWith) -> Self {
        let answer = match with {
            RejectWith::TcpReset => Answer::Reset,
            RejectWith::Unreachable(code) => Answer::Icmp(IcmpError::unreachable(family, code)),
            RejectWith::EitherFamily(code) => {
                Answer::Icmp(IcmpError::unreachable(family, code_of_family(family, code)))
            }
        };
        Self { reason: DropReason::Rejected, answer: Some(answer) }
    }
}

/// The code of a family for one of `icmpx`, which nftables counts for both.
const fn code_of_family(family: Family, code: u8) -> u8 {
    match (code, family) {
        (0, _) => 0,
        (2, Family::V4) => 1,
        (2, Family::V6) => 3,
        (3, Family::V4) => 13,
        (3, Family::V6) => 1,
        (_, Family::V4) => 3,
        (_, Family::V6) => 4,
    }
}

/// Milliseconds in a day, for IPv4's timestamps (RFC 791): the epoch of the router's time begins at midnight.
const MILLISECONDS_A_DAY: i64 = 24 * 60 * 60 * 1000;

impl Router {
    /// Tells the sender of a packet, if something is to be told.
    pub(super) fn answer(&mut self, context: &PacketContext<'_, '_>, answer: Answer, outbox: &mut Outbox) {
        let mut scratch = core::mem::take(&mut self.scratch);
        let original = context.packet.bytes();
        let written = match answer {
            Answer::Reset => write_reset(&mut scratch, original),
            Answer::Icmp(_) if self.is_broadcast_v4(context) || self.is_from_anycast_v6(context) => None,
            Answer::Icmp(error) => self.answering_address(context).and_then(|source| {
                let identification = self.identifications.below(1 << 16) as u16;
                let mut options = [0; MAX_OPTIONS];
                let length = match context.ip_options {
                    Some(read) => read.echo(&mut options, original, &self.entry(context.now, source))?,
                    None => 0,
                };
                error.write(&mut scratch, original, source, identification, options.get(..length)?)
            }),
        };
        let tracked = context.tracked;
        let in_its_name = tracked.connection.map(|_| tracked.answering());
        if let (Answer::Reset, Some(id)) = (answer, tracked.connection) {
            self.conntrack.close(context.now, id);
        }
        if let Some(len) = written
            && let Ok(mut packet) = Packet::new(&mut scratch, 0..len)
            && let Ok(mut headers) = Headers::find(packet.bytes())
        {
            let mut probe = self.conntrack.probe(context.now, packet.bytes(), &headers, 0);
            let mut sent = PacketContext::new(context.now, &mut packet, &mut headers, &mut probe, None);
            sent.link = context.in_interface;
            self.set_own_hop_limit(&mut sent);
            if self.send_own(&mut sent, in_its_name).is_ok() {
                outbox.send_copy(sent.packet.bytes(), sent.egress, sent.packet.mark);
            }
        }
        self.scratch = scratch;
    }

    /// Returns the entry that this machine makes in IPv4 options, with an address of its own.
    pub(super) fn entry(&self, now: Instant, own: IpAddr) -> Entry<impl Fn([u8; 4]) -> bool> {
        Entry {
            address: match own {
                IpAddr::V4(own) => own.octets(),
                IpAddr::V6(_) => [0; 4],
            },
            milliseconds: (now.micros() / 1000).rem_euclid(MILLISECONDS_A_DAY) as u32,
            is_elsewhere: |address: [u8; 4]| self.network.address_type(address.into()) == AddressTypes::UNICAST,
        }
    }

    /// True for an IPv4 packet to all hosts of a link, which no ICMP error answers (RFC 1122 section 3.2.2).
    fn is_broadcast_v4(&self, context: &PacketContext<'_, '_>) -> bool {
        match context.headers.destination(context.packet.bytes()) {
            IpAddr::V4(address) => self.network.is_broadcast(address),
            IpAddr::V6(_) => false,
        }
    }

    /// True for an IPv6 packet from the first address of a link's prefix, which stands for any router there: no ICMP error
    /// goes to it (seen on 6.18, with and without forwarding; not through a gateway, nor with prefixes from 127 bits on).
    fn is_from_anycast_v6(&self, context: &PacketContext<'_, '_>) -> bool {
        match context.headers.source(context.packet.bytes()) {
            IpAddr::V6(source) => self.network.is_first_on_its_link(source),
            IpAddr::V4(_) => false,
        }
    }

    /// Gives a packet that this machine makes its time to live.
    fn set_own_hop_limit(&mut self, sent: &mut PacketContext<'_, '_>) {
        let hop_limit = match sent.headers.family {
            Family::V4 => self.ip.default_ttl,
            Family::V6 => match self.destination_of_own(sent) {
                Destination::Via { interface, .. } => self.network.interfaces.get(interface),
                _ => None,
            }
            .map_or(DEFAULT_HOP_LIMIT, |interface| interface.settings.hop_limit),
        };
        if hop_limit != DEFAULT_HOP_LIMIT {
            let bytes = sent.packet.bytes_mut();
            if let Some(field) = bytes.get_mut(if sent.headers.family == Family::V4 { 8 } else { 7 }) {
                *field = hop_limit;
            }
            sent.headers.fill_header_checksum(bytes);
        }
    }

    /// The address that an ICMP error comes from: where the packet was for this machine, the address it was for; else
    /// one that this machine uses towards its sender.
    fn answering_address(&mut self, context: &PacketContext<'_, '_>) -> Option<IpAddr> {
        let bytes = context.packet.bytes();
        let source = context.headers.source(bytes);
        let destination = context.headers.destination(bytes);
        if self.is_delivered_here(context) {
            return Some(destination);
        }
        match (source, context.in_interface) {
            (IpAddr::V6(source), Some(interface)) => self.network.select_source_v6(interface, source),
            (IpAddr::V4(_), Some(interface)) if self.ip.errors_use_inbound_address => {
                self.network.first_v4_of(interface).or_else(|| self.network.source_towards(source))
            }
            _ => self.network.source_towards(source),
        }
    }

    /// True for a packet to one of this machine's own addresses.
    fn is_delivered_here(&mut self, context: &PacketContext<'_, '_>) -> bool {
        let bytes = context.packet.bytes();
        match (context.headers.destination(bytes), context.in_interface) {
            (IpAddr::V6(address), Some(interface)) if address.is_unicast_link_local() => {
                self.network.destination_on_link(interface, address) == Destination::Local
            }
            (address, _) => self.network.resolve(address.into()).destination == Destination::Local,
        }
    }
}
