//! Kernel settings of the IP layer: what `sysctl.conf` says of forwarding, of addresses, and of the router's own packets.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::error::{Error, Warning, WarningKind};
use super::sysctl::Sysctl;
use crate::router::{Interface, IpSettings, ReversePath};

/// Settings that change what a router does and that are not imitated, with the kernel's default. A `*` stands for one
/// part of the name.
const NOT_IMITATED: [(&str, &str); 33] = [
    ("net.ipv4.conf.*.accept_source_route", "0"),
    ("net.ipv4.conf.*.bc_forwarding", "0"),
    ("net.ipv4.conf.*.drop_unicast_in_l2_multicast", "0"),
    ("net.ipv4.conf.*.mc_forwarding", "0"),
    ("net.ipv4.conf.*.send_redirects", "0"),
    ("net.ipv4.conf.*.src_valid_mark", "0"),
    ("net.ipv4.fwmark_reflect", "0"),
    ("net.ipv4.icmp_errors_extension_mask", "0"),
    ("net.ipv4.icmp_msgs_burst", "50"),
    ("net.ipv4.icmp_msgs_per_sec", "1000"),
    ("net.ipv4.icmp_ratelimit", "1000"),
    ("net.ipv4.icmp_ratemask", "6168"),
    ("net.ipv4.ip_forward_use_pmtu", "0"),
    ("net.ipv4.ip_nonlocal_bind", "0"),
    ("net.ipv4.ipfrag_max_dist", "64"),
    ("net.ipv4.ipfrag_time", "30"),
    ("net.ipv6.conf.*.accept_source_route", "0"),
    ("net.ipv6.conf.*.disable_ipv6", "0"),
    ("net.ipv6.conf.*.force_forwarding", "0"),
    ("net.ipv6.conf.*.mc_forwarding", "0"),
    ("net.ipv6.conf.*.seg6_enabled", "0"),
    ("net.ipv6.fwmark_reflect", "0"),
    ("net.ipv6.icmp.error_anycast_as_unicast", "0"),
    ("net.ipv6.icmp.ratelimit", "1000"),
    ("net.ipv6.icmp.ratemask", "0-1,3-127"),
    ("net.ipv6.ip6frag_time", "60"),
    ("net.ipv6.ip_nonlocal_bind", "0"),
    ("net.ipv6.max_dst_opts_number", "8"),
    ("net.ipv6.max_hbh_length", "2147483647"),
    ("net.ipv6.max_hbh_opts_number", "8"),
    ("net.netfilter.nf_conntrack_frag6_timeout", "60"),
    ("net.netfilter.nf_conntrack_timestamp", "0"),
    ("net.netfilter.nf_hooks_lwtunnel", "0"),
];

/// Warns of every setting that would change what the router does and is not imitated.
pub(super) fn warn_of_settings(sysctl: &Sysctl) -> Vec<Warning> {
    let changes = |(key, value): &(&str, &str)| {
        NOT_IMITATED.iter().any(|(pattern, default)| is_like(pattern, key) && value != default)
    };
    let warn = |(key, _): (&str, &str)| {
        let warning = Warning::of_file(sysctl.file(), WarningKind::NotImitated);
        Warning { line: sysctl.line(key), word: key.into(), ..warning }
    };
    sysctl.iter().filter(changes).map(warn).collect()
}

/// True if a key is the pattern's, part for part.
fn is_like(pattern: &str, key: &str) -> bool {
    let (mut wanted, mut parts) = (pattern.split('.'), key.split('.'));
    loop {
        match (wanted.next(), parts.next()) {
            (None, None) => return true,
            (Some(wanted), Some(part)) if wanted == "*" || wanted == part => {}
            _ => return false,
        }
    }
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
                    net.ipv4.tcp_syncookies = 1\nnet.ipv6.icmp.ratelimit=0\n";
        let warnings = warn_of_settings(&parse_sysctl("sysctl.conf", text).unwrap());
        let named: Vec<_> = warnings.iter().map(|warning| (warning.line, warning.word.as_str())).collect();
        assert_eq!(named, [(Some(1), "net.ipv4.conf.eth0.accept_source_route"), (Some(4), "net.ipv6.icmp.ratelimit")]);
    }
}
