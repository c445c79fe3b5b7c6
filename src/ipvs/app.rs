//! `ip_vs_ftp` at work: what it reads on control connections makes entries for data connections.

use core::net::SocketAddr;

use super::Ipvs;
use super::ftp::{self, Mode};
use super::lifetime::NewEntry;
use super::state::State;
use crate::Instant;
use crate::conntrack::{ConnectionId, Conntrack, Direction, ExpectPolicy, OnMatch, Tracked, Tuple};
use crate::event::{DropReason, Event};
use crate::ftp::{Form, Sender};
use crate::packet::{Family, Headers, Layer4, Packet, Protocol};

impl Ipvs {
    /// Reads what a client says. PASV and EPSV are remembered; PORT and EPRT make an entry for a connection from the port
    /// before the control port, whatever address they name.
    ///
    /// # Errors
    /// When there is no room for the entry.
    pub(super) fn read_client(
        &mut self,
        now: Instant,
        slot: u32,
        conntrack: &mut Conntrack,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let control = *self.table.at(slot);
        if control.state != State::Established {
            return Ok(());
        }
        let family = if control.client.is_ipv4() { Family::V4 } else { Family::V6 };
        if let core::ops::ControlFlow::Break(awaited) = ftp::awaited(payload, family) {
            if let Some(mode) = awaited {
                self.table.at_mut(slot).mode = mode;
            }
            return Ok(());
        }
        let Some(client) = ftp::from_client(payload, family) else { return Ok(()) };
        self.table.at_mut(slot).mode = Mode::Active;
        let before = |end: SocketAddr| SocketAddr::new(end.ip(), end.port().wrapping_sub(1));
        let (virtual_at, real) = (before(control.virtual_at), before(control.real));
        let known = self.table.by_client(Protocol::TCP, client, virtual_at);
        let entry = match known.filter(|slot| self.lives(now, *slot)) {
            Some(entry) => entry,
            None => self.begin_data(now, slot, client, false, (virtual_at, real))?,
        };
        self.listen(now, entry);
        self.tell_announced(now, conntrack, slot, entry, Sender::Client);
        Ok(())
    }

    /// Reads what a server says: the 227 or 229 that the client asked for makes an entry that waits for the client, and
    /// gets the virtual address. True when its text was rewritten.
    ///
    /// Once only: a repetition of the same reply leaves as it came, and of a connection that is not tracked the first one
    /// is dropped (seen in recordings).
    ///
    /// # Errors
    /// When the packet is to be dropped.
    pub(super) fn read_server(
        &mut self,
        now: Instant,
        slot: u32,
        conntrack: &mut Conntrack,
        tracked: &Tracked,
        packet: &mut Packet<'_>,
        headers: &mut Headers,
    ) -> Result<bool, DropReason> {
        let control = *self.table.at(slot);
        if control.state != State::Established {
            return Ok(false);
        }
        let payload = headers.payload(packet.bytes());
        let Some((real, range)) = ftp::from_server(payload, control.mode, control.real.ip()) else { return Ok(false) };
        let client = SocketAddr::new(control.client.ip(), 0);
        let known = self.table.by_server(Protocol::TCP, real, client);
        let entry = match known.filter(|slot| self.lives(now, *slot)) {
            Some(entry) => entry,
            None => {
                let virtual_at = SocketAddr::new(control.virtual_at.ip(), real.port());
                self.begin_data(now, slot, client, true, (virtual_at, real))?
            }
        };
        let virtual_at = self.table.at(entry).virtual_at;
        let form = if control.mode == Mode::Passive { Form::Pasv } else { Form::Epsv };
        let text = crate::ftp::write(form, virtual_at.ip(), virtual_at.port());
        self.table.at_mut(slot).mode = Mode::Active;
        self.listen(now, entry);
        self.tell_announced(now, conntrack, slot, entry, Sender::Server);
        let (Some(id), Layer4::Tcp(segment)) = (tracked.connection, headers.layer4) else {
            return Err(DropReason::NotTracked);
        };
        let growth = text.as_bytes().len() as i32 - range.len() as i32;
        packet.replace_payload(headers, range, text.as_bytes()).map_err(|_| DropReason::Mangle)?;
        if growth != 0 {
            conntrack.register_growth(id, tracked.direction, segment.sequence, growth);
        }
        expect(now, conntrack, id, client, virtual_at);
        Ok(true)
    }

    /// Makes the entry of a data connection.
    fn begin_data(
        &mut self,
        now: Instant,
        control: u32,
        client: SocketAddr,
        is_waiting: bool,
        (virtual_at, real): (SocketAddr, SocketAddr),
    ) -> Result<u32, DropReason> {
        let server = self.table.at(control).server;
        let beginning = NewEntry {
            is_waiting,
            tracked: true,
            control: Some(control),
            ..NewEntry::new(Protocol::TCP, client, virtual_at, (real, server))
        };
        self.begin(now, beginning).ok_or(DropReason::EntriesFull)
    }

    pub(super) fn tell_announced(
        &self,
        now: Instant,
        conntrack: &mut Conntrack,
        control: u32,
        entry: u32,
        sender: Sender,
    ) {
        let data = self.table.at(entry);
        let event = Event::BalancedDataAnnounced {
            control: self.table.id(control),
            entry: self.table.id(entry),
            sender,
            client: data.client,
            dialled: data.virtual_at,
            real_server: data.real,
        };
        conntrack.events.push(now, event);
    }
}

/// Lets the tracker expect a passive data connection, so that rules know it for RELATED. Without a helper on the
/// control connection it does not, and nothing is lost.
fn expect(now: Instant, conntrack: &mut Conntrack, id: ConnectionId, client: SocketAddr, virtual_at: SocketAddr) {
    let zone = conntrack.get(id).map_or(0, |connection| connection.tuple(Direction::Original).zone());
    if let Some(tuple) = Tuple::new(Protocol::TCP, client, virtual_at) {
        let _ = conntrack.expect(now, id, tuple.in_zone(zone), OnMatch::Balance, ExpectPolicy::FTP);
    }
}
