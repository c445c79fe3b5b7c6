//! The answers of a router's files about a session.

use core::net::{IpAddr, SocketAddr};
use std::format;
use std::fs;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

use super::filter::{Chains, Question, Verdict};
use super::remedy::Tools;
use crate::config::{Directory, Error};
use crate::ipvs::{Forwarding, ServerConfig, ServiceAddress};
use crate::netfilter::nft::ChainKind;
use crate::netfilter::{Hook, Policy, StateSet, TableName};

/// The form in which a router's rules were saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RulesForm {
    /// iptables-save, or commands as typed.
    Iptables,
    /// nft.
    Nft,
}

/// A router directory, as far as it says why a data connection does not pass.
#[derive(Debug)]
pub struct RouterFiles {
    pub(super) directory: Directory,
    /// IPv4's chains and IPv6's; the same where nft has both in one table.
    chains: [Option<Chains>; 2],
    pub(super) form: RulesForm,
}

/// The action of the router's helper on a control connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Helper {
    /// A rule, or a setting, attaches it.
    Attached(String),
    /// Nothing does.
    None,
    /// A rule does for other ports.
    OtherPort(String, Vec<u16>),
    /// A rule does for another interface.
    OtherInterface(String),
    /// It is attached by number, but its module is not loaded.
    NoModule,
    /// No rules are there to be read.
    NotKnown,
}

impl RouterFiles {
    /// Reads a router directory.
    ///
    /// # Errors
    /// As [`Directory::read`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let directory = Directory::read(path)?;
        let nft = fs::read_to_string(path.join("ruleset.json")).ok().and_then(|text| Chains::of_nft(&text));
        // Tables of nftables without a rule that drops are still where rules belong, if iptables has none.
        let has_tables = directory.nft.as_ref().is_some_and(|nft| !nft.tables.is_empty());
        let has_rules = [&directory.rules4, &directory.rules6].into_iter().flatten().any(|rules| !rules.is_empty());
        let mut form = if has_tables && !has_rules { RulesForm::Nft } else { RulesForm::Iptables };
        let legacy = |rules: &Option<crate::netfilter::Ruleset>| rules.as_ref().map(Chains::of_iptables);
        let mut chains = [legacy(&directory.rules4), legacy(&directory.rules6)];
        if let Some(nft) = nft.filter(|nft| !nft.is_empty()) {
            for chains in &mut chains {
                if chains.as_ref().is_none_or(Chains::is_empty) {
                    *chains = Some(nft.clone());
                }
            }
            form = RulesForm::Nft;
        }
        Ok(Self { directory, chains, form })
    }

    /// The router's captures: one file, or one for each interface.
    #[must_use]
    pub fn captures(&self) -> Vec<PathBuf> {
        self.directory.captures.clone()
    }

    /// The name of an interface.
    pub(super) fn device(&self, index: u32) -> Option<String> {
        self.directory
            .interfaces
            .iter()
            .find(|interface| interface.index == index)
            .map(|interface| interface.name.clone())
    }

    fn chains(&self, address: IpAddr) -> Option<&Chains> {
        self.chains[usize::from(address.is_ipv6())].as_ref()
    }

    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        self.directory.interfaces.iter().flat_map(|interface| &interface.addresses).any(|own| own.address == address)
    }

    /// The chain of nftables at a hook that drops what no rule of it accepts: family, table and name.
    pub(super) fn nft_chain(&self, hook: &str) -> Option<String> {
        let tables = self.directory.nft.iter().flat_map(|nft| &nft.tables);
        let chains = tables.flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
        let at_hook = chains.filter_map(|(table, chain)| {
            let base = chain.base.as_ref()?;
            let is_here = base.kind == ChainKind::Filter && hook_name(base.hook) == hook;
            is_here.then(|| {
                (base.policy == Policy::Drop, format!("{} {} {}", table.family.name(), table.name, chain.name))
            })
        });
        let mut at_hook: Vec<(bool, String)> = at_hook.collect();
        at_hook.sort_by_key(|(drops, _)| !drops);
        at_hook.into_iter().next().map(|(_, name)| name)
    }

    /// Returns the maximum and the number of connections if the connection table is full, or nearly.
    pub(super) fn full_table(&self) -> Option<(u64, u64)> {
        let most = self.table_size()?;
        let counted = self.directory.sysctl.number("net.netfilter.nf_conntrack_count").ok().flatten();
        let listed = || self.directory.conntrack_text.as_ref().map(|text| text.lines().count() as u64);
        let count = counted.or_else(listed)?;
        (count > 0 && count.saturating_mul(100) >= most.saturating_mul(95)).then_some((most, count))
    }

    /// The maximum number of connections that the router tracks, if its settings say it.
    pub(super) fn table_size(&self) -> Option<u64> {
        self.directory.sysctl.number("net.netfilter.nf_conntrack_max").ok().flatten()
    }

    /// The commands that lift the limits of real servers.
    pub(super) fn limited_servers(&self) -> Vec<String> {
        let services = self.directory.ipvs.iter().flat_map(|ipvs| &ipvs.services);
        let servers = services.flat_map(|service| service.servers.iter().map(move |server| (service.address, server)));
        let limited = servers.filter(|(_, server)| server.upper > 0);
        let command = |(service, server): (ServiceAddress, &ServerConfig)| {
            let method = match server.forwarding {
                Forwarding::Masquerade => "-m",
                Forwarding::Route => "-g",
                Forwarding::Tunnel => "-i",
            };
            let at = SocketAddr::new(server.address, server.port);
            format!("ipvsadm -e {service} -r {at} {method} -w {} -x 0 -y 0", server.weight)
        };
        limited.map(command).collect()
    }

    /// The programs that manage the rules, by the chains and tables that they make.
    pub(super) fn tools(&self) -> Tools {
        let rulesets = [&self.directory.rules4, &self.directory.rules6].into_iter().flatten();
        let chains: Vec<&str> = rulesets
            .flat_map(|rules| [TableName::Nat, TableName::Filter].map(|table| rules.table(table)))
            .flat_map(|table| &table.chains)
            .map(|chain| chain.name.as_str())
            .collect();
        let tables = || self.directory.nft.iter().flat_map(|nft| &nft.tables);
        let has = |start: &str| chains.iter().any(|name| name.starts_with(start));
        Tools {
            firewalld: has("FWDI_")
                || has("FWD_")
                || has("INPUT_direct")
                || tables().any(|table| table.name == "firewalld"),
            ufw: has("ufw-"),
            docker: has("DOCKER"),
            kubernetes: has("KUBE-"),
            ipvsadm: self.directory.has_ipvs_rules,
            keepalived: self.directory.ipvs.is_some() && !self.directory.has_ipvs_rules,
        }
    }

    /// The interface that leads to an address.
    pub(super) fn towards(&self, address: IpAddr) -> Option<&str> {
        let network = |own: &crate::config::AddressConfig| crate::netfilter::Cidr::new(own.address, own.prefix);
        let on_link =
            self.directory.interfaces.iter().find(|interface| {
                interface.addresses.iter().filter_map(network).any(|network| network.contains(address))
            });
        if let Some(interface) = on_link {
            return Some(&interface.name);
        }
        let routes = self.directory.routes.iter();
        let fitting = routes.filter(|route| match route.destination {
            Some(network) => network.contains(address),
            None => address.is_ipv4() == matches!(route.family, crate::packet::Family::V4),
        });
        let best = fitting.max_by_key(|route| route.destination.map_or(0, crate::netfilter::Cidr::prefix));
        best.and_then(|route| route.interface.as_deref())
    }

    /// Returns the filter's verdict on a first packet in this state.
    pub(super) fn verdict(&self, from: SocketAddr, to: SocketAddr, state: StateSet) -> Option<(Verdict, &'static str)> {
        let chains = self.chains(to.ip())?;
        let question = Question { from, to, state, arrives: self.towards(from.ip()), leaves: self.towards(to.ip()) };
        let hook = if self.is_local(to.ip()) {
            "input"
        } else if self.is_local(from.ip()) {
            "output"
        } else {
            "forward"
        };
        let before = chains.ask("prerouting", &question);
        Some((if before == Verdict::Accept { chains.ask(hook, &question) } else { before }, hook))
    }

    pub(super) fn open_ranges(&self, address: IpAddr, hook: &str) -> Vec<(u16, u16)> {
        self.chains(address).map(|chains| chains.open_ranges(hook)).unwrap_or_default()
    }

    /// Returns the helper's action on the control connection between these ends, as the router meets its first packet.
    pub(super) fn helper(&self, client: SocketAddr, server: SocketAddr) -> Helper {
        let Some(chains) = self.chains(server.ip()) else { return Helper::NotKnown };
        let question = Question {
            from: client,
            to: server,
            state: StateSet::NEW,
            arrives: self.towards(client.ip()),
            leaves: None,
        };
        let rules = chains.helper_rules(&question);
        if let Some(rule) = rules.iter().find(|rule| !rule.other_port && !rule.other_interface && !rule.other) {
            return Helper::Attached(rule.origin.clone());
        }
        let by_number = self.directory.sysctl.switch("net.netfilter.nf_conntrack_helper").ok().flatten() == Some(true);
        let modules = self.directory.modules.as_ref();
        let has_module = modules.is_none_or(|modules| modules.names.is_empty() || modules.has("nf_conntrack_ftp"));
        if by_number {
            let mut ports = modules.map(|modules| modules.ports("nf_conntrack_ftp")).unwrap_or_default();
            if ports.is_empty() {
                ports.push(21);
            }
            return match (has_module, ports.contains(&server.port())) {
                (false, _) => Helper::NoModule,
                (true, true) => Helper::Attached("net.netfilter.nf_conntrack_helper = 1".to_string()),
                (true, false) => Helper::OtherPort("the module's option ports".to_string(), ports),
            };
        }
        if let Some(rule) = rules.iter().find(|rule| !rule.other && !rule.other_interface) {
            return Helper::OtherPort(rule.origin.clone(), rule.ports.clone());
        }
        if let Some(rule) = rules.iter().find(|rule| !rule.other_port) {
            return Helper::OtherInterface(rule.origin.clone());
        }
        Helper::None
    }

    /// Rules with words that were not judged.
    #[must_use]
    pub fn not_judged(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.chains.iter().flatten().flat_map(|chains| chains.not_judged.clone()).collect();
        found.sort();
        found.dedup();
        found
    }
}

const fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    }
}
