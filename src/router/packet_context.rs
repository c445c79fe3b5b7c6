//! A packet on its way, and what the steps found out about it.
//!
//! What a step finds out is written once, here or beside it, and asked for here: values that are put together from small
//! fields and then copied whole cost more than most steps.

use core::net::IpAddr;

use super::Egress;
use crate::Instant;
use crate::conntrack::{Probe, Tracked};
use crate::netfilter::SkippedTables;
use crate::packet::{Headers, IpOptions, Layer4, Packet, TcpFlags};

/// A packet on its way.
pub(super) struct PacketContext<'t, 'b> {
    pub(super) now: Instant,
    pub(super) packet: &'t mut Packet<'b>,
    pub(super) headers: &'t mut Headers,
    pub(super) probe: &'t mut Option<Probe>,
    pub(super) tracked: Tracked,
    /// Which tables need not be asked about it, once it is tracked.
    pub(super) skipped: SkippedTables,
    pub(super) in_interface: Option<usize>,
    pub(super) out_interface: Option<usize>,
    /// Egress, once the packet was routed.
    pub(super) egress: Egress,
    /// The longest packet that the link takes by which it leaves.
    pub(super) mtu: usize,
    /// The longest part it came in, if it came in parts.
    pub(super) longest_part: Option<usize>,
    /// The load balancer has had it (`ipvs_property`).
    pub(super) balanced: bool,
    /// This machine sent it to itself, and it arrived.
    pub(super) came_back: bool,
    /// The link that link-local addresses belong to, of a packet that this machine makes: the interface by which came what
    /// it answers.
    pub(super) link: Option<usize>,
    /// The IPv4 options it bears, once they were read.
    pub(super) ip_options: Option<IpOptions>,
    /// True if its text was rewritten, by the helper or the load balancer.
    pub(super) rewritten: bool,
}

impl<'t, 'b> PacketContext<'t, 'b> {
    /// A packet before its first hook; without an interface, one that this machine makes.
    #[inline]
    pub(super) const fn new(
        now: Instant,
        packet: &'t mut Packet<'b>,
        headers: &'t mut Headers,
        probe: &'t mut Option<Probe>,
        in_interface: Option<usize>,
    ) -> Self {
        Self {
            now,
            packet,
            headers,
            probe,
            tracked: Tracked::UNTRACKED,
            skipped: SkippedTables::NONE,
            in_interface,
            out_interface: None,
            egress: Egress::Local,
            mtu: usize::MAX,
            longest_part: None,
            balanced: false,
            came_back: false,
            link: None,
            ip_options: None,
            rewritten: false,
        }
    }
}

impl PacketContext<'_, '_> {
    /// Returns true if the packet may begin a connection.
    #[inline]
    pub(super) fn may_begin(&self) -> bool {
        let begins = match self.headers.layer4 {
            Layer4::Tcp(segment) => segment.flags.has(TcpFlags::SYN),
            layer4 => layer4 == Layer4::Unreadable,
        };
        begins || self.probe.as_ref().is_none_or(Probe::finds_nobody)
    }

    #[inline]
    pub(super) const fn leaves_by(&mut self, interface: usize, next_hop: &IpAddr, mtu: usize) {
        self.mtu = mtu;
        self.out_interface = Some(interface);
        self.egress = Egress::Forward { interface, next_hop: *next_hop };
    }
}
