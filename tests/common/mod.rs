//! Packets for scenario tests, and a router to send them through.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod servers;

use std::net::{IpAddr, SocketAddr};

use ftp_conntrack::Instant;
use ftp_conntrack::config::parse_rules;
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::{Family, Headers, Layer4, Packet, checksum};
use ftp_conntrack::router::{Interface, Outbox, Route, Router, RouterConfig, Verdict};

pub(crate) const CLIENT: &str = "10.77.1.2:40000";
pub(crate) const SERVER: &str = "198.51.100.9:21";
pub(crate) const OUTSIDE: &str = "203.0.113.1:40000";
pub(crate) const LAN: usize = 0;
pub(crate) const WAN: usize = 1;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH_ACK: u8 = 0x18;
pub(crate) const ACK: u8 = 0x10;

/// Masquerading on the outer interface, and the helper on port 21.
pub(crate) const MASQUERADE: &str = "*raw\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
                              *nat\n-A POSTROUTING -o wan -j MASQUERADE\nCOMMIT\n";

/// A TCP segment between two endpoints of one family, with right checksums.
pub(crate) fn tcp(
    source: &str,
    destination: &str,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    text: &(impl AsRef<[u8]> + ?Sized),
) -> Vec<u8> {
    let ends: [SocketAddr; 2] = [source.parse().unwrap(), destination.parse().unwrap()];
    let mut bytes = match ends[0] {
        SocketAddr::V4(_) => vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0],
        SocketAddr::V6(_) => vec![0x60, 0, 0, 0, 0, 0, 6, 64],
    };
    for end in ends {
        match end.ip() {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    for end in ends {
        bytes.extend(end.port().to_be_bytes());
    }
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledgement.to_be_bytes());
    bytes.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    bytes.extend(text.as_ref());
    finish(bytes)
}

/// Sets the length and the checksums of a TCP or UDP packet without IP options or extension headers.
pub(crate) fn finish(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as u16;
    let (header, protocol, addresses) = if bytes[0] >> 4 == 4 {
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[10..12].fill(0);
        let sum = checksum::fold(checksum::sum(&bytes[..20], 0));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        (20, bytes[9], 12..20)
    } else {
        bytes[4..6].copy_from_slice(&(length - 40).to_be_bytes());
        (40, bytes[6], 8..40)
    };
    let at = header + if protocol == 6 { 16 } else { 6 };
    bytes[at..at + 2].fill(0);
    let start = checksum::pseudo_header(&bytes[addresses], protocol, bytes.len() - header);
    let sum = checksum::fold(checksum::sum(&bytes[header..], start));
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A router between 10.77.1.0/24 (`lan`) and everything else (`wan`, 203.0.113.1).
pub(crate) fn config(rules: &str) -> RouterConfig {
    let mut config = RouterConfig::default();
    config.interfaces = vec![
        Interface::new("lan").with_address([10, 77, 1, 1].into(), 24),
        Interface::new("wan").with_address([203, 0, 113, 1].into(), 24),
    ];
    config.routes = vec![
        Route::on_link(Cidr::new([10, 77, 1, 0].into(), 24).unwrap(), LAN),
        Route::on_link(Cidr::new([0, 0, 0, 0].into(), 0).unwrap(), WAN),
    ];
    let (rules, warnings) = parse_rules("rules.v4", rules, Family::V4).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    config.rules4 = rules;
    config
}

/// A router and the moment it is.
pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) outbox: Outbox,
    pub(crate) now: Instant,
}

impl World {
    pub(crate) fn new(config: RouterConfig) -> Self {
        Self::keyed(config, [1, 2, 3, 4])
    }

    /// A router with other seeds.
    pub(crate) fn keyed(config: RouterConfig, seeds: [u64; 4]) -> Self {
        let router = Router::new(config, seeds).unwrap();
        Self { router, outbox: Outbox::new(64, 1 << 17), now: Instant::from_secs(1000) }
    }

    /// Sends a packet in; gives the verdict and the packet as it then is.
    pub(crate) fn send(&mut self, interface: usize, bytes: &[u8]) -> (Verdict, Vec<u8>) {
        let mut buffer = [bytes, &[0; Packet::ROOM]].concat();
        let mut packet = Packet::new(&mut buffer, 0..bytes.len()).unwrap();
        let verdict = self.router.process(self.now, interface, &mut packet, &mut self.outbox);
        (verdict, packet.bytes().to_vec())
    }

    /// Sends a packet in that must leave; gives it as it leaves, its checksums right.
    pub(crate) fn forward(&mut self, interface: usize, bytes: &[u8]) -> Vec<u8> {
        let (verdict, bytes) = self.send(interface, bytes);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        let headers = Headers::find(&bytes).unwrap();
        assert!(headers.header_checksum_ok(&bytes) && headers.transport_checksum_ok(&bytes), "{bytes:02x?}");
        bytes
    }

    /// A control connection from [`CLIENT`] to [`SERVER`], both sides having sent a line: the client's next byte is 101,
    /// the server's 501.
    pub(crate) fn login(&mut self) {
        self.forward(LAN, &tcp(CLIENT, SERVER, SYN, 89, 0, ""));
        self.forward(WAN, &tcp(SERVER, OUTSIDE, SYN | ACK, 489, 90, ""));
        self.forward(LAN, &tcp(CLIENT, SERVER, ACK, 90, 490, ""));
        self.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 490, 90, "220 ready\r\n"));
        self.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 90, 501, "USER ftp \r\n"));
    }

    /// Returns the connections as the kernel's table would show them.
    pub(crate) fn table(&self) -> String {
        let mut text = self.router.conntrack().to_proc_text(self.now);
        self.router.conntrack().write_proc_expect(self.now, &mut text).unwrap();
        text
    }
}

/// The payload of a TCP packet as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(Headers::find(bytes).unwrap().payload(bytes)).into_owned()
}

/// Sequence and acknowledgement number of a TCP packet.
pub(crate) fn numbers(bytes: &[u8]) -> (u32, u32) {
    let Layer4::Tcp(segment) = Headers::find(bytes).unwrap().layer4 else { panic!("{bytes:02x?}") };
    (segment.sequence.0, segment.acknowledgement.0)
}
