//! What the router says to the sender of a packet that does not go on.

use core::net::IpAddr;

use super::walk::Transit;
use super::{Outbox, Router};
use crate::event::DropReason;
use crate::netfilter::RejectWith;
use crate::packet::{Family, Headers, IcmpError, Packet, write_reset};

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

impl Router {
    /// Tells the sender of a packet, if something is to be told.
    pub(super) fn answer(&mut self, transit: &Transit<'_, '_>, answer: Answer, outbox: &mut Outbox) {
        let mut workbench = core::mem::take(&mut self.workbench);
        let original = transit.packet.bytes();
        let written = match answer {
            Answer::Reset => write_reset(&mut workbench, original),
            Answer::Icmp(error) => self.answering_address(transit).and_then(|source| {
                let identification = self.identifications.below(1 << 16) as u16;
                error.write(&mut workbench, original, source, identification)
            }),
        };
        let tracked = transit.tracked;
        let in_its_name = (answer == Answer::Reset && tracked.connection.is_some()).then(|| tracked.answering());
        if let (Some(_), Some(id)) = (in_its_name, tracked.connection) {
            self.conntrack.close(transit.now, id);
        }
        if let Some(len) = written
            && let Ok(mut packet) = Packet::new(&mut workbench, 0..len)
            && let Ok(mut headers) = Headers::find(packet.bytes())
        {
            let mut probe = self.conntrack.probe(transit.now, packet.bytes(), &headers, 0);
            let mut sent = Transit::new(transit.now, &mut packet, &mut headers, &mut probe, None);
            if self.send_own(&mut sent, in_its_name).is_ok() {
                outbox.send_copy(sent.packet.bytes(), sent.way, sent.packet.mark);
            }
        }
        self.workbench = workbench;
    }

    /// The address that an ICMP error comes from: where the packet was for this machine, the address it was for; else
    /// the one that this machine uses towards its sender.
    fn answering_address(&self, transit: &Transit<'_, '_>) -> Option<IpAddr> {
        let bytes = transit.packet.bytes();
        let destination = transit.headers.destination(bytes);
        if self.network.is_local(destination) {
            return Some(destination);
        }
        self.network.source_towards(transit.headers.source(bytes))
    }
}
