//! A client that announces where it listens, a server that connects there, and links of queues.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface as Stack, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) struct Client {
    host: Host,
    control: SocketHandle,
    data: SocketHandle,
    lines: VecDeque<&'static str>,
}

impl Client {
    pub(crate) fn new(link: Link) -> Result<Self> {
        let mut host = Host::new(link, Ipv4Address::new(10, 77, 1, 2))?;
        let control = host.connect(Ipv4Address::new(203, 0, 113, 9), 21, 40_000)?;
        let data = host.listen(1025)?;
        Ok(Self { host, control, data, lines: ["USER ftp\r\n", "PORT 10,77,1,2,4,1\r\n"].into() })
    }

    /// Says the next line after each answer.
    pub(crate) fn step(&mut self, now: Instant) -> Result<()> {
        self.host.poll(now);
        if self.host.hear(self.control).is_some()
            && let Some(line) = self.lines.pop_front()
        {
            println!("the client says {line:?}");
            self.host.say(self.control, line)?;
        }
        Ok(())
    }

    /// Returns what came by the data connection.
    pub(crate) fn received(&mut self) -> Option<String> {
        self.host.hear(self.data)
    }
}

pub(crate) struct Server {
    host: Host,
    control: SocketHandle,
    data: Option<SocketHandle>,
    has_greeted: bool,
}

impl Server {
    pub(crate) fn new(link: Link) -> Result<Self> {
        let mut host = Host::new(link, Ipv4Address::new(203, 0, 113, 9))?;
        let control = host.listen(21)?;
        Ok(Self { host, control, data: None, has_greeted: false })
    }

    /// Greets, answers each line, and connects to where PORT says.
    pub(crate) fn step(&mut self, now: Instant) -> Result<()> {
        self.host.poll(now);
        if !self.has_greeted && self.host.socket(self.control).may_send() {
            self.has_greeted = true;
            self.host.say(self.control, "220 ready\r\n")?;
        }
        if let Some(line) = self.host.hear(self.control) {
            println!("the server hears {line:?}");
            self.host.say(self.control, "200 ok\r\n")?;
            let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
            if let [a, b, c, d, high, low] = numbers.collect::<Vec<u8>>()[..] {
                let port = u16::from_be_bytes([high, low]);
                self.data = Some(self.host.connect(Ipv4Address::new(a, b, c, d), port, 20)?);
            }
        }
        if let Some(data) = self.data.take_if(|data| self.host.socket(*data).may_send()) {
            self.host.say(data, "the file")?;
        }
        Ok(())
    }
}

struct Host {
    link: Link,
    stack: Stack,
    sockets: SocketSet<'static>,
}

impl Host {
    fn new(mut link: Link, address: Ipv4Address) -> Result<Self> {
        let mut stack = Stack::new(Config::new(HardwareAddress::Ip), &mut link, Instant::ZERO);
        stack.update_ip_addrs(|own| own.extend([IpCidr::new(address.into(), 24)]));
        stack.routes_mut().add_default_ipv4_route(address)?; // an IP link asks for no gateway's address
        Ok(Self { link, stack, sockets: SocketSet::new(vec![]) })
    }

    fn poll(&mut self, now: Instant) {
        self.stack.poll(now, &mut self.link, &mut self.sockets);
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn listen(&mut self, port: u16) -> Result<SocketHandle> {
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 512]), SocketBuffer::new(vec![0; 512]));
        socket.listen(port)?;
        Ok(self.sockets.add(socket))
    }

    fn connect(&mut self, to: Ipv4Address, port: u16, from: u16) -> Result<SocketHandle> {
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 512]), SocketBuffer::new(vec![0; 512]));
        socket.connect(self.stack.context(), (IpAddress::from(to), port), from)?;
        Ok(self.sockets.add(socket))
    }

    fn say(&mut self, handle: SocketHandle, text: &str) -> Result<()> {
        self.socket(handle).send_slice(text.as_bytes())?;
        Ok(())
    }

    fn hear(&mut self, handle: SocketHandle) -> Option<String> {
        let socket = self.socket(handle);
        let read = |bytes: &mut [u8]| (bytes.len(), String::from_utf8_lossy(bytes).into_owned());
        if socket.can_recv() { socket.recv(read).ok() } else { None }
    }
}

/// A link of two queues.
pub(crate) struct Link {
    arriving: Queue,
    leaving: Queue,
}

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// Makes the two ends of a link.
pub(crate) fn cable() -> (Link, Link) {
    let (there, back) = (Queue::default(), Queue::default());
    (Link { arriving: back.clone(), leaving: there.clone() }, Link { arriving: there, leaving: back })
}

impl Device for Link {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmitter;

    fn receive(&mut self, now: Instant) -> Option<(Received, Transmitter)> {
        let packet = self.arriving.borrow_mut().pop_front()?;
        Some((Received(packet), self.transmit(now)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmitter> {
        Some(Transmitter(self.leaving.clone()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, 1500);
        capabilities
    }
}

pub(crate) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Transmitter(Queue);

impl TxToken for Transmitter {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.borrow_mut().push_back(packet);
        result
    }
}
