//! Arbitrary rulesets of nftables, as text or as JSON: nothing panics, a refusal is one line that names a place in the file,
//! and what was read is asked about a packet.
//!
//! The first byte chooses the form; the rest is its text.
#![no_main]

use ftp_conntrack::config::{parse_nft_json, parse_nft_with};
use ftp_conntrack::conntrack::Limits;
use ftp_conntrack::packet::Packet;
use ftp_conntrack::router::{Interface, Outbox, Route, Router, RouterConfig};
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::Instant;
use libfuzzer_sys::fuzz_target;

/// 10.77.1.2:4000 > 198.51.100.9:21, SYN; and the same in IPv6.
const PACKETS: [&[u8]; 2] = [
    &[
        0x45, 0, 0, 44, 0, 1, 0, 0, 64, 6, 0x23, 0x0d, 10, 77, 1, 2, 198, 51, 100, 9, //
        0x0f, 0xa0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 5, 0xb4,
    ],
    &[
        0x60, 0, 0, 0, 0, 20, 6, 64, 0xfd, 0x77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, //
        0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, //
        0x0f, 0xa0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0,
    ],
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let text = &*String::from_utf8_lossy(text);
    let included = |_: &str| vec![("part".to_string(), "define x = { 1, 2 }\n".to_string())];
    let read = match choice % 2 {
        0 => parse_nft_with("f", text, &mut { included }),
        _ => parse_nft_json("f", text),
    };
    let ruleset = match read {
        Ok((ruleset, warnings)) => {
            for warning in &warnings {
                assert!(!warning.to_string().contains('\n'), "{warning}");
            }
            ruleset
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            return;
        }
    };
    // Rules may ask for sets of any size: here is no room for them.
    if ruleset.tables.iter().flat_map(|table| &table.sets).any(|set| set.size > 100_000) {
        return;
    }
    let mut config = RouterConfig::default();
    config.nft = ruleset;
    config.conntrack.limits = Limits::new(8, 8, 8);
    config.checksum = false;
    config.interfaces = vec![
        Interface::new("in").with_address("10.77.1.1".parse().unwrap(), 24),
        Interface::new("out").with_address("203.0.113.1".parse().unwrap(), 24),
    ];
    let all = |address: &str| Cidr::new(address.parse().unwrap(), 0).unwrap();
    config.routes = vec![Route::on_link(all("0.0.0.0"), 1), Route::on_link(all("::"), 1)];
    let Ok(mut router) = Router::new(config, [1, 2, 3, 4]) else { return };
    let mut outbox = Outbox::new(8, 1 << 14);
    for packet in PACKETS {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + Packet::ROOM, 0);
        let mut packet = Packet::new(&mut buffer, 0..packet.len()).unwrap();
        let _ = router.process(Instant::from_secs(1), 0, &mut packet, &mut outbox);
        outbox.clear();
    }
});
