//! What the router says to the sender of a packet that does not go on.

use core::net::IpAddr;

use super::slow_path::PacketContext;
use super::{Outbox, Router};
use crate::Instant;
use crate::event::DropReason;
use crate::netfilter::{AddressTypes, HostInfo, RejectWith};
use crate::packet::{Entry, Family, Headers, IcmpError, MAX_OPTIONS, Packet, write_reset};

/// A packet is dropped, and maybe its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    pub(super) answer: Option<Answer>,
}

/// How its sender is told.
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

    /// What a REJECT rule says.
    pub(super) const fn rejected(family: Family, with: RejectWith) -> Self {
        let answer = match with {
            RejectWith::TcpReset => Answer::Reset,
            RejectWith::Unreachable(code) => Answer::Icmp(IcmpError::unreachable(family, code)),
        };
        Self { reason: DropReason::Rejected, answer: Some(answer) }
    }
}

/// How IPv4's timestamps count (RFC 791): the epoch of the router's time begins with a midnight.
const MILLISECONDS_A_DAY: i64 = 24 * 60 * 60 * 1000;

impl Router {
    /// Tells the sender of a packet, if something is to be told.
    pub(super) fn answer(&mut self, context: &PacketContext<'_, '_>, answer: Answer, outbox: &mut Outbox) {
        let mut scratch = core::mem::take(&mut self.scratch);
        let original = context.packet.bytes();
        let written = match answer {
            Answer::Reset => write_reset(&mut scratch, original),
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
            if self.send_own(&mut sent, in_its_name).is_ok() {
                outbox.send_copy(sent.packet.bytes(), sent.egress, sent.packet.mark);
            }
        }
        self.scratch = scratch;
    }

    /// What this machine enters into IPv4 options, under an address of its own.
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

    /// The address that an ICMP error comes from: where the packet was for this machine, the address it was for; else
    /// the one that this machine uses towards its sender.
    fn answering_address(&mut self, context: &PacketContext<'_, '_>) -> Option<IpAddr> {
        let bytes = context.packet.bytes();
        let destination = context.headers.destination(bytes);
        if self.network.is_local(destination) {
            return Some(destination);
        }
        self.network.source_towards(context.headers.source(bytes))
    }
}
