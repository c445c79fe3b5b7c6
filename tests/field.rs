//! Recordings of ordinary routers, changed: each change of what leaves is noticed, and another cut of the same streams is
//! not.
//!
//! `FIELD=DIRECTORY cargo test --test field -- --ignored` does it with all recordings of a directory.
#![cfg(all(feature = "config", feature = "capture"))]

use std::fs;
use std::path::{Path, PathBuf};

use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Direction, Interface, Merged, Reader, Record, RecordSource, Writer};
use ftp_conntrack::config::{Directory, interface_of_capture};
use ftp_conntrack::packet::link::{LinkType, PacketType, find_network};
use ftp_conntrack::packet::{Headers, Layer4, Protocol, TcpFlags};
use ftp_conntrack::replay::{NoopSink, Options, Replay, Summary};

/// A packet of a recording, on one of the router's interfaces.
#[derive(Clone, Debug)]
struct Packet {
    interface: usize,
    time: Instant,
    leaves: bool,
    bytes: Vec<u8>,
}

/// A router, and a recording of it as packets without link layers.
struct Recording {
    directory: Directory,
    packets: Vec<Packet>,
}

impl Recording {
    /// Reads a router directory.
    fn read(path: &Path) -> Self {
        let directory = Directory::read(path).unwrap();
        let mut capture = Merged::default();
        for file in &directory.captures {
            let name = if directory.captures.len() > 1 { interface_of_capture(file) } else { None };
            capture.add(name, Reader::open(file).unwrap());
        }
        let mut packets = Vec::new();
        while let Some(record) = capture.next_record() {
            packets.extend(packet(&directory, &record.unwrap()));
        }
        packets.sort_by_key(|packet: &Packet| (packet.time, packet.leaves));
        Self { directory, packets }
    }

    /// Replays packets through the router.
    fn verify(&self, packets: &[Packet]) -> Summary {
        let interfaces: Vec<_> =
            self.directory.interfaces.iter().map(|own| Interface::named(own.name.as_str(), LinkType::RAW)).collect();
        let mut writer = Writer::new(Vec::new(), &interfaces).unwrap();
        for packet in packets {
            let direction = if packet.leaves { Direction::Out } else { Direction::In };
            writer.write(packet.interface, packet.time, direction, &packet.bytes).unwrap();
        }
        let file = writer.into_inner().unwrap();
        let mut options = Options::default();
        options.verify = true;
        let mut replay = Replay::new(&self.directory, options).unwrap();
        replay.run(&mut Reader::new(&file[..]).unwrap(), &mut NoopSink)
    }

    /// The places of packets that leave and that the router forwards: a TCP segment of a host's.
    fn forwarded(&self) -> Vec<usize> {
        let is_one = |packet: &Packet| {
            let headers = Headers::find(&packet.bytes).unwrap();
            let is_tcp = matches!(headers.layer4, Layer4::Tcp(segment) if !segment.flags.has(TcpFlags::RST));
            packet.leaves && is_tcp
        };
        (0..self.packets.len()).filter(|place| is_one(&self.packets[*place])).collect()
    }
}

/// Reads the packet in a frame, if it is on one of the router's interfaces.
fn packet(directory: &Directory, record: &Record<'_>) -> Option<Packet> {
    let payload = find_network(record.link_type, record.data).ok()?;
    payload.family?;
    let bytes = &record.data[payload.offset..];
    let headers = Headers::find(bytes).ok()?;
    let known = |name: &str| directory.interfaces.iter().position(|own| own.name == name);
    let interface = match payload.cooked {
        Some(cooked) => directory.interfaces.iter().position(|own| Some(own.index) == cooked.interface)?,
        None => known(record.interface_name?)?,
    };
    let own = &directory.interfaces[interface];
    if own.addresses.iter().all(|address| address.address.is_ipv6()) || headers.protocol == Protocol::ICMPV6 {
        return None;
    }
    let leaves = match payload.cooked {
        Some(cooked) => cooked.packet_type == PacketType::Outgoing,
        None => record.data.get(6..12) == own.link_address.as_ref().map(|address| &address[..]),
    };
    Some(Packet { interface, time: record.time, leaves, bytes: bytes[..headers.end].to_vec() })
}

/// Returns a few places out of many, spread evenly.
fn some(places: &[usize], most: usize) -> impl Iterator<Item = usize> {
    places.iter().copied().step_by(places.len().div_ceil(most).max(1))
}

/// Changes, drops, repeats and adds packets that leave, one at a time.
fn each_change_is_noticed(path: &Path, most: usize) {
    let recording = Recording::read(path);
    let whole = recording.verify(&recording.packets);
    assert!(whole.agrees(), "{}: {whole:?}", path.display());
    let places = recording.forwarded();
    assert!(places.len() > 5, "{}", path.display());
    for place in some(&places, most) {
        let noticed = |what: &str, packets: &[Packet]| {
            let summary = recording.verify(packets);
            assert!(!summary.agrees(), "{}: {what} packet {place} is not noticed: {summary:?}", path.display());
        };
        for at in [8, 13, 21, 27, 33, 36] {
            let mut changed = recording.packets.clone();
            let bytes = &mut changed[place].bytes;
            bytes[at] ^= 0x10;
            noticed(&format!("byte {at} changed of"), &changed);
        }
        let mut changed = recording.packets.clone();
        *changed[place].bytes.last_mut().unwrap() ^= 1;
        noticed("the last byte changed of", &changed);
        let mut dropped = recording.packets.clone();
        dropped.remove(place);
        noticed("dropped", &dropped);
        let mut repeated = recording.packets.clone();
        repeated.insert(place, repeated[place].clone());
        noticed("repeated", &repeated);
        let mut added = recording.packets.clone();
        let mut other = added[place].clone();
        let headers = Headers::find(&other.bytes).unwrap();
        let Layer4::Tcp(segment) = headers.layer4 else { continue };
        other.bytes[4] ^= 0x55;
        let other_bytes = &mut other.bytes;
        let mut headers = Headers::find(other_bytes).unwrap();
        headers.set_sequence(other_bytes, segment.sequence + 77);
        added.insert(place, other);
        noticed("added after", &added);
    }
}

/// Returns the recordings in a directory, as router directories.
fn recordings(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let router = |path: PathBuf| if path.join("router").is_dir() { path.join("router") } else { path };
    found.into_iter().map(router).collect()
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/field")
}

/// True for a recording whose frames name their interfaces.
fn names_interfaces(path: &Path) -> bool {
    !path.to_string_lossy().contains("sll1")
}

#[test]
fn each_change_of_a_leaving_packet_is_noticed() {
    for path in recordings(&testdata()) {
        each_change_is_noticed(&path, 2);
    }
}

#[test]
#[ignore = "wants FIELD, a directory of recordings"]
fn each_change_of_a_leaving_packet_is_noticed_in_all_recordings() {
    let root = std::env::var_os("FIELD").expect("FIELD names a directory of recordings");
    for path in recordings(Path::new(&root)).into_iter().filter(|path| names_interfaces(path)) {
        each_change_is_noticed(&path, 6);
    }
}

/// A small generator, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Cuts a TCP segment in two, as a network card does.
fn cut(packet: &Packet, at: usize) -> Option<[Packet; 2]> {
    let headers = Headers::find(&packet.bytes).ok()?;
    let Layer4::Tcp(segment) = headers.layer4 else { return None };
    let payload = headers.payload(&packet.bytes);
    if at == 0 || at >= payload.len() || packet.bytes[0] >> 4 != 4 {
        return None;
    }
    let piece = |text: &[u8], from: usize, flags: u8, number: u16| {
        let mut bytes = [&packet.bytes[..segment.payload], text].concat();
        let length = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&length);
        let identification = u16::from_be_bytes([bytes[4], bytes[5]]).wrapping_add(number).to_be_bytes();
        bytes[4..6].copy_from_slice(&identification);
        let sequence = (segment.sequence + from as u32).0.to_be_bytes();
        bytes[headers.transport + 4..headers.transport + 8].copy_from_slice(&sequence);
        bytes[headers.transport + 13] = flags;
        sum(&mut bytes, headers.transport);
        Packet { bytes, ..packet.clone() }
    };
    let flags = segment.flags.0;
    let first = flags & !(TcpFlags::PSH | TcpFlags::FIN);
    Some([piece(&payload[..at], 0, first, 0), piece(&payload[at..], at, flags & !0x80, 1)])
}

/// Makes both checksums of an IPv4 TCP packet right.
fn sum(bytes: &mut [u8], transport: usize) {
    let fold = |words: &[u8], start: u32| {
        let words = words.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
        let mut sum: u32 = words.sum::<u32>() + start;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    };
    bytes[10..12].fill(0);
    let header = fold(&bytes[..transport], 0).to_be_bytes();
    bytes[10..12].copy_from_slice(&header);
    bytes[transport + 16..transport + 18].fill(0);
    let pseudo = !fold(&bytes[12..20], 6 + (bytes.len() - transport) as u32);
    let whole = fold(&bytes[transport..], u32::from(pseudo)).to_be_bytes();
    bytes[transport + 16..transport + 18].copy_from_slice(&whole);
}

#[test]
fn another_cut_of_the_same_streams_agrees_and_a_changed_byte_of_it_does_not() {
    let recording = Recording::read(&testdata().join("offloads-list"));
    for seed in 1..=8 {
        let mut random = Random(seed);
        let mut packets = Vec::new();
        for packet in &recording.packets {
            let mut rest = packet.clone();
            let mut pieces = Vec::new();
            while packet.leaves && random.below(3) != 0 {
                let payload = Headers::find(&rest.bytes).unwrap().payload(&rest.bytes).len();
                let Some([first, second]) = cut(&rest, random.below(payload)) else { break };
                pieces.push(first);
                rest = second;
            }
            packets.extend(pieces);
            packets.push(rest);
        }
        assert!(packets.len() > recording.packets.len() + 10);
        let summary = recording.verify(&packets);
        assert!(summary.agrees() && summary.supplied == 0, "seed {seed}: {summary:?}");
        let leaving: Vec<usize> = (0..packets.len()).filter(|place| packets[*place].leaves).collect();
        let place = leaving[random.below(leaving.len())];
        let mut dropped = packets.clone();
        dropped.remove(place);
        assert!(!recording.verify(&dropped).agrees(), "seed {seed}: piece {place} dropped");
        let last = packets[place].bytes.len() - 1;
        packets[place].bytes[last] ^= 1;
        assert!(!recording.verify(&packets).agrees(), "seed {seed}: piece {place} changed");
    }
}
