//! `addr.json`: what `ip -j addr` says about interfaces.

use core::net::{IpAddr, Ipv4Addr};
use std::string::String;
use std::vec::Vec;

use super::error::Error;
use super::json::{Object, array, objects};
use super::values::decimal;

/// An interface and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceConfig {
    /// Number of the device, from 1 (`ifindex`).
    pub index: u32,
    /// Name of the device.
    pub name: String,
    /// The largest packet it carries, in bytes.
    pub mtu: u32,
    /// True if it is a loopback device (flag `LOOPBACK`).
    pub loopback: bool,
    /// True if it is up (flag `UP`).
    pub up: bool,
    /// False for a device without neighbours to resolve (flag `NOARP`).
    pub resolves_neighbours: bool,
    /// Link-layer address, where it has one of six bytes.
    pub link_address: Option<[u8; 6]>,
    /// The bridge, bond, team or VRF that it is a port of.
    pub master: Option<String>,
    /// The device that it sends through, of a VLAN or macvlan (`link`).
    pub parent: Option<String>,
    /// Addresses in the order of the file, which is the order in which Linux prefers them.
    pub addresses: Vec<AddressConfig>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressConfig {
    /// The address.
    pub address: IpAddr,
    /// Number of leading bits that name the network, at most 32 (IPv4) or 128 (IPv6).
    pub prefix: u8,
    /// Scope of the address.
    pub scope: Scope,
    /// True if an earlier address of the same network is preferred as a source.
    pub secondary: bool,
    /// The network's broadcast address (IPv4).
    pub broadcast: Option<Ipv4Addr>,
    /// The other end, on a point-to-point link; the network is then that address's.
    pub peer: Option<IpAddr>,
}

/// The scope in which an address is valid (`scope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Everywhere.
    Global,
    /// Within a site.
    Site,
    /// On its link.
    Link,
    /// Within this machine.
    Host,
    /// Nowhere.
    Nowhere,
    /// A scope by number, as Linux lets one define.
    Other(u8),
}

/// Reads the output of `ip -j addr`: interfaces and addresses in its order.
///
/// # Errors
///
/// Text that is no such JSON, an interface without number or name, and values out of their range.
///
/// ```
/// let text = r#"[{"ifindex":2,"ifname":"eth0","flags":["UP"],"mtu":1500,
///     "addr_info":[{"family":"inet","local":"192.0.2.1","prefixlen":24,"scope":"global"}]}]"#;
/// let interfaces = ftp_conntrack::config::parse_addresses("addr.json", text)?;
/// assert_eq!(interfaces[0].name, "eth0");
/// assert_eq!(interfaces[0].addresses[0].prefix, 24);
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
pub fn parse_addresses(file: &str, text: &str) -> Result<Vec<InterfaceConfig>, Error> {
    interfaces(text).map_err(|error| error.in_file(file))
}

fn interfaces(text: &str) -> Result<Vec<InterfaceConfig>, Error> {
    let values = array(text)?;
    objects(text, &values)?.into_iter().map(interface).collect()
}

fn interface(object: Object<'_>) -> Result<InterfaceConfig, Error> {
    let index = object.number("ifindex")?.ok_or_else(|| object.missing("ifindex"))?;
    let name = object.text("ifname")?.ok_or_else(|| object.missing("ifname"))?;
    let addresses: Result<Vec<AddressConfig>, Error> = object.list("addr_info")?.into_iter().map(address).collect();
    Ok(InterfaceConfig {
        index,
        name: name.into(),
        mtu: object.number("mtu")?.ok_or_else(|| object.missing("mtu"))?,
        loopback: object.has_flag("LOOPBACK"),
        up: object.has_flag("UP"),
        resolves_neighbours: !object.has_flag("NOARP"),
        link_address: object.text("address")?.and_then(link_address),
        master: object.text("master")?.map(Into::into),
        parent: object.text("link")?.map(Into::into),
        addresses: addresses?,
    })
}

fn address(object: Object<'_>) -> Result<AddressConfig, Error> {
    let address = object.address("local")?.ok_or_else(|| object.missing("local"))?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = object.number("prefixlen")?.unwrap_or(bits);
    let valid = u8::try_from(prefix).ok().filter(|_| prefix <= bits);
    let wanted = "its prefixlen is more than an address has bits";
    Ok(AddressConfig {
        address,
        prefix: valid.ok_or_else(|| object.blame(object.text("local").ok().flatten().unwrap_or_default(), wanted))?,
        scope: scope(object)?,
        secondary: object.flag("secondary"),
        broadcast: object.parsed("broadcast", "write an IPv4 address")?,
        peer: object.address("address")?,
    })
}

fn scope(object: Object<'_>) -> Result<Scope, Error> {
    let Some(text) = object.text("scope")? else { return Ok(Scope::Global) };
    Ok(match text {
        "global" | "0" => Scope::Global,
        "site" => Scope::Site,
        "link" => Scope::Link,
        "host" => Scope::Host,
        "nowhere" => Scope::Nowhere,
        _ => match decimal(text) {
            Some(number) => Scope::Other(number),
            None => return Err(object.blame(text, "write global, site, link, host, nowhere or a number up to 255")),
        },
    })
}

/// Six bytes between colons; tunnels have other addresses here, or none.
fn link_address(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ErrorKind;

    const TEXT: &str = r#"[{},{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536,
"link_type":"loopback","address":"00:00:00:00:00:00","addr_info":[
 {"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host","label":"lo"}]},
{"ifindex":3,"link":"if4","ifname":"eth0","flags":["BROADCAST"],"mtu":1500,"address":"02:42:ac:11:00:02","addr_info":[
 {"family":"inet","local":"203.0.113.1","prefixlen":24,"broadcast":"203.0.113.255","scope":"global"},
 {"family":"inet","local":"203.0.113.2","prefixlen":24,"scope":"global","secondary":true},
 {"family":"inet","local":"10.0.0.1","address":"10.0.0.2","prefixlen":32,"scope":"200"},{},
 {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]}]"#;

    #[test]
    fn interfaces_in_order() {
        let all = parse_addresses("addr.json", TEXT).unwrap();
        assert_eq!(all.iter().map(|i| (i.index, i.name.as_str())).collect::<Vec<_>>(), [(1, "lo"), (3, "eth0")]);
        assert!(all[0].loopback && all[0].up && all[0].mtu == 65536);
        assert_eq!(all[0].addresses[0].scope, Scope::Host);
        let eth0 = &all[1];
        assert!(!eth0.loopback && !eth0.up);
        assert_eq!(eth0.link_address, Some([2, 0x42, 0xac, 0x11, 0, 2]));
        let first = AddressConfig {
            address: "203.0.113.1".parse().unwrap(),
            prefix: 24,
            scope: Scope::Global,
            secondary: false,
            broadcast: Some(Ipv4Addr::new(203, 0, 113, 255)),
            peer: None,
        };
        assert_eq!(eth0.addresses[0], first);
        assert!(eth0.addresses[1].secondary);
        assert_eq!(eth0.addresses[2].peer, Some("10.0.0.2".parse().unwrap()));
        assert_eq!(eth0.addresses[2].scope, Scope::Other(200));
        assert_eq!((eth0.addresses[3].prefix, eth0.addresses[3].scope), (64, Scope::Link));
    }

    #[test]
    fn refusals_name_line_and_word() {
        let refused = |from: &str, to: &str| {
            let error = parse_addresses("addr.json", &TEXT.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.file, "addr.json");
            (error.kind, error.line.unwrap(), error.word)
        };
        assert_eq!(refused("203.0.113.2\"", "203.0.113.x\""), (ErrorKind::BadValue, 6, "203.0.113.x".into()));
        assert_eq!(refused("\"scope\":\"link\"", "\"scope\":\"far\""), (ErrorKind::BadValue, 8, "far".into()));
        assert_eq!(refused("\"prefixlen\":8", "\"prefixlen\":33"), (ErrorKind::BadValue, 3, "127.0.0.1".into()));
        assert_eq!(refused("\"ifindex\":3,", ""), (ErrorKind::MissingValue, 4, "ifindex".into()));
        assert_eq!(refused("[{},", "[{} "), (ErrorKind::Json, 1, String::new()));
        assert_eq!(parse_addresses("a", "{}").unwrap_err().kind, ErrorKind::Json);
        assert_eq!(parse_addresses("a", "[1]").unwrap_err().kind, ErrorKind::Json);
    }

    #[test]
    fn link_addresses_of_other_kinds_are_left_out() {
        for text in ["203.0.113.1", "00:00:00:00:00", "00:00:00:00:00:00:00", "0:0:0:0:0:0", "+1:00:00:00:00:0g"] {
            assert_eq!(link_address(text), None, "{text}");
        }
    }
}
