//! A packet for a virtual service: whose entry it belongs to, or which real server takes it.

use core::net::SocketAddr;

use super::Ipvs;
use super::config::{Forwarding, Persistence, ServiceAddress, mark_address};
use super::lifetime::NewEntry;
use super::service::{FTP_DATA_PORT, FTP_PORT};
use super::state::State;
use crate::Instant;
use crate::conntrack::{Conntrack, Status, Tracked};
use crate::event::{BalancedBy, DropReason, Event};
use crate::packet::{Headers, Layer4, Protocol, TcpFlags};

/// A packet goes to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(super) slot: u32,
    /// The real server.
    pub(crate) real: SocketAddr,
    /// The forwarding method.
    pub(crate) forwarding: Forwarding,
}

impl Arrival {
    /// Returns true if the packet gets the real server's address.
    pub(crate) const fn rewrites(&self) -> bool {
        matches!(self.forwarding, Forwarding::Masquerade)
    }
}

/// A packet for a service goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No real server takes it, and its sender is told that the port is unreachable.
    Unreachable,
    /// It is gone.
    Dropped(DropReason),
}

/// The ends of a packet with ports.
pub(super) fn ends(headers: &Headers, bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, to) = headers.ports(bytes).filter(|_| headers.protocol != Protocol::SCTP)?;
    Some((SocketAddr::new(headers.source(bytes), from), SocketAddr::new(headers.destination(bytes), to)))
}

/// A packet that may begin a connection.
struct Opening {
    service: usize,
    protocol: Protocol,
    client: SocketAddr,
    dialled: SocketAddr,
}

/// Key of a client's persistence.
struct Kept {
    protocol: Protocol,
    client: SocketAddr,
    at: SocketAddr,
    /// True if it is for one port; else for all that the client dials.
    by_port: bool,
}

impl Kept {
    /// By the service's own port, unless it is FTP's: a client's data connections are to meet the same server. By the
    /// firewall mark, whatever was dialled.
    fn of(opening: &Opening, address: ServiceAddress, persistence: Persistence) -> Self {
        let Opening { protocol, client, dialled, .. } = *opening;
        let by_port = address.port() == dialled.port() && address.port() != FTP_PORT;
        let client = SocketAddr::new(persistence.client(client.ip()), 0);
        match address {
            ServiceAddress::Mark { mark, .. } => {
                let at = SocketAddr::new(mark_address(mark, address.family()), 0);
                Self { protocol: Protocol(0), client, at, by_port: false }
            }
            ServiceAddress::Endpoint { .. } => {
                let at = SocketAddr::new(dialled.ip(), if by_port { dialled.port() } else { 0 });
                Self { protocol, client, at, by_port }
            }
        }
    }
}

impl Ipvs {
    /// Finds the entry of a packet for this machine, or makes one, and lets the packet change its state. `None` when
    /// the packet is none of a service's. `own`: this machine itself sends it.
    ///
    /// # Errors
    /// When it belongs to a service and no real server gets it.
    pub(crate) fn arrive(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        tracked: &Tracked,
        (bytes, headers): (&[u8], &Headers),
        (mark, own): (u32, bool),
    ) -> Result<Option<Arrival>, Refused> {
        if !matches!(headers.layer4, Layer4::Tcp(_) | Layer4::Udp) {
            return Ok(None);
        }
        let (protocol, Some((client, dialled))) = (headers.protocol, ends(headers, bytes)) else { return Ok(None) };
        let known = self.known(now, conntrack, tracked, headers, (client, dialled))?;
        let slot = match known {
            Some(slot) => Some(slot),
            None => self.follow_passive(now, conntrack, headers, (client, dialled)).map_err(Refused::Dropped)?,
        };
        let slot = match slot {
            Some(slot) => slot,
            None => {
                let may_begin = self.may_begin(headers) && client.port() != FTP_DATA_PORT;
                let Some(service) = may_begin.then(|| self.services.find(mark, protocol, dialled)).flatten() else {
                    return Ok(None);
                };
                if own && self.table.by_client(protocol, dialled, client).is_some() {
                    // The answer of a real server on this machine.
                    return Ok(None);
                }
                let opening = Opening { service, protocol, client, dialled };
                let Some(slot) = self.schedule(now, conntrack, &opening)? else { return Ok(None) };
                self.follow(slot, conntrack, tracked);
                slot
            }
        };
        self.note_packet(slot, false, headers);
        self.touch(now, slot);
        let entry = self.table.at(slot);
        Ok(Some(Arrival { slot, real: entry.real, forwarding: entry.forwarding }))
    }

    /// The entry of a packet from a client, unless its time is over or the packet begins another connection.
    fn known(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        tracked: &Tracked,
        headers: &Headers,
        (client, dialled): (SocketAddr, SocketAddr),
    ) -> Result<Option<u32>, Refused> {
        let Some(slot) = self.table.by_client(headers.protocol, client, dialled) else { return Ok(None) };
        if !self.still_lives(now, slot, conntrack) {
            self.forget(now, slot, conntrack);
            return Ok(None);
        }
        if self.begins_anew(slot, headers) {
            self.leave_to_another(now, slot, conntrack, tracked)?;
            return Ok(None);
        }
        Ok(Some(slot))
    }

    /// Returns true if a packet may begin a connection: of TCP a SYN, also one that answers another.
    fn may_begin(&self, headers: &Headers) -> bool {
        match headers.layer4 {
            Layer4::Tcp(segment) => {
                let flags = segment.flags;
                !flags.has(TcpFlags::RST) && (flags.has(TcpFlags::SYN) || self.settings.sloppy_tcp)
            }
            _ => true,
        }
    }

    /// Returns true if a SYN begins another connection on an entry whose own is over. One that belongs to another entry
    /// stays.
    fn begins_anew(&self, slot: u32, headers: &Headers) -> bool {
        let Layer4::Tcp(segment) = headers.layer4 else { return false };
        let entry = self.table.at(slot);
        if !segment.flags.has(TcpFlags::SYN) || entry.control.is_some() {
            return false;
        }
        let mode = self.settings.reuse_mode;
        match entry.state {
            State::TimeWait | State::Close => mode != 0,
            State::FinWait => mode & 2 != 0 && entry.one_way,
            _ => false,
        }
    }

    /// An entry makes way for another of the same client and port, unless others depend on it. While the tracker still
    /// has the old connection, it goes first, and the SYN is dropped: the client will repeat it.
    fn leave_to_another(
        &mut self,
        now: Instant,
        slot: u32,
        conntrack: &mut Conntrack,
        tracked: &Tracked,
    ) -> Result<(), Refused> {
        let entry = self.table.at_mut(slot);
        let confirmed = |id| conntrack.get(id).is_some_and(|connection| connection.status().has(Status::CONFIRMED));
        let is_old = entry.tracked && tracked.connection.is_some_and(confirmed);
        entry.tracked &= is_old;
        if entry.controlled == 0 {
            self.forget(now, slot, conntrack);
        } else {
            self.table.retire(slot);
        }
        if is_old { Err(Refused::Dropped(DropReason::PortReused)) } else { Ok(()) }
    }

    /// Makes an entry for a new client of a service. `None` when the packet only looked like the service's.
    fn schedule(&mut self, now: Instant, conntrack: &mut Conntrack, opening: &Opening) -> Result<Option<u32>, Refused> {
        let Opening { service, protocol, client, dialled } = *opening;
        let Some(config) = self.services.all.get(service).map(|service| &service.config) else { return Ok(None) };
        let (address, scheduler, one_packet) = (config.address, config.scheduler, config.one_packet);
        if let Some(persistence) = config.persistence {
            return self.schedule_persistent(now, conntrack, opening, address, persistence).map(Some);
        }
        if matches!(address, ServiceAddress::Endpoint { at, .. } if at.port() != dialled.port()) {
            // A port that might have been a data connection's: for the machine itself.
            return if address.port() == FTP_PORT { Ok(None) } else { Err(Refused::Unreachable) };
        }
        let server = self.services.choose(service, client, dialled.ip()).ok_or(Refused::Unreachable)?;
        let real = self.real_end(server, true, dialled);
        let one_packet = one_packet && protocol == Protocol::UDP;
        let beginning = NewEntry { one_packet, ..NewEntry::new(protocol, client, dialled, (real, server)) };
        let slot = self.begin_in_time(now, conntrack, beginning)?;
        self.tell(now, conntrack, slot, address, BalancedBy::Scheduler(scheduler));
        Ok(Some(slot))
    }

    /// The same for a service whose clients stay with their real server.
    fn schedule_persistent(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        opening: &Opening,
        address: ServiceAddress,
        persistence: Persistence,
    ) -> Result<u32, Refused> {
        let Opening { protocol, client, dialled, .. } = *opening;
        let kept = Kept::of(opening, address, persistence);
        let known = self.table.template(kept.protocol, kept.client, kept.at);
        let (template, by) = match self.usable_template(now, conntrack, known) {
            Some(template) => (template, BalancedBy::Persistence(self.table.id(template))),
            None => self.begin_template(now, conntrack, opening, &kept, persistence)?,
        };
        self.touch(now, template);
        // Of a persistent service other ports stay as they are; a firewall mark's are all others.
        let server = self.table.at(template).server;
        let real = self.real_end(server, address.port() == dialled.port(), dialled);
        let control = Some(template);
        let beginning = NewEntry { control, ..NewEntry::new(protocol, client, dialled, (real, server)) };
        let slot = self.begin_in_time(now, conntrack, beginning)?;
        self.tell(now, conntrack, slot, address, by);
        Ok(slot)
    }

    /// Chooses the real server that a client is to stay with.
    fn begin_template(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        opening: &Opening,
        kept: &Kept,
        persistence: Persistence,
    ) -> Result<(u32, BalancedBy), Refused> {
        let Opening { service, client, dialled, .. } = *opening;
        let scheduler = self.services.all.get(service).map(|s| s.config.scheduler).ok_or(Refused::Unreachable)?;
        let server = self.services.choose(service, client, dialled.ip()).ok_or(Refused::Unreachable)?;
        let config = self.services.servers.get(server as usize).map(|s| s.config).ok_or(Refused::Unreachable)?;
        let real = SocketAddr::new(config.address, if kept.by_port { config.port } else { 0 });
        let beginning =
            NewEntry { is_template: true, ..NewEntry::new(kept.protocol, kept.client, kept.at, (real, server)) };
        let template = self.begin_in_time(now, conntrack, beginning)?;
        self.table.at_mut(template).timeout = persistence.timeout;
        Ok((template, BalancedBy::Scheduler(scheduler)))
    }

    /// A template that still counts.
    fn usable_template(&mut self, now: Instant, conntrack: &mut Conntrack, template: Option<u32>) -> Option<u32> {
        let slot = template?;
        if !self.lives(now, slot) {
            self.forget(now, slot, conntrack);
            return None;
        }
        let server = self.table.at(slot).server as usize;
        let drained = self.services.servers.get(server).is_none_or(|server| server.config.weight == 0);
        if drained && self.settings.expire_quiescent_template {
            self.table.retire(slot);
            return None;
        }
        Some(slot)
    }

    /// Returns the real server's endpoint for `dialled`: with `own_port`, at its configured port, if it has one.
    fn real_end(&self, server: u32, own_port: bool, dialled: SocketAddr) -> SocketAddr {
        let config = self.services.servers.get(server as usize).map(|server| server.config);
        let Some(config) = config else { return dialled };
        SocketAddr::new(config.address, if own_port && config.port != 0 { config.port } else { dialled.port() })
    }

    /// Makes an entry, if need be in the place of one whose time is over.
    fn begin_in_time(&mut self, now: Instant, conntrack: &mut Conntrack, beginning: NewEntry) -> Result<u32, Refused> {
        self.handle_timeout(now, conntrack);
        self.begin(now, beginning).ok_or(Refused::Dropped(DropReason::EntriesFull))
    }

    fn tell(&self, now: Instant, conntrack: &mut Conntrack, slot: u32, service: ServiceAddress, by: BalancedBy) {
        let entry = self.table.at(slot);
        let event = Event::Balanced {
            entry: self.table.id(slot),
            service,
            client: entry.client,
            dialled: entry.virtual_at,
            real_server: entry.real,
            by,
        };
        conntrack.events.push(now, event);
    }
}
