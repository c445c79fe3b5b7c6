//! A packet under evaluation: what rules may ask and change, and the machine that they ask about.

use core::fmt;
use core::net::IpAddr;

use super::memory::RuleMemory;
use super::nft::NftState;
use super::rules::{AddressMask, AddressTypes, RejectWith};
use crate::Instant;
use crate::conntrack::{Template, Tracked};
use crate::nat::{NatRange, PortRange};
use crate::packet::{Headers, Packet, Protocol};

/// Verdict of a table on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleVerdict {
    /// It passes.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and its sender is told.
    Reject(RejectWith),
    /// One end of its connection is mapped into a range.
    Map(NatRange),
    /// The source becomes the address of the interface it leaves by.
    Masquerade(NatRange),
    /// The destination becomes this machine.
    Redirect(NatRange),
    /// The network of one end changes, and its host stays.
    Netmap(AddressMask),
}

/// Decisions of table raw on tracking a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tracking {
    /// Nothing: it is tracked as usual.
    #[default]
    Usual,
    /// It is not tracked.
    None,
    /// It is tracked so.
    Template(Template),
}

/// Host information that matches can query (addrtype, path MTU).
pub trait HostInfo {
    /// Returns what kind of address this is to the machine.
    fn address_type(&self, address: IpAddr) -> AddressTypes;
    /// The longest packet that fits on the links towards both ends.
    fn path_mtu(&self, source: IpAddr, destination: IpAddr) -> usize;
    /// Returns what kind of address this is by the routes: of one interface, if it is limited to one.
    fn route_type(&self, address: IpAddr, interface: Option<usize>) -> AddressTypes {
        let _ = interface;
        self.address_type(address)
    }
    /// Returns where a packet to this address would go.
    fn way_back(&self, address: IpAddr) -> WayBack {
        let _ = address;
        WayBack::Nowhere
    }
    /// Returns true if this machine sends to itself by the interface.
    fn is_loopback(&self, interface: usize) -> bool {
        let _ = interface;
        false
    }
}

/// The route of a packet back to the sender of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum WayBack {
    /// To this machine.
    Local,
    /// By the interface of this number.
    Via(usize),
    /// Nowhere.
    Nowhere,
}

/// A packet, and all that rules may ask or change about it.
#[allow(clippy::exhaustive_structs)]
pub struct EvalContext<'p, 'b> {
    /// The packet, its firewall mark with it.
    pub packet: &'p mut Packet<'b>,
    /// Headers of the packet.
    pub headers: &'p mut Headers,
    /// The number of the interface it arrived on.
    pub in_interface: Option<usize>,
    /// The number of the interface it leaves by.
    pub out_interface: Option<usize>,
    /// Result of connection tracking; `None` before conntrack ran.
    pub tracked: Option<&'p Tracked>,
    /// Decisions of table raw.
    pub tracking: &'p mut Tracking,
    /// The machine's addresses and links.
    pub surroundings: &'p dyn HostInfo,
    /// The time.
    pub now: Instant,
    /// State that rules of nftables keep between packets.
    pub nft: &'p mut NftState,
    /// State of rules of iptables.
    pub memory: &'p mut RuleMemory,
    /// A match wanted a header that is not all there: the packet is dropped, whatever the rule says.
    pub hot_drop: bool,
    /// The number of the last LOG rule that was met.
    pub logged: Option<usize>,
    /// The number of the last rule that was met and is not understood.
    pub not_understood: Option<usize>,
}

impl fmt::Debug for EvalContext<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvalContext").field("tracked", &self.tracked).finish_non_exhaustive()
    }
}

/// Bytes of the transport header that a match needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// All of it but options or chunks: `-m tcp`, `-m udp`, `-m sctp`.
    Header,
    /// The ports: `-m multiport`.
    Ports,
}

impl Wants {
    /// Several ranges can only be multiport's.
    pub(super) const fn of(ranges: &[PortRange]) -> Self {
        if ranges.len() == 1 { Self::Header } else { Self::Ports }
    }
}

impl EvalContext<'_, '_> {
    /// The ports of a packet that is not a later fragment. One that does not even show what the match wants to see is to
    /// be dropped (`hotdrop`).
    #[inline]
    pub(super) fn ports(&mut self, wants: Wants) -> Option<(u16, u16)> {
        let bytes = self.packet.bytes();
        let shown = self.headers.end.min(bytes.len()).saturating_sub(self.headers.transport);
        let wanted = match (wants, self.headers.protocol) {
            (Wants::Ports, _) => 4,
            (Wants::Header, Protocol::TCP) => 20,
            (Wants::Header, Protocol::SCTP) => 12,
            (Wants::Header, _) => 8,
        };
        let later_part = self.headers.fragment.is_some_and(|fragment| fragment.offset != 0);
        if shown < wanted && !later_part {
            self.hot_drop = true;
            return None;
        }
        self.headers.ports(bytes)
    }
}
