//! Watches a link as an intrusion detection system does: tracks connections, reads FTP control connections, and tells
//! announced data connections (RELATED) from others. Nothing is translated, nothing dropped.
//!
//! `cargo run --example ids -- CAPTURE`; without CAPTURE, a recording of this repository.

use std::error::Error;

use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Direction, Reader};
use ftp_conntrack::conntrack::{Conntrack, ConntrackConfig, PacketState, Template, Tracked};
use ftp_conntrack::event::{AnnouncementOutcome, Event};
use ftp_conntrack::helper::{FtpHelper, HelperConfig, HelperContext};
use ftp_conntrack::nat::Nat;
use ftp_conntrack::packet::link::find_network;
use ftp_conntrack::packet::{Headers, Packet};

const FTP: u16 = 21;

struct Sensor {
    conntrack: Conntrack,
    helper: FtpHelper,
    /// The helper asks it for ports where a connection is translated: here, for none.
    nat: Nat,
}

impl Sensor {
    fn new() -> Self {
        // Memory is taken here, for as many connections and expectations as `config.limits` says.
        let config = ConntrackConfig::default();
        let helper = FtpHelper::new(HelperConfig::default().rewriting(false), config.limits.helped);
        // On a live link, keys come from a source that the network cannot guess.
        Self { conntrack: Conntrack::new(config, [1, 2]), helper, nat: Nat::new([3, 4]) }
    }

    /// Takes one IP packet, as the link shows it.
    fn packet(&mut self, now: Instant, packet: &mut Packet<'_>) {
        // Only what time brings: connections and expectations whose time is over.
        self.conntrack.handle_timeout(now);
        let Ok(mut headers) = Headers::find(packet.bytes()) else { return println!("          not a whole IP packet") };
        let is_control = headers.ports(packet.bytes()).is_some_and(|(_, destination)| destination == FTP);
        let template = if is_control { Template::FTP } else { Template::default() };
        match self.conntrack.track(now, packet.bytes(), &headers, template) {
            Ok(tracked) => self.judge(now, &tracked, packet, &mut headers),
            Err(reason) => println!("          not tracked: {reason}"),
        }
        while let Some((_, event)) = self.conntrack.poll_event() {
            Self::tell(&event);
        }
    }

    fn judge(&mut self, now: Instant, tracked: &Tracked, packet: &mut Packet<'_>, headers: &mut Headers) {
        if let PacketState::Invalid(reason) = tracked.state {
            println!(
                "INVALID   {} > {}: {reason:?}",
                headers.source(packet.bytes()),
                headers.destination(packet.bytes())
            );
        }
        let mut nowhere = ();
        let mut context = HelperContext::new(now, tracked, packet, headers, &mut nowhere);
        if let Err(reason) = self.helper.process(&mut self.conntrack, &mut self.nat, &mut context) {
            println!("SUSPECT   Linux would drop a packet: {reason}");
        }
        // A connection is in the table once its first packet is known to go on.
        if let Some(connection) = tracked.connection {
            let _ = self.conntrack.confirm(now, connection);
        }
    }

    fn tell(event: &Event) {
        match event {
            Event::New { original, helper: true, .. } => println!("CONTROL   {original}"),
            Event::New { original, master: Some(_), .. } => println!("RELATED   {original}"),
            Event::New { original, .. } => println!("UNRELATED {original}: nobody announced it"),
            Event::Announced { sender, form, address, port, outcome, .. } => match outcome {
                AnnouncementOutcome::Expected { .. } => {
                    println!("ANNOUNCED by the {sender:?}: {form} {address}:{port}")
                }
                other => println!("SUSPECT   the {sender:?} announces {form} {address}:{port}: {other:?}"),
            },
            Event::Unfulfilled { expected, reason, .. } => println!("NOT COME  {expected}: {reason:?}"),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/netfilter/foreign-1/router.pcapng");
    let mut capture = Reader::open(std::env::args().nth(1).unwrap_or_else(|| bundled.to_owned()))?;
    let mut sensor = Sensor::new();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    while let Some(record) = capture.next() {
        let record = record?;
        // A capture of a router shows each packet twice; a sensor sees it once.
        let Ok(payload) = find_network(record.link_type, record.data) else { continue };
        if record.direction == Direction::Out || payload.family.is_none() {
            continue;
        }
        let bytes = &record.data[payload.offset..];
        buffer[..bytes.len()].copy_from_slice(bytes);
        sensor.packet(record.time, &mut Packet::new(&mut buffer, 0..bytes.len())?);
    }
    println!("{} connections are known, {} are expected", sensor.conntrack.len(), sensor.conntrack.expected());
    Ok(())
}
