//! From a capture's frames to packets on the router's interfaces.

use std::vec::Vec;

use super::Summary;
use super::carriage::Carriage;
use crate::Instant;
use crate::capture::{Direction, ReadError, Record, RecordSource};
use crate::packet::link::{self, Cooked, LinkType, PacketType};
use crate::packet::{Headers, Side};
use crate::router::Router;

/// A packet of the capture.
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) time: Instant,
    /// The router's number of the interface.
    pub(super) interface: usize,
    pub(super) direction: Direction,
    /// True if each interface was recorded on its own, so that frames of two may lie in the file in another order than
    /// that of their times.
    pub(super) unordered: bool,
    /// What a network card did, or will do, to the packet.
    pub(super) carriage: Carriage,
    pub(super) bytes: Vec<u8>,
}

/// Makes frames of records, and uses their buffers again.
pub(super) struct Frames {
    /// The kernel's index of each interface.
    indexes: Vec<u32>,
    /// The link-layer address of each interface, where it has one.
    link_addresses: Vec<Option<[u8; 6]>>,
    /// True for each interface that is a port of another device, which has a copy of each of its frames.
    is_port: Vec<bool>,
    /// True if every frame is one that arrived on the first interface.
    anywhere: bool,
    spare: Vec<Vec<u8>>,
}

/// The kind of a record that is no frame.
enum Other {
    NotIp,
    Ignored,
    Cut,
}

impl Frames {
    pub(super) const fn new(indexes: Vec<u32>, link_addresses: Vec<Option<[u8; 6]>>, is_port: Vec<bool>) -> Self {
        Self { indexes, link_addresses, is_port, anywhere: false, spare: Vec::new() }
    }

    /// Takes frames of any device and direction for arrived on the only interface.
    pub(super) const fn anywhere() -> Self {
        Self { indexes: Vec::new(), link_addresses: Vec::new(), is_port: Vec::new(), anywhere: true, spare: Vec::new() }
    }

    /// The next packet on one of the router's interfaces; other frames are counted.
    pub(super) fn next(
        &mut self,
        capture: &mut dyn RecordSource,
        router: &Router,
        summary: &mut Summary,
    ) -> Option<Result<Frame, ReadError>> {
        loop {
            let record = match capture.next_record()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            match self.frame(&record, router) {
                Ok(frame) => return Some(Ok(frame)),
                Err(Other::NotIp) => summary.not_ip += 1,
                Err(Other::Ignored) => summary.ignored += 1,
                Err(Other::Cut) => summary.cut += 1,
            }
        }
    }

    pub(super) fn recycle(&mut self, frame: Frame) {
        self.spare.push(frame.bytes);
    }

    fn frame(&mut self, record: &Record<'_>, router: &Router) -> Result<Frame, Other> {
        let payload = link::find_network(record.link_type, record.data).map_err(|_| Other::NotIp)?;
        if payload.family.is_none() {
            return Err(Other::NotIp);
        }
        let packet = record.data.get(payload.offset..).unwrap_or_default();
        let direction = match payload.cooked {
            _ if self.anywhere => Direction::In,
            Some(cooked) => cooked_direction(cooked)?,
            None => record.direction,
        };
        if record.data.len() < record.original_len && Headers::find(packet).is_err() {
            return Err(Other::Cut);
        }
        let named = record.interface_name.map(|name| router.interfaces().iter().position(|i| i.name == name));
        let indexed = payload
            .cooked
            .and_then(|cooked| cooked.interface)
            .map(|index| self.indexes.iter().position(|known| *known == index));
        let interface = match indexed.or(named) {
            _ if self.anywhere => 0,
            Some(interface) => interface.ok_or(Other::Ignored)?,
            None => by_address(packet, direction, router).ok_or(Other::Ignored)?,
        };
        if self.is_port.get(interface).is_some_and(|is_port| *is_port) {
            return Err(Other::Ignored);
        }
        let unordered = direction == Direction::Unknown;
        let direction = if unordered { self.direction_on(interface, record)? } else { direction };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(packet);
        Ok(Frame {
            number: record.frame,
            time: record.time,
            interface,
            direction,
            unordered,
            carriage: Carriage::default(),
            bytes,
        })
    }
}

impl Frames {
    /// Returns the direction of a frame that has no flag of it, as `dumpcap` records frames: what the interface sends
    /// has its own address as source. A frame for another host's address is not the router's.
    fn direction_on(&self, interface: usize, record: &Record<'_>) -> Result<Direction, Other> {
        let own = self.link_addresses.get(interface).copied().flatten();
        let (Some(own), LinkType::ETHERNET) = (own, record.link_type) else { return Ok(Direction::Unknown) };
        let Some([to, from]) = link::ethernet_addresses(record.data) else { return Ok(Direction::Unknown) };
        if from == own {
            return Ok(Direction::Out);
        }
        let is_for_group = to[0] & 1 == 1;
        if to == own || is_for_group { Ok(Direction::In) } else { Err(Other::Ignored) }
    }
}

fn cooked_direction(cooked: Cooked) -> Result<Direction, Other> {
    match cooked.packet_type {
        PacketType::Outgoing => Ok(Direction::Out),
        PacketType::OtherHost => Err(Other::Ignored),
        _ => Ok(Direction::In),
    }
}

/// Picks the interface that leads to the packet's source or destination, where nothing names it.
fn by_address(packet: &[u8], direction: Direction, router: &Router) -> Option<usize> {
    let headers = Headers::find_cut(packet).ok()?;
    let side = if direction == Direction::Out { Side::Destination } else { Side::Source };
    let address = match side {
        Side::Source => headers.source(packet),
        Side::Destination => headers.destination(packet),
    };
    router.interface_towards(address)
}
