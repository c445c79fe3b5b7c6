//! Connections that begin with a packet, and connections that are given up for them.

use super::connection::{Connection, Direction, ProtocolState, Status};
use super::judge::{TrackVerdict, UDP_STREAM_AFTER, judge, segment_context};
use super::probe::Probe;
use super::sctp::{Chunks, SctpTracker};
use super::tcp::{CompiledTcpConfig, TcpTracker};
use super::tracked::{InvalidReason, PacketState, Template, Tracked};
use super::{Conntrack, ConntrackConfig, Expectation, OnMatch, Tuple};
use crate::Instant;
use crate::event::{DestroyReason, DropReason, Event};
use crate::packet::{Headers, Layer4, Protocol, Side};

impl Conntrack {
    /// A packet that begins a connection, in the place of one with the same tuple that is over.
    #[inline(never)]
    pub(super) fn track_new(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        template: Template,
        probe: &Probe,
    ) -> Result<Tracked, DropReason> {
        if let Some((slot, _)) = probe.found {
            self.destroy(now, slot, if probe.is_over { DestroyReason::Timeout } else { DestroyReason::Reopened });
        }
        let Some(tuple) = Tuple::of(headers, bytes).map(|tuple| tuple.in_zone(probe.zone)) else {
            return Ok(self.invalid(InvalidReason::Header));
        };
        let tuple = &tuple;
        let Some(reply) = tuple.reversed() else { return Ok(self.invalid(InvalidReason::Protocol)) };
        let protocol = match begin(&self.tcp, now, bytes, headers) {
            Ok(protocol) => protocol,
            Err(reason) => {
                self.consume_expectation(now, tuple);
                return Ok(self.invalid(reason));
            }
        };
        // The verdict will set it.
        let deadline = Instant::NEVER;
        let slot = match self.table.create(*tuple, reply, protocol, deadline) {
            Some(slot) => slot,
            None => {
                self.make_room(now, tuple)?;
                self.table.create(*tuple, reply, protocol, deadline).ok_or(DropReason::TableFull)?
            }
        };
        let expectation = self.consume_expectation(now, tuple);
        if expectation.is_none()
            && template.helper
            && headers.protocol == Protocol::TCP
            && let Err(reason) = self.attach_helper_slot(slot)
        {
            self.release(slot);
            return Err(reason);
        }
        let connection = self.table.at_mut(slot);
        match judge_first((&self.config, &self.tcp), connection, now, bytes, headers) {
            TrackVerdict::Accept(renewal) => {
                connection.count(Direction::Original, headers);
                if let Some(renewal) = renewal {
                    self.table.set_deadline(slot, now + renewal.timeout);
                }
            }
            TrackVerdict::Invalid { reason, .. } => {
                self.release(slot);
                return Ok(self.invalid(reason));
            }
            TrackVerdict::Reopen | TrackVerdict::Kill => {
                self.release(slot);
                return Ok(self.invalid(InvalidReason::Protocol));
            }
        }
        let id = self.table.id(slot);
        self.statistics.expect_new += u64::from(expectation.is_some());
        let mut tracked = Tracked {
            connection: Some(id),
            direction: Direction::Original,
            state: PacketState::New,
            is_error: false,
            on_match: OnMatch::Nothing,
        };
        if let Some(expectation) = expectation {
            let (mark, helper) = self.get(expectation.master).map_or((0, false), |master| (master.mark, master.helper));
            let child = self.table.at_mut(slot);
            child.master_had_helper = helper;
            child.master = Some(expectation.master);
            child.mark = mark;
            child.status.set(Status::EXPECTED);
            if let Some(master) = self.get_mut(expectation.master) {
                master.children = master.children.saturating_add(1);
            }
            tracked.state = PacketState::Related;
            tracked.on_match = expectation.on_match;
            let event = Event::Fulfilled { connection: id, master: expectation.master, expected: expectation.tuple };
            self.events.push(now, event);
        }
        Ok(tracked)
    }

    /// The expectation that a connection with this tuple meets; it is met once, but for a range.
    pub(super) fn consume_expectation(&mut self, now: Instant, tuple: &Tuple) -> Option<Expectation> {
        if self.expectations.len() == 0 {
            return None;
        }
        let slot = self.pending(now, tuple)?;
        let met = *self.expectations.at(slot)?;
        if met.last_port.is_some() {
            self.expectations.renew(slot, now + super::RANGE_TIMEOUT);
            let port = tuple.destination_port();
            return Some(Expectation { tuple: met.tuple.with_port(Side::Destination, port), ..met });
        }
        self.unexpect_slot(now, slot, None)
    }

    /// Forgets connections whose time is over; or else gives up those that are not assured, in the first of eight
    /// buckets that has any, as Linux does.
    pub(super) fn make_room(&mut self, now: Instant, tuple: &Tuple) -> Result<(), DropReason> {
        if let Some(slot) = self.table.next_expired(now) {
            self.destroy(now, slot, DestroyReason::Timeout);
            return Ok(());
        }
        let mut distances = 0..EARLY_DROP_BUCKETS;
        let distance = distances.find(|distance| self.expendable(now, tuple, *distance).is_some());
        let Some(distance) = distance else {
            self.statistics.drop += 1;
            return Err(DropReason::TableFull);
        };
        while let Some(slot) = self.expendable(now, tuple, distance) {
            self.statistics.early_drop += 1;
            self.destroy(now, slot, DestroyReason::Evicted);
        }
        Ok(())
    }

    /// A connection in a bucket that may be given up.
    fn expendable(&self, now: Instant, tuple: &Tuple, distance: usize) -> Option<u32> {
        self.table.near(tuple, distance).find(|slot| {
            let connection = self.table.at(*slot);
            !connection.status.has(Status::ASSURED) || connection.expired(now)
        })
    }
}

/// Number of buckets searched for connections to give up when the table is full (Linux, `early_drop`).
const EARLY_DROP_BUCKETS: usize = 8;

/// Returns the protocol's state for a connection that begins with this packet.
pub(super) fn begin(
    tcp: &CompiledTcpConfig,
    now: Instant,
    bytes: &[u8],
    headers: &Headers,
) -> Result<ProtocolState, InvalidReason> {
    match headers.layer4 {
        Layer4::Tcp(_) => {
            let context = segment_context(headers, bytes, Direction::Original, Status::default(), 0)?;
            TcpTracker::open(tcp, context).map(ProtocolState::Tcp).map_err(InvalidReason::Tcp)
        }
        Layer4::Udp if headers.protocol == Protocol::UDPLITE => Ok(ProtocolState::UdpLite),
        Layer4::Udp => Ok(ProtocolState::Udp { stream_from: now + UDP_STREAM_AFTER }),
        Layer4::Icmp(icmp) => {
            let asks = match headers.protocol {
                Protocol::ICMP => matches!(icmp.kind, 8 | 13 | 15 | 17),
                _ => matches!(icmp.kind, 128 | 139),
            };
            if asks { Ok(ProtocolState::Icmp) } else { Err(InvalidReason::Protocol) }
        }
        Layer4::Sctp => {
            let chunks = Chunks::of(headers, bytes).ok_or(InvalidReason::Header)?;
            SctpTracker::open(&chunks).map(ProtocolState::Sctp).ok_or(InvalidReason::Protocol)
        }
        Layer4::Gre(_) => Ok(ProtocolState::Gre),
        Layer4::Other => Ok(ProtocolState::Generic),
        Layer4::Unreadable => Err(InvalidReason::Header),
    }
}

/// Lets the protocol's tracker judge the first packet of a connection.
#[inline(never)]
fn judge_first(
    (config, tcp): (&ConntrackConfig, &CompiledTcpConfig),
    connection: &mut Connection,
    now: Instant,
    bytes: &[u8],
    headers: &Headers,
) -> TrackVerdict {
    judge((config, tcp), connection, now, Direction::Original, bytes, headers, 0)
}
