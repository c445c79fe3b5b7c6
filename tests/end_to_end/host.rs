//! A host: smoltcp's stack, on a device that is two queues.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use ftp_conntrack::Instant;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{self, Socket, SocketBuffer, State};
use smoltcp::time::Instant as SmoltcpInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use crate::options::SocketOptions;
use crate::wire::{ACK, CONTROL, FIN, RST, SYN, Segment};

/// A host and its sockets. They are kept until the end: of two sockets that a repeated SYN suits, smoltcp asks the one
/// that was added first, which must be the one that has the connection.
pub(crate) struct Host {
    wire: Wire,
    interface: Interface,
    shield: Shield,
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) address: IpAddr,
}

impl Host {
    pub(crate) fn new(address: IpAddr, mtu: usize, seed: u64, now: Instant) -> Self {
        let mut wire = Wire { incoming: VecDeque::new(), outgoing: Vec::new(), mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, smoltcp_time(now));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::from(address), 24)).expect("there is room for one address");
        });
        Self { wire, interface, shield: Shield::default(), sockets: SocketSet::new(Vec::new()), address }
    }

    pub(crate) fn receive(&mut self, packet: Vec<u8>) {
        if !self.shield.takes_amiss(&packet) {
            let packet = self.shield.without_early_fin(packet);
            self.wire.incoming.extend(with_fin_alone(packet));
        }
    }

    /// Lets the stack work; true if a socket changed.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        self.interface.poll(smoltcp_time(now), &mut self.wire, &mut self.sockets) == PollResult::SocketStateChanged
    }

    pub(crate) fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(smoltcp_time(now), &self.sockets)?;
        Some(Instant::from_micros(at.total_micros()))
    }

    pub(crate) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let sent = std::mem::take(&mut self.wire.outgoing);
        sent.iter().for_each(|packet| self.shield.note_sent(packet));
        sent
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn add(&mut self, options: &SocketOptions) -> SocketHandle {
        let buffer = |size: usize| SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(options.receive), buffer(options.send));
        socket.set_nagle_enabled(options.nagle);
        socket.set_ack_delay(options.ack_delay.map(|delay| delay.into()));
        if options.timestamps {
            // The value does not matter as long as it is one.
            socket.set_tsval_generator(Some(|| 1));
        }
        self.sockets.add(socket)
    }

    pub(crate) fn listen(&mut self, port: u16, options: &SocketOptions) -> SocketHandle {
        let handle = self.add(options);
        self.socket(handle).listen(port).expect("ports that are listened on are not 0");
        handle
    }

    pub(crate) fn connect(&mut self, to: SocketAddr, from: u16, options: &SocketOptions) -> SocketHandle {
        let handle = self.add(options);
        let local = IpEndpoint::new(self.address.into(), from);
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(self.interface.context(), IpEndpoint::from(to), local).expect("the endpoints are whole");
        handle
    }

    /// Returns true if no connection is open.
    pub(crate) fn is_quiet(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.count(kind, &[State::Closed, State::Listen]) == self.count(kind, &[]))
    }

    /// Returns true if a socket has bytes that were not sent, or not acknowledged.
    pub(crate) fn has_something_to_send(&self) -> bool {
        self.sockets.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Tcp(socket) => socket.send_queue() > 0,
            _ => false,
        })
    }

    /// Counts the sockets of a kind that are in one of these states, or all of the kind if no state is named.
    pub(crate) fn count(&self, kind: Kind, states: &[State]) -> usize {
        let is_one = |socket: &smoltcp::socket::Socket<'_>| match socket {
            smoltcp::socket::Socket::Tcp(socket) => {
                let ports = [socket.local_endpoint(), socket.remote_endpoint()].map(|end| end.map(|end| end.port));
                let is_control = ports.contains(&Some(CONTROL));
                is_control == (kind == Kind::Control) && (states.is_empty() || states.contains(&socket.state()))
            }
            _ => false,
        };
        self.sockets.iter().filter(|(_, socket)| is_one(socket)).count()
    }

    /// The sockets, for whoever asks what is stuck.
    pub(crate) fn describe_sockets(&self) -> String {
        let open = self.sockets.iter().filter_map(|(_, socket)| {
            let smoltcp::socket::Socket::Tcp(socket) = socket else { return None };
            let ends = (socket.local_endpoint()?, socket.remote_endpoint()?);
            let queues = format!("{} to send, {} received", socket.send_queue(), socket.recv_queue());
            Some(format!("  {} > {} {}: {queues}\n", ends.0, ends.1, socket.state()))
        });
        open.collect()
    }
}

/// Reads the bytes that a socket has now; the flag says that nothing will follow.
pub(crate) fn read(socket: &mut Socket<'_>, into: &mut Vec<u8>) -> (usize, Ended) {
    let mut count = 0;
    loop {
        let mut buffer = [0; 2048];
        match socket.recv_slice(&mut buffer) {
            Ok(0) => return (count, Ended::No),
            Ok(read) => {
                into.extend(&buffer[..read]);
                count += read;
            }
            Err(tcp::RecvError::Finished) => return (count, Ended::Whole),
            Err(tcp::RecvError::InvalidState) => return (count, Ended::NotOpen),
        }
    }
}

/// Closes a connection whose other side closed it.
pub(crate) fn answer_close(socket: &mut Socket<'_>) {
    if socket.state() == State::CloseWait {
        socket.close();
    }
}

/// A kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Control,
    Data,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Control, Self::Data];
}

/// The end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    No,
    /// With FIN.
    Whole,
    /// It was reset, or has not begun.
    NotOpen,
}

pub(crate) fn endpoint(endpoint: Option<IpEndpoint>) -> Option<SocketAddr> {
    endpoint.map(|endpoint| SocketAddr::new(endpoint.addr.into(), endpoint.port))
}

const fn smoltcp_time(now: Instant) -> SmoltcpInstant {
    SmoltcpInstant::from_micros_const(now.micros())
}

/// Keeps from smoltcp the segments that would bring it to a halt, and other stacks would not.
///
/// It takes the window of an acknowledgement that was overtaken (RFC 9293 section 3.10.7.4 compares SND.WL1 and
/// SND.WL2). Then it waits for nothing where that window was zero. On the third repeated acknowledgement it sends at
/// once, whatever the window. It then numbers its own acknowledgements beyond the window, and the other side takes none
/// of them. Where that would have been a FIN, it sends nothing and forgets its timer. So it never sees the third: it
/// sends again when its time is over. It forgets its timer too when an acknowledgement of a part of its data closes the
/// window. Of a segment that is longer than its window it takes the FIN, and not all before it.
#[derive(Default)]
struct Shield {
    /// Of each stream that is acknowledged to this host: how far, with which window, and how often the same.
    latest: HashMap<(SocketAddr, SocketAddr), (u32, u16, u32)>,
    /// Last number that this host sent, by the other end and its own.
    sent: HashMap<(SocketAddr, SocketAddr), u32>,
    /// From where and up to where it takes what is sent to it on control connections, whose windows are never scaled.
    edges: HashMap<(SocketAddr, SocketAddr), (u32, u32)>,
}

impl Shield {
    fn note_sent(&mut self, packet: &[u8]) {
        let Some(segment) = Segment::read(packet) else { return };
        if [segment.from.port(), segment.to.port()].contains(&21) && segment.has(ACK) {
            let edge = segment.ack.wrapping_add(segment.window.into());
            self.edges.insert((segment.to, segment.from), (segment.ack, edge));
        }
        let end = self.sent.entry((segment.to, segment.from)).or_insert(segment.end());
        if segment.has(SYN) || segment.end().wrapping_sub(*end) as i32 > 0 {
            *end = segment.end();
        }
    }

    fn without_early_fin(&self, packet: Vec<u8>) -> Vec<u8> {
        let Some(segment) = Segment::read(&packet).filter(|segment| segment.has(FIN)) else { return packet };
        let text_ends = segment.end().wrapping_sub(1);
        match self.edges.get(&(segment.from, segment.to)) {
            Some((_, edge)) if text_ends.wrapping_sub(*edge) as i32 > 0 => {
                segment.carrying(&packet, segment.seq, segment.flags & !FIN, segment.payload(&packet))
            }
            _ => packet,
        }
    }

    fn takes_amiss(&mut self, packet: &[u8]) -> bool {
        let Some(segment) = Segment::read(packet) else { return false };
        let key = (segment.from, segment.to);
        if segment.has(SYN) {
            self.latest.remove(&key);
        }
        if segment.flags & (SYN | RST | FIN | ACK) != ACK {
            return false;
        }
        // A segment that it does not take acknowledges nothing.
        if let Some((from, to)) = self.edges.get(&key) {
            let ends = i32::from(!segment.payload.is_empty());
            let is_old = (segment.end().wrapping_sub(*from) as i32) < ends;
            let is_early = segment.seq.wrapping_sub(*to) as i32 > -ends;
            if is_old || is_early {
                return false;
            }
        }
        let (ack, window, repeated) = self.latest.entry(key).or_insert((segment.ack, 0, 0));
        let ahead = segment.ack.wrapping_sub(*ack) as i32;
        let is_bare = segment.payload.is_empty();
        let is_partial = self.sent.get(&key).is_some_and(|end| segment.ack != *end);
        if is_bare && is_partial && segment.window == 0 {
            return true;
        }
        if ahead < 0 || (ahead == 0 && segment.window < *window) {
            return is_bare;
        }
        let repeats = ahead == 0 && segment.window == *window;
        (*ack, *window, *repeated) =
            (segment.ack, segment.window, if repeats { *repeated + u32::from(is_bare) } else { 0 });
        is_bare && *repeated > 2
    }
}

/// Gives a FIN a segment of its own: smoltcp ignores the FIN of a segment of which it has a part.
fn with_fin_alone(packet: Vec<u8>) -> Vec<Vec<u8>> {
    let segment = Segment::read(&packet).filter(|segment| segment.has(FIN) && !segment.payload.is_empty());
    let Some(segment) = segment else { return vec![packet] };
    let text = segment.carrying(&packet, segment.seq, segment.flags & !FIN, segment.payload(&packet));
    let end = segment.carrying(&packet, segment.end().wrapping_sub(1), segment.flags, &[]);
    vec![text, end]
}

struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    mtu: usize,
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: SmoltcpInstant) -> Option<(Received, Sending<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Received(packet), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: SmoltcpInstant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // Arriving packets were checked as they left the router, where a wrong checksum is a failure.
        let mut checksum = ChecksumCapabilities::default();
        checksum.ipv4 = Checksum::Tx;
        checksum.tcp = Checksum::Tx;
        capabilities.checksum = checksum;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}
