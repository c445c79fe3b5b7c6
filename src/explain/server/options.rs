//! Servers that are set by options of a command, or by a Python program: pyftpdlib, and pure-ftpd's command line.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::{ServerFiles, ServerHost, ServerTls, Setting, Source, range};
use crate::explain::remedy::Language;

/// A command's options: the name without its dashes, and the value.
fn options(line: &str, with_value: &[&str]) -> Vec<(String, String)> {
    let mut words = line.split([' ', '\t', ',', '"', '\'', '[', ']']).filter(|word| !word.is_empty() && *word != "\\");
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix('-') else { continue };
        let (name, value) = match (name.strip_prefix('-'), name.split_once('=')) {
            (Some(_), Some((name, value))) => (name.trim_start_matches('-').to_string(), Some(value.to_string())),
            (Some(long), None) => (long.to_string(), None),
            // A short option may have its value joined to it.
            (None, _) if name.len() > 1 && with_value.contains(&&name[..1]) => {
                (name[..1].to_string(), Some(name[1..].to_string()))
            }
            (None, _) => (name.to_string(), None),
        };
        let value = match value {
            Some(value) => value,
            None if with_value.contains(&name.as_str()) => words.next().unwrap_or_default().to_string(),
            None => String::new(),
        };
        found.push((name, value));
    }
    found
}

/// Reads the options of `python -m pyftpdlib`, or the settings of a program that uses it.
pub(super) fn read_pyftpdlib(source: Source) -> ServerFiles {
    let with_value = ["i", "p", "n", "r", "interface", "port", "nat-address", "range", "d", "u", "P"];
    let mut host = ServerHost::default();
    let mut notes = Vec::new();
    for (number, line) in source.lines() {
        for (name, value) in options(line, &with_value) {
            match name.as_str() {
                "p" | "port" => host.ports = value.parse().into_iter().collect(),
                "i" | "interface" => host.addresses = value.parse().into_iter().collect(),
                "n" | "nat-address" => {
                    host.settings.passive_address = Some(source.setting(value, number, line));
                }
                "r" | "range" => match range(&value, &['-']) {
                    Some(ports) => host.settings.passive_ports = Some(source.setting(ports, number, line)),
                    None => notes.push(format!("{} line {number}: {value} is no range of ports", source.name)),
                },
                _ => {}
            }
        }
        if let Some(value) = assigned(line, "masquerade_address") {
            let address = value.trim_matches(['"', '\'']).to_string();
            host.settings.passive_address = (address != "None").then(|| source.setting(address, number, line));
        }
        if let Some(value) = assigned(line, "passive_ports") {
            // range(60000, 65535) ends before its second number.
            let inside = value.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inside, _)| inside);
            let ports = inside.and_then(|inside| range(inside, &[','])).filter(|ports| ports.start() < ports.end());
            match ports {
                Some(ports) => {
                    let ports = *ports.start()..=ports.end() - 1;
                    host.settings.passive_ports = Some(source.setting(ports, number, line));
                }
                None if value == "None" => host.settings.passive_ports = None,
                None => notes.push(format!("{} line {number}: {value} is no range of ports", source.name)),
            }
        }
        if assigned(line, "tls_control_required").as_deref() == Some("True") {
            host.settings.tls = Some(source.setting(ServerTls::Required, number, line));
        } else if line.contains("TLS_FTPHandler") && host.settings.tls.is_none() {
            host.settings.tls = Some(source.setting(ServerTls::Allowed, number, line));
        }
    }
    ServerFiles { language: Language::Pyftpdlib, hosts: [host].into(), notes }
}

/// Returns what a line assigns to an attribute: `handler.NAME = VALUE`.
fn assigned(line: &str, name: &str) -> Option<String> {
    let (left, right) = line.split_once('=')?;
    let left = left.trim();
    let is_it = left == name || left.ends_with(&format!(".{name}"));
    is_it.then(|| right.split('#').next().unwrap_or_default().trim().to_string())
}

/// Fills a host from an option of pure-ftpd, by its long name in small letters and its value. Returns false if it is none
/// that concerns data connections.
pub(super) fn pure_ftpd_option(host: &mut ServerHost, name: &str, value: &str, at: &Setting<()>) -> Result<bool, ()> {
    let is_on = !matches!(value.to_ascii_lowercase().as_str(), "no" | "off" | "0" | "false");
    match name {
        "passiveportrange" => {
            let ports = range(value, &[' ', ':', '\t']).ok_or(())?;
            host.settings.passive_ports = Some(at.with(ports));
        }
        "forcepassiveip" => host.settings.passive_address = Some(at.with(value.to_string())),
        "natmode" => host.settings.passive = is_on.then(|| at.with(false)),
        "tls" => {
            let tls = match value {
                "0" => ServerTls::Off,
                "1" => ServerTls::Allowed,
                "2" | "3" => ServerTls::Required,
                _ => return Err(()),
            };
            host.settings.tls = Some(at.with(tls));
        }
        "bind" => {
            let (address, port) = value.split_once(',').unwrap_or((value, ""));
            host.addresses.extend(address.trim().parse::<core::net::IpAddr>());
            host.ports.extend(port.trim().parse::<u16>());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Fills a host from pure-ftpd's command line.
pub(super) fn pure_ftpd_command(
    host: &mut ServerHost,
    notes: &mut Vec<String>,
    source: Source,
    number: usize,
    line: &str,
) {
    let with_value = [
        "p",
        "P",
        "S",
        "Y",
        "passiveportrange",
        "forcepassiveip",
        "bind",
        "tls",
        "l",
        "c",
        "C",
        "I",
        "u",
        "U",
        "O",
        "g",
    ];
    for (name, value) in options(line, &with_value) {
        let long = match name.as_str() {
            "p" => "passiveportrange",
            "P" => "forcepassiveip",
            "S" => "bind",
            "Y" => "tls",
            "N" => "natmode",
            other => other,
        };
        let value = if long == "natmode" { "yes".to_string() } else { value };
        let at = source.setting((), number, line);
        if pure_ftpd_option(host, long, &value, &at).is_err() {
            notes.push(format!("{} line {number}: {value} is no value of {long}", source.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pyftpdlib_is_read_as_options_and_as_a_program() {
        let text = "#!/bin/sh\npython3 -m pyftpdlib -i 0.0.0.0 -p 2121 -n 192.0.2.99 --range=50000-50001\n";
        let host = &read_pyftpdlib(Source { name: "run.sh", text }).hosts[0];
        assert_eq!(host.ports, [2121]);
        assert_eq!(host.settings.passive_address.as_ref().unwrap().value, "192.0.2.99");
        assert_eq!(host.settings.passive_ports.as_ref().unwrap().value, 50000..=50001);
        let text = "handler = TLS_FTPHandler\nhandler.masquerade_address = '192.0.2.1'\nhandler.passive_ports = range(60000, 65535)\n";
        let host = &read_pyftpdlib(Source { name: "ftpd.py", text }).hosts[0];
        assert_eq!(host.settings.passive_address.as_ref().unwrap().value, "192.0.2.1");
        assert_eq!(host.settings.passive_ports.as_ref().unwrap().value, 60000..=65534);
        assert_eq!(host.settings.tls.as_ref().unwrap().value, ServerTls::Allowed);
    }

    #[test]
    fn an_option_may_have_its_value_joined() {
        assert_eq!(
            options("x -p2121 -P 1.2.3.4 -w --bind=,21", &["p", "P"]),
            [
                ("p".to_string(), "2121".to_string()),
                ("P".to_string(), "1.2.3.4".to_string()),
                ("w".to_string(), String::new()),
                ("bind".to_string(), String::new()),
            ]
        );
    }
}
