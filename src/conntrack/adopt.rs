//! Connections that began elsewhere, or before anybody looked.

use super::begin::begin;
use super::connection::{Connection, ConnectionId, Direction, ProtocolState, Status};
use super::judge::segment_context;
use super::tcp::{TcpState, TcpTracker};
use super::{Conntrack, Template, Tuple};
use crate::event::{DestroyReason, DropReason};
use crate::packet::{Headers, Protocol, Side};
use crate::{Instant, Micros};

/// State of a connection that began elsewhere, needed beside one of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportedState {
    /// Tuple of a reply packet as it arrives: gives the translation, if there is one.
    pub reply: Tuple,
    /// By how many bytes each direction's stream has grown so far, by [`Direction`] of the sender: what was added to
    /// the sequence numbers that left.
    pub growth: [i32; 2],
    /// True if another connection announced it: until it is answered, its packets are related.
    pub expected: bool,
}

impl ImportedState {
    /// A connection whose replies look like this, and whose streams have not grown.
    #[must_use]
    pub const fn with_reply(reply: Tuple) -> Self {
        Self { reply, growth: [0; 2], expected: false }
    }

    /// The same, announced by another connection.
    #[must_use]
    pub const fn expected(self) -> Self {
        Self { expected: true, ..self }
    }

    /// The same, with streams that have grown.
    #[must_use]
    pub const fn grown(self, growth: [i32; 2]) -> Self {
        Self { growth, ..self }
    }
}

impl Conntrack {
    /// Takes a connection over that began elsewhere, or before anybody looked: from a peer that fails, or in a capture
    /// that begins later. `bytes` is a packet of its original direction as it arrives; it is not tracked by this, and
    /// may be handed to [`Conntrack::track`] afterwards.
    ///
    /// What is there with one of its tuples makes way; what is there with both goes on, with the growth told here. Its
    /// windows are not known: segments outside them pass, as Linux has it for connections whose beginning it did not
    /// see and for those that `conntrackd` hands over. A connection whose packet is a SYN begins; any other is
    /// established and answered.
    ///
    /// ```
    /// use ftp_conntrack::Instant;
    /// use ftp_conntrack::conntrack::{ImportedState, ConntrackConfig, Conntrack, PacketState, Template, Tuple};
    /// use ftp_conntrack::packet::{Headers, Protocol};
    ///
    /// let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
    /// // 198.51.100.9:21 > 203.0.113.1:40000, ACK: to a host behind a router that was started again.
    /// let reply = [
    ///     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 9, 203, 0, 113, 1,
    ///     0, 21, 0x9c, 0x40, 0, 0, 9, 0, 0, 0, 7, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
    /// ];
    /// // 10.77.1.2:40000 > 198.51.100.9:21, ACK: what the host sends, and the table that was saved says of it.
    /// let mut original = reply;
    /// original[12..24].copy_from_slice(&[10, 77, 1, 2, 198, 51, 100, 9, 0x9c, 0x40, 0, 21]);
    /// let headers = Headers::find(&original).unwrap();
    /// let (server, outside) = ("198.51.100.9:21".parse().unwrap(), "203.0.113.1:40000".parse().unwrap());
    /// let adopted = ImportedState::with_reply(Tuple::new(Protocol::TCP, server, outside).unwrap());
    /// let now = Instant::from_secs(0);
    /// let id = conntrack.adopt(now, &original, &headers, Template::FTP, adopted).unwrap();
    ///
    /// let tracked = conntrack.track(now, &reply, &Headers::find(&reply).unwrap(), Template::default()).unwrap();
    /// assert_eq!((tracked.connection, tracked.state), (Some(id), PacketState::Established));
    /// ```
    ///
    /// # Errors
    /// When the packet has no tuple, the reply's family or protocol is another, or there is no room: nothing is taken
    /// over then, and nothing makes way but what is given up for want of space.
    pub fn adopt(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        template: Template,
        adopted: ImportedState,
    ) -> Result<ConnectionId, DropReason> {
        let original = Tuple::of(headers, bytes).ok_or(DropReason::Malformed)?.in_zone(template.zone);
        let reply = adopted.reply.in_zone(template.zone);
        if (reply.family(), reply.protocol()) != (original.family(), original.protocol()) {
            return Err(DropReason::Malformed);
        }
        let known = self.table.find(&original).filter(|(slot, direction)| {
            *direction == Direction::Original && *self.table.at(*slot).tuple(Direction::Reply) == reply
        });
        let adjusts = template.helper || adopted.growth != [0; 2];
        let has_adjustment = known.is_some_and(|(slot, _)| self.table.at(slot).helper_slot.is_some());
        if adjusts && !has_adjustment && self.free_helped.is_empty() {
            return Err(DropReason::HelpersFull);
        }
        let slot = match known {
            Some((slot, _)) => {
                self.establish(now, slot, bytes, headers);
                slot
            }
            None => self.take_over(now, bytes, headers, [original, reply])?,
        };
        if template.helper {
            self.attach_helper_slot(slot)?;
        }
        if adopted.expected {
            self.table.at_mut(slot).status.set(Status::EXPECTED);
        }
        let id = self.table.id(slot);
        self.be_liberal(id);
        if adjusts {
            self.attach_adjustment_slot(slot)?;
        }
        if let Some(helped) = self.table.at(slot).helper_slot {
            self.adjustments[helped.index()].start_with(adopted.growth);
            self.table.at_mut(slot).status.set(Status::SEQ_ADJUST);
        }
        Ok(id)
    }

    /// A connection in the table, in the place of those that have one of its tuples.
    fn take_over(
        &mut self,
        now: Instant,
        bytes: &[u8],
        headers: &Headers,
        tuples: [Tuple; 2],
    ) -> Result<u32, DropReason> {
        let [original, reply] = tuples;
        let (protocol, timeout) = self.take_up(now, bytes, headers).ok_or(DropReason::Malformed)?;
        let deadline = now + timeout;
        let slot = match self.table.create(original, reply, protocol, deadline) {
            Some(slot) => slot,
            None => {
                self.make_room(now, &original)?;
                self.table.create(original, reply, protocol, deadline).ok_or(DropReason::TableFull)?
            }
        };
        for tuple in &tuples {
            if let Some((other, _)) = self.table.find(tuple) {
                self.destroy(now, other, DestroyReason::Reopened);
            }
        }
        self.table.link_source(slot);
        self.table.at_mut(slot).set_adopted();
        self.confirm(now, self.table.id(slot))?;
        Ok(slot)
    }

    /// A connection that is there, and whose beginning was not seen whole, is established if the packet says so.
    fn establish(&mut self, now: Instant, slot: u32, bytes: &[u8], headers: &Headers) {
        let connection = self.table.at(slot);
        let is_opening = connection.tcp_state().is_some_and(TcpState::is_opening);
        let is_established = connection.status.has(Status::SEEN_REPLY) && !is_opening;
        if let Some((protocol, timeout)) = self.take_up(now, bytes, headers).filter(|_| !is_established) {
            self.table.at_mut(slot).protocol = protocol;
            self.table.at_mut(slot).set_adopted();
            self.table.set_deadline(slot, now + timeout);
        }
    }

    /// Returns what its tracker keeps of a connection, and how long it is remembered if nothing comes.
    fn take_up(&self, now: Instant, bytes: &[u8], headers: &Headers) -> Option<(ProtocolState, Micros)> {
        let config = &self.config;
        if headers.protocol != Protocol::TCP {
            let timeout = if headers.protocol == Protocol::UDP { config.udp_stream } else { config.generic };
            return Some((begin(&self.tcp, now, bytes, headers).ok()?, timeout.into()));
        }
        let segment = segment_context(headers, bytes, Direction::Original, Status::default(), 0).ok()?;
        let tracker = TcpTracker::take_up(&self.tcp, segment);
        let begins = tracker.state() == TcpState::SynSent;
        let timeout = if begins { config.tcp.syn_sent } else { config.tcp.established };
        Some((ProtocolState::Tcp(tracker), timeout.into()))
    }
}

impl Connection {
    /// The status bits of a connection whose translation is decided and, unless it begins, that was answered.
    fn set_adopted(&mut self) {
        let [original, reply] = self.tuples;
        let mut bits = Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
        if self.tcp_state() != Some(TcpState::SynSent) {
            bits |= Status::SEEN_REPLY | Status::ASSURED;
        }
        let leaves_as = |side: Side| (reply.end(side.other()), reply.port(side.other()));
        for (side, translated) in [(Side::Source, Status::SRC_NAT), (Side::Destination, Status::DST_NAT)] {
            if leaves_as(side) != (original.end(side), original.port(side)) {
                bits |= translated;
            }
        }
        self.status.set(bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::ConntrackConfig;
    use alloc::vec::Vec;

    /// 10.77.1.2:40000 > 198.51.100.9:21, ACK.
    const ORIGINAL: [u8; 40] = [
        0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9, //
        0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 9, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
    ];

    fn reply(protocol: Protocol, source: &str, destination: &str) -> ImportedState {
        let ends = [source, destination].map(|end| end.parse().unwrap());
        ImportedState::with_reply(Tuple::new(protocol, ends[0], ends[1]).unwrap())
    }

    fn adopt(
        conntrack: &mut Conntrack,
        template: Template,
        adopted: ImportedState,
    ) -> Result<ConnectionId, DropReason> {
        let headers = Headers::find(&ORIGINAL).unwrap();
        conntrack.adopt(Instant::from_secs(1), &ORIGINAL, &headers, template, adopted)
    }

    #[test]
    fn what_has_no_room_for_a_helper_is_not_taken_over() {
        let mut config = ConntrackConfig::default();
        config.limits.helped = 0;
        let mut conntrack = Conntrack::new(config, [1, 2]);
        let masqueraded = reply(Protocol::TCP, "198.51.100.9:21", "203.0.113.1:40000");
        assert_eq!(adopt(&mut conntrack, Template::FTP, masqueraded), Err(DropReason::HelpersFull));
        assert!(conntrack.is_empty());
        assert!(adopt(&mut conntrack, Template::default(), masqueraded).is_ok());
    }

    #[test]
    fn replies_are_of_the_same_family_and_protocol() {
        let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
        for other in [
            reply(Protocol::TCP, "[2001:db8::9]:21", "[2001:db8::1]:40000"),
            reply(Protocol::UDP, "198.51.100.9:21", "203.0.113.1:40000"),
        ] {
            assert_eq!(adopt(&mut conntrack, Template::default(), other), Err(DropReason::Malformed));
        }
        assert!(conntrack.is_empty());
    }

    #[test]
    fn another_translation_takes_the_place_of_the_one_before() {
        let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
        let now = Instant::from_secs(1);
        let first = adopt(&mut conntrack, Template::FTP, reply(Protocol::TCP, "198.51.100.9:21", "203.0.113.1:40000"));
        let again = adopt(&mut conntrack, Template::FTP, reply(Protocol::TCP, "198.51.100.9:21", "203.0.113.1:40000"));
        assert_eq!(first, again, "the same goes on");
        let other = adopt(&mut conntrack, Template::FTP, reply(Protocol::TCP, "198.51.100.9:21", "203.0.113.1:40001"));
        assert_ne!(first, other);
        let connections: Vec<_> = conntrack.iter(now).map(|(id, connection)| (id, connection.status())).collect();
        assert_eq!(connections.len(), 1);
        let (id, status) = connections[0];
        assert_eq!(Ok(id), other);
        assert!(status.has(Status::ASSURED) && status.has(Status::SRC_NAT) && !status.has(Status::DST_NAT));
    }

    #[test]
    fn numbers_move_by_what_a_stream_has_grown() {
        let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
        let grown = reply(Protocol::TCP, "198.51.100.9:21", "203.0.113.1:40000").grown([3, 0]);
        let id = adopt(&mut conntrack, Template::default(), grown).unwrap();
        let mut bytes = ORIGINAL;
        let mut headers = Headers::find(&bytes).unwrap();
        conntrack.adjust(conntrack.get(id).unwrap(), Direction::Original, &mut bytes, &mut headers).unwrap();
        assert_eq!(bytes[24..28], [0, 0, 0, 10]);
    }
}
