//! From a capture's frames to packets on the router's interfaces.

use core::hash::BuildHasher;
use core::time::Duration;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::format;
use std::string::{String, ToString};
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
    /// Nanoseconds after `time`.
    pub(super) nanos: u32,
    /// The router's number of the interface.
    pub(super) interface: usize,
    pub(super) direction: Direction,
    /// True if each interface was recorded on its own, so that frames of two may lie in the file in another order than
    /// that of their times.
    pub(super) unordered: bool,
    /// Work of a network card on the packet, done or to come.
    pub(super) carriage: Carriage,
    pub(super) bytes: Vec<u8>,
}

/// The devices in the router's files, by the number of the interface.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// The kernel's index.
    pub(super) indexes: Vec<u32>,
    /// The link-layer address, where it has one.
    pub(super) link_addresses: Vec<Option<[u8; 6]>>,
    /// True for a port of another device, which has a copy of each of its frames.
    pub(super) is_port: Vec<bool>,
    /// Number of times that a capture of all devices shows a frame: there, and on each device below.
    pub(super) copies: Vec<u32>,
    /// True if another device sends through it.
    pub(super) has_children: Vec<bool>,
}

/// Makes frames of records, and uses their buffers again.
pub(super) struct Frames {
    devices: Devices,
    /// True if every frame is taken for one that arrived on the first interface.
    anywhere: bool,
    spare: Vec<Vec<u8>>,
    /// Number of times that frames were seen, by hash of interface, direction and bytes, and the last time.
    seen: HashMap<u64, (u32, Instant)>,
    hasher: RandomState,
}

/// The kind of a record that is no frame.
enum Other {
    NotIp,
    /// A frame on another device, by name, or for another host.
    Ignored(String),
    Cut,
}

/// Time within which a frame's copies on other devices follow it.
const COPIES_FOLLOW: Duration = Duration::from_millis(100);
/// Maximum number of frames that are remembered to recognise copies.
const MOST_SEEN: usize = 4096;

impl Frames {
    pub(super) fn new(devices: Devices) -> Self {
        Self { devices, anywhere: false, spare: Vec::new(), seen: HashMap::new(), hasher: RandomState::new() }
    }

    /// Takes frames of any device and direction for arrived on the only interface.
    pub(super) fn anywhere() -> Self {
        Self { anywhere: true, ..Self::new(Devices::default()) }
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
                Err(Other::Ignored(device)) => {
                    summary.ignored += 1;
                    *summary.ignored_on.entry(device).or_default() += 1;
                }
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
            Some(cooked) => cooked_direction(cooked).ok_or_else(|| Other::Ignored(FOR_OTHERS.into()))?,
            None => record.direction,
        };
        if record.data.len() < record.original_len && Headers::find(packet).is_err() {
            return Err(Other::Cut);
        }
        let named = record.interface_name.map(|name| router.interfaces().iter().position(|i| i.name == name));
        let indexed = payload
            .cooked
            .and_then(|cooked| cooked.interface)
            .map(|index| self.devices.indexes.iter().position(|known| *known == index));
        let interface = match indexed.or(named) {
            _ if self.anywhere => 0,
            Some(interface) => interface.ok_or_else(|| Other::Ignored(device_of(record, payload.cooked)))?,
            None => {
                let interface = by_address(packet, direction, router);
                let interface = interface.ok_or_else(|| Other::Ignored("a device that no route names".into()))?;
                if self.is_copy(interface, direction, record.time, packet) {
                    return Err(Other::Ignored("copies on ports".into()));
                }
                interface
            }
        };
        let name = || router.interfaces().get(interface).map(|own| own.name.clone()).unwrap_or_default();
        if self.devices.is_port.get(interface).is_some_and(|is_port| *is_port) {
            return Err(Other::Ignored(format!("{}, a port", name())));
        }
        if !self.anywhere && self.is_of_child(interface, direction, record, payload.offset) {
            return Err(Other::Ignored(format!("{}, for a device on top of it", name())));
        }
        let unordered = direction == Direction::Unknown;
        let direction = if unordered { self.direction_on(interface, record)? } else { direction };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(packet);
        Ok(Frame {
            number: record.frame,
            time: record.time,
            nanos: record.nanos,
            interface,
            direction,
            unordered,
            carriage: Carriage::default(),
            bytes,
        })
    }
}

impl Frames {
    /// Returns true for a frame that a capture without names of devices shows again, as seen on a device below.
    fn is_copy(&mut self, interface: usize, direction: Direction, now: Instant, packet: &[u8]) -> bool {
        let copies = self.devices.copies.get(interface).copied().unwrap_or(1);
        if copies <= 1 {
            return false;
        }
        if self.seen.len() > MOST_SEEN {
            self.seen.retain(|_, (_, last)| now.since(*last) < COPIES_FOLLOW);
        }
        let key = self.hasher.hash_one((interface, direction, packet));
        let (count, last) = self.seen.entry(key).or_insert((0, now));
        if now.since(*last) >= COPIES_FOLLOW {
            *count = 0;
        }
        *last = now;
        *count += 1;
        *count % copies != 1
    }

    /// Returns true for a frame of a VLAN or macvlan, which shows it too.
    fn is_of_child(&self, interface: usize, direction: Direction, record: &Record<'_>, offset: usize) -> bool {
        let Some(header) = header_len(record.link_type) else { return false };
        if offset > header {
            return true;
        }
        let own = self.devices.link_addresses.get(interface).copied().flatten();
        let sender = link::sender_address(record.link_type, record.data);
        let has_children = self.devices.has_children.get(interface).is_some_and(|has| *has);
        has_children && direction == Direction::Out && own.is_some() && sender.is_some() && sender != own
    }

    /// Returns the direction of a frame that has no flag of it, as `dumpcap` records frames: what the interface sends
    /// has its own address as source. A frame for another host's address is not the router's.
    fn direction_on(&self, interface: usize, record: &Record<'_>) -> Result<Direction, Other> {
        let own = self.devices.link_addresses.get(interface).copied().flatten();
        let (Some(own), LinkType::ETHERNET) = (own, record.link_type) else { return Ok(Direction::Unknown) };
        let Some([to, from]) = link::ethernet_addresses(record.data) else { return Ok(Direction::Unknown) };
        if from == own {
            return Ok(Direction::Out);
        }
        let is_for_group = to[0] & 1 == 1;
        if to == own || is_for_group { Ok(Direction::In) } else { Err(Other::Ignored(FOR_OTHERS.into())) }
    }
}

/// Name of frames for other hosts.
const FOR_OTHERS: &str = "for other hosts";

/// Returns the length of a frame's header where it has no tags and carries IP itself.
const fn header_len(link_type: LinkType) -> Option<usize> {
    match link_type {
        LinkType::ETHERNET => Some(14),
        LinkType::LINUX_SLL => Some(16),
        LinkType::LINUX_SLL2 => Some(20),
        _ => None,
    }
}

fn cooked_direction(cooked: Cooked) -> Option<Direction> {
    match cooked.packet_type {
        PacketType::Outgoing => Some(Direction::Out),
        PacketType::OtherHost => None,
        _ => Some(Direction::In),
    }
}

/// Returns the name of a device that the router's files do not know.
fn device_of(record: &Record<'_>, cooked: Option<Cooked>) -> String {
    match (record.interface_name, cooked.and_then(|cooked| cooked.interface)) {
        (_, Some(index)) => format!("device {index}"),
        (Some(name), None) => name.escape_debug().to_string(),
        (None, None) => "a device without a name".into(),
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
