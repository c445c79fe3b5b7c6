//! Compares the packets that two routers send for the same packet.

use core::net::SocketAddr;
use std::vec::Vec;

use super::departure::LinuxDoes;
use super::reasons::shown;
use crate::SequenceNumber;
use crate::conntrack::Tuple;
use crate::event::DropReason;
use crate::packet::{Headers, Layer4, TcpOptions};
use crate::router::{Egress, Outbox, Verdict};

/// A packet that leaves, by this interface, or for the router's own machine.
pub(super) type Sent = (Option<usize>, Vec<u8>);

/// A packet of the capture, and what leaves because of it on both sides.
pub(super) struct Pair<'p> {
    pub(super) arrived: &'p [u8],
    pub(super) ours: &'p [Sent],
    pub(super) theirs: &'p [Sent],
    /// Reason why it is dropped here.
    pub(super) dropped: Option<DropReason>,
    /// Linux's verdict.
    pub(super) verdict: Verdict,
}

impl Pair<'_> {
    pub(super) fn is_same(&self) -> bool {
        let same = |((to, ours), (to2, theirs)): (&Sent, &Sent)| to == to2 && comparable(ours) == comparable(theirs);
        self.ours.len() == self.theirs.len() && self.ours.iter().zip(self.theirs).all(same)
    }

    /// Returns true if the same leaves, except for numbers of streams.
    pub(super) fn differs_in_numbers(&self) -> bool {
        let same = |((to, ours), (to2, theirs)): (&Sent, &Sent)| to == to2 && unnumbered(ours) == unnumbered(theirs);
        self.ours.len() == self.theirs.len() && self.ours.iter().zip(self.theirs).all(same)
    }

    /// By how much Linux's numbers are higher: sequence number, acknowledgement.
    pub(super) fn shift(&self) -> Option<(i32, i32)> {
        let ([(_, ours), ..], [(_, theirs), ..]) = (self.ours, self.theirs) else { return None };
        let (a, b) = (numbers(ours)?, numbers(theirs)?);
        Some((b.0.since(a.0), b.1.since(a.1)))
    }

    pub(super) fn linux_does(&self) -> LinuxDoes {
        let Some((to, theirs)) = self.theirs.first() else {
            return match self.verdict {
                Verdict::Drop(reason) => LinuxDoes::Drops(reason),
                _ => LinuxDoes::SendsNothing,
            };
        };
        let first = self.ours.first();
        if self.differs_in_numbers() {
            let (sequence, acknowledgement) = self.shift().unwrap_or_default();
            return LinuxDoes::Numbers(sequence, acknowledgement);
        }
        if self.ours.len() > self.theirs.len()
            && first.is_some_and(|(way, ours)| way == to && unnumbered(ours) == unnumbered(theirs))
        {
            return LinuxDoes::SendsNoMore;
        }
        let came = ends(self.arrived);
        let is_moved = first.is_some_and(|(_, ours)| ends(ours) != came);
        match ends(theirs) {
            moved if is_moved && moved == came => return LinuxDoes::LeavesUntranslated,
            Some(moved) if Some(moved) != came && !is_moved => {
                return LinuxDoes::SendsTo(SocketAddr::new(moved.destination(), moved.destination_port()));
            }
            _ => {}
        }
        let (came, left) = (payload(self.arrived), payload(theirs));
        if first.is_some_and(|(_, ours)| payload(ours).len() > left.len() && payload(ours).starts_with(left))
            && !left.is_empty()
        {
            return LinuxDoes::SendsNoMore;
        }
        let lines =
            |text: &[u8]| -> Vec<Vec<u8>> { text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() };
        let known = lines(came);
        match lines(left).into_iter().find(|line| !known.contains(line)) {
            Some(line) => LinuxDoes::Writes(shown(&line)),
            None if first.is_some_and(|(way, _)| way != to) => LinuxDoes::SendsAnother,
            None => LinuxDoes::Passes,
        }
    }
}

/// The packets that leave because of a packet.
pub(super) struct Sending {
    pub(super) sent: Vec<Sent>,
    /// Reason why the packet itself is dropped.
    pub(super) dropped: Option<DropReason>,
}

impl Sending {
    pub(super) fn of(verdict: Verdict, packet: &[u8], outbox: &Outbox) -> Self {
        let way = |way: Egress| match way {
            Egress::Forward { interface, .. } => Some(interface),
            Egress::Local => None,
        };
        let (itself, dropped) = match verdict {
            Verdict::Forward { interface, .. } => (Some((Some(interface), packet.to_vec())), None),
            Verdict::Local => (Some((None, packet.to_vec())), None),
            Verdict::Drop(reason) => (None, Some(reason)),
            _ => (None, None),
        };
        let others = outbox.iter().map(|outgoing| (way(outgoing.egress), outgoing.bytes.to_vec()));
        Self { sent: itself.into_iter().chain(others).collect(), dropped }
    }
}

/// A packet without what is drawn at random: the identification of an ICMP error.
fn comparable(bytes: &[u8]) -> Vec<u8> {
    let mut compared = bytes.to_vec();
    if Headers::find(bytes).is_ok_and(|headers| headers.is_icmp_error()) && bytes.first().is_some_and(|b| b >> 4 == 4) {
        for field in [4..6, 10..12] {
            compared.get_mut(field).into_iter().for_each(|field| field.fill(0));
        }
    }
    compared
}

/// A packet without the numbers of streams, and checksums over them.
fn unnumbered(bytes: &[u8]) -> Vec<u8> {
    let mut compared = comparable(bytes);
    let Ok(headers) = Headers::find(bytes) else { return compared };
    let mut clear = |from: usize, to: usize| {
        compared.get_mut(from..to).into_iter().for_each(|field| field.fill(0));
    };
    let transport = headers.transport;
    match headers.layer4 {
        Layer4::Tcp(_) => {
            clear(transport + 4, transport + 12);
            clear(transport + 16, transport + 20);
            for option in headers.tcp_options(bytes).iter() {
                if let Ok((TcpOptions::SACK, at, value)) = option {
                    clear(transport + 20 + at, transport + 20 + at + value.len());
                }
            }
        }
        // The quoted part of a segment.
        _ if headers.is_icmp_error() => clear(transport + 2, bytes.len()),
        _ => {}
    }
    compared
}

pub(super) fn numbers(bytes: &[u8]) -> Option<(SequenceNumber, SequenceNumber)> {
    match Headers::find(bytes).ok()?.layer4 {
        Layer4::Tcp(segment) => Some((segment.sequence, segment.acknowledgement)),
        _ => None,
    }
}

fn ends(bytes: &[u8]) -> Option<Tuple> {
    Headers::find(bytes).ok().and_then(|headers| Tuple::of(&headers, bytes))
}

pub(super) fn payload(bytes: &[u8]) -> &[u8] {
    Headers::find(bytes).map_or(&[], |headers| headers.payload(bytes))
}
