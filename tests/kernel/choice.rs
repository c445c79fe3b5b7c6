//! The kernel's random choices, read from the packets that left.

use crate::kernel::OnWire;
use crate::wire;

/// The port that the kernel may have chosen for an arriving packet: the one in its text if there is one, else the
/// source port; for a ping, the identifier.
pub(crate) fn of(arrived: &[u8], left: &[OnWire]) -> Option<u16> {
    let arrived = wire::read(arrived)?;
    let same = |packet: &&OnWire| wire::read(&packet.bytes).is_some_and(|read| read.protocol == arrived.protocol);
    let packet = left.iter().find(same)?;
    let read = wire::read(&packet.bytes)?;
    if read.is_fragment {
        // The first part has the ports, behind the fragment header of IPv6.
        let at = read.at + if read.to.is_ipv6() { 8 } else { 0 };
        return Some(u16::from_be_bytes(packet.bytes.get(at..at + 2)?.try_into().ok()?));
    }
    match &read.tcp {
        Some(tcp) => announced(&tcp.data).or(read.ports.map(|(source, _)| source)),
        None if matches!(read.protocol, 17 | 132 | 136) => read.ports.map(|(source, _)| source),
        None => Some(u16::from_be_bytes(packet.bytes.get(read.at + 4..read.at + 6)?.try_into().ok()?)),
    }
}

/// The port in the text of an announcement.
pub(crate) fn announced(data: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(data);
    crate::text::host_port(&text).map(|at| at.port()).or_else(|| crate::text::extended(&text).map(|(_, port)| port))
}
