//! `keepalived.conf`: the virtual services in it.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::error::{Error, ErrorKind, Warning, WarningKind};
use super::ipvsadm::{DEFAULT_SCHEDULER, bounded, mark, mask_prefix, scheduler};
use super::keepalived_text::{Statement, statements};
use super::values::{decimal, port};
use super::words::Word;
use crate::ipvs::{
    Forwarding, IpvsConfig, Persistence, Scheduler, SchedulerFlags, ServerConfig, ServiceAddress, ServiceConfig,
};
use crate::packet::Family;

/// Persistence of a client where `persistence_timeout` has no value (keepalived).
const DEFAULT_PERSISTENCE: u64 = 360;

/// Blocks and words outside of `virtual_server` that say nothing about packets.
const ELSEWHERE: &[&str] = &[
    "global_defs",
    "vrrp_instance",
    "vrrp_sync_group",
    "vrrp_script",
    "vrrp_track_process",
    "vrrp_track_file",
    "vrrp_rules",
    "vrrp_routes",
    "static_ipaddress",
    "static_address",
    "static_routes",
    "static_rules",
    "static_track_group",
    "track_file",
    "track_process",
    "bfd_instance",
    "garp_group",
    "linkbeat_use_polling",
    "net_namespace",
    "namespace_with_ipsets",
    "instance",
    "use_pid_dir",
    "child_wait_time",
];

/// Words of `virtual_server` and `real_server` that say when a server is up, whom to tell, or nothing about packets.
/// Every server is taken to be up.
const ABOUT_HEALTH: &[&str] = &[
    "delay_loop",
    "delay_before_retry",
    "retry",
    "warmup",
    "ha_suspend",
    "alpha",
    "omega",
    "quorum",
    "hysteresis",
    "quorum_up",
    "quorum_down",
    "virtualhost",
    "inhibit_on_failure",
    "sorry_server_inhibit",
    "notify_up",
    "notify_down",
    "smtp_alert",
    "log_all_failures",
    "connect_timeout",
    "HTTP_GET",
    "SSL_GET",
    "TCP_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "MISC_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "FILE_CHECK",
    "BFD_CHECK",
    "protocol_check",
];

/// Reads the virtual services of a keepalived.conf. Every real server is taken to be up, so that health checkers are
/// read past, and a `sorry_server` serves only where there is no real one.
///
/// ```
/// let text = "
/// virtual_server fwmark 21 {
///     lb_algo rr
///     lb_kind NAT
///     persistence_timeout 300
///     real_server 10.77.1.11 21 {
///         weight 1
///         TCP_CHECK { connect_timeout 3 }
///     }
/// }";
/// let (config, warnings) = ftp_conntrack::config::parse_keepalived("keepalived.conf", text)?;
/// assert_eq!(config.services[0].address.to_string(), "-f 21");
/// assert!(warnings.is_empty());
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
///
/// # Errors
///
/// Services that cannot be understood: addresses, ports, protocols, schedulers and forwarding methods that are none, or
/// none that are known here. Words that are not known, macros without a value, and files to include, which are not
/// read, are named in warnings.
pub fn parse_keepalived(file: &str, text: &str) -> Result<(IpvsConfig, Vec<Warning>), Error> {
    parse_keepalived_with(file, text, &mut |_| None)
}

/// As [`parse_keepalived`]; `include` gives the text of a file that is named in `include`.
///
/// # Errors
///
/// As [`parse_keepalived`].
pub fn parse_keepalived_with(
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<(IpvsConfig, Vec<Warning>), Error> {
    let mut reader = Reader::default();
    let statements = statements(file, text, include, &mut reader.warnings)?;
    reader.read(&statements)?;
    Ok((reader.config, reader.warnings))
}

#[derive(Default)]
struct Reader {
    config: IpvsConfig,
    groups: Vec<(String, Vec<ServiceAddress>)>,
    warnings: Vec<Warning>,
}

/// A virtual server while it is read.
struct Virtual {
    protocol: Protocol,
    scheduler: Scheduler,
    flags: SchedulerFlags,
    forwarding: Forwarding,
    timeout: Option<Duration>,
    mask: Option<Word>,
    one_packet: bool,
    ipv6: bool,
    servers: Vec<ServerConfig>,
    sorry: Option<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

impl Reader {
    fn read(&mut self, statements: &[Statement]) -> Result<(), Error> {
        // A group may stand behind the service that names it.
        for statement in statements.iter().filter(|statement| statement.is("virtual_server_group")) {
            self.group(statement).map_err(|error| error.in_file(&statement.file))?;
        }
        for statement in statements {
            let name = statement.name();
            if name == "virtual_server" {
                self.virtual_server(statement).map_err(|error| error.in_file(&statement.file))?;
            } else if name != "virtual_server_group" && !ELSEWHERE.contains(&name) {
                self.unknown(statement);
            }
        }
        Ok(())
    }

    fn unknown(&mut self, statement: &Statement) {
        if let Some(word) = statement.words.first() {
            let warning = Warning::new(WarningKind::UnknownWord, word.line, &word.text);
            self.warnings.push(warning.in_file(&statement.file));
        }
    }

    /// `virtual_server_group NAME { ADDRESS PORT | ADDRESS-LAST PORT | fwmark MARK }`.
    fn group(&mut self, statement: &Statement) -> Result<(), Error> {
        let name = statement.word(1, "write the group's name")?.text.clone();
        let mut members = Vec::new();
        for member in &statement.block {
            let first = member.word(0, "write an address")?;
            if first.is("fwmark") {
                members.push(ServiceAddress::mark(mark(member.word(1, "write a firewall mark")?)?));
                continue;
            }
            let port = member.words.get(1).map_or(Ok(0), service_port)?;
            members.extend(addresses(first)?.into_iter().map(|at| ServiceAddress::tcp(SocketAddr::new(at, port))));
        }
        self.groups.push((name, members));
        Ok(())
    }

    /// `virtual_server ADDRESS [PORT] | fwmark MARK | group NAME { ... }`.
    fn virtual_server(&mut self, statement: &Statement) -> Result<(), Error> {
        let first = statement.word(1, "name the service: an address and a port, fwmark MARK or group NAME")?;
        let members = if first.is("fwmark") {
            vec![ServiceAddress::mark(mark(statement.word(2, "write a firewall mark")?)?)]
        } else if first.is("group") {
            let name = statement.word(2, "write the group's name")?;
            let group = self.groups.iter().find(|(known, _)| *known == name.text);
            let wanted = "define it with virtual_server_group";
            group.ok_or_else(|| Error::at(name, ErrorKind::BadValue, wanted))?.1.clone()
        } else {
            let port = statement.words.get(2).map_or(Ok(0), service_port)?;
            vec![ServiceAddress::tcp(SocketAddr::new(address(first)?, port))]
        };
        let settings = self.settings(&statement.block, &members)?;
        for member in members {
            let service = settings.service(member)?;
            if self.config.services.iter().any(|known| known.address == service.address) {
                return Err(Error::at(first, ErrorKind::Repeated, format!("{} is there already", service.address)));
            }
            self.config.services.push(service);
        }
        Ok(())
    }

    fn settings(&mut self, block: &[Statement], members: &[ServiceAddress]) -> Result<Virtual, Error> {
        let mut settings = Virtual::new();
        let default_port = members.first().map_or(0, ServiceAddress::port);
        for statement in block {
            match statement.name() {
                "lb_algo" | "lvs_sched" => {
                    settings.scheduler = scheduler(statement.word(1, "write a scheduler such as rr")?)?;
                }
                "lb_kind" | "lvs_method" => settings.forwarding = forwarding(statement)?,
                "persistence_timeout" => {
                    let seconds = statement.words.get(1).map_or(Ok(DEFAULT_PERSISTENCE), |word| {
                        decimal(&word.text).ok_or_else(|| Error::bad_value(word, "write whole seconds"))
                    })?;
                    // 0 is none.
                    settings.timeout = (seconds != 0).then(|| Duration::from_secs(seconds));
                }
                "persistence_granularity" => settings.mask = Some(statement.word(1, "write a mask")?.clone()),
                "protocol" => {
                    let word = statement.word(1, "write TCP or UDP")?;
                    settings.protocol = match word.text.to_ascii_uppercase().as_str() {
                        "TCP" => Protocol::Tcp,
                        "UDP" => Protocol::Udp,
                        _ => return Err(Error::bad_value(word, "protocols known here are TCP and UDP")),
                    };
                }
                "ip_family" => settings.ipv6 = statement.words.get(1).is_some_and(|word| word.text == "inet6"),
                "ops" => settings.one_packet = true,
                "sh-port" => settings.flags.port = true,
                "sh-fallback" => settings.flags.fallback = true,
                "sorry_server" => settings.sorry = Some(end(statement, default_port)?),
                // The forwarding method may follow it.
                "real_server" => {}
                name if ABOUT_HEALTH.contains(&name) => {}
                _ => self.unknown(statement),
            }
        }
        for statement in block.iter().filter(|statement| statement.is("real_server")) {
            let server = self.real_server(statement, settings.forwarding, default_port)?;
            settings.servers.push(server);
        }
        settings.ipv6 |= settings.servers.first().is_some_and(|server| server.address.is_ipv6());
        Ok(settings)
    }

    /// `real_server ADDRESS [PORT] { weight N ... }`.
    fn real_server(
        &mut self,
        statement: &Statement,
        method: Forwarding,
        default_port: u16,
    ) -> Result<ServerConfig, Error> {
        let end = end(statement, default_port)?;
        let mut server = ServerConfig::new(end.ip(), end.port(), method);
        for statement in &statement.block {
            let number = |most| {
                let wanted = "write a whole number";
                bounded(statement.word(1, wanted)?, most, wanted)
            };
            match statement.name() {
                "weight" => server.weight = number(65_535)?,
                "uthreshold" => server.upper = number(u32::MAX)?,
                "lthreshold" => server.lower = number(u32::MAX)?,
                "lb_kind" | "lvs_method" => server.forwarding = forwarding(statement)?,
                name if ABOUT_HEALTH.contains(&name) => {}
                _ => self.unknown(statement),
            }
        }
        Ok(server)
    }
}

impl Virtual {
    const fn new() -> Self {
        Self {
            protocol: Protocol::Tcp,
            scheduler: DEFAULT_SCHEDULER,
            flags: SchedulerFlags { fallback: false, port: false },
            forwarding: Forwarding::Masquerade,
            timeout: None,
            mask: None,
            one_packet: false,
            ipv6: false,
            servers: Vec::new(),
            sorry: None,
        }
    }

    fn service(&self, member: ServiceAddress) -> Result<ServiceConfig, Error> {
        let address = match member {
            ServiceAddress::Endpoint { at, .. } if self.protocol == Protocol::Udp => ServiceAddress::udp(at),
            ServiceAddress::Mark { mark, .. } => ServiceAddress::Mark { mark, ipv6: self.ipv6 },
            endpoint => endpoint,
        };
        let mut service = ServiceConfig::new(address, self.scheduler);
        service.flags = self.flags;
        service.one_packet = self.one_packet;
        service.persistence = match self.timeout {
            Some(timeout) => Some(Persistence { timeout, prefix: self.prefix(address.family())? }),
            None => None,
        };
        service.servers.clone_from(&self.servers);
        if let (true, Some(sorry)) = (self.servers.is_empty(), self.sorry) {
            service.servers.push(ServerConfig::new(sorry.ip(), sorry.port(), self.forwarding));
        }
        for server in &mut service.servers {
            // Unless ports are rewritten, the real server has the port that was dialled.
            if server.forwarding != Forwarding::Masquerade {
                server.port = address.port();
            }
        }
        Ok(service)
    }

    /// Returns the number of leading bits of a client's address that count.
    fn prefix(&self, family: Family) -> Result<u8, Error> {
        let whole = if family == Family::V4 { 32 } else { 128 };
        let Some(word) = &self.mask else { return Ok(whole) };
        let prefix = decimal(&word.text).filter(|prefix| *prefix <= whole);
        let prefix = prefix.or_else(|| (family == Family::V4).then(|| mask_prefix(&word.text)).flatten());
        prefix.ok_or_else(|| Error::bad_value(word, "write a mask such as 255.255.255.0, or how many bits it has"))
    }
}

fn forwarding(statement: &Statement) -> Result<Forwarding, Error> {
    let wanted = "write NAT, DR or TUN";
    let word = statement.word(1, wanted)?;
    match word.text.to_ascii_uppercase().as_str() {
        "NAT" => Ok(Forwarding::Masquerade),
        "DR" => Ok(Forwarding::Route),
        "TUN" => Ok(Forwarding::Tunnel),
        _ => Err(Error::bad_value(word, wanted)),
    }
}

/// `real_server ADDRESS [PORT]`.
fn end(statement: &Statement, default_port: u16) -> Result<SocketAddr, Error> {
    let at = address(statement.word(1, "write an address")?)?;
    Ok(SocketAddr::new(at, statement.words.get(2).map_or(Ok(default_port), service_port)?))
}

fn address(word: &Word) -> Result<IpAddr, Error> {
    word.text.parse().map_err(|_| Error::bad_value(word, "write an address such as 203.0.113.21 or 2001:db8::21"))
}

/// `ADDRESS`, or `ADDRESS-LAST`, where the last is the last part of an address.
fn addresses(word: &Word) -> Result<Vec<IpAddr>, Error> {
    let Some((first, last)) = word.text.split_once('-') else { return Ok(vec![address(word)?]) };
    let range = || match first.parse().ok()? {
        IpAddr::V4(first) => {
            let [a, b, c, from] = first.octets();
            let to: u8 = decimal(last)?;
            Some((from..=to).map(|d| IpAddr::from([a, b, c, d])).collect::<Vec<_>>())
        }
        IpAddr::V6(first) => {
            let [head @ .., from] = first.segments();
            let to = u16::from_str_radix(last, 16).ok().filter(|to| to.abs_diff(from) < 256)?;
            let [a, b, c, d, e, f, g] = head;
            Some((from..=to).map(|last| IpAddr::from([a, b, c, d, e, f, g, last])).collect())
        }
    };
    let found = range().filter(|found| !found.is_empty());
    found.ok_or_else(|| Error::bad_value(word, "write an address, or a range such as 203.0.113.21-24"))
}

fn service_port(word: &Word) -> Result<u16, Error> {
    port(&word.text).ok_or_else(|| Error::bad_value(word, "write a port such as 21 or ftp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::ToOwned;
    use std::string::ToString;

    const CLUSTER: &str = r#"
! Configuration File for keepalived, with a comment of each kind
global_defs {
    notification_email { admin@example.org }   # read past
    router_id "LVS one"
}
$TIMEOUT=300
vrrp_instance VI_1
{
    virtual_ipaddress { 203.0.113.21 }
}
virtual_server fwmark 21 {
    delay_loop 6
    lvs_sched rr
    lb_kind NAT
    persistence_timeout $TIMEOUT
    persistence_granularity 255.255.255.0
    protocol TCP
    frobnicate 7
    sorry_server 127.0.0.1 21
    real_server 10.77.1.11 21 {
        weight 3
        TCP_CHECK {
            connect_timeout 3
        }
    }
    real_server 10.77.1.12 21 { weight 0 }
}
virtual_server_group WEB {
    203.0.113.30-31 80
    fwmark 7
}
virtual_server group WEB {
    lb_algo wlc
    lvs_method DR
    real_server 10.77.1.20 8080 {
        lvs_method TUN
        uthreshold 10
        HTTP_GET { url { path "/a { b" } }
    }
}
virtual_server 2001:db8:1::21 21 {
    protocol UDP
    sorry_server fd77:1::9 21
}
"#;

    #[test]
    fn a_cluster() {
        let (config, warnings) = parse_keepalived("keepalived.conf", CLUSTER).unwrap();
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [r#"keepalived.conf:19: "frobnicate" is not known and passed over"#]);
        let names: Vec<String> = config.services.iter().map(|service| service.address.to_string()).collect();
        let expected = ["-f 21", "-t 203.0.113.30:80", "-t 203.0.113.31:80", "-f 7", "-u [2001:db8:1::21]:21"];
        assert_eq!(names, expected);
        let ftp = &config.services[0];
        assert_eq!(ftp.persistence, Some(Persistence { timeout: Duration::from_secs(300), prefix: 24 }));
        assert_eq!((ftp.scheduler, ftp.servers.len()), (Scheduler::RoundRobin, 2));
        assert_eq!((ftp.servers[0].weight, ftp.servers[1].weight, ftp.servers[0].port), (3, 0, 21));
        let web = &config.services[2].servers[0];
        assert_eq!((web.forwarding, web.port, web.upper), (Forwarding::Tunnel, 80, 10));
        assert_eq!(config.services[4].servers[0].address.to_string(), "fd77:1::9");
    }

    #[test]
    fn files_are_included() {
        let mut include = |name: &str| (name == "ftp.conf").then(|| "virtual_server fwmark 21 { }\n".to_owned());
        let text = "include ftp.conf\ninclude gone.conf\n";
        let (config, warnings) = parse_keepalived_with("keepalived.conf", text, &mut include).unwrap();
        assert_eq!(config.services.len(), 1);
        assert_eq!(warnings[0].to_string(), r#"keepalived.conf:2: "gone.conf" is not understood yet and not read"#);
        // A file that includes itself is read a few times and no more.
        let mut itself = |_: &str| Some("include again".to_owned());
        assert!(parse_keepalived_with("keepalived.conf", "include again", &mut itself).is_ok());
    }

    #[test]
    fn macros_without_a_value_are_named() {
        let (_, warnings) = parse_keepalived("k", "virtual_server fwmark 21 {\n delay_loop ${LOOP}\n}").unwrap();
        assert_eq!(warnings[0].to_string(), r#"k:2: "${LOOP}" a macro has no value here"#);
    }

    #[test]
    fn refusals_name_the_word() {
        for (text, word, line) in [
            ("virtual_server 203.0.113.300 21 {\n}", "203.0.113.300", 1),
            ("virtual_server fwmark 21 {\n lb_algo lblcr\n}", "lblcr", 2),
            ("virtual_server fwmark 21 {\n lb_kind SNAT\n}", "SNAT", 2),
            ("virtual_server fwmark 21 {\n protocol SCTP\n}", "SCTP", 2),
            ("virtual_server fwmark 21 {\n real_server 10.0.0.1 x {\n}\n}", "x", 2),
            ("virtual_server group G {\n}", "G", 1),
            ("virtual_server fwmark 21 {\n}\nvirtual_server fwmark 21 {\n}", "fwmark", 3),
            ("virtual_server fwmark 21 {\n", "{", 1),
            ("}\n", "}", 1),
            ("virtual_server fwmark 21 \"", "", 1),
            ("virtual_server fwmark 21 {\n real_server 10.0.0.1 21 {\n weight -1\n}\n}", "-1", 3),
        ] {
            let error = parse_keepalived("keepalived.conf", text).unwrap_err();
            assert_eq!((error.word.as_str(), error.line), (word, Some(line)), "{text}: {error}");
            assert_eq!(error.file, "keepalived.conf", "{text}: {error}");
        }
    }
}
