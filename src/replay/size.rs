//! The number of connections in a capture, to size the tables by.

use crate::capture::RecordSource;
use crate::packet::{Headers, Layer4, TcpFlags, link};

/// Counts the TCP connections that begin in a capture, for [`Options::sessions`](super::Options::sessions). A router's
/// capture shows each where it arrives and where it leaves, and counts it twice.
pub fn count_connections(capture: &mut dyn RecordSource) -> u32 {
    let mut connections = 0_u32;
    while let Some(record) = capture.next_record() {
        let Ok(record) = record else { continue };
        let Ok(payload) = link::find_network(record.link_type, record.data) else { continue };
        let packet = record.data.get(payload.offset..).unwrap_or_default();
        let begins = Headers::find(packet).is_ok_and(|headers| match headers.layer4 {
            Layer4::Tcp(segment) => segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::ACK),
            _ => false,
        });
        connections = connections.saturating_add(u32::from(begins));
    }
    connections
}
