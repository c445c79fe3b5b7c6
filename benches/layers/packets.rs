//! Packets for benchmarks and tests, made in place: nothing here allocates.

use core::net::{IpAddr, SocketAddr};

use ftp_conntrack::packet::{Packet, Protocol, TcpFlags, checksum};

pub(crate) const SYN: u8 = TcpFlags::SYN;
pub(crate) const SYN_ACK: u8 = TcpFlags::SYN | TcpFlags::ACK;
pub(crate) const ACK: u8 = TcpFlags::ACK;
pub(crate) const DATA: u8 = TcpFlags::PSH | TcpFlags::ACK;

/// MSS 1460, window scale 0, SACK permitted, and padding: what a SYN usually offers.
pub(crate) const SYN_OPTIONS: [u8; 12] = [2, 4, 5, 0xb4, 3, 3, 0, 1, 4, 2, 1, 1];

/// A packet of at most 192 bytes, with [`Packet::ROOM`] behind it.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    buffer: [u8; 192 + Packet::ROOM],
    len: usize,
}

impl Frame {
    /// An IP packet with a hop limit of 64 around a transport header and what it carries, checksums right.
    ///
    /// `sum_at` is where in `transport` the checksum stands. Panics when it does not fit, or when the families differ.
    fn ip(protocol: Protocol, source: IpAddr, destination: IpAddr, sum_at: usize, transport: [&[u8]; 3]) -> Self {
        let mut frame = Self { buffer: [0; 192 + Packet::ROOM], len: 0 };
        let len: usize = transport.iter().map(|part| part.len()).sum();
        let header = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [high, low] = (20 + len as u16).to_be_bytes();
                frame.push(&[0x45, 0, high, low, 0, 1, 0x40, 0, 64, protocol.0, 0, 0]);
                frame.push(&source.octets());
                frame.push(&destination.octets());
                frame.fill_sum(10, 0..20, 0);
                20
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let [high, low] = (len as u16).to_be_bytes();
                frame.push(&[0x60, 0, 0, 0, high, low, protocol.0, 64]);
                frame.push(&source.octets());
                frame.push(&destination.octets());
                40
            }
            _ => panic!("{source} and {destination} are of different families"),
        };
        for part in transport {
            frame.push(part);
        }
        assert!(frame.len <= 192, "too long");
        let addresses = if header == 20 { 12..20 } else { 8..40 };
        let start = match protocol {
            Protocol::ICMP => 0,
            _ => checksum::pseudo_header(&frame.buffer[addresses], protocol.0, len),
        };
        frame.fill_sum(header + sum_at, header..frame.len, start);
        frame
    }

    /// A TCP segment with a window of 65535. Options have to fill words.
    pub(crate) fn tcp(
        ends: (SocketAddr, SocketAddr),
        flags: u8,
        seq: u32,
        ack: u32,
        options: &[u8],
        text: &[u8],
    ) -> Self {
        let (source, destination) = ends;
        let mut header = [0; 20];
        header[..2].copy_from_slice(&source.port().to_be_bytes());
        header[2..4].copy_from_slice(&destination.port().to_be_bytes());
        header[4..8].copy_from_slice(&seq.to_be_bytes());
        header[8..12].copy_from_slice(&ack.to_be_bytes());
        header[12] = (((20 + options.len()) / 4) << 4) as u8;
        header[13] = flags;
        header[14..16].copy_from_slice(&[0xff, 0xff]);
        Self::ip(Protocol::TCP, source.ip(), destination.ip(), 16, [&header, options, text])
    }

    /// A UDP packet.
    #[allow(dead_code, reason = "not every user of this module sends UDP")]
    pub(crate) fn udp(source: SocketAddr, destination: SocketAddr, text: &[u8]) -> Self {
        let mut header = [0; 8];
        header[..2].copy_from_slice(&source.port().to_be_bytes());
        header[2..4].copy_from_slice(&destination.port().to_be_bytes());
        header[4..6].copy_from_slice(&(8 + text.len() as u16).to_be_bytes());
        Self::ip(Protocol::UDP, source.ip(), destination.ip(), 6, [&header, text, &[]])
    }

    /// An ICMP message (IPv4) of one type, whose second word and contents are given.
    #[allow(dead_code, reason = "not every user of this module sends ICMP")]
    pub(crate) fn icmp(source: IpAddr, destination: IpAddr, kind: u8, word: [u8; 4], contents: &[u8]) -> Self {
        Self::ip(Protocol::ICMP, source, destination, 2, [&[kind, 0, 0, 0], &word, contents])
    }

    /// The packet, from its IP header.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The packet with its room.
    pub(crate) fn packet(&mut self) -> Packet<'_> {
        Packet::new(&mut self.buffer, 0..self.len).expect("it stands in its buffer")
    }

    /// Lets `call` change the packet, and keeps what became of it.
    pub(crate) fn change<T>(&mut self, call: impl FnOnce(&mut Packet<'_>) -> T) -> T {
        let mut packet = self.packet();
        let result = call(&mut packet);
        self.len = packet.range().end;
        result
    }

    /// The first `len` bytes of another.
    #[allow(dead_code, reason = "not every user of this module damages packets")]
    pub(crate) fn cut(&self, len: usize) -> Self {
        Self { len: len.min(self.len), ..*self }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Writes the checksum of `range`, at `at`.
    fn fill_sum(&mut self, at: usize, range: core::ops::Range<usize>, start: u32) {
        let sum = checksum::fold(checksum::sum(&self.buffer[range], start));
        self.buffer[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
