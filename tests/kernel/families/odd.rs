//! Whole packets of every odd kind: addresses, options, extension headers, fragments, checksums, protocols; and kernel
//! settings that decide what becomes of them.

use std::net::IpAddr;

use super::{DMZ, IN, MASQUERADE, Net, OUT, Play, any_nat};
use crate::rng::Rng;
use crate::setup::{HELPER, Rules, Setup};
use crate::wire::{self, ACK, FIN, Ip, PSH, RST, SYN, Tcp, udp};
use crate::world::{MSS, World, at};

/// Odd packets through a router with the usual settings.
pub(super) fn odd(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let setup = setup(rng, &net);
    (setup, Box::new(move |w| play(w, &net)))
}

/// The same where a few settings are drawn at random.
pub(super) fn sysctls(rng: &mut Rng) -> (Setup, Play) {
    let net = Net::any(rng);
    let mut setup = setup(rng, &net);
    for _ in 0..rng.range(1, 4) {
        let on = |rng: &mut Rng, names: &[&'static str]| (rng.pick(names), 1);
        let (key, value) = match rng.range(0, 9) {
            0 => {
                let names =
                    ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.in.rp_filter", "net.ipv4.conf.out.rp_filter"];
                (rng.pick(&names), rng.range(1, 3))
            }
            1 => on(rng, &["net.ipv4.conf.all.accept_local", "net.ipv4.conf.in.accept_local"]),
            2 => on(rng, &["net.ipv4.conf.all.route_localnet", "net.ipv4.conf.dmz.route_localnet"]),
            3 => (rng.pick(&["net.ipv4.conf.in.forwarding", "net.ipv4.conf.out.forwarding"]), 0),
            4 if rng.percent(30) => (rng.pick(&["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]), 0),
            5 => ("net.ipv4.ip_default_ttl", rng.range(1, 256)),
            6 => on(rng, &["net.ipv4.icmp_errors_use_inbound_ifaddr"]),
            7 => (rng.pick(&["net.ipv6.conf.in.hop_limit", "net.ipv6.conf.out.hop_limit"]), rng.range(1, 256)),
            _ => ("net.netfilter.nf_conntrack_checksum", 0),
        };
        if setup.sysctl.iter().all(|(known, _)| known != key) {
            setup = setup.with_sysctl(key, value);
        }
    }
    (setup, Box::new(move |w| play(w, &net)))
}

fn setup(rng: &mut Rng, net: &Net) -> Setup {
    let nat = if rng.percent(50) { MASQUERADE.to_owned() } else { any_nat(rng, net) };
    let filter = rng.pick(&[
        "",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A FORWARD -p udp -m udp --dport 99 -j REJECT\n-A FORWARD -p tcp -m tcp --dport 99 -j REJECT --reject-with tcp-reset",
    ]);
    Setup::new(net.v6, &Rules { raw: HELPER.to_owned(), nat, filter: filter.to_owned(), ..Rules::empty() })
}

fn play(w: &mut World<'_>, net: &Net) {
    for _ in 0..w.rng.range(2, 9) {
        let interface = w.rng.pick(&[IN, IN, OUT, DMZ]);
        let (from, to) = (source(w, net), destination(w, net));
        let anycast = parse(&["fd77:1::", "2001:db8:1::"]);
        let is_own = from.is_loopback() || [net.router_in, net.router_out].contains(&from) || anycast.contains(&from);
        let is_to_itself = to.is_loopback() || [net.router_in, net.router_out].contains(&to);
        if is_own && (net.v6 || is_to_itself) {
            // The machine's answers to itself are not seen.
            continue;
        }
        let packet = packet(w, net, from, to);
        if to.is_multicast() && packet.get(6) == Some(&60) {
            // Destination options are the machine's own to read, as a host.
            continue;
        }
        w.carry(interface, &packet);
    }
}

fn parse(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().filter_map(|text| text.parse().ok()).collect()
}

fn source(w: &mut World<'_>, net: &Net) -> IpAddr {
    let odd = match net.v6 {
        false => parse(&[
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "10.77.0.0",
            "10.77.9.9",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "169.254.1.1",
            "203.0.113.77",
        ]),
        true => parse(&["::", "::1", "::2", "fe80::9", "ff02::1", "fd77:1::", "fec0::1", "4000::1", "2001:db8:1::77"]),
    };
    let usual = [net.client, net.server, net.dmz, net.router_in, net.router_out, net.stranger];
    if w.rng.percent(40) { w.rng.pick(&odd) } else { w.rng.pick(&usual) }
}

fn destination(w: &mut World<'_>, net: &Net) -> IpAddr {
    let odd = match net.v6 {
        false => parse(&[
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "10.77.255.255",
            "203.0.113.255",
            "203.0.113.0",
            "224.0.0.1",
            "224.0.0.9",
            "255.255.255.255",
            "240.0.0.1",
        ]),
        true => parse(&[
            "::",
            "::1",
            "::2",
            "fe80::9",
            "ff01::1",
            "ff02::1",
            "ff02::2",
            "ff05::2",
            "ff02::fb",
            "ff0e::1",
            "fd77:1::",
            "2001:db8:1::",
            "4000::1",
            "ff02::1:ff00:1",
        ]),
    };
    let usual = [net.client, net.server, net.server, net.dmz, net.router_in, net.stranger];
    if w.rng.percent(35) { w.rng.pick(&odd) } else { w.rng.pick(&usual) }
}

/// A packet, with something odd about it more often than not.
fn packet(w: &mut World<'_>, net: &Net, from: IpAddr, to: IpAddr) -> Vec<u8> {
    let (port, target) = (w.rng.port(), w.rng.pick(&[21, 53, 99]));
    let mut ip = Ip { ttl: w.rng.pick(&[64, 64, 64, 1, 2, 0]), ..w.ip() };
    let protocol = w.rng.pick(&[6, 17, 6, 17, 59, 253]);
    if net.v6 && w.rng.percent(50) {
        ip.options = extensions(w, protocol);
    }
    let length = w.rng.pick(&[1, 1, 8, 40, 1300]);
    let mut packet = match protocol {
        6 => {
            let flags = w.rng.pick(&[SYN, SYN, ACK, PSH | ACK, FIN | ACK, RST, SYN | ACK]);
            let options = if flags & SYN == 0 { &[][..] } else { MSS };
            let data = if flags & SYN == 0 { vec![b'y'; length] } else { Vec::new() };
            let tcp =
                Tcp { options: options.to_vec(), data, ..Tcp::new(flags, w.rng.u32(), u32::from(flags & ACK != 0)) };
            tcp.packet(&ip, at(from, port), at(to, target))
        }
        17 => udp(&ip, at(from, port), at(to, target), &vec![b'y'; length]),
        _ => wire::ip(&ip, from, to, protocol, &vec![b'y'; length]),
    };
    if w.rng.percent(8) {
        let last = packet.len() - 1;
        packet[last] ^= 1 << w.rng.below(8);
    }
    packet
}

/// Extension headers, the number of the first one before them.
fn extensions(w: &mut World<'_>, protocol: u8) -> Vec<u8> {
    const HOP_BY_HOP: &[&[u8]] = &[
        &[1, 4, 0, 0, 0, 0],
        &[1, 4, 0, 1, 0, 0],
        &[5, 2, 0, 0, 1, 0],
        &[5, 3, 0, 0, 0, 0],
        &[0x1e, 4, 0, 0, 0, 0],
        &[0x5e, 4, 0, 0, 0, 0],
        &[0x9e, 4, 0, 0, 0, 0],
        &[0xde, 4, 0, 0, 0, 0],
        &[0xc2, 4, 0, 1, 0, 1],
        &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x1e, 9, 0, 0, 0, 0],
    ];
    let options = w.rng.pick(HOP_BY_HOP);
    let header = |next: u8| [&[next, (options.len() / 8) as u8][..], options].concat();
    // Identifications that no other dialogue uses: fragments wait for each other.
    let identification = w.rng.u32();
    let fragment = |more| wire::fragment_header(protocol, 0, more, identification);
    match w.rng.range(0, 7) {
        0 | 1 => [vec![0], header(protocol)].concat(),
        2 => [vec![60], header(protocol)].concat(),
        3 => [vec![44], fragment(false)].concat(),
        4 => [vec![44], fragment(true)].concat(),
        5 => [vec![60], header(44), fragment(false)].concat(),
        _ => vec![43, protocol, 0, 0, 0, 0, 0, 0, 0],
    }
}
