//! `route.json`: what `ip -j route` says.

use core::net::IpAddr;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::error::Error;
use super::json::{Object, array, objects};
use super::values::decimal;
use crate::netfilter::Cidr;
use crate::packet::Family;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteConfig {
    /// Family of its table.
    pub family: Family,
    /// Network that it leads to; `None` for everywhere (`default`).
    pub destination: Option<Cidr>,
    /// The interface that packets leave by, where there is one.
    pub interface: Option<String>,
    /// The router that takes them on; absent where the destination is on the link. May be of the other family.
    pub gateway: Option<IpAddr>,
    /// The address that this machine uses as its own on the way there.
    pub prefsrc: Option<IpAddr>,
    /// The lower, the better; 0 where the file says none.
    pub metric: u32,
    /// Type of the route.
    pub kind: RouteType,
    /// The table, where the file names one other than `main`.
    pub table: Option<String>,
    /// True if Linux passes the route over because its link is gone (flags `dead` and `linkdown`).
    pub dead: bool,
}

/// The type of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteType {
    /// They are sent there.
    #[default]
    Unicast,
    /// They are for this machine.
    Local,
    /// They are for everyone on the link.
    Broadcast,
    /// They are for this machine and others of the group.
    Multicast,
    /// They are for the nearest machine that has the address.
    Anycast,
    /// They are dropped in silence.
    Blackhole,
    /// They are dropped, with ICMP host unreachable.
    Unreachable,
    /// They are dropped, with ICMP communication administratively prohibited.
    Prohibit,
    /// The look-up in this table ends as if no route had been found.
    Throw,
}

/// Reads the output of `ip -j route`, of both families in one array, in its order.
///
/// A route of several next hops becomes as many routes, in order. The family of a default route is that of its gateway
/// or source address; where it has none, the key `pref`, which `ip` prints for IPv6 alone, tells.
///
/// # Errors
///
/// Text that is no such JSON, a route without destination, addresses and types that are none.
///
/// ```
/// let text = r#"[{"dst":"default","gateway":"192.0.2.254","dev":"eth0","flags":[]}]"#;
/// let routes = ftp_conntrack::config::parse_routes("route.json", text)?;
/// assert_eq!(routes[0].destination, None);
/// assert_eq!(routes[0].interface.as_deref(), Some("eth0"));
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
pub fn parse_routes(file: &str, text: &str) -> Result<Vec<RouteConfig>, Error> {
    routes(text).map_err(|error| error.in_file(file))
}

fn routes(text: &str) -> Result<Vec<RouteConfig>, Error> {
    let values = array(text)?;
    let mut routes = Vec::new();
    for object in objects(text, &values)? {
        let hops = object.list("nexthops")?;
        let hops = if hops.is_empty() { vec![object] } else { hops };
        for hop in hops {
            routes.push(route(object, hop)?);
        }
    }
    Ok(routes)
}

/// The route that `object` describes, by way of `hop`, which may be the same object.
fn route(object: Object<'_>, hop: Object<'_>) -> Result<RouteConfig, Error> {
    let text = object.text("dst")?.ok_or_else(|| object.missing("dst"))?;
    let prefsrc = object.address("prefsrc")?;
    let (gateway, via) = gateway(hop)?;
    let destination = match text {
        "default" => None,
        _ => Some(destination(text).ok_or_else(|| object.blame(text, "write an address, ADDRESS/PREFIX or default"))?),
    };
    let family = match destination {
        Some(cidr) => family_of(cidr.address()),
        None => default_family(object, gateway, via, prefsrc)?,
    };
    Ok(RouteConfig {
        family,
        destination: destination.filter(|cidr| cidr.prefix() != 0),
        interface: hop.text("dev")?.map(String::from),
        gateway,
        prefsrc,
        metric: object.number("metric")?.unwrap_or(0),
        kind: kind(object)?,
        table: object.text("table")?.filter(|table| *table != "main").map(String::from),
        dead: hop.has_flag("dead") || hop.has_flag("linkdown"),
    })
}

fn destination(text: &str) -> Option<Cidr> {
    match text.split_once('/') {
        Some((address, prefix)) => Cidr::new(address.parse().ok()?, decimal(prefix)?),
        None => Some(Cidr::host(text.parse().ok()?)),
    }
}

/// The next router, and whether it is of the other family (`via`, RFC 5549 and Linux's `RTA_VIA`).
fn gateway(hop: Object<'_>) -> Result<(Option<IpAddr>, bool), Error> {
    match hop.object("via")? {
        Some(via) => Ok((via.address("host")?, true)),
        None => Ok((hop.address("gateway")?, false)),
    }
}

fn default_family(
    object: Object<'_>,
    gateway: Option<IpAddr>,
    via: bool,
    prefsrc: Option<IpAddr>,
) -> Result<Family, Error> {
    Ok(match (gateway.map(family_of), prefsrc.map(family_of)) {
        (Some(Family::V4), _) if via => Family::V6,
        (Some(Family::V6), _) if via => Family::V4,
        (Some(family), _) | (None, Some(family)) => family,
        (None, None) if object.text("pref")?.is_some() => Family::V6,
        (None, None) => Family::V4,
    })
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn kind(object: Object<'_>) -> Result<RouteType, Error> {
    let Some(text) = object.text("type")? else { return Ok(RouteType::Unicast) };
    Ok(match text {
        "unicast" => RouteType::Unicast,
        "local" => RouteType::Local,
        "broadcast" => RouteType::Broadcast,
        "multicast" => RouteType::Multicast,
        "anycast" => RouteType::Anycast,
        "blackhole" => RouteType::Blackhole,
        "unreachable" => RouteType::Unreachable,
        "prohibit" => RouteType::Prohibit,
        "throw" => RouteType::Throw,
        _ => return Err(object.blame(text, "write a type such as unicast, blackhole or unreachable")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ErrorKind;

    fn read(text: &str) -> Vec<RouteConfig> {
        parse_routes("route.json", text).unwrap()
    }

    fn cidr(address: &str, prefix: u8) -> Option<Cidr> {
        Cidr::new(address.parse().unwrap(), prefix)
    }

    #[test]
    fn both_families_in_one_array() {
        let all = read(
            r#"[{"dst":"default","dev":"out","scope":"link","flags":[]},
            {"dst":"10.77.1.0/24","dev":"in","protocol":"kernel","prefsrc":"10.77.1.1","flags":[]},
            {"dst":"2001:db8:1::21","dev":"ext","metric":256,"flags":["linkdown"],"pref":"medium"},
            {"dst":"default","dev":"ext","metric":1024,"flags":[],"pref":"medium"}]"#,
        );
        assert_eq!((all[0].family, all[0].destination, all[0].metric), (Family::V4, None, 0));
        assert_eq!((all[1].destination, all[1].prefsrc), (cidr("10.77.1.0", 24), "10.77.1.1".parse().ok()));
        assert_eq!((all[2].family, all[2].destination, all[2].metric), (Family::V6, cidr("2001:db8:1::21", 128), 256));
        assert!(all[2].dead && !all[1].dead);
        assert_eq!((all[3].family, all[3].destination), (Family::V6, None));
    }

    #[test]
    fn gateways() {
        let all = read(
            r#"[{"dst":"default","gateway":"fe80::1","dev":"a"},
            {"dst":"default","via":{"family":"inet6","host":"fe80::1"},"dev":"a"},
            {"dst":"default","nexthops":[{"gateway":"10.0.0.1","dev":"a","weight":1,"flags":[]},
                {"gateway":"10.0.0.2","dev":"b","weight":1,"flags":["dead"]}]},
            {"dst":"0.0.0.0/0","dev":"a"}]"#,
        );
        assert_eq!(all[0].family, Family::V6);
        assert_eq!((all[1].family, all[1].gateway), (Family::V4, "fe80::1".parse().ok()));
        assert_eq!((all[2].gateway, all[2].interface.as_deref()), ("10.0.0.1".parse().ok(), Some("a")));
        assert_eq!((all[3].gateway, all[3].interface.as_deref()), ("10.0.0.2".parse().ok(), Some("b")));
        assert!(all[3].dead);
        assert_eq!((all[4].family, all[4].destination), (Family::V4, None));
    }

    #[test]
    fn kinds_and_tables() {
        let all = read(
            r#"[{"type":"blackhole","dst":"192.0.2.0/24"},{"type":"unreachable","dst":"10.0.0.0/8","dev":"lo"},
            {"type":"local","dst":"10.1.1.1","dev":"a","table":"local"},{"type":"prohibit","dst":"10.2.0.0/16"},
            {"type":"throw","dst":"10.3.0.0/16","table":"main"},{"type":"broadcast","dst":"10.1.1.255","dev":"a"}]"#,
        );
        let kinds: Vec<RouteType> = all.iter().map(|route| route.kind).collect();
        use RouteType::{Blackhole, Broadcast, Local, Prohibit, Throw, Unreachable};
        assert_eq!(kinds, [Blackhole, Unreachable, Local, Prohibit, Throw, Broadcast]);
        assert_eq!(
            (all[0].interface.clone(), all[2].table.as_deref(), all[4].table.clone()),
            (None, Some("local"), None)
        );
    }

    #[test]
    fn refusals_name_line_and_word() {
        let refused = |text| {
            let error = parse_routes("route.json", text).unwrap_err();
            (error.kind, error.line.unwrap(), error.word)
        };
        assert_eq!(refused("[\n{\"dst\":\"10.0.0.0/33\"}]"), (ErrorKind::BadValue, 2, "10.0.0.0/33".into()));
        assert_eq!(refused("[{\"dev\":\"a\"}]"), (ErrorKind::MissingValue, 1, "dst".into()));
        assert_eq!(refused("[{\"dst\":\"::\",\"type\":\"odd\"}]"), (ErrorKind::BadValue, 1, "odd".into()));
        assert_eq!(refused("[{\"dst\":7}]"), (ErrorKind::BadValue, 1, "7".into()));
        assert_eq!(refused("[{\"dst\":\"::\",\"metric\":-1}]"), (ErrorKind::BadValue, 1, "-1".into()));
    }
}
