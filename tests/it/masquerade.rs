//! Captures on the inside of a recorded router, translated, equal those on its outside, and the other way round: time
//! to live, and ports that two hosts chose both, aside.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Direction, Interface, Reader, Record, Writer};
use ftp_conntrack::config::Directory;
use ftp_conntrack::masquerade::{Frames, Masquerade, Outcome, Sink};
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::link::{LinkType, find_network};
use ftp_conntrack::packet::{Headers, Protocol};

/// The segments that a router's capture shows on its inside, and on its outside.
struct Sides {
    inside: Vec<Vec<u8>>,
    outside: Vec<Vec<u8>>,
    /// The router's address on its outside.
    address: IpAddr,
    /// The hosts inside.
    hosts: Vec<IpAddr>,
}

impl Sides {
    fn of(path: &Path) -> Self {
        let directory = Directory::read(path).unwrap();
        let mut capture = Reader::open(directory.captures.first().unwrap()).unwrap();
        let mut sides = [Vec::new(), Vec::new()];
        while let Some(record) = capture.next() {
            let record = record.unwrap();
            let found = find_network(record.link_type, record.data).unwrap();
            let index = found.cooked.and_then(|cooked| cooked.interface);
            let named = directory.interfaces.iter().find(|interface| Some(interface.index) == index);
            let is_inside = record.interface_name.or(named.map(|interface| interface.name.as_str())) == Some("in");
            let packet = &record.data[found.offset..];
            if Headers::find(packet).is_ok_and(|headers| headers.protocol == Protocol::TCP) {
                sides[usize::from(!is_inside)].push(packet.to_vec());
            }
        }
        let [inside, outside] = sides;
        let is_v6 = inside[0][0] >> 4 == 6;
        let outer = directory.interfaces.iter().find(|interface| interface.name == "out").unwrap();
        let mut addresses = outer.addresses.iter().map(|own| own.address);
        let address = addresses.find(|address| address.is_ipv6() == is_v6).unwrap();
        let ends = inside.iter().flat_map(|packet| {
            let headers = Headers::find(packet).unwrap();
            [headers.source(packet), headers.destination(packet)]
        });
        let mut hosts: Vec<IpAddr> = ends.filter(|address| near().iter().any(|net| net.contains(*address))).collect();
        hosts.sort();
        hosts.dedup();
        Self { inside, outside, address, hosts }
    }
}

fn near() -> Vec<Cidr> {
    vec![Cidr::new([10, 77, 1, 0].into(), 24).unwrap(), Cidr::new("fd77:1::".parse().unwrap(), 64).unwrap()]
}

/// Keeps what leaves.
#[derive(Default)]
struct Kept(Vec<Vec<u8>>);

impl Sink for Kept {
    fn frame(&mut self, record: &Record<'_>, _: Outcome) {
        self.0.push(record.data.to_vec());
    }
}

fn translated(masquerade: Masquerade, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), &[Interface::new(LinkType::RAW)]).unwrap();
    for (i, packet) in packets.iter().enumerate() {
        writer.write(0, Instant::from_micros(i as i64), Direction::Unknown, packet).unwrap();
    }
    let file = writer.into_inner().unwrap();
    let mut kept = Kept::default();
    Frames::new(masquerade, vec![21]).run(&mut Reader::new(&file[..]).unwrap(), &mut kept);
    assert_eq!(kept.0.len(), packets.len(), "every frame leaves");
    kept.0
}

/// Counts each packet, its time to live aside.
fn counted(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, i32> {
    let mut counts = BTreeMap::new();
    for packet in packets {
        let headers = Headers::find(packet).unwrap();
        assert!(headers.header_checksum_ok(packet));
        let mut packet = packet.clone();
        match packet[0] >> 4 {
            4 => {
                packet[8] = 0;
                packet[10..12].fill(0);
            }
            _ => packet[7] = 0,
        }
        *counts.entry(packet).or_default() += 1;
    }
    counts
}

fn assert_same(name: &str, ours: &[Vec<u8>], recorded: &[Vec<u8>]) {
    let (ours, recorded) = (counted(ours), counted(recorded));
    let readable = |packet: &Vec<u8>| packet.escape_ascii().to_string();
    let only = |a: &BTreeMap<Vec<u8>, i32>, b: &BTreeMap<Vec<u8>, i32>| {
        a.iter().find(|(packet, count)| b.get(*packet) != Some(count)).map(|(packet, _)| readable(packet))
    };
    assert_eq!((only(&ours, &recorded), only(&recorded, &ours)), (None, None), "{name}");
}

/// Recordings of routers that translate, without collisions.
fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let all = ["netfilter", "live"].into_iter().flat_map(|kind| fs::read_dir(root.join(kind)).unwrap());
    let mut chosen: Vec<PathBuf> = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let live = path.parent().unwrap().ends_with("live") && !name.ends_with("firewall");
            live || ["masquerade-", "masquerade6-", "dnat-", "dnat6-"].iter().any(|family| name.starts_with(family))
        })
        .collect();
    chosen.sort();
    assert!(chosen.len() > 25, "{chosen:?}");
    chosen
}

#[test]
fn the_inside_gives_the_outside() {
    for path in recordings() {
        let sides = Sides::of(&path);
        let ours = translated(Masquerade::new(near(), sides.address), &sides.inside);
        assert_same(&path.display().to_string(), &ours, &sides.outside);
    }
}

#[test]
fn the_outside_gives_the_inside() {
    for path in recordings() {
        let sides = Sides::of(&path);
        let [host] = sides.hosts[..] else { panic!("{path:?}: {:?}", sides.hosts) };
        let ours = translated(Masquerade::back(sides.address, host), &sides.outside);
        assert_same(&path.display().to_string(), &ours, &sides.inside);
    }
}
