//! Remedies in FTP servers' own languages.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::super::cause::Machine;
use super::{Known, Language, Remedy, remedy};

/// Lines in a server's language.
pub(super) type Lines = Vec<(Language, String)>;

/// Lines that give a server these passive ports.
pub(super) fn use_range(low: u16, high: u16) -> Lines {
    [
        (Language::Vsftpd, format!("pasv_min_port={low}")),
        (Language::Vsftpd, format!("pasv_max_port={high}")),
        (Language::Proftpd, format!("PassivePorts {low} {high}")),
        (Language::PureFtpd, format!("-p {low}:{high}")),
        (Language::Pyftpdlib, format!("-r {low}-{high}")),
        (Language::FileZilla, format!("<port_range><min>{low}</min><max>{high}</max></port_range>")),
        (
            Language::Iis,
            format!("appcmd set config -section:system.ftpServer/firewallSupport /lowDataChannelPort:{low} /highDataChannelPort:{high} /commit:apphost"),
        ),
        (Language::Iis, "net stop ftpsvc && net start ftpsvc".to_string()),
        (Language::IisMetabase, format!("adsutil.vbs set /MSFTPSVC/PassivePortRange \"{low}-{high}\"")),
    ]
    .into()
}

/// Lines that let a server announce this address.
pub(super) fn address_lines(known: &Known, address: &str) -> Lines {
    let mut lines = Vec::new();
    if address.contains('.') && !known.listens_for_ipv4_alone {
        let words = "# vsftpd announces 0.0.0.0 instead of pasv_address where it listens for IPv6";
        lines.extend([words, "listen=YES", "listen_ipv6=NO"].map(|line| (Language::Vsftpd, line.to_string())));
    }
    lines.extend([
        (Language::Vsftpd, format!("pasv_address={address}")),
        (Language::Proftpd, format!("MasqueradeAddress {address}")),
        (Language::PureFtpd, format!("-P {address}")),
        (Language::Pyftpdlib, format!("-n {address}")),
        (Language::FileZilla, format!("<host_override>{address}</host_override>")),
        (
            Language::Iis,
            format!("appcmd set config -section:system.applicationHost/sites /siteDefaults.ftpServer.firewallSupport.externalIp4Address:{address} /commit:apphost"),
        ),
    ]);
    lines
}

/// The server announces the address by which clients reach it.
pub(super) fn announce(known: &Known, address: &str) -> Vec<Remedy> {
    let words =
        format!("Let the server announce {address}, the address by which clients reach it, or no address of its own.");
    server_lines(known, &address_lines(known, address), &words)
}

/// The server offers passive mode.
pub(super) fn offer_passive(known: &Known) -> Vec<Remedy> {
    let lines = [
        (Language::Vsftpd, "pasv_enable=YES".to_string()),
        (Language::Proftpd, "PassivePorts 50000 50100".to_string()),
        (Language::PureFtpd, "-p 50000:50100".to_string()),
        (Language::Pyftpdlib, "-r 50000-50100".to_string()),
    ];
    server_lines(known, &lines, "Turn passive mode on in the server, or use active mode in the client.")
}

/// The server's remedies: in the language of the file at hand, or first in words and then in each.
pub(super) fn server_lines(known: &Known, lines: &[(Language, String)], words: &str) -> Vec<Remedy> {
    let of = |language: Language| {
        let lines: Vec<&str> = lines.iter().filter(|(of, _)| *of == language).map(|(_, line)| line.as_str()).collect();
        (!lines.is_empty()).then(|| remedy(Machine::Server, language, &lines))
    };
    if let Some(remedy) = known.server_file.and_then(of) {
        return [remedy].into();
    }
    let mut languages: Vec<Language> = Vec::new();
    for (language, _) in lines {
        if !languages.contains(language) {
            languages.push(*language);
        }
    }
    let in_words = remedy(Machine::Server, Language::Words, &[words]);
    core::iter::once(in_words).chain(languages.into_iter().filter_map(of)).collect()
}
