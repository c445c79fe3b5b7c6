//! Arbitrary packets and edits: nothing panics, edits leave what was right right, and what was found is still found.
#![no_main]

mod right;

use std::net::IpAddr;

use arbitrary::Arbitrary;
use ftp_conntrack::SequenceNumber;
use ftp_conntrack::packet::{Headers, Layer4, Packet, Side};
use libfuzzer_sys::fuzz_target;
use right::{is_right, make_right};

#[derive(Debug, Arbitrary)]
enum Edit<'a> {
    Endpoint4 { source: bool, address: [u8; 4], port: u16 },
    Endpoint6 { source: bool, address: [u8; 16], port: u16 },
    Sequence(u32),
    Acknowledgement(u32),
    HopLimit,
    Text { start: u16, len: u8, new: &'a [u8] },
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    make_right: bool,
    room: u8,
    edits: [Option<Edit<'a>>; 4],
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let mut buffer = input.bytes.to_vec();
    if input.make_right {
        make_right(&mut buffer);
    }
    buffer.resize(input.bytes.len() + usize::from(input.room), 0xee);
    let mut packet = Packet::new(&mut buffer, 0..input.bytes.len()).expect("it stands in its buffer");
    look(packet.bytes());
    let Ok(mut headers) = Headers::find(packet.bytes()) else { return };
    for edit in input.edits.into_iter().flatten() {
        let right = is_right(packet.bytes());
        let before = packet.bytes().to_vec();
        if !apply(edit, &mut packet, &mut headers) {
            assert_eq!(packet.bytes(), before, "refused, and changed");
        }
        let found = Headers::find(packet.bytes()).expect("it was a whole packet");
        // A field that TCP lacks, ICMP's identifier, is read anew where it is needed.
        if matches!(headers.layer4, Layer4::Tcp(_)) {
            assert_eq!(found, headers);
        }
        assert!(!right || is_right(packet.bytes()), "{before:02x?} became {:02x?}", packet.bytes());
        headers = found;
    }
});

/// Reads all there is to read.
fn look(bytes: &[u8]) {
    for headers in [Headers::find(bytes), Headers::find_cut(bytes)].into_iter().flatten() {
        std::hint::black_box(headers.source(bytes));
        std::hint::black_box(headers.destination(bytes));
        std::hint::black_box(headers.ports(bytes));
        std::hint::black_box(headers.hop_limit(bytes));
        std::hint::black_box(headers.header_checksum_ok(bytes));
        std::hint::black_box(headers.transport_checksum_ok(bytes));
        assert!(headers.payload(bytes).len() <= bytes.len());
        assert!(headers.tcp_options(bytes).iter().count() <= 40);
    }
}

/// False when the edit was refused.
fn apply(edit: Edit<'_>, packet: &mut Packet<'_>, headers: &mut Headers) -> bool {
    let side = |source| if source { Side::Source } else { Side::Destination };
    let bytes = packet.bytes_mut();
    match edit {
        Edit::Endpoint4 { source, address, port } => {
            headers.set_endpoint(bytes, side(source), IpAddr::from(address), port);
        }
        Edit::Endpoint6 { source, address, port } => {
            headers.set_endpoint(bytes, side(source), IpAddr::from(address), port);
        }
        Edit::Sequence(number) => headers.set_sequence(bytes, SequenceNumber(number)),
        Edit::Acknowledgement(number) => headers.set_acknowledgement(bytes, SequenceNumber(number)),
        // Routers drop a packet whose hop limit is used up.
        Edit::HopLimit if headers.hop_limit(bytes) == 0 => {}
        Edit::HopLimit => headers.decrement_hop_limit(bytes),
        Edit::Text { start, len, new } => {
            let old = usize::from(start)..usize::from(start) + usize::from(len);
            let payload = headers.payload(bytes).to_vec();
            if packet.replace_payload(headers, old.clone(), new).is_err() {
                return false;
            }
            let expected = [&payload[..old.start], new, &payload[old.end..]].concat();
            assert_eq!(headers.payload(packet.bytes()), expected);
            assert!(is_right(packet.bytes()));
        }
    }
    true
}
