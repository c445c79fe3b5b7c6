//! Remedies on a machine that forwards or filters packets.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::super::cause::Machine;
use super::super::router::RulesForm;
use super::{Known, Language, Remedy, remedy};

impl Known {
    const fn iptables(&self) -> &'static str {
        if self.ipv6 { "ip6tables" } else { "iptables" }
    }

    /// The chain of iptables at the hook whose rules matter.
    fn chain(&self) -> String {
        if self.hook.is_empty() { "FORWARD".to_string() } else { self.hook.to_ascii_uppercase() }
    }

    fn nft_chain(&self) -> String {
        let hook = if self.hook.is_empty() { "forward" } else { self.hook };
        self.nft_chain.clone().unwrap_or_else(|| format!("inet filter {hook}"))
    }

    /// Returns the form that the files at hand use; both where there are none.
    fn ordered(&self, iptables: Remedy, nft: Remedy) -> Vec<Remedy> {
        match self.form {
            Some(RulesForm::Iptables) => [iptables].into(),
            Some(RulesForm::Nft) => [nft].into(),
            None => [iptables, nft].into(),
        }
    }
}

fn on_router(language: Language, lines: &[String]) -> Remedy {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    remedy(Machine::Router, language, &lines)
}

/// The helper is attached to the control connection's port; and if that is not enough, RELATED is accepted too.
pub(super) fn attach(known: &Known) -> Vec<Remedy> {
    let port = known.control_port;
    let chain = if known.hook == "output" { "OUTPUT" } else { "PREROUTING" };
    let rule = format!("{chain} -p tcp --dport {port} -j CT --helper ftp");
    let iptables = on_router(Language::Iptables, &[format!("{} -t raw -A {rule}", known.iptables())]);
    let hook = chain.to_ascii_lowercase();
    let nft = on_router(
        Language::Nft,
        &[
            "nft add table inet ftp".to_string(),
            "nft add ct helper inet ftp ftp-standard '{ type \"ftp\" protocol tcp; }'".to_string(),
            format!("nft add chain inet ftp {hook} '{{ type filter hook {hook} priority 0; }}'"),
            format!("nft add rule inet ftp {hook} tcp dport {port} ct helper set ftp-standard"),
        ],
    );
    let mut all = Vec::new();
    if known.tools.firewalld {
        let family = if known.ipv6 { "ipv6" } else { "ipv4" };
        let direct = format!(
            "firewall-cmd --permanent --direct --add-rule {family} raw {chain} 0 -p tcp --dport {port} -j CT --helper ftp"
        );
        all.push(on_router(Language::Firewalld, &[direct, "firewall-cmd --reload".to_string()]));
    }
    if known.tools.ufw {
        let file = if known.ipv6 { "before6.rules" } else { "before.rules" };
        let lines = [
            format!("# /etc/ufw/{file}, before the line *filter; then: ufw reload"),
            "*raw".to_string(),
            format!(":{chain} ACCEPT [0:0]"),
            format!("-A {rule}"),
            "COMMIT".to_string(),
        ];
        all.push(on_router(Language::Ufw, &lines));
    }
    all.extend(known.ordered(iptables, nft));
    let both: Vec<Remedy> = all.iter().take(1).zip(related(known)).map(|(a, b)| a.clone().and(b)).collect();
    all.extend(both);
    all
}

/// RELATED is accepted where the data connection's first packet is dropped.
pub(super) fn related(known: &Known) -> Vec<Remedy> {
    let accept = format!("{} -I {} -m conntrack --ctstate RELATED -j ACCEPT", known.iptables(), known.chain());
    let nft = format!("nft insert rule {} ct state related accept", known.nft_chain());
    known.ordered(on_router(Language::Iptables, &[accept]), on_router(Language::Nft, &[nft]))
}

/// The router lets a range of ports in, and leads them to the server if it has an address of its own.
pub(super) fn open_range(known: &Known, low: u16, high: u16) -> Vec<Remedy> {
    let command = known.iptables();
    let mut iptables =
        [format!("{command} -I {} -p tcp --dport {low}:{high} -m conntrack --ctstate NEW -j ACCEPT", known.chain())]
            .to_vec();
    let mut nft =
        [format!("nft insert rule {} tcp dport {low}-{high} ct state new accept", known.nft_chain())].to_vec();
    if let Some(inside) = &known.server_inside {
        let to = &known.server_address;
        iptables.push(format!(
            "{command} -t nat -I PREROUTING -d {to} -p tcp --dport {low}:{high} -j DNAT --to-destination {inside}"
        ));
        let (family, destination) = if known.ipv6 { ("ip6", "ip6 daddr") } else { ("ip", "ip daddr") };
        nft = [
            format!("nft add table {family} ftp-nat"),
            format!("nft add chain {family} ftp-nat prerouting '{{ type nat hook prerouting priority dstnat; }}'"),
            format!(
                "nft add rule {family} ftp-nat prerouting {destination} {to} tcp dport {low}-{high} dnat to {inside}"
            ),
        ]
        .to_vec();
        if known.nft_chain.is_some() {
            nft.push(format!("nft insert rule {} tcp dport {low}-{high} ct state new accept", known.nft_chain()));
        }
    }
    let mut all = Vec::new();
    if known.tools.ufw && known.server_inside.is_none() {
        let route = if known.hook == "input" { "" } else { "route " };
        all.push(on_router(Language::Ufw, &[format!("ufw {route}allow proto tcp to any port {low}:{high}")]));
    }
    all.extend(known.ordered(on_router(Language::Iptables, &iptables), on_router(Language::Nft, &nft)));
    all
}

/// Both ends agree on segments that the smallest link takes.
pub(super) fn clamp(known: &Known) -> Vec<Remedy> {
    let iptables = format!(
        "{} -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        known.iptables()
    );
    let nft = [
        "nft add table inet ftp".to_string(),
        "nft add chain inet ftp mss '{ type filter hook forward priority mangle; }'".to_string(),
        "nft add rule inet ftp mss tcp flags syn tcp option maxseg size set rt mtu".to_string(),
    ];
    let mut all = known.ordered(on_router(Language::Iptables, &[iptables]), on_router(Language::Nft, &nft));
    let words = "Let ICMP 'fragmentation needed' (type 3 code 4; ICMPv6 type 2) pass everywhere.";
    all.push(remedy(Machine::Path, Language::Words, &[words]));
    all
}

/// The server's own firewall lets data connections in.
pub(super) fn open_server(known: &Known) -> Vec<Remedy> {
    let (port, control) = (known.data_port, known.control_port);
    let on_server = |language, lines: &[&str]| remedy(Machine::ServerFirewall, language, lines);
    let command = known.iptables();
    let words = format!(
        "Or open the server's passive ports (port {port} was used) in its firewall, and keep them in a fixed range."
    );
    [
        on_server(
            Language::Iptables,
            &[
                &format!("{command} -t raw -A PREROUTING -p tcp --dport {control} -j CT --helper ftp"),
                &format!("{command} -I INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            ],
        ),
        on_server(Language::Words, &[&words]),
        on_server(Language::Firewalld, &["firewall-cmd --permanent --add-service=ftp", "firewall-cmd --reload"]),
        on_server(Language::Ufw, &["ufw allow 50000:50100/tcp"]),
    ]
    .into()
}
