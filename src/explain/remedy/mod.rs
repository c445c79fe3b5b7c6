//! Remedies, as data that prints as commands.

mod firewall;
mod server;

use core::fmt;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::cause::{Code, Machine};
use super::router::RulesForm;
use super::trial::Trial;
use firewall::{attach, clamp, open_range, open_server, related};
use server::{announce, offer_passive, server_lines, use_range};

/// The language that a remedy is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Language {
    /// iptables commands.
    Iptables,
    /// nft commands.
    Nft,
    /// firewalld's firewall-cmd.
    Firewalld,
    /// ufw's files and commands.
    Ufw,
    /// Shell commands.
    Shell,
    /// Lines of vsftpd.conf.
    Vsftpd,
    /// Lines of proftpd.conf.
    Proftpd,
    /// pure-ftpd's options.
    PureFtpd,
    /// pyftpdlib's options.
    Pyftpdlib,
    /// FileZilla Server's settings.xml.
    FileZilla,
    /// IIS 7 and later: appcmd.
    Iis,
    /// IIS 6: the metabase, by adsutil.vbs.
    IisMetabase,
    /// Docker's options.
    Docker,
    /// A Kubernetes service, as YAML.
    Kubernetes,
    /// ipvsadm commands.
    Ipvsadm,
    /// Lines of keepalived.conf.
    Keepalived,
    /// Words for a person.
    Words,
}

impl Language {
    /// Returns the name that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nft => "nft",
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Shell => "shell",
            Self::Vsftpd => "vsftpd.conf",
            Self::Proftpd => "proftpd.conf",
            Self::PureFtpd => "pure-ftpd",
            Self::Pyftpdlib => "pyftpdlib",
            Self::FileZilla => "FileZilla Server",
            Self::Iis => "IIS",
            Self::IisMetabase => "IIS 6",
            Self::Docker => "Docker",
            Self::Kubernetes => "Kubernetes",
            Self::Ipvsadm => "ipvsadm",
            Self::Keepalived => "keepalived.conf",
            Self::Words => "words",
        }
    }
}

/// One way to mend a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remedy {
    /// Everything that is to be done, in order; all of it is needed.
    pub parts: Vec<Part>,
    /// The result of trying it.
    pub trial: Trial,
}

/// Changes on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// The machine on which they are to be made.
    pub machine: Machine,
    /// The language of the lines.
    pub language: Language,
    /// Commands, or lines of a file, in order.
    pub lines: Vec<String>,
}

impl Remedy {
    /// The same with changes on another machine.
    fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.parts.iter().flat_map(|part| &part.lines).enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

/// The facts of a session that a remedy needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) control_port: u16,
    pub(super) ipv6: bool,
    /// The port that was announced.
    pub(super) data_port: u16,
    /// The address by which clients reach the server.
    pub(super) server_address: String,
    /// The server's own address, if clients reach it by another.
    pub(super) server_inside: Option<String>,
    pub(super) form: Option<RulesForm>,
    /// The hook whose rules matter: `forward`, `input`.
    pub(super) hook: &'static str,
    /// The chain of nftables at that hook that drops: family, table and name.
    pub(super) nft_chain: Option<String>,
    pub(super) tools: Tools,
    /// Maximum number of connections that the router tracks.
    pub(super) table_size: u64,
    /// The load balancer's real servers that take only so many clients, each as ipvsadm's command that lifts the limit.
    pub(super) limited_servers: Vec<String>,
    pub(super) server_file: Option<Language>,
    /// The passive ports that the server's own file sets.
    pub(super) server_ports: Option<(u16, u16)>,
    /// True if the server's file shows that it does not listen for IPv6.
    pub(super) listens_for_ipv4_alone: bool,
    /// The passive ports that the rules open.
    pub(super) open_range: Option<(u16, u16)>,
}

/// Programs that manage a router's rules, as far as its files show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    pub(super) firewalld: bool,
    pub(super) ufw: bool,
    pub(super) docker: bool,
    pub(super) kubernetes: bool,
    pub(super) ipvsadm: bool,
    pub(super) keepalived: bool,
}

/// A remedy that only a person understands.
pub(super) fn in_words(machine: Machine, words: &str) -> Remedy {
    remedy(machine, Language::Words, &[words])
}

fn remedy(machine: Machine, language: Language, lines: &[&str]) -> Remedy {
    let lines = lines.iter().map(|line| String::from(*line)).collect();
    Remedy { parts: [Part { machine, language, lines }].into(), trial: Trial::Open }
}

/// Returns the remedies of a cause, in the form that the files at hand use first.
pub(super) fn remedies(code: Code, known: &Known) -> Vec<Remedy> {
    match code {
        Code::NoHelper | Code::HelperPort | Code::HelperInterface | Code::DropRouter | Code::RejectRouter => {
            attach(known)
        }
        Code::NoModule => {
            [remedy(Machine::Router, Language::Shell, &["modprobe nf_conntrack_ftp", "modprobe nf_nat_ftp"])].into()
        }
        Code::NoRelated => related(known),
        Code::Range => range(known),
        Code::Tls => tls(known),
        Code::DropServer | Code::RejectServer => open_server(known),
        Code::DropClient => [
            remedy(
                Machine::Client,
                Language::Words,
                &["Use passive mode in the client: nothing has to reach the client then."],
            ),
            remedy(
                Machine::ClientFirewall,
                Language::Iptables,
                &[
                    "iptables -t raw -A OUTPUT -p tcp --dport 21 -j CT --helper ftp",
                    "iptables -I INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                ],
            ),
        ]
        .into(),
        Code::NoPassive => offer_passive(known),
        Code::WrongAddress | Code::PrivateAddress => announce(known, &known.server_address),
        Code::Mtu => clamp(known),
        Code::TlsSessionReuse => [
            remedy(
                Machine::Client,
                Language::Words,
                &["Use a client that resumes the TLS session on data connections."],
            ),
            remedy(Machine::Server, Language::Vsftpd, &["require_ssl_reuse=NO"]),
            remedy(Machine::Server, Language::Proftpd, &["TLSOptions NoSessionReuseRequired"]),
        ]
        .into(),
        Code::PortRefused | Code::ExtendedRefused => {
            [remedy(Machine::Client, Language::Words, &["Use passive mode (PASV) in the client."])].into()
        }
        Code::Login => [remedy(
            Machine::Client,
            Language::Words,
            &["Check the name and the password; data connections are not the matter."],
        )]
        .into(),
        Code::Busy if !known.limited_servers.is_empty() => balancer_limits(known),
        Code::Busy => {
            [remedy(Machine::Server, Language::Words, &["Raise the server's limit of clients, or try later."])].into()
        }
        Code::Quota => {
            [remedy(Machine::Server, Language::Words, &["Make room on the server, or raise the user's quota."])].into()
        }
        Code::NoSuchFile => {
            [remedy(Machine::Client, Language::Words, &["Check the path, and the user's rights to it on the server."])]
                .into()
        }
        Code::OtherSource => [remedy(
            Machine::Server,
            Language::Words,
            &["Let the server open data connections from the address that the client dialled."],
        )]
        .into(),
        Code::OtherServer => [remedy(Machine::Router, Language::Shell, &["modprobe nf_conntrack_ftp loose=1"])].into(),
        Code::IdleControl => [remedy(
            Machine::Path,
            Language::Shell,
            &["sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=7440"],
        )]
        .into(),
        Code::ImplicitTls => [remedy(
            Machine::Client,
            Language::Words,
            &["Use explicit TLS (AUTH TLS) on port 21, or implicit TLS on port 990."],
        )]
        .into(),
        Code::TableFull => {
            let most = known.table_size.saturating_mul(4).max(262_144);
            let line = format!("sysctl -w net.netfilter.nf_conntrack_max={most}");
            [remedy(Machine::Router, Language::Shell, &[&line])].into()
        }
        _ => Vec::new(),
    }
}

/// The server uses the ports that the firewall opens, or the helper makes them unnecessary.
fn range(known: &Known) -> Vec<Remedy> {
    let mut all = Vec::new();
    if let Some((low, high)) = known.open_range {
        let words = format!("Let the server use the passive ports {low} to {high}, which the firewall opens.");
        all = server_lines(known, &use_range(low, high), &words);
    }
    all.extend(attach(known));
    all
}

/// The range of passive ports that is proposed where none is known.
const RANGE: (u16, u16) = (50_000, 50_100);

/// No helper reads what is encrypted: the server has fixed ports and announces the address by which it is reached, and the
/// router opens the ports.
fn tls(known: &Known) -> Vec<Remedy> {
    let (low, high) = known.server_ports.or(known.open_range).unwrap_or(RANGE);
    let address = known.server_inside.as_ref().map(|_| known.server_address.as_str());
    let words = match address {
        Some(address) => {
            format!("Give the server fixed passive ports, {low} to {high}, and let it announce {address}.")
        }
        None => format!("Give the server fixed passive ports, {low} to {high}."),
    };
    // Ports that the server has already need only be opened.
    let mut lines = if known.server_ports.is_none() { use_range(low, high) } else { Vec::new() };
    if let Some(address) = address {
        lines.extend(server::address_lines(known, address));
    }
    if lines.is_empty() {
        return open_range(known, low, high);
    }
    let servers = server_lines(known, &lines, &words);
    let mut all = Vec::new();
    for opened in open_range(known, low, high) {
        all.extend(servers.first().map(|server| server.clone().and(opened)));
    }
    all
}

/// The load balancer's real servers take as many clients as come.
fn balancer_limits(known: &Known) -> Vec<Remedy> {
    let lines: Vec<&str> = known.limited_servers.iter().map(String::as_str).collect();
    if known.tools.keepalived {
        let words = "Raise uthreshold of the real servers in keepalived.conf, or add a real server.";
        return [remedy(Machine::Router, Language::Keepalived, &[words])].into();
    }
    [remedy(Machine::Router, Language::Ipvsadm, &lines)].into()
}
