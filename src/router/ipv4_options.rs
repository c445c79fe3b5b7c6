//! IPv4 options of packets on their way.

use core::net::{IpAddr, Ipv4Addr};

use super::Router;
use super::answer::Refusal;
use super::packet_context::PacketContext;
use crate::event::DropReason;
use crate::packet::{IcmpError, IpOptions};

impl Router {
    /// IPv4 options are read, and this router's entries made: behind PREROUTING, before anything else is done with the
    /// packet. One with a source route goes nowhere.
    #[inline(never)]
    pub(super) fn read_options(&mut self, context: &mut PacketContext<'_, '_>) -> Result<(), Refusal> {
        let bytes = context.packet.bytes();
        let [source, destination] = [context.headers.source(bytes), context.headers.destination(bytes)];
        let known_as =
            if self.network.is_local(destination) { Some(destination) } else { self.network.source_towards(source) };
        let entry = self.entry(context.now, known_as.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        let transport = context.headers.transport;
        let read = context.ip_options.insert(IpOptions::default());
        let header = context.packet.bytes_mut().get_mut(..transport).unwrap_or_default();
        if let Err(problem) = read.arrive(header, &entry) {
            return Err(Refusal::with_error(DropReason::IpOptions, IcmpError::parameter_problem(problem.0)));
        }
        if read.has_source_route() { Err(DropReason::IpOptions.into()) } else { Ok(()) }
    }

    /// The packet leaves with the address of this side in its IPv4 options.
    #[inline(never)]
    pub(super) fn write_options(&mut self, read: IpOptions, context: &mut PacketContext<'_, '_>) {
        let destination = context.headers.destination(context.packet.bytes());
        let transport = context.headers.transport;
        if let Some(IpAddr::V4(own)) = self.network.source_towards(destination) {
            read.leave(context.packet.bytes_mut().get_mut(..transport).unwrap_or_default(), own.octets());
        }
        context.headers.fill_header_checksum(context.packet.bytes_mut());
    }
}
