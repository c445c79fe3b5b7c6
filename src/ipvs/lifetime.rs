//! Creation and expiry of entries.

use core::net::SocketAddr;
use core::time::Duration;

use super::Ipvs;
use super::config::Forwarding;
use super::entry::Entry;
use super::state::{State, Way};
use crate::Instant;
use crate::conntrack::{Conntrack, Tuple};
use crate::event::DestroyReason;
use crate::packet::{Headers, Layer4, Protocol};

/// Time that an entry is kept on each time while others depend on it (Linux, `ip_vs_conn_expire`).
pub(super) const WHILE_CONTROLLING: Duration = Duration::from_secs(60);

/// Parameters of a new entry.
pub(super) struct NewEntry {
    pub(super) protocol: Protocol,
    pub(super) client: SocketAddr,
    pub(super) virtual_at: SocketAddr,
    pub(super) real: SocketAddr,
    pub(super) server: u32,
    pub(super) is_template: bool,
    pub(super) is_waiting: bool,
    /// True if its packets stay tracked in any case.
    pub(super) tracked: bool,
    pub(super) one_packet: bool,
    pub(super) control: Option<u32>,
}

impl NewEntry {
    /// A connection that depends on nothing.
    pub(super) const fn new(
        protocol: Protocol,
        client: SocketAddr,
        virtual_at: SocketAddr,
        (real, server): (SocketAddr, u32),
    ) -> Self {
        Self {
            protocol,
            client,
            virtual_at,
            real,
            server,
            is_template: false,
            is_waiting: false,
            tracked: false,
            one_packet: false,
            control: None,
        }
    }
}

/// Returns `deadline` after as many whole minutes as it takes to lie after `now`. One by one they would be uncountable
/// where time leaps.
fn next_minute(deadline: Instant, now: Instant) -> Instant {
    let minutes = now.since(deadline).as_secs() / WHILE_CONTROLLING.as_secs() + 1;
    deadline + Duration::from_secs(minutes.saturating_mul(WHILE_CONTROLLING.as_secs()))
}

/// Returns `deadline` less as many whole minutes as leave it after `end`.
fn first_minute(deadline: Instant, end: Instant) -> Instant {
    let rest = deadline.since(end).saturating_sub(Duration::from_micros(1));
    deadline - Duration::from_secs(rest.as_secs() / WHILE_CONTROLLING.as_secs() * WHILE_CONTROLLING.as_secs())
}

impl Ipvs {
    /// When [`Ipvs::handle_timeout`] should be called next; it may then find nothing to do.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.table.next_due()
    }

    /// Forgets entries that have had their time, and with them the connections that the tracker kept for them. An entry
    /// that others depend on goes on for a minute at a time.
    pub fn handle_timeout(&mut self, now: Instant, conntrack: &mut Conntrack) {
        while let Some(slot) = self.table.next_expired(now) {
            self.expire(now, slot, conntrack);
        }
    }

    /// An entry's time is over.
    fn expire(&mut self, now: Instant, slot: u32, conntrack: &mut Conntrack) {
        let entry = self.table.at(slot);
        if entry.controlled == 0 && self.still_lives(now, slot, conntrack) {
            return;
        }
        let entry = self.table.at_mut(slot);
        if entry.controlled > 0 {
            entry.timeout = WHILE_CONTROLLING;
            let deadline = next_minute(entry.deadline, now);
            self.table.set_deadline(slot, deadline);
        } else {
            self.forget(now, slot, conntrack);
        }
    }

    /// An entry on which nothing depends is over.
    pub(super) fn forget(&mut self, now: Instant, slot: u32, conntrack: &mut Conntrack) {
        let entry = *self.table.at(slot);
        self.table.remove(slot);
        if let Some(control) = entry.control {
            self.no_longer_controls(control, entry.deadline.min(now));
        }
        if let Some(server) = self.services.servers.get_mut(entry.server as usize) {
            server.unbind(entry.is_template, entry.active);
        }
        if entry.tracked && !entry.is_template && !entry.one_packet {
            let tuple = Tuple::new(entry.protocol, entry.client, entry.virtual_at);
            if let Some((id, _)) = tuple.and_then(|tuple| conntrack.find(now, &tuple)) {
                conntrack.destroy_for(now, id, DestroyReason::Balancer);
            }
        }
    }

    /// An entry that depended on this one ended at `end`. The last one leaves it the rest of its minute.
    fn no_longer_controls(&mut self, slot: u32, end: Instant) {
        let control = self.table.at_mut(slot);
        control.controlled = control.controlled.saturating_sub(1);
        if control.controlled == 0 && control.timeout == WHILE_CONTROLLING {
            let deadline = first_minute(control.deadline, end);
            self.table.set_deadline(slot, deadline);
        }
    }

    /// Makes an entry. `None` when there is no room.
    pub(super) fn begin(&mut self, now: Instant, beginning: NewEntry) -> Option<u32> {
        let NewEntry { protocol, client, virtual_at, real, server, is_template, .. } = beginning;
        let config = self.services.servers.get(server as usize)?.config;
        let is_ftp = !is_template
            && protocol == Protocol::TCP
            && config.forwarding == Forwarding::Masquerade
            && self.ftp_ports.contains(&virtual_at.port());
        let entry = Entry {
            protocol,
            client,
            virtual_at,
            real,
            forwarding: config.forwarding,
            server,
            deadline: now + Entry::FIRST_TIMEOUT,
            is_template,
            is_waiting: beginning.is_waiting,
            tracked: beginning.tracked || is_ftp || self.settings.conntrack,
            one_way: config.forwarding != Forwarding::Masquerade,
            is_ftp,
            one_packet: beginning.one_packet,
            control: beginning.control,
            ..Entry::EMPTY
        };
        let slot = self.table.insert(entry)?;
        if let Some(control) = beginning.control {
            self.table.at_mut(control).controlled += 1;
        }
        if let Some(server) = self.services.servers.get_mut(server as usize) {
            server.bind(is_template);
        }
        Some(slot)
    }

    /// It was used: its time begins anew.
    pub(super) fn touch(&mut self, now: Instant, slot: u32) {
        let entry = self.table.at(slot);
        let deadline = if entry.one_packet { now } else { now + entry.timeout };
        self.table.set_deadline(slot, deadline);
    }

    /// A packet changes an entry's state.
    pub(super) fn note_packet(&mut self, slot: u32, output: bool, headers: &Headers) {
        let entry = self.table.at_mut(slot);
        let Layer4::Tcp(segment) = headers.layer4 else {
            (entry.state, entry.timeout) = (State::Udp, self.settings.udp);
            if output {
                self.assure(slot);
            }
            return;
        };
        entry.one_way &= !output;
        let way = match (output, entry.one_way) {
            (true, _) => Way::Output,
            (false, true) => Way::InputOnly,
            (false, false) => Way::Input,
        };
        let (before, after) = (entry.state, entry.state.after(way, segment.flags));
        (entry.state, entry.timeout) = (after, self.settings.tcp.of(after));
        if after == before {
            return;
        }
        if after.is_active() != entry.active {
            entry.active = after.is_active();
            let (server, active) = (entry.server, entry.active);
            if let Some(server) = self.services.servers.get_mut(server as usize) {
                server.count_active(active);
            }
        }
        if after == State::Established {
            self.assure(slot);
        }
    }

    /// The persistence that an entry belongs to has shown that it works.
    fn assure(&mut self, slot: u32) {
        if let Some(control) = self.table.at(slot).control {
            let control = self.table.at_mut(control);
            if control.is_template {
                control.state = State::Assured;
            }
        }
    }

    /// An entry waits for a data connection.
    pub(super) fn listen(&mut self, now: Instant, slot: u32) {
        let timeout = self.settings.tcp.of(State::Listen);
        let entry = self.table.at_mut(slot);
        (entry.state, entry.timeout) = (State::Listen, timeout);
        self.touch(now, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_counted_in_one_step() {
        let at = Instant::from_secs;
        assert_eq!(next_minute(at(100), at(100)), at(160));
        assert_eq!(next_minute(at(100), at(159)), at(160));
        assert_eq!(next_minute(at(100), at(160)), at(220));
        assert_eq!(next_minute(at(100), Instant::NEVER), Instant::NEVER);
        for (end, expected) in [(999, 1000), (940, 1000), (939, 940), (100, 160), (1000, 1000), (2000, 1000)] {
            assert_eq!(first_minute(at(1000), at(end)), at(expected), "{end}");
        }
    }
}
