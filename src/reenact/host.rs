//! A host: smoltcp's stack on a device that is two queues.

use core::net::{IpAddr, SocketAddr};
use std::boxed::Box;
use std::collections::{HashMap, VecDeque};
use std::vec;
use std::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::segments::{cut, path_mtu_told};
use crate::Instant;

/// Size of a socket's buffer for each direction in bytes.
const BUFFER: usize = 16 * 1024;

/// A host and its sockets.
pub(super) struct Host {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    pub(super) address: IpAddr,
    /// The longest packet in bytes that the path to an address takes, as ICMP said.
    path_mtu: HashMap<IpAddr, usize>,
}

/// The state of what the other side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// More may come.
    Open,
    /// It ended with FIN, and everything was read.
    Ended,
    /// It was reset, gave up, or never began.
    Broken,
}

impl Host {
    pub(super) fn new(address: IpAddr, mtu: usize, seed: u64, now: Instant) -> Self {
        let mut wire = Wire { incoming: VecDeque::new(), outgoing: Vec::new(), mtu };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, stack_time(now));
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::new(IpAddress::from(address), prefix));
        });
        Self { wire, interface, sockets: SocketSet::new(Vec::new()), address, path_mtu: HashMap::new() }
    }

    /// Takes a packet that arrives.
    pub(super) fn receive(&mut self, packet: Box<[u8]>) {
        match path_mtu_told(&packet) {
            Some((destination, mtu)) => {
                self.path_mtu.insert(destination, mtu);
            }
            None => self.wire.incoming.push_back(packet),
        }
    }

    /// Lets the stack work.
    pub(super) fn poll(&mut self, now: Instant) {
        let _ = self.interface.poll(stack_time(now), &mut self.wire, &mut self.sockets);
    }

    /// Returns the time at which the stack has something to do.
    pub(super) fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(stack_time(now), &self.sockets)?;
        Some(Instant::from_micros(at.total_micros()))
    }

    /// Returns the packets that leave, in the sizes that their paths take.
    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let sent = core::mem::take(&mut self.wire.outgoing);
        sent.into_iter().flat_map(|packet| cut(packet, &self.path_mtu)).collect()
    }

    fn add(&mut self) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Listens on a port. Returns `None` for port 0.
    pub(super) fn listen(&mut self, port: u16) -> Option<SocketHandle> {
        let handle = self.add();
        self.socket(handle).listen(port).ok()?;
        Some(handle)
    }

    /// Dials. Returns `None` for what nobody can dial.
    pub(super) fn connect(&mut self, to: SocketAddr, from: u16) -> Option<SocketHandle> {
        if to.is_ipv4() != self.address.is_ipv4() {
            return None;
        }
        let handle = self.add();
        let local = IpEndpoint::new(self.address.into(), from);
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(self.interface.context(), IpEndpoint::from(to), local).ok()?;
        Some(handle)
    }

    /// True once the handshake is over, whatever came after.
    pub(super) fn is_open(&mut self, handle: SocketHandle) -> bool {
        !matches!(self.socket(handle).state(), State::Closed | State::Listen | State::SynSent | State::SynReceived)
    }

    /// True if the connection was refused, given up or closed.
    pub(super) fn is_closed(&mut self, handle: SocketHandle) -> bool {
        self.socket(handle).state() == State::Closed
    }

    /// Returns the other end of a connection.
    pub(super) fn peer(&mut self, handle: SocketHandle) -> Option<SocketAddr> {
        self.socket(handle).remote_endpoint().map(|end| SocketAddr::new(end.addr.into(), end.port))
    }

    /// Sends as much as there is room for. Returns the number of bytes.
    pub(super) fn send(&mut self, handle: SocketHandle, bytes: &[u8]) -> usize {
        self.socket(handle).send_slice(bytes).unwrap_or(0)
    }

    /// True if all that was sent is acknowledged.
    pub(super) fn is_delivered(&mut self, handle: SocketHandle) -> bool {
        let socket = self.socket(handle);
        socket.send_queue() == 0 && matches!(socket.state(), State::FinWait2 | State::TimeWait)
    }

    /// Reads what arrived.
    pub(super) fn read(&mut self, handle: SocketHandle, into: &mut Vec<u8>) -> Stream {
        let mut buffer = [0; 2048];
        loop {
            let socket = self.socket(handle);
            match socket.recv_slice(&mut buffer) {
                Ok(0) if matches!(socket.state(), State::SynSent | State::SynReceived) => return Stream::Open,
                Ok(0) => return Stream::Open,
                Ok(count) => into.extend(buffer.iter().take(count)),
                Err(RecvError::Finished) => return Stream::Ended,
                Err(RecvError::InvalidState) => {
                    let waits = matches!(socket.state(), State::Listen | State::SynSent | State::SynReceived);
                    return if waits { Stream::Open } else { Stream::Broken };
                }
            }
        }
    }

    /// Ends what this side sends.
    pub(super) fn close(&mut self, handle: SocketHandle) {
        self.socket(handle).close();
    }

    /// Forgets a connection: one that is not over is reset, one that ends is left to end.
    pub(super) fn forget(&mut self, handle: SocketHandle) {
        let socket = self.socket(handle);
        match socket.state() {
            State::Closed | State::TimeWait | State::LastAck | State::Closing | State::FinWait1 | State::FinWait2 => {}
            _ => socket.abort(),
        }
    }
}

const fn stack_time(now: Instant) -> StackTime {
    StackTime::from_micros_const(now.micros())
}

struct Wire {
    incoming: VecDeque<Box<[u8]>>,
    outgoing: Vec<Vec<u8>>,
    mtu: usize,
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: StackTime) -> Option<(Received, Sending<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Received(packet), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: StackTime) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Received(Box<[u8]>);

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
