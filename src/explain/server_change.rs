//! Lines of a server's configuration, as far as they change what it does with data connections.

use core::net::IpAddr;
use std::vec::Vec;

use super::remedy::{Language, Part};
use crate::ftp::Form;
use crate::reenact::{Act, Script};

/// A change of a server's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerChange {
    /// The lowest and highest passive port.
    ports: Option<(u16, u16)>,
    /// The address that it announces.
    address: Option<IpAddr>,
    /// True if it offers passive mode from now on.
    offers_passive: bool,
}

impl ServerChange {
    /// Reads the lines of a remedy.
    pub(super) fn of<'p>(parts: impl Iterator<Item = &'p Part>) -> Self {
        let mut this = Self::default();
        for part in parts {
            for line in &part.lines {
                this.line(part.language, line);
            }
        }
        this
    }

    fn line(&mut self, language: Language, line: &str) {
        let words: Vec<&str> = line.split([' ', '=', '\t']).filter(|word| !word.is_empty()).collect();
        match (language, words.as_slice()) {
            (Language::Vsftpd, ["pasv_min_port", low]) => self.range(Some(low), None),
            (Language::Vsftpd, ["pasv_max_port", high]) => self.range(None, Some(high)),
            (Language::Vsftpd, ["pasv_address", address]) => self.announce(address),
            (Language::Vsftpd, ["pasv_enable", "YES"]) => self.offers_passive = true,
            (Language::Proftpd | Language::PureFtpd, ["PassivePorts" | "PassivePortRange", low, high]) => {
                self.range(Some(low), Some(high));
            }
            (Language::Proftpd, ["MasqueradeAddress", address]) => self.announce(address),
            (Language::PureFtpd, ["ForcePassiveIP", address]) => self.announce(address),
            (Language::PureFtpd | Language::Pyftpdlib, words) => self.options(words),
            _ => {}
        }
    }

    /// `-p LOW:HIGH`, `-P ADDRESS` of pure-ftpd; `-r LOW-HIGH`, `-n ADDRESS` of pyftpdlib.
    fn options(&mut self, words: &[&str]) {
        for pair in words.windows(2) {
            match pair {
                ["-p" | "-r", range] => {
                    if let Some((low, high)) = range.split_once([':', '-']) {
                        self.range(Some(low), Some(high));
                    }
                    self.offers_passive = true;
                }
                ["-P" | "-n", address] => self.announce(address),
                _ => {}
            }
        }
    }

    fn range(&mut self, low: Option<&str>, high: Option<&str>) {
        let port = |text: &str| text.parse::<u16>().ok();
        let (mut lowest, mut highest) = self.ports.unwrap_or((1024, u16::MAX));
        lowest = low.and_then(port).unwrap_or(lowest);
        highest = high.and_then(port).unwrap_or(highest);
        self.ports = Some((lowest, highest));
    }

    fn announce(&mut self, address: &str) {
        self.address = address.parse().ok();
    }

    /// Returns the script as a server speaks it that is configured so.
    pub(super) fn applied(&self, script: &Script) -> Script {
        let mut script = script.clone();
        let mut used = 0;
        for turn in &mut script.turns {
            let refused = turn.reply.first().is_some_and(|first| matches!(first, b'4' | b'5'));
            let asks = turn.command.get(..4).map(<[u8]>::to_ascii_uppercase);
            if self.offers_passive && refused && turn.act == Act::Say {
                let form = match asks.as_deref() {
                    Some(b"PASV") => Form::Pasv,
                    Some(b"EPSV") => Form::Epsv,
                    _ => continue,
                };
                turn.act = Act::Passive { form, address: None, port: 50_000 };
                turn.reply.clear();
            }
            let Act::Passive { address, port, .. } = &mut turn.act else { continue };
            if let Some((low, high)) = self.ports {
                let ports = u32::from(high.saturating_sub(low)) + 1;
                *port = low.saturating_add(u16::try_from(used % ports).unwrap_or(0));
                used += 1;
            }
            *address = self.address.or(*address);
        }
        script
    }
}

#[cfg(test)]
mod tests {
    use super::super::cause::Machine;
    use super::*;
    use core::net::SocketAddr;
    use std::string::String;

    #[test]
    fn each_language_sets_ports_and_address() {
        let expected = ServerChange {
            ports: Some((50_000, 50_100)),
            address: Some("203.0.113.1".parse().unwrap()),
            offers_passive: false,
        };
        let lines: [(Language, &[&str]); 4] = [
            (Language::Vsftpd, &["pasv_min_port=50000", "pasv_max_port=50100", "pasv_address=203.0.113.1"]),
            (Language::Proftpd, &["PassivePorts 50000 50100", "MasqueradeAddress 203.0.113.1"]),
            (Language::PureFtpd, &["-p 50000:50100 -P 203.0.113.1"]),
            (Language::Pyftpdlib, &["-r 50000-50100 -n 203.0.113.1"]),
        ];
        for (language, lines) in lines {
            let lines: Vec<String> = lines.iter().map(|line| String::from(*line)).collect();
            let part = Part { machine: Machine::Server, language, lines };
            let change = ServerChange { offers_passive: false, ..ServerChange::of([&part].into_iter()) };
            assert_eq!(change, expected, "{language:?}");
        }
    }

    #[test]
    fn passive_mode_is_offered_where_it_was_refused() {
        let end: SocketAddr = "10.0.0.1:21".parse().unwrap();
        let script = Script::new(end, end).with("PASV", "550 no", Act::Say).with("SIZE f", "550 no", Act::Say);
        let change = ServerChange { offers_passive: true, ..ServerChange::default() };
        let turns = change.applied(&script).turns;
        assert!(matches!(turns[0].act, Act::Passive { form: Form::Pasv, .. }));
        assert_eq!(turns[1], script.turns[1]);
    }
}
