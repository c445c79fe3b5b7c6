//! The running kernel as a function: one packet in, the packets that leave out.
//!
//! Interfaces are TUN devices in the network namespace that this process runs in. A packet written to one is routed
//! before the write returns, and what leaves can be read at once.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::{fs, path::PathBuf};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use smoltcp::phy::{Device as _, Medium, RxToken as _, TunTapInterface, TxToken as _};
use smoltcp::time::Instant;

use crate::own::Own;
use crate::setup::{Rules, Setup};

/// The interfaces by number, with their addresses and MTU.
pub(crate) const INTERFACES: [(&str, &[&str], u32); 3] = [
    ("in", &["10.77.1.1/16", "fd77:1::1/64"], 1500),
    ("out", &["203.0.113.1/24", "2001:db8:1::1/64"], 1500),
    ("dmz", &["172.16.5.1/24", "fd77:5::1/64"], 1280),
];
const ROUTES: [&str; 2] = ["route add default dev out", "-6 route add 2000::/3 dev out"];
/// Silence where the kernel would speak of itself, and no limit to the errors it sends.
const QUIET: [(&str, &str); 17] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/icmp_ratemask", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
    ("net/ipv6/icmp/ratemask", "200-255"),
    // Routes learnt from ICMP errors are forgotten at once.
    ("net/ipv6/route/mtu_expires", "0"),
    // Flow labels of what the kernel sends itself are random otherwise.
    ("net/ipv6/auto_flowlabels", "0"),
    // Parts of packets that never become whole must not be heard of in a later dialogue, nor take the room of others.
    ("net/ipv4/ipfrag_time", "3600"),
    ("net/ipv6/ip6frag_time", "3600"),
    ("net/netfilter/nf_conntrack_frag6_timeout", "3600"),
    ("net/ipv4/ipfrag_high_thresh", "268435456"),
    ("net/ipv6/ip6frag_high_thresh", "268435456"),
    ("net/netfilter/nf_conntrack_frag6_high_thresh", "268435456"),
];
const QUIET_DEVICE: [(&str, &str); 4] = [
    ("accept_dad", "0"),
    ("addr_gen_mode", "1"),
    ("router_solicitations", "0"),
    ("mldv1_unsolicited_report_interval", "0"),
];

/// The place of the machine itself, beside the interfaces: what is delivered to it, and what it sends.
pub(crate) const SELF: usize = INTERFACES.len();

/// An interface's name.
pub(crate) fn name(interface: usize) -> &'static str {
    INTERFACES.get(interface).map_or("self", |(name, ..)| name)
}

/// A packet on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnWire {
    pub(crate) interface: usize,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Kernel {
    devices: Vec<TunTapInterface>,
    netlink: OwnedFd,
    /// Only while the machine takes part: by its sockets the kernel believes more of what ICMP errors say.
    own: Option<Own>,
    /// Values of settings before a setup changed them.
    defaults: BTreeMap<String, String>,
    loaded: Setup,
}

impl Kernel {
    /// Makes the interfaces. The namespace must be one's own.
    pub(crate) fn start() -> Result<Self, String> {
        for (key, value) in QUIET {
            write_sysctl(key, value)?;
        }
        run("ip", "link set lo up", None)?;
        let mut devices = Vec::new();
        for (name, addresses, mtu) in INTERFACES {
            devices.push(TunTapInterface::new(name, Medium::Ip).map_err(|error| format!("{name}: {error}"))?);
            for (key, value) in QUIET_DEVICE {
                write_sysctl(&format!("net/ipv6/conf/{name}/{key}"), value)?;
            }
            run("ip", &format!("link set {name} up mtu {mtu}"), None)?;
            for address in addresses {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                run("ip", &format!("addr add {address} dev {name}{nodad}"), None)?;
            }
        }
        // An interface joins all groups of routers (ff05::2 among them) only if forwarding begins while it is there.
        for forwarding in ["0", "1"] {
            write_sysctl("net/ipv6/conf/all/forwarding", forwarding)?;
        }
        for route in ROUTES {
            run("ip", route, None)?;
        }
        let family = Some(netlink::NETFILTER);
        let netlink = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, family)
            .map_err(|error| format!("netlink: {error}"))?;
        let mut kernel = Self { devices, netlink, own: None, defaults: BTreeMap::new(), loaded: Setup::default() };
        let helped = Setup::new(false, &Rules::nat(""));
        kernel.restore("iptables", &helped.rules4).map_err(|error| format!("no FTP helper, or no rules: {error}"))?;
        kernel.restore("iptables", &Setup::default().rules4)?;
        kernel.restore("ip6tables", &Setup::default().rules6)?;
        kernel.flush()?;
        std::thread::sleep(std::time::Duration::from_millis(20));
        kernel.drain();
        Ok(kernel)
    }

    /// `ip -j addr` and `ip -j route` of both families.
    pub(crate) fn addresses_and_routes(&self) -> Result<(String, String), String> {
        let routes = [run("ip", "-j route", None)?, run("ip", "-6 -j route", None)?];
        let [v4, v6] = routes.each_ref().map(|text| text.trim().trim_start_matches('[').trim_end_matches(']'));
        Ok((run("ip", "-j addr", None)?, format!("[{v4},{v6}]\n")))
    }

    /// Takes a configuration, and forgets every connection.
    pub(crate) fn load(&mut self, setup: &Setup) -> Result<(), String> {
        for (key, value) in std::mem::take(&mut self.defaults) {
            write_sysctl(&key, &value)?;
        }
        // Rules about a connection's bytes turn its counters on, and leave them on.
        write_sysctl("net/netfilter/nf_conntrack_acct", "0")?;
        for (key, value) in &setup.sysctl {
            let path = key.replace('.', "/");
            let before = read_sysctl(&path)?;
            self.defaults.entry(path.clone()).or_insert(before);
            write_sysctl(&path, value)?;
        }
        if setup.remembers() || self.loaded.remembers() {
            // The memory of rules goes with the last rule that names it.
            let none = Setup::default();
            self.restore("iptables", &none.rules4)?;
            self.restore("ip6tables", &none.rules6)?;
            (self.loaded.rules4, self.loaded.rules6) = (none.rules4, none.rules6);
            if !setup.sets.is_empty() || !self.loaded.sets.is_empty() {
                // Rules let go of their sets a little later.
                let mut tries = 0;
                while let Err(error) = run("ipset", "destroy", None) {
                    tries += 1;
                    if tries > 20 {
                        return Err(error);
                    }
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                run("ipset", "restore", Some(&setup.sets))?;
                self.loaded.sets.clone_from(&setup.sets);
            }
        }
        if self.loaded.rules4 != setup.rules4 {
            self.restore("iptables", &setup.rules4)?;
        }
        if self.loaded.rules6 != setup.rules6 {
            self.restore("ip6tables", &setup.rules6)?;
        }
        // Tables of nftables that were refused are loaded anew the next time; where there are none, nothing is to be done,
        // and what connbytes switched on stays on.
        let has_nft = !self.loaded.nft.is_empty() || !setup.nft.is_empty();
        self.loaded = Setup { nft: if has_nft { "refused".to_owned() } else { String::new() }, ..setup.clone() };
        self.load_nft(setup)?;
        self.own = match (self.own.take(), setup.is_host) {
            (None, true) => Some(Own::open(&INTERFACES)?),
            (own, true) => own,
            (_, false) => None,
        };
        self.loaded = setup.clone();
        Ok(())
    }

    /// Loads tables of nftables anew: what their rules remember is forgotten.
    pub(crate) fn load_nft(&self, setup: &Setup) -> Result<(), String> {
        if self.loaded.nft.is_empty() && setup.nft.is_empty() {
            return Ok(());
        }
        let counts = setup.sysctl.iter().find(|(key, _)| key.ends_with("nf_conntrack_acct"));
        write_sysctl("net/netfilter/nf_conntrack_acct", counts.map_or("0", |(_, value)| value))?;
        run("nft", "-f -", Some(&format!("flush ruleset\n{}", setup.nft))).map(drop)
    }

    /// The tables of nftables as JSON and as text.
    pub(crate) fn print_nft(&self) -> Result<[String; 2], String> {
        Ok([run("nft", "-j list ruleset", None)?, run("nft", "list ruleset", None)?])
    }

    fn restore(&self, tool: &str, rules: &str) -> Result<(), String> {
        let legacy = format!("{tool}-legacy-restore");
        let tool = if exists(&legacy) { legacy } else { format!("{tool}-restore") };
        run(&tool, "", Some(rules)).map(drop)
    }

    /// Forgets every connection, and with it every expectation.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        // Delete of connection tracking, without saying which; with an acknowledgement.
        let mut request = Vec::new();
        request.extend(20_u32.to_ne_bytes());
        request.extend((1_u16 << 8 | 2).to_ne_bytes());
        request.extend(5_u16.to_ne_bytes());
        request.extend([0; 12]);
        rustix::net::send(&self.netlink, &request, SendFlags::empty()).map_err(|error| format!("flush: {error}"))?;
        let mut answer = [0; 64];
        let (received, _) = rustix::net::recv(&self.netlink, &mut answer[..], RecvFlags::empty())
            .map_err(|error| format!("flush: {error}"))?;
        match answer.get(16..20) {
            Some([0, 0, 0, 0]) if received >= 20 => Ok(()),
            other => Err(format!("flush: the kernel says {other:?}")),
        }
    }

    /// Hands a packet over as if it had arrived, or sends it from this machine, and returns what left.
    pub(crate) fn ask(&mut self, interface: usize, packet: &[u8]) -> Vec<OnWire> {
        if interface == SELF {
            self.own.iter().for_each(|own| own.send(packet));
        } else if let Some(token) = self.devices[interface].transmit(Instant::ZERO) {
            token.consume(packet.len(), |buffer| buffer.copy_from_slice(packet));
        }
        self.drain()
    }

    /// Returns the packets that left since the last call.
    pub(crate) fn drain(&mut self) -> Vec<OnWire> {
        let mut left = Vec::new();
        for (interface, device) in self.devices.iter_mut().enumerate() {
            while let Some((token, _)) = device.receive(Instant::ZERO) {
                let bytes = token.consume(<[u8]>::to_vec);
                if !is_about_neighbours(&bytes) {
                    left.push(OnWire { interface, bytes });
                }
            }
        }
        if let Some(own) = &self.own {
            let delivered = own.delivered().into_iter().filter(|bytes| !is_about_neighbours(bytes));
            left.extend(delivered.map(|bytes| OnWire { interface: SELF, bytes }));
        }
        left
    }

    /// The tables of connections and expectations.
    pub(crate) fn tables(&self) -> Result<[String; 2], String> {
        let read = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).map_err(|e| format!("{name}: {e}"));
        Ok([read("nf_conntrack")?, read("nf_conntrack_expect")?])
    }
}

/// Neighbour discovery and multicast listeners are no part of the question.
fn is_about_neighbours(bytes: &[u8]) -> bool {
    let is_v6 = bytes.first().is_some_and(|byte| byte >> 4 == 6);
    is_v6
        && match bytes.get(6) {
            Some(0) => bytes.get(40) == Some(&58),
            Some(58) => bytes.get(40).is_some_and(|kind| (130..=143).contains(kind)),
            _ => false,
        }
}

fn write_sysctl(path: &str, value: &str) -> Result<(), String> {
    fs::write(PathBuf::from("/proc/sys").join(path), value).map_err(|error| format!("{path}: {error}"))
}

fn read_sysctl(path: &str) -> Result<String, String> {
    let text = fs::read_to_string(PathBuf::from("/proc/sys").join(path)).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim().to_owned())
}

/// Returns true if there is such a program.
pub(crate) fn exists(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let more = ":/usr/sbin:/sbin";
    (path + more).split(':').any(|directory| PathBuf::from(directory).join(tool).is_file())
}

/// Runs a program to its end and returns what it prints.
pub(crate) fn run(tool: &str, arguments: &str, input: Option<&str>) -> Result<String, String> {
    let failed = |error: io::Error| format!("{tool} {arguments}: {error}");
    let mut command = Command::new(tool);
    command.args(arguments.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!(
            "{tool} {arguments}: {}{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            input.unwrap_or("")
        )),
    }
}
