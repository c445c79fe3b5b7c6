//! Families of dialogues. A seed decides on the configuration and on all that is said.

mod expectations;
mod ftp;
mod host;
mod nft;
mod odd;
mod packets;
mod streams;
mod transports;
mod words;

use std::net::IpAddr;

use crate::rng::Rng;
use crate::session::{Ends, Session};
use crate::setup::Setup;
use crate::world::World;

/// The dialogue that follows once the configuration is loaded.
pub(crate) type Play = Box<dyn FnOnce(&mut World<'_>)>;

/// A kind of dialogue.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) plan: fn(&mut Rng) -> (Setup, Play),
    /// In how many of a hundred turns it takes part; less than all for those that wait; 0 for those
    /// that are only asked by name.
    pub(crate) share: u32,
}

const fn family(name: &'static str, plan: fn(&mut Rng) -> (Setup, Play)) -> Family {
    Family { name, plan, share: 100 }
}

pub(crate) const FAMILIES: &[Family] = &[
    family("masquerade", ftp::masquerade),
    family("snat", ftp::snat),
    family("collide", ftp::collide),
    family("dnat", ftp::dnat),
    family("dnat_port", ftp::dnat_port),
    family("both", ftp::both),
    family("firewall", ftp::firewall),
    family("foreign", ftp::foreign),
    family("ugly", ftp::ugly),
    family("marks", ftp::marks),
    family("nohelper", ftp::nohelper),
    family("helper_ports", ftp::helper_ports),
    family("chains", ftp::chains),
    family("ranges", ftp::ranges),
    family("zones", ftp::zones),
    family("shuffle", streams::shuffle),
    family("segments", streams::segments),
    family("pickup", streams::pickup),
    family("scaled", streams::scaled),
    family("reuse", streams::reuse),
    family("few_ports", streams::few_ports),
    Family { share: 1, ..family("expire", streams::expire) },
    Family { share: 0, ..family("expectations", expectations::expectations) },
    family("options", streams::options),
    family("others", packets::others),
    family("errors", packets::errors),
    family("datagrams", packets::datagrams),
    family("headers", packets::headers),
    family("fragments", packets::fragments),
    family("local", packets::local),
    family("host", host::host),
    family("odd", odd::odd),
    family("sysctls", odd::sysctls),
    family("rejects", packets::rejects),
    family("nft", nft::nft),
    family("nft_nat", nft::nft_nat),
    family("nft_meters", nft::nft_meters),
    family("nft_between", nft::nft_between),
    family("nft_host", nft::nft_host),
    family("sctp", transports::sctp),
    Family { share: 1, ..family("sctp_expire", transports::sctp_expire) },
    family("transports", transports::transports),
    family("words", words::words),
    Family { share: 0, ..family("memory", words::memory) },
    family("edits", words::edits),
];

pub(crate) const IN: usize = 0;
pub(crate) const OUT: usize = 1;
pub(crate) const DMZ: usize = 2;

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) v6: bool,
    pub(crate) client: IpAddr,
    pub(crate) client2: IpAddr,
    pub(crate) inner: IpAddr,
    pub(crate) server: IpAddr,
    pub(crate) router_in: IpAddr,
    pub(crate) router_out: IpAddr,
    pub(crate) dmz: IpAddr,
    pub(crate) stranger: IpAddr,
    /// An address of the outer network that is not the router's own.
    pub(crate) spare: &'static str,
    pub(crate) inside: &'static str,
}

impl Net {
    pub(crate) fn of(v6: bool) -> Self {
        let address = |v4: &str, six: &str| -> IpAddr {
            (if v6 { six } else { v4 }).parse().unwrap_or_else(|_| unreachable!("an address"))
        };
        Self {
            v6,
            client: address("10.77.1.2", "fd77:1::2"),
            client2: address("10.77.1.177", "fd77:1::177"),
            inner: address("10.77.1.11", "fd77:1::11"),
            server: address("198.51.100.9", "2001:db8:9::9"),
            router_in: address("10.77.1.1", "fd77:1::1"),
            router_out: address("203.0.113.1", "2001:db8:1::1"),
            dmz: address("172.16.5.9", "fd77:5::9"),
            stranger: address("192.0.2.33", "2001:db8:33::33"),
            spare: if v6 { "2001:db8:1::200" } else { "203.0.113.200" },
            inside: if v6 { "fd77:1::/64" } else { "10.77.0.0/16" },
        }
    }

    /// One family or the other.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        Self::of(rng.percent(40))
    }

    /// From the inside to the server outside.
    pub(crate) fn outward(&self) -> Ends {
        Ends::new((IN, self.client), (OUT, self.server), self.server)
    }

    /// From the outside to the server inside, known by the router's address.
    pub(crate) fn inward(&self) -> Ends {
        Ends::new((OUT, self.server), (IN, self.inner), self.router_out)
    }

    /// `ADDRESS` as a rule's `-d` has it.
    pub(crate) const fn bits(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    /// `ADDRESS:PORT` as `--to-destination` has it.
    pub(crate) fn with_port(&self, address: impl std::fmt::Display, port: impl std::fmt::Display) -> String {
        if self.v6 { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }
}

/// Now and then a setting that is not the kernel's default.
pub(crate) fn settings(rng: &mut Rng, setup: Setup) -> Setup {
    match rng.range(0, 100) {
        0..6 => setup.with("tcp_be_liberal", 1),
        6..12 => setup.with("tcp_loose", 0),
        12..24 => setup.with("acct", 1),
        24..28 => setup.with("tcp_ignore_invalid_rst", 1),
        28..31 => setup.with("tcp_max_retrans", 1),
        31..34 => setup.with("checksum", 0),
        _ => setup,
    }
}

/// Opens these sessions and plays each to its end.
pub(crate) fn play(w: &mut World<'_>, ends: &[Ends]) {
    for ends in ends {
        if let Some(session) = Session::open(w, ends.clone()) {
            session.play(w);
        }
    }
}

/// One of the usual ways out.
pub(crate) fn any_nat(rng: &mut Rng, net: &Net) -> String {
    match rng.range(0, 4) {
        0 => String::new(),
        1 | 2 => MASQUERADE.to_owned(),
        _ => format!("-A POSTROUTING -o out -j SNAT --to-source {}", net.spare),
    }
}

pub(crate) const MASQUERADE: &str = "-A POSTROUTING -o out -j MASQUERADE";
