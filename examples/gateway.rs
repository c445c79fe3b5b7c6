//! A NAT gateway between two TUN devices, `ftp-lan` and `ftp-wan`: the loop that every embedder writes.
//!
//! `cargo run --example gateway`, as root, until it is ended. Move each device to a network namespace and give it an
//! address there: a host of 10.77.1.0/24 to `ftp-lan`, of 203.0.113.0/24 to `ftp-wan`. `.ci/gateway` does so.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use ftp_conntrack::Instant;
use ftp_conntrack::config::parse_rules;
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::{Family, Packet, Protocol};
use ftp_conntrack::router::{Egress, Interface, Outbox, Route, Router, RouterConfig, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::ioctl::{Updater, ioctl};

const NAMES: [&str; 2] = ["ftp-lan", "ftp-wan"];
const MTU: usize = 1500;

struct Gateway {
    devices: [File; 2],
    router: Router,
    outbox: Outbox,
    began: std::time::Instant,
}

impl Gateway {
    fn now(&self) -> Instant {
        Instant::from_micros(self.began.elapsed().as_micros() as i64)
    }

    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MTU + Packet::ROOM];
        loop {
            let readable = self.wait()?;
            // What only time brings; it does nothing when nothing is due.
            self.router.handle_timeout(self.now(), &mut self.outbox);
            self.empty_outbox();
            for interface in (0..readable.len()).filter(|interface| readable[*interface]) {
                let len = self.devices[interface].read(&mut buffer[..MTU])?;
                self.receive(interface, &mut buffer, len);
            }
            while let Some((time, event)) = self.router.poll_event() {
                println!("{time:?} {event:?}");
            }
        }
    }

    /// Waits until a device has a packet, or until the router wants to be called.
    fn wait(&self) -> io::Result<[bool; 2]> {
        let delay = self.router.poll_at().and_then(|at| Timespec::try_from(at.since(self.now())).ok());
        let [lan, wan] = &self.devices;
        let mut fds = [PollFd::new(lan, PollFlags::IN), PollFd::new(wan, PollFlags::IN)];
        poll(&mut fds, delay.as_ref())?;
        Ok(fds.map(|fd| !fd.revents().is_empty()))
    }

    /// Takes a packet that arrived at the front of a buffer.
    fn receive(&mut self, interface: usize, buffer: &mut [u8], len: usize) {
        // With `Packet::ROOM` bytes after it, `NeedsRoom` is never seen, but a frame may come in a buffer of its own size.
        let Ok(mut packet) = Packet::new(buffer, 0..len) else { return };
        match self.router.process(self.now(), interface, &mut packet, &mut self.outbox) {
            Verdict::Forward { interface, next_hop: _ } => self.send(interface, packet.bytes()), // a TUN has no neighbours
            Verdict::Local => self.deliver(packet.bytes().to_vec()),
            Verdict::NeedsRoom(room) => {
                let mut larger = [packet.bytes(), &vec![0; room]].concat(); // nothing was changed: call again
                return self.receive(interface, &mut larger, len);
            }
            Verdict::Held => {} // the router has a copy: it leaves through the outbox, now or later
            _ => {}             // dropped; an event says why, and the outbox may have an ICMP error or a reset
        }
        self.empty_outbox();
    }

    /// Sends what the router wants to leave besides the packet at hand. Do so after every call.
    fn empty_outbox(&mut self) {
        let mut local = Vec::new();
        for outgoing in self.outbox.iter() {
            match outgoing.egress {
                Egress::Forward { interface, .. } => self.send(interface, outgoing.bytes),
                _ => local.push(outgoing.bytes.to_vec()),
            }
        }
        self.outbox.clear();
        local.into_iter().for_each(|packet| self.deliver(packet));
    }

    fn send(&self, interface: usize, bytes: &[u8]) {
        if let Err(error) = (&self.devices[interface]).write(bytes) {
            eprintln!("{}: lost a packet: {error}", NAMES[interface]); // as on any link: its sender will repeat it
        }
    }

    /// The gateway's own stack, which answers pings. What it sends meets the router's rules, too.
    fn deliver(&mut self, mut packet: Vec<u8>) {
        let is_ping = packet.len() >= 28 && packet[0] == 0x45 && packet[9] == Protocol::ICMP.0 && packet[20] == 8;
        if !is_ping {
            return;
        }
        for at in 12..16 {
            packet.swap(at, at + 4);
        }
        packet[20] = 0; // "echo reply", with the sum that belongs to it
        let (sum, carry) = u16::from_be_bytes([packet[22], packet[23]]).overflowing_add(0x0800);
        packet[22..24].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        let len = packet.len();
        packet.resize(len + Packet::ROOM, 0);
        let Ok(mut packet) = Packet::new(&mut packet, 0..len) else { return };
        if let Verdict::Forward { interface, .. } = self.router.output(self.now(), &mut packet, &mut self.outbox) {
            self.send(interface, packet.bytes());
        }
    }
}

/// Masquerades the hosts of `ftp-lan`, and lets nothing in but answers and announced data connections.
const RULES: &str = "
iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp
iptables -t nat -A POSTROUTING -o ftp-wan -j MASQUERADE
iptables -A FORWARD -i ftp-wan -m conntrack --ctstate NEW,INVALID -j DROP
";

fn config() -> Result<RouterConfig, Box<dyn Error>> {
    let mut config = RouterConfig::default();
    config.interfaces = vec![
        Interface::new(NAMES[0]).with_address("10.77.1.1".parse()?, 24),
        Interface::new(NAMES[1]).with_address("203.0.113.1".parse()?, 24),
    ];
    let lan = Cidr::new("10.77.1.0".parse()?, 24).ok_or("a prefix of at most 32 bits")?;
    let everywhere = Cidr::new("0.0.0.0".parse()?, 0).ok_or("a prefix of at most 32 bits")?;
    config.routes = vec![Route::on_link(lan, 0), Route::on_link(everywhere, 1)];
    (config.rules4, _) = parse_rules("RULES", RULES, Family::V4)?;
    Ok(config)
}

/// Opens a TUN device, and makes it if it is not there.
#[allow(unsafe_code, reason = "only the kernel can check what this call is given")]
fn open_tun(name: &str) -> io::Result<File> {
    const TUNSETIFF: u32 = 0x4004_54ca;
    const IFF_TUN_NO_PI: u16 = 0x1001;
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = [0; 40]; // struct ifreq: the name in 16 bytes, the flags, and what other calls use
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&IFF_TUN_NO_PI.to_ne_bytes());
    // SAFETY: TUNSETIFF takes a struct ifreq, which lives until the call returns.
    unsafe { ioctl(&file, Updater::<TUNSETIFF, [u8; 40]>::new(&mut request))? };
    Ok(file)
}

fn main() -> Result<(), Box<dyn Error>> {
    let devices = match (open_tun(NAMES[0]), open_tun(NAMES[1])) {
        (Ok(lan), Ok(wan)) => [lan, wan],
        (Err(error), _) | (_, Err(error)) => {
            println!("skipped: no TUN device can be made (root and /dev/net/tun are needed): {error}");
            return Ok(());
        }
    };
    let mut seeds = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seeds)?;
    let seeds = [0, 8, 16, 24].map(|at| u64::from_ne_bytes(std::array::from_fn(|byte| seeds[at + byte])));
    let router = Router::new(config()?, seeds)?;
    let mut gateway = Gateway { devices, router, outbox: Outbox::new(64, 1 << 17), began: std::time::Instant::now() };
    println!("{} and {} are there", NAMES[0], NAMES[1]);
    Ok(gateway.run()?)
}
