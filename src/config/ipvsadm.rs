//! `ipvs.rules`: what `ipvsadm -S -n` writes, and commands as typed.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::vec::Vec;

use super::error::{Error, ErrorKind, Warning, WarningKind};
use super::rules::HARMLESS;
use super::values::{decimal, number, port};
use super::words::{Word, commands};
use crate::ipvs::{
    Forwarding, IpvsConfig, Persistence, Scheduler, SchedulerFlags, ServerConfig, ServiceAddress, ServiceConfig,
};

/// Persistence of a client where `-p` has no value (ipvsadm).
const DEFAULT_PERSISTENCE: Duration = Duration::from_secs(300);
/// The scheduler where `-s` is not said (ipvsadm).
pub(super) const DEFAULT_SCHEDULER: Scheduler = Scheduler::WeightedLeastConnection;
/// The greatest weight there is (ipvsadm).
const MOST_WEIGHT: u32 = 65_535;

/// Reads virtual services and real servers, as `ipvsadm -S -n` prints them or as commands were typed; the two may be
/// mixed. A later command changes what an earlier one made.
///
/// ```
/// let text = "ipvsadm -A -f 21 -s rr -p 300\n-a -f 21 -r 10.77.1.11:0 -m -w 1\n";
/// let (config, warnings) = ftp_conntrack::config::parse_ipvs_rules("ipvs.rules", text)?;
/// assert_eq!(config.services[0].address.to_string(), "-f 21");
/// assert_eq!(config.services[0].servers.len(), 1);
/// assert!(warnings.is_empty());
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
///
/// # Errors
///
/// What ipvsadm would refuse, and what it would take but cannot be understood here: SCTP services, persistence engines,
/// and schedulers that are not among [`Scheduler`]'s. Commands that change nothing are passed over with a warning.
pub fn parse_ipvs_rules(file: &str, text: &str) -> Result<(IpvsConfig, Vec<Warning>), Error> {
    amend_ipvs_rules(IpvsConfig::default(), file, text)
}

/// Reads commands on top of services that are there, as [`parse_ipvs_rules`] does.
///
/// # Errors
/// As [`parse_ipvs_rules`].
pub(super) fn amend_ipvs_rules(
    config: IpvsConfig,
    file: &str,
    text: &str,
) -> Result<(IpvsConfig, Vec<Warning>), Error> {
    let mut loader = Loader { config, warnings: Vec::new() };
    let loaded = commands(text).and_then(|lines| lines.iter().try_for_each(|words| loader.line(words)));
    loaded.map_err(|error| error.in_file(file))?;
    Ok((loader.config, loader.warnings.into_iter().map(|warning| warning.in_file(file)).collect()))
}

struct Loader {
    config: IpvsConfig,
    warnings: Vec<Warning>,
}

/// The words of a command.
#[derive(Default)]
struct Call<'w> {
    action: Option<(char, &'w Word)>,
    service: Option<(ServiceAddress, &'w Word)>,
    scheduler: Option<Scheduler>,
    flags: SchedulerFlags,
    persistence: Option<Duration>,
    mask: Option<&'w Word>,
    server: Option<&'w Word>,
    forwarding: Option<Forwarding>,
    weight: Option<u32>,
    upper: Option<u32>,
    lower: Option<u32>,
    ipv6: bool,
    one_packet: bool,
    timeouts: Option<[u64; 3]>,
}

/// Options by their long and short names.
const OPTIONS: &[(&str, char)] = &[
    ("--add-service", 'A'),
    ("--edit-service", 'E'),
    ("--delete-service", 'D'),
    ("--clear", 'C'),
    ("--restore", 'R'),
    ("--save", 'S'),
    ("--add-server", 'a'),
    ("--edit-server", 'e'),
    ("--delete-server", 'd'),
    ("--list", 'L'),
    ("--zero", 'Z'),
    ("--start-daemon", '?'),
    ("--stop-daemon", '?'),
    ("--help", 'h'),
    ("--tcp-service", 't'),
    ("--udp-service", 'u'),
    ("--fwmark-service", 'f'),
    ("--scheduler", 's'),
    ("--persistent", 'p'),
    ("--netmask", 'M'),
    ("--real-server", 'r'),
    ("--gatewaying", 'g'),
    ("--ipip", 'i'),
    ("--masquerading", 'm'),
    ("--weight", 'w'),
    ("--u-threshold", 'x'),
    ("--l-threshold", 'y'),
    ("--ipv6", '6'),
    ("--ops", 'o'),
    ("--sched-flags", 'b'),
    ("--set", '='),
    ("--numeric", 'n'),
    ("--tun-type", '+'),
];

impl Loader {
    fn line(&mut self, words: &[Word]) -> Result<(), Error> {
        let start = usize::from(words.first().is_some_and(|word| word.is("sudo")));
        let Some((first, rest)) = words.get(start..).and_then(<[Word]>::split_first) else { return Ok(()) };
        let (at, arguments) =
            if first.is_option() { (first, words.get(start..).unwrap_or_default()) } else { (first, rest) };
        let name = first.text.rsplit('/').next().unwrap_or_default();
        if !first.is_option() && name != "ipvsadm" {
            if HARMLESS.contains(&name) {
                self.warnings.push(Warning::new(WarningKind::PassedOver, first.line, &first.text));
                return Ok(());
            }
            return Err(Error::at(
                first,
                ErrorKind::UnknownCommand,
                "write ipvsadm commands, or what ipvsadm -S prints",
            ));
        }
        if let Some(word) = arguments.iter().find(|word| word.expands || word.operator) {
            return Err(Error::at(word, ErrorKind::Variable, "write the value itself, one plain command a line"));
        }
        let call = Call::read(arguments)?;
        self.carry_out(at, &call)
    }

    fn carry_out(&mut self, at: &Word, call: &Call<'_>) -> Result<(), Error> {
        if let Some([established, closing, udp]) = call.timeouts {
            for (seconds, timeout) in [
                (established, &mut self.config.settings.tcp.established),
                (closing, &mut self.config.settings.tcp.fin_wait),
                (udp, &mut self.config.settings.udp),
            ] {
                // 0 leaves it as it is.
                if seconds != 0 {
                    *timeout = Duration::from_secs(seconds);
                }
            }
            return Ok(());
        }
        let Some((action, word)) = call.action else {
            return Err(Error::at(at, ErrorKind::MissingValue, "write what to do, such as -A or -a"));
        };
        match action {
            'A' | 'E' => self.put_service(action, word, call),
            'D' => {
                let found = self.service(word, call)?;
                self.config.services.remove(found);
                Ok(())
            }
            'C' => {
                self.config.services.clear();
                Ok(())
            }
            'a' | 'e' => self.put_server(action, word, call),
            'd' => self.delete_server(word, call),
            _ => {
                self.warnings.push(Warning::new(WarningKind::PassedOver, word.line, &word.text));
                Ok(())
            }
        }
    }

    fn put_service(&mut self, action: char, word: &Word, call: &Call<'_>) -> Result<(), Error> {
        let (address, named) = call.address(word)?;
        let known = self.config.services.iter().position(|service| service.address == address);
        let prefix = call.prefix(address)?;
        let persistence = call.persistence.map(|timeout| Persistence { timeout, prefix });
        let service = ServiceConfig {
            flags: call.flags,
            persistence,
            one_packet: call.one_packet,
            servers: Vec::new(),
            ..ServiceConfig::new(address, call.scheduler.unwrap_or(DEFAULT_SCHEDULER))
        };
        match (action, known.and_then(|known| self.config.services.get_mut(known))) {
            ('A', None) => self.config.services.push(service),
            ('A', Some(_)) => return Err(Error::at(named, ErrorKind::Repeated, "change a service with -E")),
            (_, None) => return Err(missing(named)),
            (_, Some(known)) => {
                let servers = core::mem::take(&mut known.servers);
                *known = ServiceConfig { servers, ..service };
            }
        }
        Ok(())
    }

    fn put_server(&mut self, action: char, word: &Word, call: &Call<'_>) -> Result<(), Error> {
        let found = self.service(word, call)?;
        let Some(service) = self.config.services.get_mut(found) else { return Ok(()) };
        let (end, named) = call.server(word, service.address)?;
        let forwarding = call.forwarding.unwrap_or(Forwarding::Route);
        // Unless ports are rewritten, the real server has the port that was dialled.
        let port = if forwarding == Forwarding::Masquerade { end.port() } else { service.address.port() };
        let server = ServerConfig::new(end.ip(), port, forwarding)
            .weighing(call.weight.unwrap_or(1))
            .between(call.lower.unwrap_or(0), call.upper.unwrap_or(0));
        let known = service.servers.iter_mut().find(|known| known.address == end.ip() && known.port == port);
        match (action, known) {
            ('a', None) => service.servers.push(server),
            ('a', Some(_)) => return Err(Error::at(named, ErrorKind::Repeated, "change a real server with -e")),
            (_, None) => return Err(missing(named)),
            (_, Some(known)) => *known = server,
        }
        Ok(())
    }

    fn delete_server(&mut self, word: &Word, call: &Call<'_>) -> Result<(), Error> {
        let found = self.service(word, call)?;
        let Some(service) = self.config.services.get_mut(found) else { return Ok(()) };
        let (end, named) = call.server(word, service.address)?;
        let is_meant = |server: &ServerConfig| server.address == end.ip() && server.port == end.port();
        let at = service.servers.iter().position(is_meant).ok_or_else(|| missing(named))?;
        service.servers.remove(at);
        Ok(())
    }

    /// The place of the service that a command names.
    fn service(&self, word: &Word, call: &Call<'_>) -> Result<usize, Error> {
        let (address, named) = call.address(word)?;
        let found = self.config.services.iter().position(|service| service.address == address);
        found.ok_or_else(|| missing(named))
    }
}

fn missing(word: &Word) -> Error {
    Error::at(word, ErrorKind::MissingValue, "add it before, with -A or -a")
}

impl<'w> Call<'w> {
    fn read(words: &'w [Word]) -> Result<Self, Error> {
        let mut call = Self::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let option = short(word)?;
            let takes_value = "tufsMrwxyb+".contains(option);
            let mut value = || {
                let wanted = "write its value behind it";
                words.next().ok_or_else(|| Error::at(word, ErrorKind::MissingValue, wanted))
            };
            let value = if takes_value { Some(value()?) } else { None };
            match (option, value) {
                ('t', Some(value)) => call.service = Some((ServiceAddress::tcp(end(value, 0)?), value)),
                ('u', Some(value)) => call.service = Some((ServiceAddress::udp(end(value, 0)?), value)),
                ('f', Some(value)) => call.service = Some((ServiceAddress::mark(mark(value)?), value)),
                ('s', Some(value)) => call.scheduler = Some(scheduler(value)?),
                ('M', Some(value)) => call.mask = Some(value),
                ('r', Some(value)) => call.server = Some(value),
                ('w', Some(value)) => {
                    call.weight = Some(bounded(value, MOST_WEIGHT, "write a weight from 0 to 65535")?)
                }
                ('x', Some(value)) => call.upper = Some(bounded(value, u32::MAX, "write a number of connections")?),
                ('y', Some(value)) => call.lower = Some(bounded(value, u32::MAX, "write a number of connections")?),
                ('b', Some(value)) => call.flags = flags(value)?,
                ('+', Some(value)) if value.text == "ipip" => {}
                ('+', Some(value)) => return Err(Error::bad_value(value, "tunnels known here are ipip")),
                ('p', _) => {
                    let seconds = words.next_if(|word| decimal::<u64>(&word.text).is_some());
                    let seconds = seconds.and_then(|word| decimal(&word.text).map(Duration::from_secs));
                    call.persistence = Some(seconds.unwrap_or(DEFAULT_PERSISTENCE));
                }
                ('=', _) => {
                    let mut seconds = || {
                        let value = words.next().and_then(|word| decimal(&word.text));
                        value.ok_or_else(|| {
                            Error::at(word, ErrorKind::MissingValue, "write --set TCP TCPFIN UDP, in seconds")
                        })
                    };
                    call.timeouts = Some([seconds()?, seconds()?, seconds()?]);
                }
                ('g', _) => call.forwarding = Some(Forwarding::Route),
                ('i', _) => call.forwarding = Some(Forwarding::Tunnel),
                ('m', _) => call.forwarding = Some(Forwarding::Masquerade),
                ('6', _) => call.ipv6 = true,
                ('o', _) => call.one_packet = true,
                ('n', _) => {}
                (action, _) if call.action.is_none() => {
                    call.action = Some((action, word));
                    // Listing, saving and synchronising change nothing.
                    if "LlSRZh?".contains(action) {
                        return Ok(call);
                    }
                }
                _ => return Err(Error::at(word, ErrorKind::Repeated, "write one command a line")),
            }
        }
        Ok(call)
    }

    fn address(&self, word: &'w Word) -> Result<(ServiceAddress, &'w Word), Error> {
        let wanted = "name the service: -t ADDRESS:PORT, -u ADDRESS:PORT or -f MARK";
        let (address, named) = self.service.ok_or_else(|| Error::at(word, ErrorKind::MissingValue, wanted))?;
        match address {
            ServiceAddress::Mark { mark, .. } => Ok((ServiceAddress::Mark { mark, ipv6: self.ipv6 }, named)),
            address => Ok((address, named)),
        }
    }

    fn server(&self, word: &'w Word, service: ServiceAddress) -> Result<(SocketAddr, &'w Word), Error> {
        let wanted = "name the real server: -r ADDRESS or -r ADDRESS:PORT";
        let named = self.server.ok_or_else(|| Error::at(word, ErrorKind::MissingValue, wanted))?;
        Ok((end(named, service.port())?, named))
    }

    fn prefix(&self, address: ServiceAddress) -> Result<u8, Error> {
        let ipv4 = address.family() == crate::packet::Family::V4;
        let Some(word) = self.mask else { return Ok(if ipv4 { 32 } else { 128 }) };
        let prefix = if ipv4 { mask_prefix(&word.text) } else { decimal(&word.text).filter(|prefix| *prefix <= 128) };
        let wanted = "write a mask such as 255.255.255.0, for IPv6 a prefix length such as 64";
        prefix.ok_or_else(|| Error::bad_value(word, wanted))
    }
}

/// Returns the number of leading ones of an IPv4 mask, if it has no other ones.
pub(super) fn mask_prefix(text: &str) -> Option<u8> {
    let bits = text.parse::<Ipv4Addr>().ok()?.to_bits();
    (bits.leading_ones() == bits.count_ones()).then_some(bits.count_ones() as u8)
}

/// An option's letter; of several in one word, the first counts.
fn short(word: &Word) -> Result<char, Error> {
    let text = word.text.as_str();
    let known = |short: char| OPTIONS.iter().any(|(_, known)| *known == short && !"=+?".contains(short));
    let found = match text.strip_prefix("--") {
        Some(_) => OPTIONS.iter().find(|(long, _)| *long == text).map(|(_, short)| *short),
        None if text.starts_with(['-']) => {
            text.chars().nth(1).map(|c| if c == 'l' { 'L' } else { c }).filter(|c| known(*c))
        }
        None => None,
    };
    let whole = |short: &char| text.starts_with("--") || text.len() == 2 || "LSRZCh".contains(*short);
    found.filter(whole).ok_or_else(|| Error::at(word, ErrorKind::UnknownOption, "see ipvsadm(8)"))
}

/// `ADDRESS:PORT`, `[ADDRESS]:PORT`, or an address alone.
pub(super) fn end(word: &Word, default: u16) -> Result<SocketAddr, Error> {
    let parse = || {
        let text = word.text.as_str();
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(SocketAddr::new(address, default));
        }
        let (address, service) = text.rsplit_once(':')?;
        let address = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
        Some(SocketAddr::new(address.parse().ok()?, port(service)?))
    };
    parse().ok_or_else(|| {
        Error::bad_value(word, "write an address and a port, such as 203.0.113.21:21 or [2001:db8::21]:21")
    })
}

pub(super) fn mark(word: &Word) -> Result<u32, Error> {
    let mark = number(&word.text).filter(|mark| *mark != 0);
    mark.ok_or_else(|| Error::bad_value(word, "write a firewall mark such as 21, not 0"))
}

pub(super) fn scheduler(word: &Word) -> Result<Scheduler, Error> {
    let known = Scheduler::from_name(&word.text);
    known.ok_or_else(|| Error::bad_value(word, "schedulers known here are rr, wrr, lc, wlc, sed, nq, sh and dh"))
}

pub(super) fn bounded(word: &Word, most: u32, wanted: &'static str) -> Result<u32, Error> {
    decimal(&word.text).filter(|number| *number <= most).ok_or_else(|| Error::bad_value(word, wanted))
}

pub(super) fn flags(word: &Word) -> Result<SchedulerFlags, Error> {
    let mut flags = SchedulerFlags::default();
    for name in word.text.split(',') {
        match name {
            "sh-fallback" | "flag-1" => flags.fallback = true,
            "sh-port" | "flag-2" => flags.port = true,
            _ => return Err(Error::bad_value(word, "flags known here are sh-fallback and sh-port")),
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn read(text: &str) -> IpvsConfig {
        let (config, warnings) = parse_ipvs_rules("ipvs.rules", text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        config
    }

    #[test]
    fn what_ipvsadm_saves() {
        let config = read(
            "-A -t 203.0.113.21:21 -s wrr -p 300 -M 255.255.255.0\n\
             -a -t 203.0.113.21:21 -r 10.77.1.11:21 -m -w 4 -x 9 -y 3\n\
             -A -t [2001:db8:1::21]:21 -s sh -b sh-fallback,sh-port\n\
             -a -t [2001:db8:1::21]:21 -r [fd77:1::11]:21 -g -w 0\n\
             -A -f 21 -6 -s rr -p 300\n\
             -a -f 21 -6 -r [fd77:1::12]:0 -i -w 1 --tun-type ipip\n\
             -A -u 203.0.113.21:53 -s rr --ops\n",
        );
        let services: Vec<_> = config.services.iter().map(|service| service.address.to_string()).collect();
        assert_eq!(services, ["-t 203.0.113.21:21", "-t [2001:db8:1::21]:21", "-f 21 -6", "-u 203.0.113.21:53"]);
        let first = &config.services[0];
        assert_eq!(first.persistence, Some(Persistence { timeout: Duration::from_secs(300), prefix: 24 }));
        let server = ServerConfig::new([10, 77, 1, 11].into(), 21, Forwarding::Masquerade).weighing(4).between(3, 9);
        assert_eq!(first.servers, [server]);
        assert_eq!(config.services[1].flags, SchedulerFlags { fallback: true, port: true });
        assert_eq!(config.services[1].servers[0].forwarding, Forwarding::Route);
        assert_eq!(config.services[2].servers[0].forwarding, Forwarding::Tunnel);
        assert_eq!(config.services[2].persistence.map(|p| p.prefix), Some(128));
        assert!(config.services[3].one_packet);
    }

    #[test]
    fn what_administrators_type() {
        let config = read(
            "# the LVS documents\n/sbin/ipvsadm -C\n\
             sudo ipvsadm --add-service --fwmark-service 0x15 --scheduler rr --persistent\n\
             ipvsadm -a -f 21 -r 10.77.1.11 -m \\\n -w 2\n\
             ipvsadm -e -f 21 -r 10.77.1.11:0 -m\n\
             ipvsadm -a -f 21 -r 10.77.1.12 --gatewaying\n\
             ipvsadm -A -t 203.0.113.21:ftp\nipvsadm -a -t 203.0.113.21:ftp -r 10.77.1.12:2121 -i\n\
             ipvsadm -a -f 21 -r 10.77.1.13 -m\nipvsadm -d -f 21 -r 10.77.1.13\n\
             ipvsadm -A -f 22\nipvsadm -E -f 22 -s nq\nipvsadm -D -f 22\n\
             ipvsadm --set 1000 0 30\n",
        );
        assert_eq!(config.services.len(), 2);
        let marked = &config.services[0];
        assert_eq!(marked.persistence.map(|p| p.timeout), Some(DEFAULT_PERSISTENCE));
        let servers: Vec<_> = marked.servers.iter().map(|s| (s.address.to_string(), s.weight, s.forwarding)).collect();
        let expected =
            [("10.77.1.11".to_string(), 1, Forwarding::Masquerade), ("10.77.1.12".to_string(), 1, Forwarding::Route)];
        assert_eq!(servers, expected);
        // Without masquerading the port stays the one that was dialled.
        assert_eq!((config.services[1].scheduler, config.services[1].servers[0].port), (DEFAULT_SCHEDULER, 21));
        let tcp = config.settings.tcp;
        assert_eq!((tcp.established.as_secs(), tcp.fin_wait.as_secs(), config.settings.udp.as_secs()), (1000, 120, 30));
    }

    #[test]
    fn what_changes_nothing_is_named() {
        let (_, warnings) = parse_ipvs_rules("ipvs.rules", "modprobe ip_vs\nipvsadm -Ln\nipvsadm -S -n\n").unwrap();
        let words: Vec<&str> = warnings.iter().map(|warning| warning.word.as_str()).collect();
        assert_eq!(words, ["modprobe", "-Ln", "-S"]);
    }

    #[test]
    fn refusals_name_the_word() {
        for (text, word) in [
            ("-A -f 21 -s lblc", "lblc"),
            ("-A -f 0", "0"),
            ("-A -t 203.0.113.21:x", "203.0.113.21:x"),
            ("-A -f 21\n-A -f 21", "21"),
            ("-a -f 21 -r 10.0.0.1", "21"),
            ("-A -f 21\n-a -f 21 -r nowhere", "nowhere"),
            ("-A -f 21\n-a -f 21 -r 10.0.0.1 -w 65536", "65536"),
            ("-A -f 21 -p 300 -M 255.0.255.0", "255.0.255.0"),
            ("-A --sctp-service 1.2.3.4:5", "--sctp-service"),
            ("-A -f", "-f"),
            ("-f 21", "-f"),
            ("-A", "-A"),
            ("-A -f 21 --pe sip", "--pe"),
            ("-A -a -f 21", "-a"),
            ("-A -f 21\n-a -f 21 -r 10.0.0.1 -i --tun-type gue", "gue"),
            ("ipvsadm -A -f $MARK", "$MARK"),
            ("nft -f x", "nft"),
        ] {
            let error = parse_ipvs_rules("ipvs.rules", text).unwrap_err();
            assert_eq!((error.word.as_str(), error.file.as_str()), (word, "ipvs.rules"), "{text}: {error}");
            assert_eq!(error.line, Some(text.lines().count() as u32), "{text}: {error}");
        }
    }
}
