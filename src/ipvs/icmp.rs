//! ICMP errors about connections through the load balancer.

use core::net::SocketAddr;

use super::Ipvs;
use super::config::Forwarding;
use super::request::{Arrival, ends};
use super::tracking::settle;
use crate::Instant;
use crate::conntrack::{Conntrack, ICMP_HEADER, Tracked};
use crate::packet::{Headers, Side};

/// The ends of the packet that an error quotes, and its protocol's entry is to be found by.
fn quoted(bytes: &[u8], headers: &Headers) -> Option<(Headers, SocketAddr, SocketAddr)> {
    if !headers.is_icmp_error() {
        return None;
    }
    let quoted = bytes.get(headers.transport + ICMP_HEADER..headers.end)?;
    let inner = Headers::find_quoted(quoted, headers.family).ok()?;
    let (from, to) = ends(&inner, quoted)?;
    Some((inner, from, to))
}

impl Ipvs {
    /// The entry of an ICMP error for a virtual address: the packet it quotes went from there to a client.
    pub(crate) fn arrive_error(&self, now: Instant, bytes: &[u8], headers: &Headers) -> Option<Arrival> {
        let (inner, dialled, client) = quoted(bytes, headers)?;
        let slot = self.table.by_client(inner.protocol, client, dialled).filter(|slot| self.lives(now, *slot))?;
        let entry = self.table.at(slot);
        Some(Arrival { slot, real: entry.real, forwarding: entry.forwarding })
    }

    /// Makes an ICMP error one for its real server: it quotes what that one sent.
    pub(crate) fn forward_error(
        &self,
        arrival: &Arrival,
        conntrack: &mut Conntrack,
        tracked: &mut Tracked,
        bytes: &mut [u8],
        headers: &Headers,
    ) {
        if arrival.forwarding == Forwarding::Masquerade {
            rewrite(bytes, headers, (Side::Source, Side::Destination), arrival.real);
        }
        settle(self.table.at(arrival.slot), false, conntrack, tracked);
    }

    /// Gives an ICMP error about a packet to a real server the virtual address. False when it is about none.
    pub(crate) fn answer_error(
        &self,
        now: Instant,
        conntrack: &mut Conntrack,
        tracked: &mut Tracked,
        bytes: &mut [u8],
        headers: &Headers,
    ) -> bool {
        let Some((inner, client, server)) = quoted(bytes, headers) else { return false };
        let found = self.table.by_server(inner.protocol, server, client).filter(|slot| self.lives(now, *slot));
        let Some(entry) = found.map(|slot| self.table.at(slot)) else { return false };
        if entry.forwarding != Forwarding::Masquerade {
            return false;
        }
        rewrite(bytes, headers, (Side::Destination, Side::Source), entry.virtual_at);
        settle(entry, true, conntrack, tracked);
        true
    }
}

/// Writes an end into the quoted packet at one side, and its address into the error at the other. The quoted transport
/// header keeps its checksum, which so no longer fits (seen on Linux 6.1).
fn rewrite(bytes: &mut [u8], headers: &Headers, (inside, outside): (Side, Side), end: SocketAddr) {
    if let Some(quoted) = bytes.get_mut(headers.transport + ICMP_HEADER..headers.end)
        && let Ok(inner) = Headers::find_quoted(quoted, headers.family)
    {
        let kept = inner.transport_checksum_at().and_then(|at| Some((at, *quoted.get(at..)?.first_chunk::<2>()?)));
        inner.set_endpoint(quoted, inside, end.ip(), end.port());
        if let Some((at, sum)) = kept
            && let Some(place) = quoted.get_mut(at..at + 2)
        {
            place.copy_from_slice(&sum);
        }
    }
    headers.set_address(bytes, outside, end.ip());
    headers.fill_transport_checksum(bytes);
}
