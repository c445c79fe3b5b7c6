//! `sysctl.conf`: kernel settings.

use core::time::Duration;
use std::string::String;
use std::vec::Vec;

use super::error::{Error, ErrorKind};
use super::values::decimal;
use crate::netfilter::PortRange;

/// Kernel settings, in the order of the file. Of several lines with the same key, the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctl {
    file: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    value: String,
    line: u32,
}

impl Sysctl {
    /// Adds later settings.
    pub(super) fn extend(&mut self, later: Self) {
        self.entries.extend(later.entries);
    }

    /// Returns true if there is no setting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The file it was read from.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The line that sets a key last.
    pub(super) fn line(&self, key: &str) -> Option<u32> {
        self.entry(key).map(|entry| entry.line)
    }

    /// Every line's key, with dots, and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()))
    }

    /// The value of a key, which may be written with dots or slashes.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entry(key).map(|entry| entry.value.as_str())
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// A value that is none.
    pub fn number(&self, key: &str) -> Result<Option<u64>, Error> {
        self.read(key, "write a whole number", decimal)
    }

    /// Returns true if a switch is on: any number but zero.
    ///
    /// # Errors
    ///
    /// A value that is no number.
    pub fn switch(&self, key: &str) -> Result<Option<bool>, Error> {
        self.read(key, "write 0 or 1", |text| text.parse::<i64>().ok().map(|number| number != 0))
    }

    /// A time in whole seconds, as the timeouts of connection tracking have it.
    ///
    /// # Errors
    ///
    /// A value that is none.
    pub fn seconds(&self, key: &str) -> Result<Option<Duration>, Error> {
        self.read(key, "write whole seconds", |text| decimal(text).map(Duration::from_secs))
    }

    /// Two ports with a blank between, as `net.ipv4.ip_local_port_range` has it.
    ///
    /// # Errors
    ///
    /// A value that is not two ports, the lower first.
    pub fn ports(&self, key: &str) -> Result<Option<PortRange>, Error> {
        self.read(key, "write two ports, such as 32768 60999", |text| {
            let mut words = text.split_whitespace();
            let range = PortRange { first: decimal(words.next()?)?, last: decimal(words.next()?)? };
            (words.next().is_none() && range.first <= range.last).then_some(range)
        })
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let key = dotted(key);
        self.entries.iter().rev().find(|entry| entry.key == key)
    }

    fn read<T>(&self, key: &str, wanted: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let value = parse(&entry.value);
        value
            .map(Some)
            .ok_or_else(|| Error::new(ErrorKind::BadValue, entry.line, &entry.value, wanted).in_file(&self.file))
    }
}

/// Reads lines `KEY = VALUE` as of sysctl.conf, of `sysctl -a` or behind `sysctl -w`; `#` and `;` begin comments. A key
/// may have slashes for dots; `-` before it (do not mind errors) is left out.
///
/// # Errors
///
/// A line without `=` or without a key.
///
/// ```
/// let text = "# often asked for\nnet.netfilter.nf_conntrack_helper = 1\n";
/// let sysctl = ftp_conntrack::config::parse_sysctl("sysctl.conf", text)?;
/// assert_eq!(sysctl.switch("net/netfilter/nf_conntrack_helper")?, Some(true));
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
pub fn parse_sysctl(file: &str, text: &str) -> Result<Sysctl, Error> {
    let mut entries = Vec::new();
    for (line, text) in (1u32..).zip(text.lines()) {
        if let Some(entry) = entry(line, text.trim()).map_err(|error| error.in_file(file))? {
            entries.push(entry);
        }
    }
    Ok(Sysctl { file: file.into(), entries })
}

fn entry(line: u32, text: &str) -> Result<Option<Entry>, Error> {
    if text.is_empty() || text.starts_with(['#', ';']) {
        return Ok(None);
    }
    let (text, optional) = match without_command(text).strip_prefix('-') {
        Some(rest) => (rest.trim_start(), true),
        None => (without_command(text), false),
    };
    let Some((key, value)) = text.split_once('=') else {
        // `-KEY` alone keeps patterns with `*` from it and sets nothing.
        let error = Error::new(ErrorKind::MissingValue, line, text, "write KEY = VALUE");
        return if optional { Ok(None) } else { Err(error) };
    };
    let key = key.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(Error::new(ErrorKind::BadValue, line, key, "write one key before =, such as net.ipv4.ip_forward"));
    }
    Ok(Some(Entry { key: dotted(key), value: value.trim().into(), line }))
}

/// The setting behind `sysctl -w`.
fn without_command(text: &str) -> &str {
    let mut rest = text;
    for word in ["sudo", "/sbin/sysctl", "/usr/sbin/sysctl", "sysctl", "-q", "-w"] {
        if let Some(behind) = rest.strip_prefix(word)
            && behind.starts_with(char::is_whitespace)
        {
            rest = behind.trim_start();
        }
    }
    rest
}

/// The key with dots between its parts. Where slashes part it, a dot is part of a name (`eth0.1`), and the other way
/// round: sysctl decides by which comes first.
fn dotted(key: &str) -> String {
    let key = key.strip_prefix("/proc/sys/").unwrap_or(key);
    match key.find(['.', '/']).and_then(|first| key.get(first..)) {
        Some(rest) if rest.starts_with('/') => key
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Sysctl {
        parse_sysctl("sysctl.conf", text).unwrap()
    }

    #[test]
    fn keys_in_every_spelling() {
        let sysctl = read(
            "# c\n; c\n\n net.ipv4.ip_forward=1 \n-net/ipv4/conf/eth0.1/rp_filter = 2\n-net.ipv4.conf.lo.x\n\
             /proc/sys/net/a = b c\nsysctl -w net.b=3\nnet.ipv4.ip_forward = 0\n",
        );
        assert_eq!(sysctl.get("net/ipv4/ip_forward"), Some("0"));
        assert_eq!(sysctl.get("net.ipv4.conf.eth0/1.rp_filter"), Some("2"));
        assert_eq!(sysctl.get("net.a"), Some("b c"));
        assert_eq!(sysctl.get("net.b"), Some("3"));
        assert_eq!(sysctl.get("net.c"), None);
        let keys: Vec<&str> = sysctl.iter().map(|(key, _)| key).collect();
        let expected =
            ["net.ipv4.ip_forward", "net.ipv4.conf.eth0/1.rp_filter", "net.a", "net.b", "net.ipv4.ip_forward"];
        assert_eq!(keys, expected);
        assert!(!sysctl.is_empty() && Sysctl::default().is_empty());
    }

    #[test]
    fn typed_values() {
        let sysctl = read("a = 3\nb = -1\nc = 32768\t60999\nd = x\ne = 0\n");
        assert_eq!(sysctl.number("a"), Ok(Some(3)));
        assert_eq!(sysctl.seconds("a"), Ok(Some(Duration::from_secs(3))));
        assert_eq!(
            (sysctl.switch("a"), sysctl.switch("b"), sysctl.switch("e")),
            (Ok(Some(true)), Ok(Some(true)), Ok(Some(false)))
        );
        assert_eq!(sysctl.ports("c"), Ok(Some(PortRange { first: 32768, last: 60999 })));
        assert_eq!(sysctl.number("none"), Ok(None));
        let error = sysctl.number("d").unwrap_err();
        assert_eq!((error.file.as_str(), error.line, error.word.as_str()), ("sysctl.conf", Some(4), "x"));
        assert!(sysctl.ports("a").is_err() && sysctl.seconds("b").is_err() && sysctl.switch("d").is_err());
    }

    #[test]
    fn refusals() {
        let error = parse_sysctl("sysctl.conf", "a = 1\nnet.ipv4.ip_forward 1\n").unwrap_err();
        assert_eq!((error.kind, error.line), (ErrorKind::MissingValue, Some(2)));
        assert_eq!(parse_sysctl("sysctl.conf", "= 1").unwrap_err().kind, ErrorKind::BadValue);
        assert_eq!(parse_sysctl("sysctl.conf", "a b = 1").unwrap_err().kind, ErrorKind::BadValue);
    }
}
