//! Passive data connections of control connections whose replies do not come through here: the client's next connection
//! after its PASV or EPSV is its data connection.
//!
//! Lines are read where they begin in their segment or after a line's end. A command that is cut in two is not seen,
//! and its data connection is any service's.

use core::net::SocketAddr;

use super::Ipvs;
use super::lifetime::NewEntry;
use super::service::UNPRIVILEGED;
use crate::Instant;
use crate::conntrack::Conntrack;
use crate::event::{DropReason, Event};
use crate::ftp::{Command, EpsvArgument, Sender};
use crate::packet::{Headers, Layer4, Protocol, TcpFlags};

impl Ipvs {
    /// Reads what a client says to a real server that answers it directly: once it asks where the server listens, an
    /// entry waits for its next connection.
    ///
    /// # Errors
    /// When there is no room for the entry.
    pub(super) fn read_passive(
        &mut self,
        now: Instant,
        control: u32,
        conntrack: &mut Conntrack,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        if !payload.split_inclusive(|byte| *byte == b'\n').any(asks_where) {
            return Ok(());
        }
        let asker = *self.table.at(control);
        let [client, dialled] = [asker.client, asker.virtual_at].map(|end| SocketAddr::new(end.ip(), 0));
        let slot = match self.open_request(now, conntrack, client, dialled) {
            Some(open) => {
                let waiting = self.table.at_mut(open);
                if waiting.control != Some(control) {
                    waiting.requests = waiting.requests.saturating_add(1);
                }
                if waiting.real.ip() != asker.real.ip() {
                    waiting.rival = Some(asker.real);
                }
                open
            }
            None => {
                let real = SocketAddr::new(asker.real.ip(), 0);
                let beginning = NewEntry {
                    is_waiting: true,
                    control: Some(control),
                    ..NewEntry::new(Protocol::TCP, client, dialled, (real, asker.server))
                };
                self.begin(now, beginning).ok_or(DropReason::EntriesFull)?
            }
        };
        self.listen(now, slot);
        self.tell_announced(now, conntrack, control, slot, Sender::Client);
        Ok(())
    }

    /// The entry that a client's next connection is to have, if the client asked one real server where it listens. If
    /// it asked several, nobody can say whose connection it is: an event tells of it, and the services decide. A port
    /// that a service has for itself is that service's.
    ///
    /// # Errors
    /// When there is no room for the entry.
    pub(super) fn follow_passive(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        headers: &Headers,
        (client, dialled): (SocketAddr, SocketAddr),
    ) -> Result<Option<u32>, DropReason> {
        let opens = matches!(headers.layer4, Layer4::Tcp(segment)
            if segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::ACK));
        let may_be_data = dialled.port() >= UNPRIVILEGED && !self.services.has_own(Protocol::TCP, dialled);
        if !self.follows || !opens || !may_be_data {
            return Ok(None);
        }
        let [anybody, anywhere] = [client, dialled].map(|end| SocketAddr::new(end.ip(), 0));
        let Some(open) = self.open_request(now, conntrack, anybody, anywhere) else { return Ok(None) };
        let waiting = *self.table.at(open);
        let followed = match waiting.rival {
            Some(rival) => {
                let real_servers = [waiting.real.ip(), rival.ip()];
                conntrack.events.push(now, Event::BalancedContested { client, dialled, real_servers });
                None
            }
            None => {
                let real = SocketAddr::new(waiting.real.ip(), dialled.port());
                let beginning = NewEntry::new(Protocol::TCP, client, dialled, (real, waiting.server));
                let beginning = NewEntry { control: waiting.control, ..beginning };
                let slot = self.begin(now, beginning).ok_or(DropReason::EntriesFull)?;
                self.tell_met(now, conntrack, slot);
                Some(slot)
            }
        };
        match self.table.at(open).requests.checked_sub(1) {
            Some(requests) => self.table.at_mut(open).requests = requests,
            None => self.forget(now, open, conntrack),
        }
        Ok(followed)
    }

    /// The entry that waits for a client's next connection, whatever ports it has.
    fn open_request(
        &mut self,
        now: Instant,
        conntrack: &mut Conntrack,
        client: SocketAddr,
        dialled: SocketAddr,
    ) -> Option<u32> {
        let slot = self.table.by_client(Protocol::TCP, client, dialled)?;
        if self.lives(now, slot) {
            return Some(slot);
        }
        self.forget(now, slot, conntrack);
        None
    }
}

/// Returns true if a line asks a server to listen.
fn asks_where(line: &[u8]) -> bool {
    match Command::parse(line) {
        Some(Command::Pasv) => true,
        Some(Command::Epsv(argument)) => argument != EpsvArgument::All,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_a_server_to_listen() {
        let lines: [&[u8]; 4] = [b"PASV\r\n", b"epsv\r\n", b"EPSV 1\r\n", b"pasv\n"];
        assert!(lines.into_iter().all(asks_where));
        let others: [&[u8]; 4] = [b"EPSV ALL\r\n", b"PASVX\r\n", b"PORT 1,2,3,4,5,6\r\n", b"227 PASV\r\n"];
        assert!(!others.into_iter().any(asks_where));
    }
}
