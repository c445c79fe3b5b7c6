//! From a router directory to a router.

use std::vec;
use std::vec::Vec;

use super::addresses::{InterfaceConfig, Scope};
use super::directory::Directory;
use super::error::Error;
use super::ip_settings::{ip_settings, set_up_interfaces};
use super::modules::Modules;
use super::routes::{RouteConfig, RouteType};
use super::sysctl::Sysctl;
use crate::conntrack;
use crate::helper::HelperConfig;
use crate::ipvs;
use crate::netfilter::{Cidr, RecentSizes, Rule, TableName, Target};
use crate::packet::Family;
use crate::router::{self, Interface, InterfaceAddress, Route, RouterConfig, TrackingScope};

impl Directory {
    /// The router that the directory describes.
    ///
    /// Its interfaces are those of `addr.json`, in that order. Without `route.json`, networks of its own addresses are
    /// reached on their links. Without `modules`, or where it names none, the FTP helper and its NAT part are there;
    /// else only if it names them, or if a rule attaches the helper. The helper is attached by rule; by port only if
    /// `net.netfilter.nf_conntrack_helper = 1`, which kernels had until 5.x, and then on the ports of
    /// `nf_conntrack_ftp`.
    ///
    /// # Errors
    /// A value in `sysctl.conf` that is none.
    ///
    /// ```
    /// use ftp_conntrack::config::Directory;
    ///
    /// let config = Directory::default().router_config()?;
    /// assert!(config.interfaces.is_empty());
    /// # Ok::<(), ftp_conntrack::config::Error>(())
    /// ```
    pub fn router_config(&self) -> Result<RouterConfig, Error> {
        let mut interfaces: Vec<Interface> = self.interfaces.iter().map(interface).collect();
        set_up_interfaces(&self.sysctl, &mut interfaces)?;
        let routes = match self.routes.as_slice() {
            [] => connected(&interfaces),
            routes => routes.iter().filter_map(|route| self.route(route)).collect(),
        };
        let shown = self.helper_is_shown();
        let has = |module: &str| shown || self.modules.as_ref().is_none_or(|modules| modules.has(module));
        let loose = self.modules.as_ref().is_some_and(Modules::loose);
        Ok(RouterConfig {
            interfaces,
            routes,
            rules4: self.rules4.clone().unwrap_or_default(),
            rules6: self.rules6.clone().unwrap_or_default(),
            nft: self.nft.clone().unwrap_or_default(),
            sets: self.sets.clone(),
            recent_sizes: self.recent_sizes(),
            conntrack: conntrack_config(&self.sysctl)?,
            helper: HelperConfig::default()
                .under(self.policy.clone())
                .loose(loose)
                .enabled(has("nf_conntrack_ftp") || has("nf_nat_ftp"))
                .rewriting(has("nf_nat_ftp")),
            helper_ports: self.helper_ports()?,
            ipvs: self.ipvs_config()?,
            checksum: self.sysctl.switch("net.netfilter.nf_conntrack_checksum")? != Some(false),
            ip: ip_settings(&self.sysctl)?,
            tracking: [Family::V4, Family::V6].map(|family| self.tracking(family)),
            ..RouterConfig::default()
        })
    }

    /// Returns how large the lists of `-m recent` are, by the options of its module.
    fn recent_sizes(&self) -> RecentSizes {
        let usual = RecentSizes::default();
        let option = |name: &str| super::values::number(self.modules.as_ref()?.option("xt_recent", name)?);
        RecentSizes {
            addresses: option("ip_list_tot").unwrap_or(usual.addresses).clamp(1, 65_536),
            times: option("ip_pkt_list_tot").unwrap_or(usual.times).clamp(1, 65_535),
        }
    }

    /// Returns true if the files show that the helper is there, whatever modules are loaded: a list without any module
    /// is that of a kernel with everything built in, and a kernel without the helper refuses rules that attach it.
    fn helper_is_shown(&self) -> bool {
        let nothing_loaded = self.modules.as_ref().is_some_and(|modules| modules.names.is_empty());
        let attaches =
            |rule: &Rule| matches!(&rule.target, Target::Ct { helper: Some(helper), .. } if helper.starts_with("ftp"));
        let rulesets = [&self.rules4, &self.rules6].into_iter().flatten();
        let raw = rulesets.flat_map(|rules| &rules.table(TableName::Raw).chains);
        let objects = self.nft.iter().flat_map(|nft| &nft.tables).flat_map(|table| &table.helpers);
        nothing_loaded
            || raw.flat_map(|chain| &chain.rules).any(attaches)
            || objects.into_iter().any(|(_, helper)| helper == "ftp")
    }

    /// Returns which packets of a family are tracked: on demand, unless the rules are not known, or the kernel's table shows
    /// that something else demanded it.
    fn tracking(&self, family: Family) -> TrackingScope {
        let rules = if family == Family::V4 { &self.rules4 } else { &self.rules6 };
        let is_known = rules.is_some() || self.nft.is_some();
        if is_known && !self.tracks_by_evidence(family) { TrackingScope::OnDemand } else { TrackingScope::Everything }
    }

    /// Returns true if the kernel's table has connections of a family.
    pub(super) fn tracks_by_evidence(&self, family: Family) -> bool {
        let word = if family == Family::V4 { "ipv4" } else { "ipv6" };
        self.conntrack_text.as_ref().is_some_and(|text| text.lines().any(|line| line.starts_with(word)))
    }

    /// The load balancer, with what modules and settings say of it.
    fn ipvs_config(&self) -> Result<Option<ipvs::IpvsConfig>, Error> {
        let Some(mut config) = self.ipvs.clone() else { return Ok(None) };
        config.ftp_ports = match &self.modules {
            Some(modules) if modules.has("ip_vs_ftp") => modules.ports("ip_vs_ftp"),
            Some(_) => Vec::new(),
            None if self.has_ipvs_rules => vec![21],
            None => Vec::new(),
        };
        // A port of 0 stands for none.
        config.ftp_ports.retain(|port| *port != 0);
        let settings = &mut config.settings;
        for (name, switch) in [
            ("conntrack", &mut settings.conntrack),
            ("sloppy_tcp", &mut settings.sloppy_tcp),
            ("expire_quiescent_template", &mut settings.expire_quiescent_template),
        ] {
            if let Some(on) = self.sysctl.switch(&std::format!("net.ipv4.vs.{name}"))? {
                *switch = on;
            }
        }
        let bits = self.modules.as_ref().and_then(|modules| modules.option("ip_vs", "conn_tab_bits"));
        if let Some(bits) = bits.and_then(|bits| bits.parse::<u32>().ok()).filter(|bits| (8..=20).contains(bits)) {
            settings.table_size = 1 << bits;
        }
        if let Some(mode) = self.sysctl.number("net.ipv4.vs.conn_reuse_mode")? {
            settings.reuse_mode = u8::try_from(mode).unwrap_or(u8::MAX);
        }
        Ok(Some(config))
    }

    /// The ports the helper is attached to without a rule.
    fn helper_ports(&self) -> Result<Vec<u16>, Error> {
        if self.sysctl.switch("net.netfilter.nf_conntrack_helper")? != Some(true) {
            return Ok(Vec::new());
        }
        Ok(self.modules.as_ref().map_or_else(|| vec![21], |modules| modules.ports("nf_conntrack_ftp")))
    }

    fn route(&self, route: &RouteConfig) -> Option<Route> {
        let name = route.interface.as_deref();
        let interface = name.and_then(|name| self.interfaces.iter().position(|i| i.name == name));
        let kind = match route.kind {
            RouteType::Unicast => router::RouteKind::Unicast,
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast => router::RouteKind::Local,
            RouteType::Blackhole => router::RouteKind::Blackhole,
            RouteType::Unreachable => router::RouteKind::Unreachable,
            RouteType::Prohibit => router::RouteKind::Prohibit,
            RouteType::Multicast | RouteType::Throw => return None,
        };
        if route.dead || route.table.is_some() || kind == router::RouteKind::Unicast && interface.is_none() {
            return None;
        }
        Some(Route {
            destination: route.destination.or_else(|| everything(route.family))?,
            interface: interface.unwrap_or_default(),
            gateway: route.gateway,
            source: route.prefsrc,
            metric: route.metric,
            kind,
        })
    }
}

fn everything(family: Family) -> Option<Cidr> {
    match family {
        Family::V4 => Cidr::new(core::net::Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => Cidr::new(core::net::Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

fn interface(config: &InterfaceConfig) -> Interface {
    let mut interface = Interface::new(&config.name);
    interface.mtu = config.mtu as usize;
    interface.settings.resolves_neighbours = config.resolves_neighbours && !config.loopback;
    interface.addresses = config
        .addresses
        .iter()
        .map(|own| InterfaceAddress {
            address: own.address,
            prefix: own.prefix,
            scope: match own.scope {
                Scope::Global | Scope::Site => router::AddressScope::Global,
                Scope::Link => router::AddressScope::Link,
                _ => router::AddressScope::Host,
            },
            secondary: own.secondary,
        })
        .collect();
    interface
}

/// Routes to the networks of the machine's own addresses.
fn connected(interfaces: &[Interface]) -> Vec<Route> {
    let networks = |(index, interface): (usize, &Interface)| {
        let route = move |own: &InterfaceAddress| Some(Route::on_link(Cidr::new(own.address, own.prefix)?, index));
        interface.addresses.iter().filter_map(route).collect::<Vec<_>>()
    };
    interfaces.iter().enumerate().flat_map(networks).collect()
}

/// `net.netfilter.nf_conntrack_*`.
fn conntrack_config(sysctl: &Sysctl) -> Result<conntrack::ConntrackConfig, Error> {
    let mut config = conntrack::ConntrackConfig::default();
    let (tcp, sctp) = (&mut config.tcp, &mut config.sctp);
    for (name, timeout) in [
        ("tcp_timeout_syn_sent", &mut tcp.syn_sent),
        ("tcp_timeout_syn_recv", &mut tcp.syn_recv),
        ("tcp_timeout_established", &mut tcp.established),
        ("tcp_timeout_fin_wait", &mut tcp.fin_wait),
        ("tcp_timeout_close_wait", &mut tcp.close_wait),
        ("tcp_timeout_last_ack", &mut tcp.last_ack),
        ("tcp_timeout_time_wait", &mut tcp.time_wait),
        ("tcp_timeout_close", &mut tcp.close),
        ("tcp_timeout_max_retrans", &mut tcp.retransmission),
        ("tcp_timeout_unacknowledged", &mut tcp.unacknowledged),
        ("udp_timeout", &mut config.udp),
        ("udp_timeout_stream", &mut config.udp_stream),
        ("icmp_timeout", &mut config.icmp),
        ("icmpv6_timeout", &mut config.icmpv6),
        ("generic_timeout", &mut config.generic),
        ("gre_timeout", &mut config.gre),
        ("gre_timeout_stream", &mut config.gre_stream),
        ("sctp_timeout_closed", &mut sctp.closed),
        ("sctp_timeout_cookie_wait", &mut sctp.cookie_wait),
        ("sctp_timeout_cookie_echoed", &mut sctp.cookie_echoed),
        ("sctp_timeout_established", &mut sctp.established),
        ("sctp_timeout_shutdown_sent", &mut sctp.shutdown_sent),
        ("sctp_timeout_shutdown_recd", &mut sctp.shutdown_received),
        ("sctp_timeout_shutdown_ack_sent", &mut sctp.shutdown_ack_sent),
        ("sctp_timeout_heartbeat_sent", &mut sctp.heartbeat_sent),
    ] {
        if let Some(seconds) = sysctl.seconds(&key(name))? {
            *timeout = seconds;
        }
    }
    for (name, switch) in [
        ("tcp_loose", &mut tcp.loose),
        ("tcp_be_liberal", &mut tcp.be_liberal),
        ("tcp_ignore_invalid_rst", &mut tcp.ignore_invalid_rst),
        ("acct", &mut config.accounting),
    ] {
        if let Some(on) = sysctl.switch(&key(name))? {
            *switch = on;
        }
    }
    if let Some(most) = sysctl.number(&key("tcp_max_retrans"))? {
        tcp.max_retransmissions = u8::try_from(most).unwrap_or(u8::MAX);
    }
    for (name, limit) in [("max", &mut config.limits.connections), ("expect_max", &mut config.limits.expectations)] {
        if let Some(most) = sysctl.number(&key(name))? {
            *limit = u32::try_from(most).unwrap_or(u32::MAX).clamp(1, MOST);
        }
    }
    Ok(config)
}

/// More than this is not taken at once because a file says so.
const MOST: u32 = 1 << 20;

fn key(name: &str) -> std::string::String {
    std::format!("net.netfilter.nf_conntrack_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse_addresses, parse_routes, parse_sysctl};
    use core::time::Duration;

    #[test]
    fn interfaces_and_routes_are_numbered() {
        let addresses = r#"[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536,"addr_info":[]},
            {"ifindex":7,"ifname":"wan","flags":["UP"],"mtu":1400,
             "addr_info":[{"family":"inet","local":"203.0.113.1","prefixlen":24,"scope":"global"}]}]"#;
        let routes = r#"[{"dst":"default","gateway":"203.0.113.254","dev":"wan","flags":[]},
            {"dst":"10.0.0.0/8","dev":"gone","flags":[]}]"#;
        let directory = Directory {
            interfaces: parse_addresses("addr.json", addresses).unwrap(),
            routes: parse_routes("route.json", routes).unwrap(),
            ..Directory::default()
        };
        let config = directory.router_config().unwrap();
        assert_eq!((config.interfaces[1].name.as_str(), config.interfaces[1].mtu), ("wan", 1400));
        let gateway = "203.0.113.254".parse().unwrap();
        assert_eq!(config.routes, [Route::through(everything(Family::V4).unwrap(), 1, gateway)]);
    }

    #[test]
    fn a_helper_object_of_nftables_shows_that_the_helper_is_there() {
        use crate::config::{parse_modules, parse_nft_json};
        let text = r#"{"nftables": [{"table": {"family": "inet", "name": "t"}},
            {"ct helper": {"family": "inet", "table": "t", "name": "h", "type": "ftp", "protocol": "tcp"}}]}"#;
        let modules = Some(parse_modules("modules", "nf_nat").unwrap());
        let nft = Some(parse_nft_json("ruleset.json", text).unwrap().0);
        let with = Directory { modules: modules.clone(), nft, ..Directory::default() };
        assert!(with.router_config().unwrap().helper.enabled && with.router_config().unwrap().helper.rewrites);
        let without = Directory { modules: modules.clone(), ..Directory::default() };
        assert!(!without.router_config().unwrap().helper.rewrites);
        let rule = "*raw\n-A PREROUTING -p tcp --dport 21 -j CT --helper ftp\nCOMMIT\n";
        let rules4 = Some(crate::config::parse_rules("rules.v4", rule, Family::V4).unwrap().0);
        assert!(Directory { rules4, modules, ..Directory::default() }.router_config().unwrap().helper.rewrites);
        let built_in = Some(parse_modules("modules", "# nothing is loaded\n").unwrap());
        assert!(Directory { modules: built_in, ..Directory::default() }.router_config().unwrap().helper.rewrites);
    }

    #[test]
    fn without_routes_networks_are_on_their_links() {
        let interfaces = [Interface::new("a"), Interface::new("b").with_address([10, 0, 0, 1].into(), 8)];
        let routes = connected(&interfaces);
        assert_eq!((routes.len(), routes[0].interface), (1, 1));
        assert!(routes[0].destination.contains([10, 9, 9, 9].into()));
    }

    #[test]
    fn sysctls_are_heard() {
        let text = "net.netfilter.nf_conntrack_tcp_timeout_established = 3\nnet/netfilter/nf_conntrack_tcp_loose=0\n\
                    net.netfilter.nf_conntrack_helper = 1\n";
        let directory = Directory { sysctl: parse_sysctl("sysctl.conf", text).unwrap(), ..Directory::default() };
        let config = directory.router_config().unwrap();
        assert_eq!(config.conntrack.tcp.established, Duration::from_secs(3));
        assert!(!config.conntrack.tcp.loose);
        assert_eq!(config.helper_ports, [21]);
    }
}
