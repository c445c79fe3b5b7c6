//! The layers that keep tables: one packet through a router.

extern crate alloc;

use alloc::vec;
use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr};

use ftp_conntrack::Instant;
use ftp_conntrack::netfilter::{Hook, Cidr, Match, NatRange, Rule, TableName, Target};
use ftp_conntrack::packet::Packet;
use ftp_conntrack::router::{RouterConfig, Interface, Outbox, Route, Router, Verdict};

use crate::ensure;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
/// 10.77.1.2:40000 > 198.51.100.9:21, SYN.
const SYN: [u8; 40] = *b"\x45\0\0\x28\0\x01\x40\0\x40\x06\x05\x44\x0a\x4d\x01\x02\xc6\x33\x64\x09\
    \x9c\x40\0\x15\0\0\0\x07\0\0\0\0\x50\x02\xff\xff\0\0\0\0";

/// A masqueraded SYN.
pub fn check() -> Result<(), u8> {
    let mut router = router().ok_or(21)?;
    let mut outbox = Outbox::new(1, 64);
    let mut buffer = [0; SYN.len() + Packet::ROOM];
    buffer[..SYN.len()].copy_from_slice(black_box(&SYN));
    let mut packet = Packet::new(&mut buffer, 0..SYN.len()).map_err(|_| 22)?;
    let verdict = router.process(Instant::from_secs(0), 0, &mut packet, &mut outbox);
    ensure(verdict == Verdict::Forward { interface: 1, next_hop: SERVER }, 23)?;
    ensure(packet.bytes().get(12..16) == Some(&[203, 0, 113, 1]), 24)?;
    ensure(router.conntrack().len() == 1, 25)
}

fn router() -> Option<Router> {
    let lan = Cidr::new(IpAddr::from([10, 77, 1, 0]), 24)?;
    let everywhere = Cidr::new(IpAddr::from([0; 4]), 0)?;
    let mut config = RouterConfig::default();
    config.interfaces = vec![
        Interface::new("lan").with_address([10, 77, 1, 1].into(), 24),
        Interface::new("wan").with_address([203, 0, 113, 1].into(), 24),
    ];
    config.routes = vec![Route::on_link(lan, 0), Route::on_link(everywhere, 1)];
    config.conntrack.limits.connections = 16;
    config.conntrack.limits.expectations = 4;
    config.conntrack.limits.helped = 4;
    config.fragments = 0;
    let masquerade = Rule::new(Target::Masquerade(NatRange::default())).when(Match::OutInterface("wan".into()));
    config.rules4.append(TableName::Nat, Hook::Postrouting, masquerade);
    Router::new(config, [1, 2, 3, 4]).ok()
}
