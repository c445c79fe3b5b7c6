//! A router between two links of queues.

use alloc::collections::VecDeque;
use std::net::IpAddr;
use std::string::ToString as _;

use smoltcp::iface::{Config, Interface as Stack, SocketSet};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::*;
use crate::netfilter::Cidr;
use crate::packet::{Headers, Layer4, Protocol};
use crate::router::{Interface, Route, RouterConfig};

const LAN: usize = 0;
const WAN: usize = 1;
const MTU: usize = 1500;

/// A link of two queues, which takes as many packets as it has places.
#[derive(Debug)]
struct Link {
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    places: usize,
    medium: Medium,
}

impl Link {
    fn new(medium: Medium) -> Self {
        Self { arriving: VecDeque::new(), sent: Vec::new(), places: 1000, medium }
    }
}

struct Arriving(Vec<u8>);

impl RxToken for Arriving {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Leaving<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Arriving;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Timestamp) -> Option<(Arriving, Leaving<'_>)> {
        Some((Arriving(self.arriving.pop_front()?), Leaving(&mut self.sent)))
    }

    fn transmit(&mut self, _: Timestamp) -> Option<Leaving<'_>> {
        (self.sent.len() < self.places).then_some(Leaving(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (self.medium, MTU);
        capabilities
    }
}

fn router() -> Router {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let interfaces = vec![
        Interface::new("lan").with_address(address("10.77.1.1"), 24),
        Interface::new("wan").with_address(address("203.0.113.1"), 24),
    ];
    let routes = vec![
        Route::on_link(Cidr::new(address("10.77.1.0"), 24).unwrap(), LAN),
        Route::on_link(Cidr::new(address("0.0.0.0"), 0).unwrap(), WAN),
    ];
    let config = RouterConfig { interfaces, routes, ..RouterConfig::default() };
    Router::new(config, [1, 2, 3, 4]).unwrap()
}

fn device() -> RouterDevice<Link> {
    RouterDevice::new(router(), vec![Link::new(Medium::Ip), Link::new(Medium::Ip)], Outbox::new(64, 1 << 17)).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// An IPv4 packet; `fragment` is the field of flags and offset.
fn ipv4(protocol: Protocol, source: [u8; 4], destination: [u8; 4], fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 9, 0, 0, 64, protocol.0, 0, 0];
    bytes[2..4].copy_from_slice(&(20 + body.len() as u16).to_be_bytes());
    bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
    bytes.extend(source.into_iter().chain(destination));
    let sum = crate::packet::checksum::fold(crate::packet::checksum::sum(&bytes, 0));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// An echo request of this many bytes.
fn ping(len: usize) -> Vec<u8> {
    let mut body = vec![0; len];
    body[0] = 8;
    let sum = crate::packet::checksum::fold(crate::packet::checksum::sum(&body, 0));
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    body
}

const CLIENT: [u8; 4] = [10, 77, 1, 2];
const SERVER: [u8; 4] = [198, 51, 100, 9];
const ROUTER: [u8; 4] = [10, 77, 1, 1];

fn arrive(device: &mut RouterDevice<Link>, packet: Vec<u8>) {
    device.links_mut()[LAN].arriving.push_back(packet);
}

#[test]
fn what_is_sent_on_never_reaches_the_stack() {
    let mut device = device();
    arrive(&mut device, ipv4(Protocol::ICMP, CLIENT, SERVER, 0, &ping(16)));
    assert!(device.receive(at(1)).is_none());
    let [sent] = device.links_mut()[WAN].sent.as_slice() else { panic!() };
    assert_eq!((sent[8], sent.len()), (63, 36));
    assert_eq!(device.router().conntrack().len(), 1);
}

#[test]
fn the_stack_answers_what_is_for_this_machine_through_the_router() {
    let mut device = device();
    let mut stack = Stack::new(Config::new(HardwareAddress::Ip), &mut device, at(0));
    stack.update_ip_addrs(|addresses| addresses.push(IpCidr::new(IpAddr::from(ROUTER).into(), 24)).unwrap());
    // A closed port of this machine: the stack resets the connection.
    let mut syn = vec![0x9c, 0x40, 0, 22, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    let pseudo = [CLIENT, ROUTER].concat();
    let start = crate::packet::checksum::pseudo_header(&pseudo, Protocol::TCP.0, syn.len());
    let sum = crate::packet::checksum::fold(crate::packet::checksum::sum(&syn, start));
    syn[16..18].copy_from_slice(&sum.to_be_bytes());
    arrive(&mut device, ipv4(Protocol::TCP, CLIENT, ROUTER, 0, &syn));
    arrive(&mut device, ipv4(Protocol::ICMP, CLIENT, SERVER, 0, &ping(16)));
    stack.poll(at(1), &mut device, &mut SocketSet::new(vec![]));
    let [reset] = device.links_mut()[LAN].sent.as_slice() else { panic!() };
    let headers = Headers::find(reset).unwrap();
    assert!(headers.transport_checksum_ok(reset));
    let Layer4::Tcp(segment) = headers.layer4 else { panic!("{headers:?}") };
    assert_eq!((segment.flags.0, segment.acknowledgement.0), (0x14, 8));
    assert_eq!((device.links_mut()[WAN].sent.len(), device.lost()), (1, 0));
}

#[test]
fn a_packet_in_fragments_reaches_the_stack_whole() {
    let mut device = device();
    let body = ping(3000);
    for (offset, part) in body.chunks(1480).enumerate() {
        let more = if (offset + 1) * 1480 < body.len() { 0x2000 } else { 0 };
        arrive(&mut device, ipv4(Protocol::ICMP, CLIENT, ROUTER, more | (offset * 185) as u16, part));
    }
    let (received, _) = device.receive(at(1)).unwrap();
    assert_eq!(received.consume(|packet| packet[20..].to_vec()), body);
    assert!(device.receive(at(1)).is_none());
    assert!(device.forwarder.outbox.is_empty());
}

#[test]
fn what_the_machine_sends_to_itself_comes_back() {
    let mut device = device();
    let packet = ipv4(Protocol::ICMP, ROUTER, ROUTER, 0, &ping(16));
    let token = device.transmit(at(1)).unwrap();
    token.consume(packet.len(), |place| place.copy_from_slice(&packet));
    assert_eq!(device.poll_at(), Some(Timestamp::ZERO), "it waits for the stack");
    let (received, _) = device.receive(at(1)).unwrap();
    assert_eq!(received.consume(<[u8]>::to_vec), packet);
    assert!(device.receive(at(1)).is_none());
}

#[test]
fn a_link_without_room_loses_packets_and_they_are_counted() {
    let mut device = device();
    device.links_mut()[WAN].places = 2;
    for _ in 0..5 {
        arrive(&mut device, ipv4(Protocol::ICMP, CLIENT, SERVER, 0, &ping(16)));
    }
    assert!(device.receive(at(1)).is_none());
    assert_eq!((device.links_mut()[WAN].sent.len(), device.lost()), (2, 3));
}

#[test]
fn a_packet_longer_than_its_link_promised_is_lost() {
    let mut device = device();
    arrive(&mut device, ipv4(Protocol::ICMP, CLIENT, SERVER, 0, &ping(MTU)));
    assert!(device.receive(at(1)).is_none());
    assert_eq!((device.links_mut()[WAN].sent.len(), device.lost()), (0, 1));
    device.transmit(at(1)).unwrap().consume(MTU + 1, |place| place.fill(1));
    assert_eq!(device.lost(), 2);
}

#[test]
fn a_flood_does_not_keep_the_caller_nor_starve_the_other_link() {
    let mut device = device();
    for _ in 0..3 * BURST {
        arrive(&mut device, ipv4(Protocol::ICMP, CLIENT, SERVER, 0, &ping(16)));
    }
    device.links_mut()[WAN].arriving.push_back(ipv4(Protocol::ICMP, SERVER, CLIENT, 0, &ping(16)));
    assert!(device.receive(at(1)).is_none());
    assert_eq!((device.links_mut()[WAN].sent.len(), device.links_mut()[LAN].sent.len()), (BURST - 1, 1));
    assert_eq!(device.poll_at(), Some(Timestamp::ZERO));
    while device.poll_at() == Some(Timestamp::ZERO) {
        assert!(device.receive(at(1)).is_none());
    }
    assert_eq!(device.links_mut()[WAN].sent.len(), 3 * BURST);
    // Only the connections' end is left to wait for.
    assert_eq!(device.poll_at(), device.router().poll_at().map(|at| Timestamp::from_micros(at.micros())));
}

#[test]
fn time_passes_without_packets() {
    let mut device = device();
    arrive(&mut device, ipv4(Protocol::ICMP, CLIENT, SERVER, 0, &ping(16)));
    assert!(device.receive(at(1)).is_none());
    for _ in 0..10 {
        let Some(next) = device.poll_at() else { break };
        assert!(device.receive(next).is_none());
    }
    assert_eq!((device.router().conntrack().len(), device.poll_at()), (0, None));
}

#[test]
fn links_that_do_not_fit_are_refused() {
    let refused = |links| RouterDevice::new(router(), links, Outbox::new(1, 1)).unwrap_err();
    let one = refused(vec![Link::new(Medium::Ip)]);
    assert_eq!(one, LinksError::Count { links: 1, interfaces: 2 });
    assert_eq!(one.to_string(), "1 links for 2 interfaces: give one link for each interface, in the same order");
}
