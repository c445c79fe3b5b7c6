//! vsftpd.conf: `key=value`, no blanks around the sign (vsftpd.conf(5)).

use std::format;
use std::string::ToString;
use std::vec::Vec;

use super::{ServerFiles, ServerHost, ServerTls, Source};
use crate::explain::remedy::Language;

/// Reads vsftpd.conf. A later line counts, as in the program.
pub(super) fn read(source: Source) -> ServerFiles {
    let mut host = ServerHost::default();
    let mut notes = Vec::new();
    let (mut low, mut high) = (None, None);
    let (mut enabled, mut implicit, mut forced) = (None, None, None);
    for (number, line) in source.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let settings = &mut host.settings;
        let mut switch = |setting: &mut Option<super::Setting<bool>>| match truth(value) {
            Some(value) => *setting = Some(source.setting(value, number, line)),
            None => notes.push(format!("{} line {number}: {line} is neither YES nor NO", source.name)),
        };
        match key {
            "pasv_enable" => switch(&mut settings.passive),
            "port_enable" => switch(&mut settings.active),
            "require_ssl_reuse" => switch(&mut settings.session_reuse),
            "listen_ipv6" => switch(&mut settings.listens_for_ipv6),
            "ssl_enable" => switch(&mut enabled),
            "implicit_ssl" => switch(&mut implicit),
            "force_local_logins_ssl" | "force_anon_logins_ssl" => switch(&mut forced),
            "pasv_address" if !value.is_empty() => {
                settings.passive_address = Some(source.setting(value.to_string(), number, line));
            }
            "pasv_min_port" | "pasv_max_port" => {
                let bound = if key == "pasv_min_port" { &mut low } else { &mut high };
                match value.parse::<u16>() {
                    Ok(0) => *bound = None,
                    Ok(port) => *bound = Some((port, number, line)),
                    Err(_) => notes.push(format!("{} line {number}: {line} has no port", source.name)),
                }
            }
            "listen_port" => host.ports = value.parse().into_iter().collect(),
            "listen_address" | "listen_address6" => host.addresses.extend(value.parse::<core::net::IpAddr>()),
            _ => {}
        }
    }
    // A bound that is not set is that of all ports that a program may use.
    if let Some((_, number, line)) = low.or(high) {
        let ports = low.map_or(1024, |(port, ..)| port)..=high.map_or(65535, |(port, ..)| port);
        host.settings.passive_ports = (!ports.is_empty()).then(|| source.setting(ports, number, line));
    }
    host.settings.tls = enabled.map(|enabled| {
        let is = |setting: &Option<super::Setting<bool>>| setting.as_ref().is_some_and(|setting| setting.value);
        let tls = match enabled.value {
            false => ServerTls::Off,
            // By default local users must use it where it is on.
            true if is(&implicit) => ServerTls::Implicit,
            true if forced.as_ref().is_none_or(|forced| forced.value) => ServerTls::Required,
            true => ServerTls::Allowed,
        };
        super::Setting { value: tls, place: enabled.place, text: enabled.text }
    });
    ServerFiles { language: Language::Vsftpd, hosts: [host].into(), notes }
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_uppercase().as_str() {
        "YES" | "TRUE" | "1" => Some(true),
        "NO" | "FALSE" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ServerFiles {
        read(Source { name: "vsftpd.conf", text })
    }

    #[test]
    fn every_setting_of_data_connections_is_read() {
        let text = "# pasv_enable=YES\npasv_enable=NO\nport_enable=YES\npasv_address=192.0.2.99\npasv_min_port=10090\npasv_max_port=10100\nssl_enable=YES\nlisten_port=2121\n";
        let files = parsed(text);
        let host = &files.hosts[0];
        assert_eq!(host.ports, [2121]);
        assert!(!host.settings.passive.as_ref().unwrap().value);
        assert_eq!(host.settings.passive.as_ref().unwrap().place, "vsftpd.conf line 2");
        assert_eq!(host.settings.passive_address.as_ref().unwrap().value, "192.0.2.99");
        assert_eq!(host.settings.passive_ports.as_ref().unwrap().value, 10090..=10100);
        assert!(host.settings.listens_for_ipv6.is_none());
        assert!(parsed("listen_ipv6=YES").hosts[0].settings.listens_for_ipv6.as_ref().unwrap().value);
        assert_eq!(host.settings.tls.as_ref().unwrap().value, ServerTls::Required);
        assert!(files.notes.is_empty());
    }

    #[test]
    fn one_bound_alone_leaves_the_other_open_and_zero_is_none() {
        assert_eq!(
            parsed("pasv_min_port=40000").hosts[0].settings.passive_ports.as_ref().unwrap().value,
            40000..=65535
        );
        assert_eq!(parsed("pasv_min_port=0\npasv_max_port=0").hosts[0].settings.passive_ports, None);
    }

    #[test]
    fn a_word_that_is_no_switch_is_noted() {
        assert_eq!(parsed("pasv_enable=maybe").notes, ["vsftpd.conf line 1: pasv_enable=maybe is neither YES nor NO"]);
    }
}
