//! Which connection a packet belongs to, what state that is in, and which connections are expected
//! (`nf_conntrack`).
//!
//! ```
//! use ftp_conntrack::Instant;
//! use ftp_conntrack::conntrack::{ConntrackConfig, Conntrack, PacketState};
//! use ftp_conntrack::packet::Headers;
//!
//! let mut conntrack = Conntrack::new(ConntrackConfig::default(), [1, 2]);
//! // 10.77.1.2:40000 > 198.51.100.9:21, SYN
//! let syn = [
//!     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 1, 2, 198, 51, 100, 9,
//!     0x9c, 0x40, 0, 21, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0,
//! ];
//! let now = Instant::from_secs(0);
//! let tracked = conntrack.track(now, &syn, &Headers::find(&syn).unwrap(), Default::default()).unwrap();
//! assert_eq!(tracked.state, PacketState::New);
//! conntrack.confirm(now, tracked.connection.unwrap()).unwrap();
//! assert_eq!(
//!     conntrack.to_proc_text(now),
//!     "ipv4     2 tcp      6 120 SYN_SENT src=10.77.1.2 dst=198.51.100.9 sport=40000 dport=21 [UNREPLIED] \
//!      src=198.51.100.9 dst=10.77.1.2 sport=21 dport=40000 mark=0 zone=0 use=2\n",
//! );
//! ```

mod adjust;
mod adopt;
mod begin;
mod config;
mod connection;
mod expectation;
mod judge;
mod longest_chains;
mod probe;
pub(crate) mod proc;
mod reasons;
mod sctp;
mod statistics;
mod table;
mod tcp;
mod track;
mod tracked;
mod tuple;

pub use adopt::ImportedState;
pub use config::{ConntrackConfig, Limits};
pub(crate) use connection::NotedRoute;
pub use connection::{Connection, ConnectionId, Counters, Direction, HelperSlot, NoId, Status};
pub use expectation::{ExpectError, Expectation, ExpectationId, OnMatch};
pub use longest_chains::LongestChains;
pub use sctp::{SctpConfig, SctpState};
pub use statistics::Statistics;
pub use tcp::{TcpConfig, TcpInvalid, TcpState};
pub use tracked::{InvalidReason, PacketState, Template, Tracked};
pub use tuple::Tuple;

use connection::{NO_EXPECTATION as NONE, ProtocolState};
pub(crate) use probe::{Known, Probe};
pub(crate) use track::ICMP_HEADER;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::Instant;
use crate::event::{DestroyReason, DropReason, Event, Events};
use crate::hash::TableKey;
use crate::packet::Protocol;
use crate::seqadj::Adjustment;

/// The connection tracker: all connections and expectations, in memory taken when it is made.
pub struct Conntrack {
    config: ConntrackConfig,
    tcp: tcp::CompiledTcpConfig,
    table: table::Table,
    expectations: expectation::Table,
    free_helped: Vec<u32>,
    adjustments: Box<[Adjustment]>,
    statistics: Statistics,
    /// Events that nobody has taken yet.
    pub(crate) events: Events,
}

impl core::fmt::Debug for Conntrack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Conntrack")
            .field("connections", &self.len())
            .field("expectations", &self.expected())
            .finish_non_exhaustive()
    }
}

impl Conntrack {
    /// A tracker without connections. `key` keys its hash tables: it should come from a source that the network
    /// cannot guess.
    #[must_use]
    pub fn new(config: ConntrackConfig, key: [u64; 2]) -> Self {
        let limits = config.limits;
        Self {
            table: table::Table::new(limits.connections, TableKey::new(key)),
            expectations: expectation::Table::new(limits.expectations, TableKey::new(key)),
            free_helped: (0..limits.helped).rev().collect(),
            adjustments: vec![Adjustment::default(); limits.helped as usize].into(),
            statistics: Statistics::default(),
            events: Events::new(limits.events),
            tcp: (&config.tcp).into(),
            config,
        }
    }

    /// Takes the oldest event, and when it happened.
    pub fn poll_event(&mut self) -> Option<(Instant, Event)> {
        self.events.pop()
    }

    /// Returns the number of events that were lost because nobody took older ones.
    #[must_use]
    pub const fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &ConntrackConfig {
        &self.config
    }

    /// Returns the number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns true if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of connections that are expected.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.expectations.len()
    }

    /// A connection by its name.
    #[inline]
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        Some(self.table.at(self.table.slot(id)?))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.table.slot(id)?;
        Some(self.table.at_mut(slot))
    }

    /// The connection with this tuple, and which way the tuple goes.
    #[inline]
    #[must_use]
    pub fn find(&self, now: Instant, tuple: &Tuple) -> Option<(ConnectionId, Direction)> {
        let (slot, direction) = self.table.find(tuple)?;
        (!self.table.at(slot).expired(now)).then(|| (self.table.id(slot), direction))
    }

    /// All confirmed connections whose time is not over.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let living = self.table.living().map(|slot| (self.table.id(slot), self.table.at(slot)));
        living.filter(move |(_, c)| c.status.has(Status::CONFIRMED) && !c.expired(now))
    }

    /// All expectations whose time is not over.
    pub fn iter_expectations(&self, now: Instant) -> impl Iterator<Item = (ExpectationId, &Expectation)> {
        self.expectations.iter().filter(move |(_, e)| self.is_pending(now, e))
    }

    /// Sets a connection's mark. False when there is no such connection.
    pub fn set_mark(&mut self, id: ConnectionId, mark: u32) -> bool {
        self.get_mut(id).map(|c| c.mark = mark).is_some()
    }

    /// Gives a connection a label, of 128 (`-m connlabel`). Returns false if there is no such connection, or label.
    pub fn set_label(&mut self, id: ConnectionId, label: u8) -> bool {
        let connection = self.get_mut(id).filter(|_| label < 128);
        connection.map(|connection| connection.set_label(label)).is_some()
    }

    /// Forgets a connection and what it announced. False when there is no such connection.
    pub fn delete(&mut self, now: Instant, id: ConnectionId) -> bool {
        let slot = self.table.slot(id);
        slot.map(|slot| self.destroy(now, slot, DestroyReason::Deleted)).is_some()
    }

    /// Forgets everything.
    pub fn flush(&mut self, now: Instant) {
        for slot in 0..self.config.limits.connections {
            if self.table.is_living(slot) {
                self.destroy(now, slot, DestroyReason::Deleted);
            }
        }
    }

    /// When [`Conntrack::handle_timeout`] should be called next; it may then find nothing to do.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        [self.table.next_due(), self.expectations.next_due()].into_iter().flatten().min()
    }

    /// Forgets what has had its time. Nothing is ever found past its time, whenever this is called; it frees the room
    /// and tells of it.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(slot) = self.table.next_expired(now) {
            self.destroy(now, slot, DestroyReason::Timeout);
        }
        while let Some(slot) = self.expectations.next_expired(now) {
            self.unexpect_slot(now, slot, Some(DestroyReason::Timeout));
        }
    }

    /// Enters a connection into the table: its first packet leaves.
    ///
    /// # Errors
    /// When another connection has one of its tuples: the packet is to be dropped, and the connection is gone.
    pub fn confirm(&mut self, now: Instant, id: ConnectionId) -> Result<(), DropReason> {
        let Some(slot) = self.table.slot(id) else { return Err(DropReason::Clash) };
        if self.table.at(slot).status.has(Status::CONFIRMED) {
            return Ok(());
        }
        for direction in [Direction::Original, Direction::Reply] {
            let tuple = *self.table.at(slot).tuple(direction);
            self.forget_expired(now, &tuple);
            if self.table.find(&tuple).is_some() {
                self.discard(id);
                self.statistics.insert_failed += 1;
                return Err(DropReason::Clash);
            }
        }
        self.table.link_tuples(slot);
        self.note_new(now, slot);
        Ok(())
    }

    fn note_new(&mut self, now: Instant, slot: u32) {
        let connection = self.table.at(slot);
        let event = Event::New {
            connection: self.table.id(slot),
            original: *connection.tuple(Direction::Original),
            reply: *connection.tuple(Direction::Reply),
            master: connection.master(),
            helper: connection.has_helper(),
        };
        self.events.push(now, event);
    }

    /// Gives up a connection that was not confirmed, since its first packet does not leave; others stay.
    pub fn discard(&mut self, id: ConnectionId) {
        if let Some(slot) = self.table.slot(id)
            && !self.table.at(slot).status.has(Status::CONFIRMED)
        {
            self.release(slot);
        }
    }

    /// Registers that `master` announced a connection.
    ///
    /// The same announcement again is renewed. If `most` are pending from this master, the oldest makes way; if
    /// `per_host` are from its host, there is no room.
    ///
    /// # Errors
    /// See [`ExpectError`]; nothing is changed but what made way.
    pub fn expect(
        &mut self,
        now: Instant,
        master: ConnectionId,
        tuple: Tuple,
        on_match: OnMatch,
        policy: ExpectPolicy,
    ) -> Result<ExpectationId, ExpectError> {
        let slot = self.slot_of_master(master)?;
        let clashing = self.expectations.matching(&tuple).next();
        if let Some((other, expectation)) = clashing.and_then(|other| Some((other, self.expectations.at(other)?))) {
            let renewed = expectation.master == master;
            if !renewed && self.is_pending(now, expectation) {
                return Err(ExpectError::Busy);
            }
            self.unexpect_slot(now, other, (!renewed).then_some(DestroyReason::Timeout));
        }
        let deadline = now + policy.timeout;
        self.register(now, slot, Expectation { tuple, last_port: None, master, on_match, deadline }, policy)
    }

    /// Registers that `master` may be followed by any number of connections to ports from `first`'s destination to
    /// `last_port`: what was announced could not be read. It ends with its master; a master has one.
    ///
    /// # Errors
    /// See [`ExpectError`].
    pub fn expect_range(
        &mut self,
        now: Instant,
        master: ConnectionId,
        first: Tuple,
        last_port: u16,
        on_match: OnMatch,
        policy: ExpectPolicy,
    ) -> Result<ExpectationId, ExpectError> {
        let slot = self.slot_of_master(master)?;
        let is_range = |slot: &u32| self.expectations.at(*slot).is_some_and(|e| e.last_port.is_some());
        let known = self.expectations.of_master(self.table.at(slot).expectations).find(is_range);
        if let Some(other) = known {
            self.unexpect_slot(now, other, None);
        }
        let deadline = now + RANGE_TIMEOUT;
        let expectation = Expectation { tuple: first, last_port: Some(last_port), master, on_match, deadline };
        self.register(now, slot, expectation, policy)
    }

    /// A connection that may announce others.
    fn slot_of_master(&self, master: ConnectionId) -> Result<u32, ExpectError> {
        let slot = self.table.slot(master).ok_or(ExpectError::NoMaster)?;
        let connection = self.table.at(slot);
        let may = connection.helper && connection.status.has(Status::CONFIRMED);
        may.then_some(slot).ok_or(ExpectError::NoMaster)
    }

    fn register(
        &mut self,
        now: Instant,
        slot: u32,
        expectation: Expectation,
        policy: ExpectPolicy,
    ) -> Result<ExpectationId, ExpectError> {
        if self.expectations.is_full()
            && let Some(expired) = self.expectations.next_expired(now)
        {
            self.unexpect_slot(now, expired, Some(DestroyReason::Timeout));
        }
        let first = self.table.at(slot).expectations;
        if self.expectations.of_master(first).count() >= policy.most as usize
            && let Some(oldest) = self.expectations.of_master(first).last()
        {
            self.unexpect_slot(now, oldest, Some(DestroyReason::Replaced));
        }
        let host = *self.table.at(slot).tuple(Direction::Original);
        if policy.per_host.is_some_and(|most| self.has_announced(now, &host, most.into())) {
            return Err(ExpectError::HostFull);
        }
        let first = self.table.at(slot).expectations;
        let (head, id) = self.expectations.insert(expectation, &host, first).ok_or(ExpectError::Full)?;
        self.table.at_mut(slot).expectations = head;
        self.statistics.expect_create += 1;
        Ok(id)
    }

    /// Returns true if as many as `most` connections are expected that the host at the source of `host` announced.
    fn has_announced(&self, now: Instant, host: &Tuple, most: usize) -> bool {
        let pending = self.expectations.of_host(host).filter(|expectation| self.is_pending(now, expectation));
        pending.take(most).count() == most
    }

    /// Returns true if a connection with this destination is expected from the same source.
    pub(crate) fn has_pending(&self, now: Instant, tuple: &Tuple) -> bool {
        self.pending(now, tuple).is_some()
    }

    /// Returns true if a TCP connection of a client's address, whatever port it comes from, is expected to an endpoint,
    /// in zone 0.
    #[must_use]
    pub fn is_expected(&self, now: Instant, client: IpAddr, dialled: SocketAddr) -> bool {
        let tuple = Tuple::new(Protocol::TCP, SocketAddr::new(client, 0), dialled);
        tuple.is_some_and(|tuple| self.has_pending(now, &tuple))
    }

    /// The newest expectation that a connection with this tuple meets; a range only where there is no other.
    fn pending(&self, now: Instant, tuple: &Tuple) -> Option<u32> {
        let is_pending = |slot: &u32| self.expectations.at(*slot).is_some_and(|e| self.is_pending(now, e));
        let mut candidates = self.expectations.matching(tuple).chain(self.expectations.ranges_around(tuple));
        candidates.find(is_pending)
    }

    /// Returns true if an expectation's time is not over, nor its master's. A master that a transfer keeps counts as long as
    /// it was not reset.
    fn is_pending(&self, now: Instant, expectation: &Expectation) -> bool {
        let lives = |master: &Connection| {
            let is_open = master.tcp_state() != Some(TcpState::Close);
            master.outlives(now) || (is_open && !master.expired(now))
        };
        !expectation.deadline.has_passed(now) && self.get(expectation.master).is_some_and(lives)
    }

    /// Removes an expectation that its announcer takes back, if it is still there.
    pub fn unexpect(&mut self, now: Instant, id: ExpectationId) {
        if let Some(slot) = self.expectations.slot(id) {
            self.unexpect_slot(now, slot, None);
        }
    }

    /// Deletes an expectation; an event reports it. False if there is no such expectation.
    pub fn delete_expectation(&mut self, now: Instant, id: ExpectationId) -> bool {
        let slot = self.expectations.slot(id);
        slot.and_then(|slot| self.unexpect_slot(now, slot, Some(DestroyReason::Deleted))).is_some()
    }

    /// Removes an expectation; with a reason, an event tells of it.
    fn unexpect_slot(&mut self, now: Instant, slot: u32, reason: Option<DestroyReason>) -> Option<Expectation> {
        let master = self.table.slot(self.expectations.at(slot)?.master);
        let first = master.map_or(NONE, |master| self.table.at(master).expectations);
        let (expectation, head) = self.expectations.remove(slot, first)?;
        self.statistics.expect_delete += 1;
        if let Some(master) = master {
            self.table.at_mut(master).expectations = head;
        }
        if let Some(reason) = reason {
            let event = Event::Unfulfilled { master: expectation.master, expected: expectation.tuple, reason };
            self.events.push(now, event);
        }
        Some(expectation)
    }

    /// Returns true if another living connection has this tuple, so that `own` cannot take it: `nf_nat_used_tuple`, for
    /// which a connection with the same original tuple is no other.
    pub(crate) fn is_taken(&self, now: Instant, tuple: &Tuple, own: &Tuple) -> bool {
        self.table.find(tuple).is_some_and(|(slot, _)| {
            let other = self.table.at(slot);
            !other.expired(now) && other.tuple(Direction::Original) != own
        })
    }

    /// The connection that has this tuple, if it makes way for `new`: TCP with a translated source that is over, for
    /// one that begins with a sequence number behind all that was sent in it (`nf_nat_used_tuple_harder`; seen on
    /// 6.18).
    pub(crate) fn reusable_tuple(&self, now: Instant, tuple: &Tuple, new: ConnectionId) -> Option<ConnectionId> {
        let (slot, _) = self.table.find(tuple)?;
        let (old, new) = (self.table.at(slot), self.get(new)?);
        let (ProtocolState::Tcp(over), ProtocolState::Tcp(begins)) = (&old.protocol, &new.protocol) else {
            return None;
        };
        let reusable_tuple = old.status.has(Status::SRC_NAT) && !old.expired(now) && over.makes_way_for(begins);
        reusable_tuple.then(|| self.table.id(slot))
    }

    /// Living connections that come from the same address and port by the same protocol, and whose source was looked
    /// at by NAT.
    pub(crate) fn same_source(&self, now: Instant, tuple: &Tuple) -> impl Iterator<Item = &Connection> {
        self.table.same_source(tuple).map(|slot| self.table.at(slot)).filter(move |c| !c.expired(now))
    }

    /// Lets a connection be found by its source.
    pub(crate) fn note_source(&mut self, id: ConnectionId) {
        if let Some(slot) = self.table.slot(id) {
            self.table.link_source(slot);
        }
    }

    /// Changes what replies to an unconfirmed connection look like (`nf_conntrack_alter_reply`): NAT, or load
    /// balancing.
    pub fn alter_reply(&mut self, id: ConnectionId, reply: Tuple) {
        if let Some(connection) = self.get_mut(id)
            && !connection.status.has(Status::CONFIRMED)
        {
            connection.tuples[Direction::Reply as usize] = reply;
        }
    }

    /// Gives an unconfirmed connection the FTP helper.
    ///
    /// # Errors
    /// When [`Limits::helped`] connections have one.
    pub fn attach_helper(&mut self, id: ConnectionId) -> Result<(), DropReason> {
        let Some(slot) = self.table.slot(id) else { return Ok(()) };
        self.attach_helper_slot(slot)
    }

    fn attach_helper_slot(&mut self, slot: u32) -> Result<(), DropReason> {
        self.attach_adjustment_slot(slot)?;
        self.table.at_mut(slot).helper = true;
        Ok(())
    }

    /// Lets the numbers of a connection be adjusted though it has no helper, since somebody else rewrites its text.
    ///
    /// # Errors
    /// As [`Conntrack::attach_helper`].
    pub(crate) fn allow_adjustment(&mut self, id: ConnectionId) -> Result<(), DropReason> {
        let Some(slot) = self.table.slot(id) else { return Ok(()) };
        self.attach_adjustment_slot(slot)
    }

    /// Lets the numbers of a connection be adjusted: every connection with a helper, and whose text others rewrite.
    fn attach_adjustment_slot(&mut self, slot: u32) -> Result<(), DropReason> {
        if self.table.at(slot).helper_slot.is_none() {
            let number = self.free_helped.pop().ok_or(DropReason::HelpersFull)?;
            self.adjustments[number as usize] = Adjustment::default();
            self.table.at_mut(slot).helper_slot = Some(HelperSlot(number));
        }
        Ok(())
    }

    /// Returns the sequence adjustment of a helper slot, by direction of the sender.
    #[inline]
    #[must_use]
    pub fn adjustment(&self, slot: HelperSlot) -> Option<&Adjustment> {
        self.adjustments.get(slot.index())
    }

    /// Lets segments outside the window pass on a TCP connection: another one acknowledges in its sides' names.
    pub(crate) fn be_liberal(&mut self, id: ConnectionId) {
        if let Some(ProtocolState::Tcp(tracker)) = self.get_mut(id).map(|connection| &mut connection.protocol) {
            tracker.be_liberal();
        }
    }

    /// Lets a connection live as long as one that it announced.
    pub(crate) fn keep_for_children(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.kept_by_children = true;
        }
    }

    /// A connection is about to go: its master, if only that kept it, lasts a little longer.
    fn prolong_master(&mut self, now: Instant, slot: u32) {
        let master = self.table.at(slot).master.and_then(|master| self.table.slot(master));
        if let Some(master) = master {
            let connection = self.table.at(master);
            let deadline = now + table::AFTER_CHILDREN;
            if connection.is_kept() && connection.remaining(now) < table::AFTER_CHILDREN {
                self.table.set_deadline(master, deadline);
            }
        }
    }

    /// Closes a TCP connection, since a reset is sent in its name (`nf_conntrack_tcp_set_closing`).
    pub(crate) fn close(&mut self, now: Instant, id: ConnectionId) {
        let Some(slot) = self.table.slot(id) else { return };
        let timeout = self.config.tcp.close;
        if let ProtocolState::Tcp(tracker) = &mut self.table.at_mut(slot).protocol
            && tracker.close()
        {
            self.table.set_deadline(slot, now + timeout);
        }
    }

    /// Gives up a connection that lives, for a reason.
    pub(crate) fn destroy_for(&mut self, now: Instant, id: ConnectionId, reason: DestroyReason) {
        if let Some(slot) = self.table.slot(id) {
            self.destroy(now, slot, reason);
        }
    }

    /// Notes that text was replaced: the packet from `direction` that begins at `sequence` grew by `growth` bytes.
    pub(crate) fn register_growth(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        sequence: crate::SequenceNumber,
        growth: i32,
    ) {
        let Some(slot) = self.table.slot(id) else { return };
        let Some(helped) = self.table.at(slot).helper_slot else { return };
        self.table.at_mut(slot).status.set(Status::SEQ_ADJUST);
        self.adjustments[helped.index()].register(direction as usize, sequence, growth);
    }

    /// The table of connections as `/proc/net/nf_conntrack` shows it.
    #[must_use]
    pub fn to_proc_text(&self, now: Instant) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_proc(now, &mut text);
        text
    }

    /// Destroys a connection, what it announced, and tells of it.
    fn destroy(&mut self, now: Instant, slot: u32, reason: DestroyReason) {
        let connection = self.table.at(slot);
        let reason = if connection.status.has(Status::DYING) { DestroyReason::Reset } else { reason };
        if connection.status.has(Status::CONFIRMED) {
            let event = Event::Destroyed {
                connection: self.table.id(slot),
                original: *connection.tuple(Direction::Original),
                counters: connection.counters,
                reason,
            };
            self.events.push(now, event);
        }
        self.prolong_master(now, slot);
        while self.table.at(slot).expectations != NONE {
            let expectation = self.table.at(slot).expectations;
            self.unexpect_slot(now, expectation, Some(DestroyReason::Master));
        }
        self.release(slot);
    }

    /// Frees a slot, on which nothing hangs any more, and the number of its helper.
    fn release(&mut self, slot: u32) {
        if let Some(helped) = self.table.at(slot).helper_slot {
            self.free_helped.push(helped.0);
        }
        let master = self.table.at(slot).master;
        self.table.free(slot);
        if let Some(master) = master.and_then(|master| self.get_mut(master)) {
            master.children = master.children.saturating_sub(1);
        }
    }

    /// Destroys the connection with this tuple if its time is over.
    fn forget_expired(&mut self, now: Instant, tuple: &Tuple) {
        if let Some((slot, _)) = self.table.find(tuple)
            && self.table.at(slot).expired(now)
        {
            self.destroy(now, slot, DestroyReason::Timeout);
        }
    }
}

/// A range is waited for as long as an established connection lives; whoever meets it renews it.
const RANGE_TIMEOUT: Duration = Duration::from_secs(432_000);

/// Limits of a master's expectations, and their timeout (`nf_conntrack_expect_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpectPolicy {
    /// At most this many at once.
    pub most: u8,
    /// At most this many at once of all masters that one host opened; Linux sets no bound but the table's.
    pub per_host: Option<u16>,
    /// Time that each expectation lives.
    pub timeout: Duration,
}

impl ExpectPolicy {
    /// FTP's in Linux: one at a time, for five minutes.
    pub const FTP: Self = Self { most: 1, per_host: None, timeout: Duration::from_secs(300) };
}
