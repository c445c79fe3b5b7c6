//! Kernel settings of the IP layer: what `sysctl.conf` says of forwarding, of addresses, and of the router's own packets.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::error::{Error, Warning, WarningKind};
use super::sysctl::Sysctl;
use crate::router::{Interface, IpSettings, ReversePath};

/// Settings that are read here or elsewhere in this layer. A `*` stands for one part of the name, or for its end.
const IMITATED: [&str; 19] = [
    "net.ipv4.conf.*.accept_local",
    "net.ipv4.conf.*.forwarding",
    "net.ipv4.conf.*.route_localnet",
    "net.ipv4.conf.*.rp_filter",
    "net.ipv4.icmp_errors_use_inbound_ifaddr",
    "net.ipv4.ip_default_ttl",
    "net.ipv4.ip_forward",
    "net.ipv4.vs.conn_reuse_mode",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.expire_quiescent_template",
    "net.ipv4.vs.sloppy_tcp",
    "net.ipv6.conf.*.forwarding",
    "net.ipv6.conf.*.hop_limit",
    "net.netfilter.nf_conntrack_*timeout*",
    "net.netfilter.nf_conntrack_acct",
    "net.netfilter.nf_conntrack_checksum",
    "net.netfilter.nf_conntrack_*max",
    "net.netfilter.nf_conntrack_helper",
    "net.netfilter.nf_conntrack_tcp_*",
];

/// Settings that no packet leaves otherwise for: those of the machine's own sockets and addresses, of neighbours, of logs
/// and of the size of tables.
const IRRELEVANT: [&str; 79] = [
    "net.ipv4.cipso_*",
    "net.ipv4.conf.*.*igmp*",
    "net.ipv4.conf.*.accept_redirects",
    "net.ipv4.conf.*.arp_*",
    "net.ipv4.conf.*.bootp_relay",
    "net.ipv4.conf.*.disable_*",
    "net.ipv4.conf.*.drop_gratuitous_arp",
    "net.ipv4.conf.*.log_martians",
    "net.ipv4.conf.*.medium_id",
    "net.ipv4.conf.*.promote_secondaries",
    "net.ipv4.conf.*.proxy_arp*",
    "net.ipv4.conf.*.secure_redirects",
    "net.ipv4.conf.*.shared_media",
    "net.ipv4.conf.*.tag",
    "net.ipv4.conf.default.*",
    "net.ipv4.fib_multipath_hash_seed",
    "net.ipv4.fib_notify_*",
    "net.ipv4.fib_sync_mem",
    "net.ipv4.icmp_echo_*",
    "net.ipv4.icmp_ignore_bogus_error_responses",
    "net.ipv4.igmp_*",
    "net.ipv4.inet_peer_*",
    "net.ipv4.ip_autobind_reuse",
    "net.ipv4.ip_dynaddr",
    "net.ipv4.ip_early_demux",
    "net.ipv4.ip_forward_update_priority",
    "net.ipv4.ip_local_*",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ipfrag_secret_interval",
    "net.ipv4.neigh.*",
    "net.ipv4.nexthop_compat_mode",
    "net.ipv4.ping_group_range",
    "net.ipv4.raw_*",
    "net.ipv4.route.*",
    "net.ipv4.tcp_*",
    "net.ipv4.udp_*",
    "net.ipv4.xfrm4_gc_thresh",
    "net.ipv6.anycast_src_echo_reply",
    "net.ipv6.auto_flowlabels",
    "net.ipv6.bindv6only",
    "net.ipv6.calipso_*",
    "net.ipv6.conf.*.*mld*",
    "net.ipv6.conf.*.accept_dad",
    "net.ipv6.conf.*.accept_ra*",
    "net.ipv6.conf.*.accept_redirects",
    "net.ipv6.conf.*.accept_untracked_na",
    "net.ipv6.conf.*.addr_gen_mode",
    "net.ipv6.conf.*.autoconf",
    "net.ipv6.conf.*.dad_transmits",
    "net.ipv6.conf.*.disable_policy",
    "net.ipv6.conf.*.drop_unsolicited_na",
    "net.ipv6.conf.*.enhanced_dad",
    "net.ipv6.conf.*.force_tllao",
    "net.ipv6.conf.*.ioam6_*",
    "net.ipv6.conf.*.keep_addr_on_down",
    "net.ipv6.conf.*.max_*",
    "net.ipv6.conf.*.mtu",
    "net.ipv6.conf.*.ndisc_*",
    "net.ipv6.conf.*.optimistic_dad",
    "net.ipv6.conf.*.proxy_ndp",
    "net.ipv6.conf.*.ra_*",
    "net.ipv6.conf.*.regen_*",
    "net.ipv6.conf.*.router_*",
    "net.ipv6.conf.*.seg6_require_hmac",
    "net.ipv6.conf.*.stable_secret",
    "net.ipv6.conf.*.suppress_frag_ndisc",
    "net.ipv6.conf.*.temp_*",
    "net.ipv6.conf.*.use_*",
    "net.ipv6.conf.default.*",
    "net.ipv6.fib_notify_*",
    "net.ipv6.flowlabel_*",
    "net.ipv6.icmp.echo_*",
    "net.ipv6.idgen_*",
    "net.ipv6.mld_*",
    "net.ipv6.neigh.*",
    "net.ipv6.route.*",
    "net.ipv6.xfrm6_gc_thresh",
    "net.netfilter.nf_log.*",
    "net.netfilter.nf_log_*",
];

/// The same of connection tracking.
const IRRELEVANT_TO_TRACKING: [&str; 4] = [
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_events",
    "net.netfilter.nf_conntrack_log_invalid",
];

/// The kernel's defaults of settings that are not imitated.
const DEFAULTS: [(&str, &str); 54] = [
    // Counts only with that of all interfaces.
    ("net.ipv4.conf.default.accept_source_route", "*"),
    ("net.ipv4.conf.lo.accept_source_route", "*"),
    ("net.ipv4.conf.*.accept_source_route", "0"),
    ("net.ipv4.conf.*.bc_forwarding", "0"),
    ("net.ipv4.conf.*.drop_unicast_in_l2_multicast", "0"),
    ("net.ipv4.conf.*.ignore_routes_with_linkdown", "0"),
    ("net.ipv4.conf.*.mc_forwarding", "0"),
    ("net.ipv4.conf.*.send_redirects", "0"),
    ("net.ipv4.conf.*.src_valid_mark", "0"),
    ("net.ipv4.fib_multipath_hash_fields", "7"),
    ("net.ipv4.fib_multipath_hash_policy", "0"),
    ("net.ipv4.fib_multipath_use_neigh", "0"),
    ("net.ipv4.fwmark_reflect", "0"),
    ("net.ipv4.icmp_errors_extension_mask", "0"),
    ("net.ipv4.icmp_msgs_burst", "50"),
    ("net.ipv4.icmp_msgs_per_sec", "1000"),
    ("net.ipv4.icmp_ratelimit", "1000"),
    ("net.ipv4.icmp_ratemask", "6168"),
    ("net.ipv4.ip_forward_use_pmtu", "0"),
    ("net.ipv4.ip_no_pmtu_disc", "0"),
    ("net.ipv4.ip_nonlocal_bind", "0"),
    ("net.ipv4.ipfrag_high_thresh", "4194304"),
    ("net.ipv4.ipfrag_low_thresh", "3145728"),
    ("net.ipv4.ipfrag_max_dist", "64"),
    ("net.ipv4.ipfrag_time", "30"),
    ("net.ipv6.conf.*.accept_source_route", "0"),
    ("net.ipv6.conf.*.disable_ipv6", "0"),
    ("net.ipv6.conf.*.drop_unicast_in_l2_multicast", "0"),
    ("net.ipv6.conf.*.force_forwarding", "0"),
    ("net.ipv6.conf.*.ignore_routes_with_linkdown", "0"),
    ("net.ipv6.conf.*.mc_forwarding", "0"),
    ("net.ipv6.conf.*.rpl_seg_enabled", "0"),
    ("net.ipv6.conf.*.seg6_enabled", "0"),
    ("net.ipv6.fib_multipath_hash_fields", "7"),
    ("net.ipv6.fib_multipath_hash_policy", "0"),
    ("net.ipv6.fwmark_reflect", "0"),
    ("net.ipv6.icmp.error_anycast_as_unicast", "0"),
    ("net.ipv6.icmp.ratelimit", "100"),
    ("net.ipv6.icmp.ratelimit", "1000"),
    ("net.ipv6.icmp.ratemask", "0-1,3-127"),
    ("net.ipv6.ioam6_id*", "*"),
    ("net.ipv6.ip6frag_high_thresh", "4194304"),
    ("net.ipv6.ip6frag_low_thresh", "3145728"),
    ("net.ipv6.ip6frag_secret_interval", "0"),
    ("net.ipv6.ip6frag_time", "60"),
    ("net.ipv6.ip_nonlocal_bind", "0"),
    ("net.ipv6.max_dst_opts_*", "*"),
    ("net.ipv6.max_hbh_length", "2147483647"),
    ("net.ipv6.max_hbh_opts_number", "8"),
    ("net.ipv6.seg6_*", "0"),
    ("net.netfilter.nf_conntrack_frag6_*thresh", "*"),
    ("net.netfilter.nf_conntrack_frag6_timeout", "60"),
    ("net.netfilter.nf_conntrack_timestamp", "0"),
    ("net.netfilter.nf_hooks_lwtunnel", "0"),
];

/// The settings of packets that are routed.
const OF_PACKETS: [&str; 3] = ["net.ipv4.", "net.ipv6.", "net.netfilter."];

/// Warns of every setting that concerns packets and is not imitated, unless the kernel has the same by default. A setting
/// that is not known here may be a later kernel's, and is warned of too.
pub(super) fn warn_of_settings(sysctl: &Sysctl) -> Vec<Warning> {
    let warn = |(key, _): (&str, &str)| {
        let warning = Warning::of_file(sysctl.file(), WarningKind::NotImitated);
        Warning { line: sysctl.line(key), word: key.into(), ..warning }
    };
    sysctl.iter().filter(|(key, value)| is_unknown(key, value)).map(warn).collect()
}

fn is_unknown(key: &str, value: &str) -> bool {
    let is_one_of = |patterns: &[&str]| patterns.iter().any(|pattern| is_like(pattern, key));
    let has_default = |(pattern, default): &(&str, &str)| is_like(pattern, key) && is_part(default, value);
    let concerns_packets = OF_PACKETS.iter().any(|start| key.starts_with(start));
    if !concerns_packets || DEFAULTS.iter().any(has_default) {
        return false;
    }
    // `nf_conntrack_frag6_timeout` looks like a timeout of connections.
    let is_not_imitated = DEFAULTS.iter().any(|(pattern, _)| is_like(pattern, key));
    is_not_imitated || !(is_one_of(&IMITATED) || is_one_of(&IRRELEVANT) || is_one_of(&IRRELEVANT_TO_TRACKING))
}

/// True if a key is the pattern's, part for part. A `*` that ends the pattern stands for any number of parts.
fn is_like(pattern: &str, key: &str) -> bool {
    let (mut wanted, mut parts) = (pattern.split('.'), key.split('.'));
    loop {
        match (wanted.next(), parts.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) if pattern.ends_with(".*") && wanted.clone().next().is_none() => return true,
            (Some(wanted), Some(part)) if is_part(wanted, part) => {}
            _ => return false,
        }
    }
}

/// True if a part of a name is the pattern's, in which each `*` stands for any text.
pub(super) fn is_part(pattern: &str, part: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| part.strip_prefix(first)) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(piece) = last.replace(piece) {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// Reads the settings that hold for all interfaces.
pub(super) fn ip_settings(sysctl: &Sysctl) -> Result<IpSettings, Error> {
    let mut settings = IpSettings::default();
    if let Some(ttl) = sysctl.number("net.ipv4.ip_default_ttl")? {
        settings.default_ttl = u8::try_from(ttl).unwrap_or(u8::MAX);
    }
    if let Some(on) = sysctl.switch("net.ipv4.icmp_errors_use_inbound_ifaddr")? {
        settings.errors_use_inbound_address = on;
    }
    if let Some(on) = sysctl.switch("net.ipv6.conf.all.forwarding")? {
        settings.ipv6_forwarding = on;
    }
    Ok(settings)
}

/// Reads the settings of each interface.
pub(super) fn set_up_interfaces(sysctl: &Sysctl, interfaces: &mut [Interface]) -> Result<(), Error> {
    set_forwarding(sysctl, interfaces, &["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"], "ipv4", |i| {
        &mut i.settings.forwarding
    })?;
    set_forwarding(sysctl, interfaces, &["net.ipv6.conf.all.forwarding"], "ipv6", |i| &mut i.settings.is_ipv6_router)?;
    let all_filter = sysctl.number(&key("ipv4", "all", "rp_filter"))?.unwrap_or(0);
    for interface in interfaces {
        let name = interface.name.clone();
        let settings = &mut interface.settings;
        let filter = sysctl.number(&key("ipv4", &name, "rp_filter"))?.unwrap_or(0).max(all_filter);
        settings.reverse_path = match filter {
            0 => ReversePath::Off,
            1 => ReversePath::Strict,
            _ => ReversePath::Loose,
        };
        settings.accept_local = either(sysctl, &name, "accept_local")?;
        settings.route_localnet = either(sysctl, &name, "route_localnet")?;
        if let Some(limit) = sysctl.number(&key("ipv6", &name, "hop_limit"))? {
            settings.hop_limit = u8::try_from(limit).unwrap_or(u8::MAX);
        }
    }
    Ok(())
}

/// Sets the switch of each interface as the lines of the file do, one after the other: a line for all interfaces sets each
/// of them, unless it changes nothing.
fn set_forwarding(
    sysctl: &Sysctl,
    interfaces: &mut [Interface],
    of_all: &[&str],
    family: &str,
    switch: fn(&mut Interface) -> &mut bool,
) -> Result<(), Error> {
    let mut all = None;
    for (name, value) in sysctl.iter() {
        let Some(on) = value.parse::<i64>().ok().map(|number| number != 0) else { continue };
        if of_all.contains(&name) {
            if all != Some(on) {
                interfaces.iter_mut().for_each(|interface| *switch(interface) = on);
            }
            all = Some(on);
        } else if let Some(interface) = interfaces.iter_mut().find(|i| name == key(family, &i.name, "forwarding")) {
            *switch(interface) = on;
        }
    }
    // A value that is no number is an error, wherever it stands.
    for name in of_all {
        sysctl.switch(name)?;
    }
    Ok(())
}

/// A switch that is on if it is on for all interfaces or for this one.
fn either(sysctl: &Sysctl, interface: &str, name: &str) -> Result<bool, Error> {
    let all = sysctl.switch(&key("ipv4", "all", name))?;
    let own = sysctl.switch(&key("ipv4", interface, name))?;
    Ok(all == Some(true) || own == Some(true))
}

/// A key of an interface. A dot of its name is written as a slash.
fn key(family: &str, interface: &str, name: &str) -> String {
    format!("net.{family}.conf.{}.{name}", interface.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_sysctl;
    use std::vec;

    fn interfaces(text: &str) -> Vec<Interface> {
        let mut interfaces = vec![Interface::new("in"), Interface::new("eth0.1")];
        set_up_interfaces(&parse_sysctl("sysctl.conf", text).unwrap(), &mut interfaces).unwrap();
        interfaces
    }

    #[test]
    fn forwarding_is_set_in_the_order_of_the_lines() {
        let forwarding = |text: &str| [0, 1].map(|number| interfaces(text)[number].settings.forwarding);
        assert_eq!(forwarding(""), [true, true]);
        assert_eq!(forwarding("net.ipv4.ip_forward=0"), [false, false]);
        assert_eq!(forwarding("net.ipv4.ip_forward=0\nnet.ipv4.conf.in.forwarding=1"), [true, false]);
        assert_eq!(forwarding("net.ipv4.conf.in.forwarding=0\nnet.ipv4.ip_forward=1"), [true, true]);
        let printed = "net.ipv4.conf.all.forwarding=1\nnet.ipv4.conf.in.forwarding=0\nnet.ipv4.ip_forward=1";
        assert_eq!(forwarding(printed), [false, true], "as sysctl -a prints it");
        assert_eq!(forwarding("net/ipv4/conf/eth0.1/forwarding=0"), [true, false]);
    }

    #[test]
    fn the_higher_rp_filter_counts() {
        let filters = |text: &str| [0, 1].map(|number| interfaces(text)[number].settings.reverse_path);
        assert_eq!(filters("net.ipv4.conf.all.rp_filter=1"), [ReversePath::Strict; 2]);
        let mixed = "net.ipv4.conf.all.rp_filter=1\nnet.ipv4.conf.in.rp_filter=2";
        assert_eq!(filters(mixed), [ReversePath::Loose, ReversePath::Strict]);
        assert_eq!(filters("net.ipv4.conf.in.rp_filter=0"), [ReversePath::Off; 2]);
    }

    #[test]
    fn a_setting_that_is_not_imitated_is_named() {
        let text = "net.ipv4.conf.eth0.accept_source_route = 1\nnet.ipv4.conf.all.accept_source_route = 0\n\
                    net.ipv4.tcp_syncookies = 1\nnet.ipv6.icmp.ratelimit=0\nnet.ipv4.of_a_later_kernel=1\n\
                    net.netfilter.nf_conntrack_udp_timeout=7\nnet.netfilter.nf_conntrack_frag6_timeout=7\n\
                    net.netfilter.nf_conntrack_dccp_loose=1\nvm.swappiness=1\nnet.ipv4.vs.am_droprate=9\n";
        let warnings = warn_of_settings(&parse_sysctl("sysctl.conf", text).unwrap());
        let named: Vec<_> = warnings.iter().map(|warning| (warning.line, warning.word.as_str())).collect();
        assert_eq!(
            named,
            [
                (Some(1), "net.ipv4.conf.eth0.accept_source_route"),
                (Some(4), "net.ipv6.icmp.ratelimit"),
                (Some(5), "net.ipv4.of_a_later_kernel"),
                (Some(7), "net.netfilter.nf_conntrack_frag6_timeout"),
                (Some(8), "net.netfilter.nf_conntrack_dccp_loose"),
                (Some(10), "net.ipv4.vs.am_droprate"),
            ]
        );
    }

    /// Settings that `sysctl -a` prints as the kernel sets them up bring no warning.
    #[test]
    fn defaults_are_not_warned_of() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/sysctl/defaults-6.18.conf");
        let text = std::fs::read_to_string(path).unwrap();
        let warnings = warn_of_settings(&parse_sysctl("sysctl.conf", &text).unwrap());
        let named: Vec<_> = warnings.iter().map(|warning| warning.word.as_str()).collect();
        // By default Linux sends redirects, which are not imitated.
        assert!(named.len() == 3 && named.iter().all(|name| name.ends_with(".send_redirects")), "{named:?}");
        assert!(text.lines().count() > 400);
    }

    #[test]
    fn patterns() {
        for (pattern, key) in [
            ("net.a.*.b", "net.a.eth0.b"),
            ("net.a.*", "net.a.b.c"),
            ("net.a_*", "net.a_b"),
            ("net.a_*z*", "net.a_xzy"),
            ("net.a_*z*", "net.a_z"),
        ] {
            assert!(is_like(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("net.a.*.b", "net.a.b"),
            ("net.a_*", "net.a"),
            ("net.a_*", "net.a_b.c"),
            ("net.a_*z", "net.a_zy"),
            ("a", "ab"),
        ] {
            assert!(!is_like(pattern, key), "{pattern} {key}");
        }
    }
}
