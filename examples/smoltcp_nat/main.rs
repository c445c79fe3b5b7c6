//! NAT under a machine's own smoltcp stack: wrap its links in a `RouterDevice`, and poll the stack as before.
//!
//! `cargo run --example smoltcp_nat --features smoltcp` translates between a client and a server in the same process:
//! links are queues, and time is counted.

mod hosts;

use std::error::Error;

use ftp_conntrack::config::parse_rules;
use ftp_conntrack::netfilter::Cidr;
use ftp_conntrack::packet::Family;
use ftp_conntrack::phy::RouterDevice;
use ftp_conntrack::router::{Interface, Outbox, Route, Router, RouterConfig};
use smoltcp::iface::{Config, Interface as Stack, SocketSet};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr};

use hosts::{Client, Link, Server, cable};

const RULES: &str = "
iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp
iptables -t nat -A POSTROUTING -o wan -j MASQUERADE
iptables -A FORWARD -i wan -m conntrack --ctstate NEW,INVALID -j DROP
";
/// Each interface's name, its address, and the network that is reached there.
const LINKS: [(&str, &str, &str, u8); 2] =
    [("lan", "10.77.1.1", "10.77.1.0", 24), ("wan", "203.0.113.1", "0.0.0.0", 0)];

/// Puts a router onto links, one for each interface.
fn translate(links: Vec<Link>) -> Result<RouterDevice<Link>, Box<dyn Error>> {
    let mut config = RouterConfig::default();
    for (interface, (name, address, network, prefix)) in LINKS.into_iter().enumerate() {
        config.interfaces.push(Interface::new(name).with_address(address.parse()?, 24));
        let network = Cidr::new(network.parse()?, prefix).ok_or("a prefix has at most 32 bits")?;
        config.routes.push(Route::on_link(network, interface));
    }
    (config.rules4, _) = parse_rules("RULES", RULES, Family::V4)?;
    let router = Router::new(config, [1, 2, 3, 4])?; // four random numbers in real life
    Ok(RouterDevice::new(router, links, Outbox::new(64, 1 << 17))?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let ((client_link, lan), (wan, server_link)) = (cable(), cable());
    let mut device = translate(vec![lan, wan])?;

    // The machine's own stack and sockets, as without a router. It has the router's addresses.
    let mut now = Instant::ZERO;
    let mut stack = Stack::new(Config::new(HardwareAddress::Ip), &mut device, now);
    let addresses = LINKS.map(|(_, address, ..)| address.parse());
    stack.update_ip_addrs(|own| own.extend(addresses.into_iter().flatten().map(|address| IpCidr::new(address, 24))));
    let mut sockets = SocketSet::new(vec![]);

    let mut client = Client::new(client_link)?;
    let mut server = Server::new(server_link)?;
    while now < Instant::from_secs(10) {
        client.step(now)?;
        server.step(now)?;
        stack.poll(now, &mut device, &mut sockets);
        while let Some((_, event)) = device.router_mut().poll_event() {
            println!("{event:?}");
        }
        if let Some(data) = client.received() {
            println!("the client received {data:?}");
            return Ok(());
        }
        // Until a link has a packet, or until the stack or the router wants to be called. Here links always may have one.
        let times = [stack.poll_at(now, &sockets), device.poll_at(), Some(now + Duration::from_millis(1))];
        now = times.into_iter().flatten().min().unwrap_or(now).max(now + Duration::from_micros(1));
    }
    Err("the data connection did not come".into())
}
