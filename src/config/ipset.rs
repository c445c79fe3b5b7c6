//! `ipset.save`: what `ipset save` prints.

use core::net::IpAddr;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::error::{Error, ErrorKind, Warning, WarningKind};
use super::values::{self, Network};
use super::words::{Word, commands};
use crate::netfilter::{IpSet, SetElement, SetPart, SetValue};
use crate::packet::Family;

/// Reads sets as `ipset save` prints them.
///
/// ```
/// use ftp_conntrack::config::parse_ipset;
///
/// let text = "create known hash:ip family inet hashsize 1024 maxelem 65536\nadd known 192.0.2.1\n";
/// let (sets, warnings) = parse_ipset("ipset.save", text)?;
/// assert_eq!((sets[0].name.as_str(), sets[0].elements.len(), warnings.len()), ("known", 1, 0));
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
///
/// # Errors
///
/// A line that is none of `create` and `add`, an element that is not one of its set, and a type that is not known.
pub fn parse_ipset(file: &str, text: &str) -> Result<(Vec<IpSet>, Vec<Warning>), Error> {
    let mut reader = Reader { sets: Vec::new(), warnings: Vec::new() };
    let read = || {
        // Elements are lines of `iptables-save`'s kind: no shell expands them.
        for words in commands(text)? {
            reader.line(&words)?;
        }
        let warnings = reader.warnings.into_iter().map(|warning| warning.in_file(file)).collect();
        Ok((reader.sets, warnings))
    };
    read().map_err(|error: Error| error.in_file(file))
}

struct Reader {
    sets: Vec<IpSet>,
    warnings: Vec<Warning>,
}

/// The types of sets: a name, and what an element consists of.
const TYPES: &[(&str, &[SetPart])] = {
    use SetPart::{Address, AnyPort, Interface, Mac, Mark, Network, Port};
    &[
        ("bitmap:ip", &[Address]),
        ("bitmap:ip,mac", &[Address, Mac]),
        ("bitmap:port", &[AnyPort]),
        ("hash:ip", &[Address]),
        ("hash:mac", &[Mac]),
        ("hash:ip,mac", &[Address, Mac]),
        ("hash:net", &[Network]),
        ("hash:net,net", &[Network, Network]),
        ("hash:ip,port", &[Address, Port]),
        ("hash:net,port", &[Network, Port]),
        ("hash:ip,port,ip", &[Address, Port, Address]),
        ("hash:ip,port,net", &[Address, Port, Network]),
        ("hash:net,port,net", &[Network, Port, Network]),
        ("hash:ip,mark", &[Address, Mark]),
        ("hash:net,iface", &[Network, Interface]),
        ("list:set", &[]),
    ]
};

impl Reader {
    fn line(&mut self, words: &[Word]) -> Result<(), Error> {
        match words {
            [command, name, kind, options @ ..] if matches!(command.text.as_str(), "create" | "-N" | "n") => {
                self.create(name, kind, options)
            }
            [command, name, element, options @ ..] if matches!(command.text.as_str(), "add" | "-A" | "a") => {
                self.add(name, element, options)
            }
            [word, ..] => {
                Err(Error::at(word, ErrorKind::UnknownCommand, "save the sets again: ipset save > ipset.save"))
            }
            [] => Ok(()),
        }
    }

    fn create(&mut self, name: &Word, kind: &Word, options: &[Word]) -> Result<(), Error> {
        let known = TYPES.iter().find(|(known, _)| *known == kind.text).map(|(_, parts)| *parts);
        let parts = known.ok_or_else(|| Error::bad_value(kind, "write a type such as hash:ip or hash:net,port"))?;
        let value = |option: &str| {
            let at = options.iter().position(|word| word.text == option)?;
            options.get(at.checked_add(1)?)
        };
        let has = |option: &str| options.iter().any(|word| word.text == option);
        let number = |option: &str| {
            let read = |word: &Word| values::number(&word.text).ok_or_else(|| Error::bad_value(word, "write a number"));
            value(option).map(read).transpose()
        };
        let family = if value("family").is_some_and(|word| word.text == "inet6") { Family::V6 } else { Family::V4 };
        let bits = if family == Family::V4 { 32 } else { 128 };
        let range = value("range").map(|word| range(word, parts)).transpose()?;
        let room = range.map_or(65_536, |(first, last)| last.saturating_sub(first).saturating_add(1));
        let most = number("maxelem")?.unwrap_or_else(|| u32::try_from(room).unwrap_or(u32::MAX));
        self.sets.push(IpSet {
            name: name.text.clone(),
            parts: parts.to_vec(),
            family,
            prefix: number("netmask")?.and_then(|n| u8::try_from(n).ok()).filter(|n| *n <= bits).unwrap_or(bits),
            most,
            timeout: number("timeout")?,
            counters: has("counters"),
            forceadd: has("forceadd"),
            elements: Vec::new(),
            members: Vec::new(),
            range,
        });
        Ok(())
    }

    fn add(&mut self, name: &Word, element: &Word, options: &[Word]) -> Result<(), Error> {
        let set = self.sets.iter_mut().find(|set| set.name == name.text);
        let set = set.ok_or_else(|| Error::at(name, ErrorKind::UnknownChain, "create the set before"))?;
        if set.parts.is_empty() {
            set.members.push(element.text.clone());
            return Ok(());
        }
        let number = |option: &str| {
            let at = options.iter().position(|word| word.is(option))?;
            options.get(at.checked_add(1)?).and_then(|word| values::number64(&word.text))
        };
        let timeout = number("timeout").and_then(|seconds| u32::try_from(seconds).ok());
        let nomatch = options.iter().any(|word| word.is("nomatch"));
        let counted = (number("packets").unwrap_or(0), number("bytes").unwrap_or(0));
        let timeout = timeout.or(set.timeout).filter(|_| set.timeout.is_some());
        let Some(choices) = values_of(element, set)? else {
            self.warnings.push(Warning::new(WarningKind::UnknownMatch, element.line, &element.text));
            return Ok(());
        };
        set.elements.extend(choices.into_iter().map(|values| SetElement { values, nomatch, timeout, counted }));
        Ok(())
    }
}

/// The addresses or ports between two.
fn range(word: &Word, parts: &[SetPart]) -> Result<(u128, u128), Error> {
    let parse = || {
        if parts == [SetPart::AnyPort] {
            let (first, last) = word.text.split_once('-')?;
            return Some((u128::from(values::port(first)?), u128::from(values::port(last)?)));
        }
        let bits = |text: &str| match values::address(text, Family::V4)? {
            IpAddr::V4(address) => Some(u128::from(address.to_bits())),
            IpAddr::V6(_) => None,
        };
        if let Some((first, last)) = word.text.split_once('-') {
            return Some((bits(first)?, bits(last)?));
        }
        let (address, prefix) = word.text.split_once('/')?;
        let host = u32::MAX.checked_shr(values::decimal::<u32>(prefix)?).unwrap_or(0);
        let first = bits(address)? & !u128::from(host);
        Some((first, first | u128::from(host)))
    };
    parse().ok_or_else(|| Error::bad_value(word, "write a range such as 10.0.0.0-10.0.0.255"))
}

/// The values of an element for each part: several for ranges of ports. `None` for a MAC address.
fn values_of(element: &Word, set: &IpSet) -> Result<Option<Vec<Vec<SetValue>>>, Error> {
    let texts: Vec<&str> = element.text.split(',').collect();
    let wanted = || Error::bad_value(element, "write an element as its set's type has it");
    if set.parts.contains(&SetPart::Mac) {
        return Ok(None);
    }
    if texts.len() != set.parts.len() {
        return Err(wanted());
    }
    let mut choices: Vec<Vec<SetValue>> = vec![Vec::new()];
    for (text, part) in texts.into_iter().zip(&set.parts) {
        let values = part_values(text, *part, set).ok_or_else(wanted)?;
        let with = |choice: &Vec<SetValue>, value: &SetValue| {
            let mut choice = choice.clone();
            choice.push(value.clone());
            choice
        };
        choices = choices.iter().flat_map(|choice| values.iter().map(move |value| with(choice, value))).collect();
    }
    Ok(Some(choices))
}

fn part_values(text: &str, part: SetPart, set: &IpSet) -> Option<Vec<SetValue>> {
    let bits = if set.family == Family::V4 { 32 } else { 128 };
    match part {
        SetPart::Address | SetPart::Network => {
            let network = values::networks(&Word::new(text, 0), set.family).ok()?;
            let [Network::Prefix(network)] = network.as_slice() else { return None };
            // Of addresses only those bits count that the set says.
            let prefix = if part == SetPart::Address { bits } else { network.prefix() };
            Some(vec![SetValue::Network(network.address(), prefix)])
        }
        SetPart::Port => {
            let (protocol, port) = text.split_once(':').unwrap_or(("tcp", text));
            let protocol = values::protocol(&Word::new(protocol, 0)).ok()??;
            if protocol.is_icmp() {
                let (kind, codes) = super::icmp_names::icmp_type(port, set.family)?;
                return Some(vec![SetValue::Port(protocol.0, u16::from(kind) << 8 | u16::from(codes.0))]);
            }
            let (first, last) = port.split_once('-').unwrap_or((port, port));
            let (first, last) = (values::port(first)?, values::port(last)?);
            Some((first..=last).map(|port| SetValue::Port(protocol.0, port)).collect())
        }
        SetPart::AnyPort => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (values::port(first)?, values::port(last)?);
            Some((first..=last).map(|port| SetValue::Port(0, port)).collect())
        }
        SetPart::Interface => Some(vec![SetValue::Interface(String::from(text))]),
        SetPart::Mark => Some(vec![SetValue::Mark(values::number(text)?)]),
        SetPart::Mac => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_as_saved() {
        let text = "create n hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x98f83744
add n 10.1.0.0/16 nomatch
create p hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 100 counters
add p 1.2.3.4,tcp:80 timeout 99 packets 1 bytes 2
add p 1.2.3.4,icmp:echo-request timeout 0 packets 0 bytes 0
create c hash:ip family inet6 maxelem 10 comment
add c 2001:db8::1 comment \"nomatch it\"
create l list:set size 8
add l n
";
        let (sets, warnings) = parse_ipset("ipset.save", text).unwrap();
        assert!(warnings.is_empty());
        let networks = |set: usize| sets[set].elements.iter().map(|e| e.values.clone()).collect::<Vec<_>>();
        assert_eq!(networks(0), [[SetValue::Network([10, 1, 0, 0].into(), 16)]]);
        assert!(sets[0].elements[0].nomatch && !sets[2].elements[0].nomatch);
        assert_eq!(sets[1].elements[0].values[1], SetValue::Port(6, 80));
        assert_eq!((sets[1].elements[0].timeout, sets[1].elements[0].counted), (Some(99), (1, 2)));
        assert_eq!(sets[1].elements[1].values[1], SetValue::Port(1, 0x800));
        assert_eq!(sets[3].members, ["n"]);
    }

    #[test]
    fn what_is_no_set() {
        for text in ["create a hash:moon", "add a 1.2.3.4", "create a hash:ip\nadd a b", "flush"] {
            assert!(parse_ipset("ipset.save", text).is_err(), "{text}");
        }
    }
}
