//! A NAT gateway between two TUN devices, `ftp-lan` and `ftp-wan`: the loop that every embedder writes.
//!
//! `cargo run --example gateway`, as root. Move each device to a network namespace, with an address of 10.77.1.0/24 or
//! 203.0.113.0/24, as `.ci/gateway` does.

mod tun;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use ftp_conntrack::Instant;
use ftp_conntrack::config::parse_rules;
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::{Family, Packet, Protocol};
use ftp_conntrack::router::{Egress, Interface, Outbox, Route, Router, RouterConfig, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const NAMES: [&str; 2] = ["ftp-lan", "ftp-wan"];
/// Each interface's address, and the network that is reached there.
const LINKS: [(&str, &str, u8); 2] = [("10.77.1.1", "10.77.1.0", 24), ("203.0.113.1", "0.0.0.0", 0)];
const MTU: usize = 1500;

struct Gateway {
    devices: [File; 2],
    router: Router,
    outbox: Outbox,
    /// Packets for this machine itself.
    local: Vec<Vec<u8>>,
    began: std::time::Instant,
}

impl Gateway {
    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MTU + Packet::ROOM];
        loop {
            let readable = self.wait()?;
            self.router.handle_timeout(self.now(), &mut self.outbox); // sends what is due, if anything is
            self.empty_outbox();
            for interface in (0..readable.len()).filter(|interface| readable[*interface]) {
                let len = self.devices[interface].read(&mut buffer[..MTU])?;
                self.receive(interface, &mut buffer, len);
            }
            while let Some(packet) = self.local.pop() {
                self.answer(packet);
            }
            while let Some((_, event)) = self.router.poll_event() {
                println!("{event:?}");
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.began.elapsed().as_micros() as i64)
    }

    /// Waits until a device has a packet, or until the router wants to be called.
    fn wait(&self) -> io::Result<[bool; 2]> {
        let delay = self.router.poll_at().and_then(|at| Timespec::try_from(at.since(self.now())).ok());
        let mut fds = [0, 1].map(|interface| PollFd::new(&self.devices[interface], PollFlags::IN));
        poll(&mut fds, delay.as_ref())?;
        Ok(fds.map(|fd| !fd.revents().is_empty()))
    }

    /// Takes a packet that arrived at the front of a buffer.
    fn receive(&mut self, interface: usize, buffer: &mut [u8], len: usize) {
        let Ok(mut packet) = Packet::new(buffer, 0..len) else { return };
        match self.router.process(self.now(), interface, &mut packet, &mut self.outbox) {
            // A TUN device has no neighbours: the next hop, which Ethernet asks ARP for, does not matter.
            Verdict::Forward { interface, next_hop: _ } => send(&self.devices[interface], packet.bytes()),
            Verdict::Local => self.local.push(packet.bytes().to_vec()),
            // Nothing was changed: call again. With `Packet::ROOM` bytes after each packet this never comes.
            Verdict::NeedsRoom(room) => {
                let mut larger = [packet.bytes(), &vec![0; room]].concat();
                self.receive(interface, &mut larger, len);
            }
            Verdict::Held => {} // The router has a copy: it leaves by the outbox, now or later.
            _ => {}             // Dropped: an event says why, and the outbox may have an ICMP error or a reset.
        }
        self.empty_outbox();
    }

    /// Sends what leaves besides the packet at hand. Do so after each call.
    fn empty_outbox(&mut self) {
        for outgoing in self.outbox.iter() {
            match outgoing.egress {
                Egress::Forward { interface, .. } => send(&self.devices[interface], outgoing.bytes),
                _ => self.local.push(outgoing.bytes.to_vec()),
            }
        }
        self.outbox.clear();
    }

    /// Answers a ping: all that this machine's own stack can. What it sends meets the router's rules, too.
    fn answer(&mut self, mut packet: Vec<u8>) {
        let len = packet.len();
        if len < 28 || packet[0] != 0x45 || packet[9] != Protocol::ICMP.0 || packet[20] != 8 {
            return;
        }
        (12..16).for_each(|at| packet.swap(at, at + 4));
        packet[20] = 0; // an echo reply, with the checksum that belongs to it
        let (sum, carry) = u16::from_be_bytes([packet[22], packet[23]]).overflowing_add(0x0800);
        packet[22..24].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        packet.resize(len + Packet::ROOM, 0);
        let Ok(mut packet) = Packet::new(&mut packet, 0..len) else { return };
        if let Verdict::Forward { interface, .. } = self.router.output(self.now(), &mut packet, &mut self.outbox) {
            send(&self.devices[interface], packet.bytes());
        }
        self.empty_outbox();
    }
}

/// Sends a packet. If the link does not take it, it is lost, as on any link.
fn send(mut device: &File, bytes: &[u8]) {
    let _ = device.write(bytes);
}

/// Masquerades the hosts of `ftp-lan`, and lets nothing in but answers and announced data connections.
const RULES: &str = "
iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp
iptables -t nat -A POSTROUTING -o ftp-wan -j MASQUERADE
iptables -A FORWARD -i ftp-wan -m conntrack --ctstate NEW,INVALID -j DROP
";

fn config() -> Result<RouterConfig, Box<dyn Error>> {
    let mut config = RouterConfig::default();
    for (interface, (address, network, prefix)) in LINKS.into_iter().enumerate() {
        config.interfaces.push(Interface::new(NAMES[interface]).with_address(address.parse()?, 24));
        let network = Cidr::new(network.parse()?, prefix).ok_or("a prefix has at most 32 bits")?;
        config.routes.push(Route::on_link(network, interface));
    }
    (config.rules4, _) = parse_rules("RULES", RULES, Family::V4)?;
    Ok(config)
}

fn main() -> Result<(), Box<dyn Error>> {
    let devices = match (tun::open(NAMES[0]), tun::open(NAMES[1])) {
        (Ok(lan), Ok(wan)) => [lan, wan],
        (Err(error), _) | (_, Err(error)) => {
            println!("skipped: no TUN device can be made (root and /dev/net/tun are needed): {error}");
            return Ok(());
        }
    };
    let mut seeds = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seeds)?;
    let seeds = [0, 8, 16, 24].map(|at| u64::from_ne_bytes(std::array::from_fn(|byte| seeds[at + byte])));
    let (router, outbox) = (Router::new(config()?, seeds)?, Outbox::new(64, 1 << 17));
    println!("{} and {} are there", NAMES[0], NAMES[1]);
    Ok(Gateway { devices, router, outbox, local: Vec::new(), began: std::time::Instant::now() }.run()?)
}
