//! A [`Router`] as a device of smoltcp: packets for this machine reach its stack, others are sent on.
//!
//! The stack is polled as with any device. Each call takes packets from the links, sends on what is not for this
//! machine, and sends what the stack itself says through the router.
//!
//! ```
//! use ftp_conntrack::phy::RouterDevice;
//! use ftp_conntrack::router::{Interface, Outbox, Router, RouterConfig};
//! use smoltcp::phy::{Loopback, Medium};
//! use smoltcp::wire::HardwareAddress;
//!
//! let mut config = RouterConfig::default();
//! config.interfaces = vec![Interface::new("lan").with_address("10.77.1.1".parse()?, 24)];
//! let router = Router::new(config, [1, 2, 3, 4])?;
//! let links = vec![Loopback::new(Medium::Ip)]; // one for each interface, in the same order
//! let mut device = RouterDevice::new(router, links, Outbox::new(64, 1 << 16))?;
//!
//! let config = smoltcp::iface::Config::new(HardwareAddress::Ip);
//! let now = smoltcp::time::Instant::ZERO;
//! let mut stack = smoltcp::iface::Interface::new(config, &mut device, now);
//! let mut sockets = smoltcp::iface::SocketSet::new(vec![]);
//! stack.poll(now, &mut device, &mut sockets);
//! assert_eq!(device.poll_at(), None); // nothing is tracked yet
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Links carry IP packets ([`Medium::Ip`]: TUN devices, PPP, tunnels). On Ethernet, a forwarded packet needs its next
//! hop's hardware address, which smoltcp tells to nobody but its own stack.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as Timestamp;

use crate::Instant;
use crate::packet::Packet;
use crate::router::{Egress, Outbox, Router, Verdict};

/// Maximum number of packets that one call takes from the links, so that a flood cannot keep the caller.
const BURST: usize = 64;

/// A router between links, and the machine on which it runs as one more device.
#[derive(Debug)]
pub struct RouterDevice<D> {
    /// The packet that the stack reads.
    arrived: Box<[u8]>,
    forwarder: Forwarder<D>,
}

#[derive(Debug)]
struct Forwarder<D> {
    router: Router,
    links: Vec<D>,
    outbox: Outbox,
    /// Packets of the outbox that are sent, if they leave.
    sent: usize,
    /// Packets of the outbox that are delivered, if they are for this machine.
    delivered: usize,
    /// The packet at hand, with room after it.
    frame: Box<[u8]>,
    /// Maximum length of a packet that arrives, in bytes.
    largest: usize,
    /// The link that is asked first.
    next_link: usize,
    /// True if the links may have more packets than the last call took.
    is_busy: bool,
    lost: u64,
}

impl<D: Device> RouterDevice<D> {
    /// Makes a device of a router and its links: one for each interface, in the same order. The outbox keeps packets
    /// until they are sent or the stack takes them.
    ///
    /// # Errors
    /// If there is not one link for each interface, or if a link carries anything but IP packets.
    pub fn new(router: Router, links: Vec<D>, outbox: Outbox) -> Result<Self, LinksError> {
        if links.len() != router.interfaces().len() {
            return Err(LinksError::Count { links: links.len(), interfaces: router.interfaces().len() });
        }
        if let Some(link) = links.iter().position(|link| link.capabilities().medium != Medium::Ip) {
            return Err(LinksError::Medium(link));
        }
        let largest = links.iter().map(|link| link.capabilities().max_transmission_unit).max().unwrap_or(0);
        Ok(Self {
            arrived: vec![0; largest.max(outbox.bytes())].into(),
            forwarder: Forwarder {
                router,
                links,
                outbox,
                sent: 0,
                delivered: 0,
                frame: vec![0; largest + Packet::ROOM].into(),
                largest,
                next_link: 0,
                is_busy: false,
                lost: 0,
            },
        })
    }

    /// Returns when the stack should be polled next on the router's behalf, however long the stack itself would wait.
    pub fn poll_at(&self) -> Option<Timestamp> {
        let forwarder = &self.forwarder;
        if forwarder.is_busy || forwarder.pending().next().is_some() {
            return Some(Timestamp::ZERO);
        }
        forwarder.router.poll_at().map(|at| Timestamp::from_micros(at.micros()))
    }

    /// Returns the router.
    pub const fn router(&self) -> &Router {
        &self.forwarder.router
    }

    /// Returns the router, to take events from, and to change what may be changed.
    pub const fn router_mut(&mut self) -> &mut Router {
        &mut self.forwarder.router
    }

    /// Returns the links, by interface.
    pub fn links_mut(&mut self) -> &mut [D] {
        &mut self.forwarder.links
    }

    /// Returns the number of packets that were lost because a link or the outbox had no room for them.
    pub const fn lost(&self) -> u64 {
        self.forwarder.lost + self.forwarder.outbox.refused()
    }
}

impl<D: Device> Forwarder<D> {
    /// Returns the length of the next packet for this machine, copied into `arrived`, and sends on what comes before it.
    fn next_local(&mut self, at: Timestamp, arrived: &mut [u8]) -> Option<usize> {
        let now = instant(at);
        if self.router.poll_at().is_some_and(|due| due <= now) {
            self.router.handle_timeout(now, &mut self.outbox);
            self.send_outbox(at);
        }
        self.is_busy = false;
        for _ in 0..BURST {
            if let Some(len) = self.take_local(arrived) {
                return Some(len);
            }
            let (link, len) = self.receive(at)?;
            let local = self.process(at, link, len);
            self.send_outbox(at);
            if let Some(packet) = local.and_then(|place| self.frame.get(place)) {
                arrived.get_mut(..packet.len())?.copy_from_slice(packet);
                return Some(packet.len());
            }
        }
        self.is_busy = true;
        None
    }

    /// Returns the packets of the outbox that are for this machine and were not delivered, with their places.
    fn pending(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let packets = self.outbox.iter().enumerate().skip(self.delivered);
        packets
            .filter(|(_, outgoing)| outgoing.egress == Egress::Local)
            .map(|(place, outgoing)| (place, outgoing.bytes))
    }

    /// Copies the next packet of the outbox that is for this machine. The outbox is emptied after the last.
    fn take_local(&mut self, arrived: &mut [u8]) -> Option<usize> {
        let Some((place, bytes)) = self.pending().next() else {
            self.outbox.clear();
            (self.sent, self.delivered) = (0, 0);
            return None;
        };
        let len = bytes.len();
        arrived.get_mut(..len)?.copy_from_slice(bytes);
        self.delivered = place + 1;
        Some(len)
    }

    /// Takes a packet from the next link that has one: which link, and how long the packet is.
    fn receive(&mut self, at: Timestamp) -> Option<(usize, usize)> {
        let count = self.links.len();
        for link in (self.next_link..count).chain(0..self.next_link) {
            let Some((token, _)) = self.links.get_mut(link)?.receive(at) else { continue };
            self.next_link = (link + 1) % count;
            let place = self.frame.get_mut(..self.largest).unwrap_or_default();
            let len = token.consume(|bytes| {
                let place = place.get_mut(..bytes.len())?;
                place.copy_from_slice(bytes);
                Some(bytes.len())
            });
            // A packet that is longer than its link promised is lost.
            self.lost += u64::from(len.is_none());
            return Some((link, len.unwrap_or(0)));
        }
        None
    }

    /// Gives a packet that arrived on a link to the router, and sends it if it leaves. Returns its place in the frame
    /// if it is for this machine.
    fn process(&mut self, at: Timestamp, link: usize, len: usize) -> Option<Range<usize>> {
        let mut packet = Packet::new(&mut self.frame, 0..len).ok()?;
        let verdict = self.router.process(instant(at), link, &mut packet, &mut self.outbox);
        let place = packet.range();
        match verdict {
            Verdict::Forward { interface, .. } => self.send(at, interface, place),
            Verdict::Local => return Some(place),
            // Kept, or dropped. There is as much room as a packet may ever need.
            _ => {}
        }
        None
    }

    /// Gives a packet that this machine sends to the router, and sends it if it leaves.
    fn output(&mut self, at: Timestamp, len: usize) {
        let Ok(mut packet) = Packet::new(&mut self.frame, 0..len) else { return };
        let verdict = self.router.output(instant(at), &mut packet, &mut self.outbox);
        let place = packet.range();
        match verdict {
            Verdict::Forward { interface, .. } => self.send(at, interface, place),
            Verdict::Local => {
                let packet = self.frame.get(place).unwrap_or_default();
                self.outbox.send_copy(packet, Egress::Local, 0);
            }
            _ => {}
        }
        self.send_outbox(at);
    }

    /// Sends a packet of the frame.
    fn send(&mut self, at: Timestamp, interface: usize, place: Range<usize>) {
        let packet = self.frame.get(place).unwrap_or_default();
        let is_sent = self.links.get_mut(interface).is_some_and(|link| send(link, at, packet));
        self.lost += u64::from(!is_sent);
    }

    /// Sends the packets of the outbox that leave, and were not sent.
    fn send_outbox(&mut self, at: Timestamp) {
        for outgoing in self.outbox.iter().skip(self.sent) {
            self.sent += 1;
            if let Egress::Forward { interface, .. } = outgoing.egress {
                let is_sent = self.links.get_mut(interface).is_some_and(|link| send(link, at, outgoing.bytes));
                self.lost += u64::from(!is_sent);
            }
        }
    }
}

/// Sends a packet by a link. Returns false if the link does not take it.
fn send(link: &mut impl Device, at: Timestamp, packet: &[u8]) -> bool {
    let fits = packet.len() <= link.capabilities().max_transmission_unit;
    let Some(token) = link.transmit(at).filter(|_| fits) else { return false };
    token.consume(packet.len(), |place| {
        place.copy_from_slice(packet);
    });
    true
}

const fn instant(at: Timestamp) -> Instant {
    Instant::from_micros(at.total_micros())
}

impl<D: Device> Device for RouterDevice<D> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Transmitter<'a, D>
    where
        Self: 'a;

    fn receive(&mut self, at: Timestamp) -> Option<(Received<'_>, Transmitter<'_, D>)> {
        let Self { arrived, forwarder } = self;
        let len = forwarder.next_local(at, arrived)?;
        Some((Received(arrived.get(..len)?), Transmitter { forwarder, at }))
    }

    fn transmit(&mut self, at: Timestamp) -> Option<Transmitter<'_, D>> {
        Some(Transmitter { forwarder: &mut self.forwarder, at })
    }

    /// IP packets that fit each link, with all checksums: the router changes them by difference.
    fn capabilities(&self) -> DeviceCapabilities {
        let units = self.forwarder.links.iter().map(|link| link.capabilities().max_transmission_unit);
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = units.min().unwrap_or(0);
        capabilities
    }
}

/// A packet for this machine.
#[derive(Debug)]
pub struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Permission to send one packet of this machine through the router.
#[derive(Debug)]
pub struct Transmitter<'a, D> {
    forwarder: &'a mut Forwarder<D>,
    at: Timestamp,
}

impl<D: Device> TxToken for Transmitter<'_, D> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Some(place) = self.forwarder.frame.get_mut(..len).filter(|_| len <= self.forwarder.largest) else {
            // Longer than any link takes: it is made, since it must be, and lost.
            self.forwarder.lost += 1;
            return f(&mut vec![0; len]);
        };
        let result = f(place);
        self.forwarder.output(self.at, len);
        result
    }
}

/// The reason why links do not fit a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinksError {
    /// There is not one link for each interface.
    Count {
        /// Number of links.
        links: usize,
        /// Number of interfaces.
        interfaces: usize,
    },
    /// The link of this number carries something else than IP packets.
    Medium(usize),
}

impl fmt::Display for LinksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { links, interfaces } => {
                write!(
                    f,
                    "{links} links for {interfaces} interfaces: give one link for each interface, in the same order"
                )
            }
            Self::Medium(link) => write!(f, "link {link} does not carry IP packets: give a device of Medium::Ip"),
        }
    }
}

impl core::error::Error for LinksError {}

#[cfg(test)]
mod tests;
