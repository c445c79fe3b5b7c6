//! Remedies, as data that prints as commands.

use core::fmt;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::cause::{Code, Machine};
use super::router::RulesForm;

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
            Self::Words => "words",
        }
    }
}

/// One way to mend a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remedy {
    /// The machine on which it is to be done.
    pub machine: Machine,
    /// The language of its lines.
    pub language: Language,
    /// Commands, or lines of a file, in order.
    pub lines: Vec<String>,
    /// True if the session was re-enacted with it, and worked.
    pub tried: bool,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.lines.iter().enumerate() {
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
    pub(super) form: Option<RulesForm>,
    /// The hook whose rules matter: `forward`, `input`.
    pub(super) hook: &'static str,
    pub(super) server_file: Option<Language>,
    /// The passive ports that the rules open.
    pub(super) open_range: Option<(u16, u16)>,
}

fn remedy(machine: Machine, language: Language, lines: &[&str]) -> Remedy {
    Remedy { machine, language, lines: lines.iter().map(|line| String::from(*line)).collect(), tried: false }
}

/// Returns the remedies of a cause, in the form that the files at hand use first.
pub(super) fn remedies(code: Code, known: &Known) -> Vec<Remedy> {
    match code {
        Code::NoHelper | Code::HelperPort | Code::HelperInterface | Code::DropRouter | Code::RejectRouter => {
            let mut all = attach(known);
            if matches!(code, Code::DropRouter | Code::RejectRouter) && known.form.is_none() {
                all.truncate(2);
            }
            all
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
        Code::NoPassive => server_lines(
            known,
            &["pasv_enable=YES"],
            &["PassivePorts 50000 50100"],
            &["-p 50000:50100"],
            "Turn passive mode on in the server, or use active mode in the client.",
        ),
        Code::WrongAddress | Code::PrivateAddress => {
            let address = &known.server_address;
            server_lines(
                known,
                &[&format!("pasv_address={address}")],
                &[&format!("MasqueradeAddress {address}")],
                &[&format!("-P {address}")],
                &format!(
                    "Let the server announce {address}, the address by which clients reach it, or no address of its own."
                ),
            )
        }
        Code::Mtu => [
            remedy(
                Machine::Router,
                Language::Iptables,
                &["iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"],
            ),
            remedy(
                Machine::Router,
                Language::Nft,
                &["nft add rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu"],
            ),
            remedy(
                Machine::Path,
                Language::Words,
                &["Let ICMP 'fragmentation needed' (type 3 code 4; ICMPv6 type 2) pass everywhere."],
            ),
        ]
        .into(),
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
            [remedy(Machine::Router, Language::Shell, &["sysctl -w net.netfilter.nf_conntrack_max=262144"])].into()
        }
        _ => Vec::new(),
    }
}

fn attach(known: &Known) -> Vec<Remedy> {
    let port = known.control_port;
    let command = if known.ipv6 { "ip6tables" } else { "iptables" };
    let chain = if known.hook == "output" { "OUTPUT" } else { "PREROUTING" };
    let iptables = remedy(
        Machine::Router,
        Language::Iptables,
        &[&format!("{command} -t raw -A {chain} -p tcp --dport {port} -j CT --helper ftp")],
    );
    let nft = remedy(
        Machine::Router,
        Language::Nft,
        &[
            "nft add table inet ftp",
            "nft add ct helper inet ftp ftp-standard '{ type \"ftp\" protocol tcp; }'",
            "nft add chain inet ftp prerouting '{ type filter hook prerouting priority 0; }'",
            &format!("nft add rule inet ftp prerouting tcp dport {port} ct helper set ftp-standard"),
        ],
    );
    let firewalld = remedy(
        Machine::Router,
        Language::Firewalld,
        &["firewall-cmd --permanent --add-service=ftp", "firewall-cmd --reload"],
    );
    let ufw = remedy(
        Machine::Router,
        Language::Ufw,
        &[&format!("# /etc/ufw/before.rules, table raw: -A PREROUTING -p tcp --dport {port} -j CT --helper ftp")],
    );
    match known.form {
        Some(RulesForm::Nft) => [nft, iptables, firewalld, ufw].into(),
        _ => [iptables, nft, firewalld, ufw].into(),
    }
}

fn related(known: &Known) -> Vec<Remedy> {
    let chain = known.hook.to_ascii_uppercase();
    let chain = if chain.is_empty() { "FORWARD" } else { &chain };
    let command = if known.ipv6 { "ip6tables" } else { "iptables" };
    let iptables = remedy(
        Machine::Router,
        Language::Iptables,
        &[&format!("{command} -I {chain} -m conntrack --ctstate RELATED -m helper --helper ftp -j ACCEPT")],
    );
    let nft = remedy(
        Machine::Router,
        Language::Nft,
        &[&format!("nft insert rule inet filter {} ct state related accept", chain.to_ascii_lowercase())],
    );
    if known.form == Some(RulesForm::Nft) { [nft, iptables].into() } else { [iptables, nft].into() }
}

fn range(known: &Known) -> Vec<Remedy> {
    let mut all = Vec::new();
    if let Some((low, high)) = known.open_range {
        all = server_lines(
            known,
            &[&format!("pasv_min_port={low}"), &format!("pasv_max_port={high}")],
            &[&format!("PassivePorts {low} {high}")],
            &[&format!("-p {low}:{high}")],
            &format!("Let the server use the passive ports {low} to {high}, which the firewall opens."),
        );
    }
    all.extend(attach(known).into_iter().take(1));
    all
}

fn tls(known: &Known) -> Vec<Remedy> {
    let chain = if known.hook == "input" { "INPUT" } else { "FORWARD" };
    let server = &known.server_address;
    let mut all = server_lines(
        known,
        &["pasv_min_port=50000", "pasv_max_port=50100", &format!("pasv_address={server}")],
        &["PassivePorts 50000 50100", &format!("MasqueradeAddress {server}")],
        &["-p 50000:50100", &format!("-P {server}")],
        &format!("Give the server fixed passive ports, 50000 to 50100, and let it announce {server}."),
    );
    let open = format!("iptables -I {chain} -p tcp --dport 50000:50100 -m conntrack --ctstate NEW -j ACCEPT");
    let nft =
        format!("nft insert rule inet filter {} tcp dport 50000-50100 ct state new accept", chain.to_ascii_lowercase());
    let iptables = remedy(Machine::Router, Language::Iptables, &[&open]);
    let nft = remedy(Machine::Router, Language::Nft, &[&nft]);
    all.extend(if known.form == Some(RulesForm::Nft) { [nft, iptables] } else { [iptables, nft] });
    all
}

fn open_server(known: &Known) -> Vec<Remedy> {
    let port = known.data_port;
    [
        remedy(Machine::ServerFirewall, Language::Iptables, &[
            "iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp",
            "iptables -I INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ]),
        remedy(Machine::ServerFirewall, Language::Words, &[&format!(
            "Or open the server's passive ports (port {port} was used) in its firewall, and keep them in a fixed range."
        )]),
        remedy(Machine::ServerFirewall, Language::Firewalld, &["firewall-cmd --permanent --add-service=ftp", "firewall-cmd --reload"]),
        remedy(Machine::ServerFirewall, Language::Ufw, &["ufw allow 50000:50100/tcp"]),
    ]
    .into()
}

fn server_lines(known: &Known, vsftpd: &[&str], proftpd: &[&str], pure: &[&str], words: &str) -> Vec<Remedy> {
    match known.server_file {
        Some(Language::Vsftpd) => [remedy(Machine::Server, Language::Vsftpd, vsftpd)].into(),
        Some(Language::Proftpd) => [remedy(Machine::Server, Language::Proftpd, proftpd)].into(),
        Some(Language::PureFtpd) => [remedy(Machine::Server, Language::PureFtpd, pure)].into(),
        _ => [
            remedy(Machine::Server, Language::Words, &[words]),
            remedy(Machine::Server, Language::Vsftpd, vsftpd),
            remedy(Machine::Server, Language::Proftpd, proftpd),
            remedy(Machine::Server, Language::PureFtpd, pure),
        ]
        .into(),
    }
}
