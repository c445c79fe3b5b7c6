//! proftpd.conf: directives, sections, included files.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::{Include, ServerFiles, ServerHost, ServerSettings, ServerTls, Source, range};
use crate::explain::remedy::Language;

/// Maximum depth of included files.
const DEEPEST: usize = 8;

/// The directives as they are read: where they belong, and what they say.
struct Reading<'a> {
    include: Include<'a>,
    /// The main server, and then the virtual hosts.
    hosts: Vec<ServerHost>,
    /// Settings of all hosts, where a host has none of its own.
    global: ServerSettings,
    /// The open sections, the innermost last.
    sections: Vec<Section>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Section {
    Global,
    Host(usize),
    /// `<Limit>` with its commands in capitals.
    Limit(Vec<String>),
    /// A section that decides nothing here, as `<IfModule>`.
    Other,
}

/// Reads proftpd.conf with the files that it includes.
pub(super) fn read(source: Source, include: Include) -> ServerFiles {
    let mut reading = Reading {
        include,
        hosts: [ServerHost::default()].into(),
        global: ServerSettings::default(),
        sections: Vec::new(),
        notes: Vec::new(),
    };
    reading.file(source, 0);
    let Reading { mut hosts, global, notes, .. } = reading;
    for host in &mut hosts {
        inherit(&mut host.settings, &global);
    }
    ServerFiles { language: Language::Proftpd, hosts, notes }
}

fn inherit(settings: &mut ServerSettings, global: &ServerSettings) {
    fn fill<T: Clone>(own: &mut Option<T>, global: &Option<T>) {
        if own.is_none() {
            own.clone_from(global);
        }
    }
    fill(&mut settings.passive, &global.passive);
    fill(&mut settings.active, &global.active);
    fill(&mut settings.passive_ports, &global.passive_ports);
    fill(&mut settings.passive_address, &global.passive_address);
    fill(&mut settings.tls, &global.tls);
    fill(&mut settings.session_reuse, &global.session_reuse);
}

impl Reading<'_> {
    fn file(&mut self, source: Source, depth: usize) {
        for (number, line) in source.lines() {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            let rest: Vec<&str> = words.collect();
            if first.starts_with('<') {
                self.section(line);
            } else if first.eq_ignore_ascii_case("Include") {
                let pattern = rest.join(" ");
                let files = if depth < DEEPEST { (self.include)(&pattern) } else { Vec::new() };
                if files.is_empty() && !pattern.contains(['*', '?']) {
                    self.notes.push(format!("{} line {number}: {pattern} was not read", source.name));
                }
                for (name, text) in files {
                    self.file(Source { name: &name, text: &text }, depth + 1);
                }
            } else {
                self.directive(source, number, line, &first.to_ascii_lowercase(), &rest);
            }
        }
    }

    fn section(&mut self, line: &str) {
        let inside = line.trim_start_matches('<').trim_end_matches('>').trim();
        if inside.starts_with('/') {
            self.sections.pop();
            return;
        }
        let mut words = inside.split_whitespace();
        let section = match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "global" => Section::Global,
            "limit" => Section::Limit(words.map(str::to_ascii_uppercase).collect()),
            "virtualhost" => {
                let names: Vec<&str> = words.collect();
                let addresses = names.iter().filter_map(|name| name.parse().ok()).collect();
                self.hosts.push(ServerHost { name: names.join(" "), addresses, ..ServerHost::default() });
                Section::Host(self.hosts.len() - 1)
            }
            _ => Section::Other,
        };
        self.sections.push(section);
    }

    fn host(&mut self) -> &mut ServerHost {
        let number = self.sections.iter().rev().find_map(|section| match section {
            Section::Host(number) => Some(*number),
            _ => None,
        });
        let last = self.hosts.len() - 1;
        &mut self.hosts[number.unwrap_or(0).min(last)]
    }

    fn settings(&mut self) -> &mut ServerSettings {
        if self.sections.contains(&Section::Global) { &mut self.global } else { &mut self.host().settings }
    }

    fn directive(&mut self, source: Source, number: usize, line: &str, name: &str, rest: &[&str]) {
        let value = rest.first().copied().unwrap_or_default();
        let is_on = || matches!(value.to_ascii_lowercase().as_str(), "on" | "yes" | "true" | "1");
        let tls = |value| Some(source.setting(value, number, line));
        match name {
            "port" => self.host().ports = value.parse().into_iter().collect(),
            "defaultaddress" => {
                let addresses: Vec<core::net::IpAddr> = rest.iter().filter_map(|name| name.parse().ok()).collect();
                self.host().addresses.extend(addresses);
            }
            "passiveports" => match range(&rest.join(" "), &[' ']) {
                Some(ports) => self.settings().passive_ports = Some(source.setting(ports, number, line)),
                None => self.notes.push(format!("{} line {number}: {line} has no range of ports", source.name)),
            },
            "masqueradeaddress" => {
                self.settings().passive_address = Some(source.setting(value.to_string(), number, line));
            }
            "tlsengine" => self.settings().tls = tls(if is_on() { ServerTls::Allowed } else { ServerTls::Off }),
            "tlsrequired" => {
                let needs = matches!(value.to_ascii_lowercase().as_str(), "on" | "ctrl" | "auth" | "auth+data");
                let is_engaged = self.settings().tls.as_ref().is_some_and(|tls| tls.value == ServerTls::Allowed);
                if needs && is_engaged {
                    self.settings().tls = tls(ServerTls::Required);
                }
            }
            "tlsoptions" => {
                let has = |word: &str| rest.iter().any(|option| option.eq_ignore_ascii_case(word));
                if has("NoSessionReuseRequired") {
                    self.settings().session_reuse = Some(source.setting(false, number, line));
                }
                if has("UseImplicitSSL") {
                    self.settings().tls = tls(ServerTls::Implicit);
                }
            }
            "denyall" => {
                let Some(Section::Limit(commands)) = self.sections.last().cloned() else { return };
                let has = |wanted: &[&str]| commands.iter().any(|command| wanted.contains(&command.as_str()));
                if has(&["PASV", "EPSV"]) {
                    self.settings().passive = Some(source.setting(false, number, line));
                }
                if has(&["PORT", "EPRT"]) {
                    self.settings().active = Some(source.setting(false, number, line));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ServerFiles {
        let include = |name: &str| match name {
            "/etc/proftpd/tls.conf" => Vec::from([(
                "tls.conf".to_string(),
                "<IfModule mod_tls.c>\nTLSEngine on\nTLSRequired on\nTLSOptions NoSessionReuseRequired\n</IfModule>"
                    .to_string(),
            )]),
            _ => Vec::new(),
        };
        read(Source { name: "proftpd.conf", text }, &include)
    }

    #[test]
    fn sections_and_included_files_are_read() {
        let files = parsed(
            "Include /etc/proftpd/tls.conf\nPort 2121\nMasqueradeAddress 198.51.100.1 # outside\npassiveports 50000 50100\n<Limit PORT EPRT>\n  DenyAll\n</Limit>\n",
        );
        let host = &files.hosts[0];
        assert_eq!(host.ports, [2121]);
        assert_eq!(host.settings.passive_address.as_ref().unwrap().value, "198.51.100.1");
        assert_eq!(host.settings.passive_ports.as_ref().unwrap().value, 50000..=50100);
        assert_eq!(host.settings.tls.as_ref().unwrap().value, ServerTls::Required);
        assert_eq!(host.settings.tls.as_ref().unwrap().place, "tls.conf line 3");
        assert!(!host.settings.session_reuse.as_ref().unwrap().value);
        assert!(!host.settings.active.as_ref().unwrap().value);
        assert_eq!(host.settings.passive, None);
    }

    #[test]
    fn what_is_global_holds_for_each_host() {
        let files = parsed(
            "<Global>\nPassivePorts 1 2\n</Global>\n<VirtualHost 10.0.0.1 ftp.example>\nMasqueradeAddress 192.0.2.1\n</VirtualHost>\n",
        );
        assert_eq!(files.hosts.len(), 2);
        assert_eq!(files.hosts[1].name, "10.0.0.1 ftp.example");
        assert!(files.hosts.iter().all(|host| host.settings.passive_ports.as_ref().unwrap().value == (1..=2)));
        assert_eq!(files.hosts[0].settings.passive_address, None);
    }

    #[test]
    fn a_file_that_includes_itself_ends_and_a_missing_one_is_noted() {
        let files =
            read(Source { name: "p", text: "Include p" }, &|_| Vec::from([("p".to_string(), "Include p".to_string())]));
        assert_eq!(files.notes, ["p line 1: p was not read"]);
    }
}
