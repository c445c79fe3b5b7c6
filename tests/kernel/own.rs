//! The machine's own packets: what it sends itself, and what is delivered to it.

use std::net::{Ipv6Addr, SocketAddr};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::wire;

/// Raw sockets: they send packets as they are given, and hear whatever is delivered, with a socket for it or without.
pub(crate) struct Own {
    senders: [OwnedFd; 2],
    v4: Vec<OwnedFd>,
    /// IPv6's tell neither headers nor destination: each hears one address and one protocol.
    v6: Vec<(OwnedFd, Ipv6Addr, u8)>,
}

impl Own {
    /// Opens them on the machine's addresses.
    pub(crate) fn open(interfaces: &[(&str, &[&str], u32)]) -> Result<Self, String> {
        let senders = [raw(AddressFamily::INET, ipproto::RAW)?, raw(AddressFamily::INET6, ipproto::RAW)?];
        let v4 = [ipproto::TCP, ipproto::UDP, ipproto::ICMP].map(|protocol| raw(AddressFamily::INET, protocol));
        let mut v6 = Vec::new();
        let addresses = interfaces.iter().flat_map(|(_, addresses, _)| *addresses);
        let addresses = addresses.filter_map(|text| text.split('/').next()?.parse::<Ipv6Addr>().ok());
        for address in addresses.chain([Ipv6Addr::LOCALHOST]) {
            for (protocol, number) in [(ipproto::TCP, 6), (ipproto::UDP, 17), (ipproto::ICMPV6, 58)] {
                let socket = raw(AddressFamily::INET6, protocol)?;
                let at = SocketAddr::new(address.into(), 0);
                rustix::net::bind(&socket, &at).map_err(|error| format!("bind to {address}: {error}"))?;
                v6.push((socket, address, number));
            }
        }
        Ok(Self { senders, v4: v4.into_iter().collect::<Result<_, _>>()?, v6 })
    }

    /// Sends a packet. What the kernel says of one that its rules drop does not matter: it is not seen leaving.
    pub(crate) fn send(&self, packet: &[u8]) {
        let Some(read) = wire::read(packet) else { return };
        let sender = &self.senders[usize::from(read.to.is_ipv6())];
        let _ = rustix::net::sendto(sender, packet, SendFlags::empty(), &SocketAddr::new(read.to, 0));
    }

    /// Returns the packets that were delivered since the last call.
    pub(crate) fn delivered(&self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        for socket in &self.v4 {
            while let Ok((length, _)) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
                out.push(buffer[..length].to_vec());
            }
        }
        for (socket, to, protocol) in &self.v6 {
            while let Ok((length, _, from)) = rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::empty()) {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok()).map(|from| from.ip());
                let from = from.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
                out.push(wire::ip(&wire::Ip::default(), from, (*to).into(), *protocol, &buffer[..length]));
            }
        }
        out.iter_mut().for_each(|packet| wire::finish_sum(packet));
        out
    }
}

fn raw(family: AddressFamily, protocol: Protocol) -> Result<OwnedFd, String> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::RAW, flags, Some(protocol))
        .map_err(|error| format!("raw socket: {error}"))
}

/// A packet as [`Own::delivered`] tells of it.
pub(crate) fn as_delivered(packet: &[u8]) -> Vec<u8> {
    match wire::read(packet) {
        Some(read) if read.to.is_ipv6() => {
            wire::ip(&wire::Ip::default(), read.from, read.to, read.protocol, packet.get(read.at..).unwrap_or_default())
        }
        _ => packet.to_vec(),
    }
}
