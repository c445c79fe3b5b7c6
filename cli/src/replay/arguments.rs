//! The command line.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use ftp_conntrack::helper::{Policy, PolicySetting};
use ftp_conntrack::netfilter::Cidr;

use crate::failure::Failure;

/// Shows every FTP session in a capture; with the files of the router that it was taken on, what that router makes of it.
///
/// Without --router nothing is translated. Each control connection to one of the --ports is shown: the data connections that
/// it announces, whether Linux's helper would act and if not why, and what became of them.
#[derive(Debug, Parser)]
#[command(name = "replay", version, after_long_help = after_help())]
pub struct Arguments {
    /// The capture, pcap or pcapng [default: DIR's router.pcapng or router.pcap; without DIR the bundled recording]
    pub(crate) capture: Option<PathBuf>,

    /// The router's own files, as collect.sh packs them, or unpacked: rules.v4, rules.v6, ruleset.json, addr.json, route.json,
    /// rule.json, sysctl.conf, modules, policy.conf
    #[arg(long, value_name = "DIR|FILE.tar.gz")]
    pub(crate) router: Option<PathBuf>,

    /// Compare what the library sends with what the capture shows leaving, packet for packet, and the final tables
    /// with the kernel's where present
    #[arg(long)]
    pub(crate) verify: bool,

    /// Handle connections that began before the capture, learning their NAT mapping from their first packets
    #[arg(long)]
    pub(crate) adopt: bool,

    /// Write the packets as they leave: pcapng, with interface names and directions
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,

    /// Behaviour of the router [default: linux]; with exact, each packet that Linux would have sent otherwise is explained
    #[arg(long, alias = "behavior", value_enum)]
    pub(crate) behaviour: Option<Behaviour>,

    /// A setting of behaviour exact's policy (repeatable; after DIR's policy.conf): which announcements it refuses. The
    /// settings are listed below
    #[arg(long, value_name = "KEY=VALUE", value_parser = policy, requires = "router")]
    pub(crate) policy: Vec<(String, String)>,

    /// Control ports: of servers to watch, or to attach the helper to by number [default: 21 without --router; none with
    /// it, unless net.netfilter.nf_conntrack_helper = 1]
    #[arg(long, value_name = "PORT,PORT", value_delimiter = ',', value_parser = port)]
    pub(crate) ports: Vec<u16>,

    /// No router at hand: a capture from the inside, as the outside would have seen it from this address
    #[arg(long, value_name = "ADDR", value_parser = address, conflicts_with_all = ["router", "verify", "unmasquerade"])]
    pub(crate) masquerade: Option<IpAddr>,

    /// The reverse of --masquerade: replace ADDR (the router) by the host given with --inside
    #[arg(long, value_name = "ADDR", value_parser = address, conflicts_with_all = ["router", "verify"])]
    pub(crate) unmasquerade: Option<IpAddr>,

    /// Which addresses are inside, for --masquerade [default: the private ranges]; for --unmasquerade, the one that is
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr)]
    pub(crate) inside: Vec<Cidr>,

    /// Changes of the router, one command a line (iptables, nft, sysctl, modprobe, ipvsadm): every session is re-enacted
    /// through the router as it is, and with them
    #[arg(long, value_name = "FILE", requires = "router", conflicts_with_all = ["verify", "adopt", "write", "behaviour"])]
    pub(crate) what_if: Option<PathBuf>,

    /// Show every control connection in full, as it ends; summary last. Without it, of many, only those that announce
    /// something or go wrong are shown. For captures without --router
    #[arg(long)]
    pub(crate) all: bool,

    /// Room for so many connections at once, where the capture is a pipe and cannot be counted first [default: 4096]. For
    /// captures with --router
    #[arg(long, value_name = "N", requires = "router")]
    pub(crate) sessions: Option<u32>,

    /// One JSON object a line: events as they happen, a summary last
    #[arg(long)]
    pub(crate) json: bool,
}

/// Format of `--json` without `--router`.
const JSON: &str = "\
With --json, one object a line, an event each; `frame` and `time` say where it was seen, `connection` on which control
connection (its data connections are called 1.1, 1.2 ..., their control connection is their `master`). Without --router:

  new                   a control connection: original, reply, began, tunnel
  command, reply        what was said, where it matters to data connections: line; code, answers
  announced             an endpoint: sender, form, address, port, well_formed, wrong, foreign, helper {acts, drops, why,
                        address, port}, expected, number, first_frame, line
  other_side, translated  the session, and an announcement, on the other side of NAT
  icmp_error            an ICMP error about a packet of the session: reporter, kind, code, mtu, quoted
  announced_again       the same line sent again
  partial_announcement  the helper would drop a packet that begins like an announcement: sender, form
  fulfilled             a data connection: number (of the announcement), original, opener, began, fit, related
  unfulfilled           none came: number, reason
  gap, cut              bytes that the capture lacks, that it cut off
  tls, clear            nothing more can be read, can be read again
  destroyed             a connection is over: packets, bytes, reason, seconds, fin, reset, reset_by
  elsewhere             FTP on a port that is not watched: server, client, port
  damaged               the capture is damaged there: error
  summary               counts, last

With --masquerade or --unmasquerade: rewritten (frame, from, to, line, leaves_as, address, port), unasked (frame, packet),
malformed (frame, line), not_rewritten (frame), damaged, summary.

With --router the events of its tracker and helper: new, announced, fulfilled, unfulfilled, dropped, destroyed ...; also

  lacking               bytes that the capture lacks before this frame, supplied as blanks: own, other (stream)
  adopted               a connection whose beginning the capture lacks was taken over: original

with --behaviour exact also

  intervened            something done with a segment besides replacing text: sender, what, text
  departs               something else leaves than Linux would send: linux, why, here, text, leaves, linux_sends; once for a
                        connection where all that follows differs for one reason (counted in the summary)";

/// Whom the router behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Behaviour {
    /// As Linux 6.18 does, quirks included
    Linux,
    /// Correct for FTP even where Linux is not
    Exact,
}

impl Arguments {
    /// Refuses what is understood and cannot be done.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let translates = self.masquerade.is_some() || self.unmasquerade.is_some();
        if translates && self.capture.is_none() {
            return Err(Failure::new("--masquerade and --unmasquerade need a CAPTURE"));
        }
        if translates && self.behaviour == Some(Behaviour::Linux) {
            return Err(Failure::new(
                "--masquerade and --unmasquerade behave exactly; --behaviour linux needs --router DIR",
            ));
        }
        if self.adopt && self.router.is_none() {
            return Err(Failure::new(
                "--adopt needs --router DIR: only a capture of a router shows how older connections are translated",
            ));
        }
        if !self.policy.is_empty() && self.behaviour != Some(Behaviour::Exact) {
            return Err(Failure::new("--policy needs --behaviour exact: Linux asks for no policy"));
        }
        if self.behaviour.is_some() && self.router.is_none() && self.capture.is_some() && !translates {
            return Err(Failure::new("--behaviour needs --router DIR: without a router nothing behaves"));
        }
        if !translates && !self.inside.is_empty() {
            return Err(Failure::new("--inside belongs to --masquerade ADDR or --unmasquerade ADDR"));
        }
        if self.verify && self.router.is_none() && self.capture.is_some() {
            return Err(Failure::new("--verify needs the router that the capture was taken on: --router DIR"));
        }
        Ok(())
    }
}

/// Lists the settings of --policy, and then what --json writes.
fn after_help() -> String {
    let mut text = "Settings of --policy KEY=VALUE and of policy.conf (lines KEY = VALUE):\n\n".to_owned();
    for setting in PolicySetting::ALL {
        let _ = writeln!(text, "  {setting:<28}{}\n  {:<28}takes {}", setting.about(), "", setting.takes());
    }
    text + "\n" + JSON
}

fn policy(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write KEY=VALUE, such as lowest_port=20000")?;
    let (name, value) = (name.trim(), value.trim());
    Policy::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port > 0).ok_or("write port numbers from 1 to 65535, as 21,2121")
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "write an IPv4 or IPv6 address, as 203.0.113.1")
}

fn cidr(text: &str) -> Result<Cidr, String> {
    let wanted = || "write an address and a prefix length, as 10.0.0.0/8 or fd00::/8".to_owned();
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| wanted())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wanted())?;
    prefix.map_or(Some(Cidr::host(address)), |prefix| Cidr::new(address, prefix)).ok_or_else(wanted)
}
