//! IIS: today's applicationHost.config, and the metabase of IIS 6.

use std::string::ToString;
use std::vec::Vec;

use roxmltree::Node;

use super::xml::{document, setting};
use super::{ServerFileError, ServerFiles, ServerHost, ServerSettings, ServerTls, Source, range};
use crate::explain::remedy::Language;

/// Reads applicationHost.config, or MetaBase.xml.
pub(super) fn read(source: Source) -> Result<ServerFiles, ServerFileError> {
    let document = document(source)?;
    let root = document.root_element();
    if root.descendants().any(|node| node.tag_name().name().starts_with("IIsFtp")) {
        return Ok(ServerFiles { language: Language::IisMetabase, hosts: metabase(source, root), notes: Vec::new() });
    }
    Ok(ServerFiles { language: Language::Iis, hosts: sites(source, root), notes: Vec::new() })
}

fn sites(source: Source, root: Node) -> Vec<ServerHost> {
    // The range is the machine's; the address is a site's, or the default of sites.
    let mut machine = ServerSettings::default();
    for node in root.descendants().filter(|node| node.has_tag_name("firewallSupport")) {
        let in_site = node.ancestors().any(|parent| parent.has_tag_name("site"));
        if !in_site {
            firewall(source, node, &mut machine);
        }
    }
    let mut hosts = Vec::new();
    for site in root.descendants().filter(|node| node.has_tag_name("site")) {
        let bindings = site.descendants().filter(|node| node.has_tag_name("binding"));
        let ftp: Vec<&str> = bindings
            .filter(|node| node.attribute("protocol") == Some("ftp"))
            .filter_map(|node| node.attribute("bindingInformation"))
            .collect();
        if ftp.is_empty() {
            continue;
        }
        let name = site.attribute("name").unwrap_or_default().to_string();
        let mut host = ServerHost { name, settings: machine.clone(), ..ServerHost::default() };
        for binding in ftp {
            let mut parts = binding.rsplitn(3, ':').skip(1);
            host.ports.extend(parts.next().and_then(|port| port.parse::<u16>().ok()));
            let address = parts.next().unwrap_or_default().trim_matches(['[', ']']);
            host.addresses.extend(address.parse::<core::net::IpAddr>());
        }
        for node in site.descendants() {
            match node.tag_name().name() {
                "firewallSupport" => firewall(source, node, &mut host.settings),
                "ssl" => {
                    let tls = match node.attribute("controlChannelPolicy") {
                        Some("SslRequire") => ServerTls::Required,
                        Some("SslAllow" | "SslRequireCredentialsOnly") => ServerTls::Allowed,
                        _ => continue,
                    };
                    host.settings.tls = Some(setting(source, node, tls));
                }
                _ => {}
            }
        }
        hosts.push(host);
    }
    if hosts.is_empty() {
        hosts.push(ServerHost { settings: machine, ..ServerHost::default() });
    }
    hosts
}

fn firewall(source: Source, node: Node, settings: &mut ServerSettings) {
    let port = |name: &str| node.attribute(name).and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    if let (Some(low), Some(high)) = (port("lowDataChannelPort"), port("highDataChannelPort"))
        && low <= high
    {
        settings.passive_ports = Some(setting(source, node, low..=high));
    }
    if let Some(address) = node.attribute("externalIp4Address").filter(|address| !address.is_empty()) {
        settings.passive_address = Some(setting(source, node, address.to_string()));
    }
}

fn metabase(source: Source, root: Node) -> Vec<ServerHost> {
    let mut hosts: Vec<ServerHost> = Vec::new();
    let mut machine = ServerSettings::default();
    for node in root.descendants().filter(|node| node.tag_name().name().starts_with("IIsFtp")) {
        let ports = node.attribute("PassivePortRange").and_then(|ports| range(ports, &['-']));
        let passive_ports = ports.map(|ports| setting(source, node, ports));
        let settings = ServerSettings { passive_ports, ..ServerSettings::default() };
        if node.has_tag_name("IIsFtpServer") {
            let mut host = ServerHost { settings, ..ServerHost::default() };
            host.name = node.attribute("ServerComment").unwrap_or_default().to_string();
            for binding in node.attribute("ServerBindings").unwrap_or_default().split_whitespace() {
                let mut parts = binding.split(':');
                host.addresses.extend(parts.next().and_then(|address| address.parse::<core::net::IpAddr>().ok()));
                host.ports.extend(parts.next().and_then(|port| port.parse::<u16>().ok()));
            }
            hosts.push(host);
        } else if settings.passive_ports.is_some() {
            machine = settings;
        }
    }
    for host in &mut hosts {
        if host.settings.passive_ports.is_none() {
            host.settings.passive_ports.clone_from(&machine.passive_ports);
        }
    }
    if hosts.is_empty() {
        hosts.push(ServerHost { settings: machine, ..ServerHost::default() });
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_its_address_and_the_machine_the_range() {
        let text = "<configuration>\n<system.applicationHost><sites>\n<site name=\"web\"><bindings><binding protocol=\"http\" bindingInformation=\"*:80:\" /></bindings></site>\n<site name=\"ftp\"><bindings><binding protocol=\"ftp\" bindingInformation=\"10.0.0.4:2121:\" /></bindings>\n<ftpServer><firewallSupport externalIp4Address=\"192.0.2.9\" />\n<security><ssl controlChannelPolicy=\"SslRequire\" /></security></ftpServer></site>\n</sites></system.applicationHost>\n<system.ftpServer><firewallSupport lowDataChannelPort=\"5000\" highDataChannelPort=\"6000\" /></system.ftpServer>\n</configuration>";
        let files = read(Source { name: "applicationHost.config", text }).unwrap();
        assert_eq!(files.language, Language::Iis);
        assert_eq!(files.hosts.len(), 1);
        let host = &files.hosts[0];
        assert_eq!((host.name.as_str(), &host.ports[..]), ("ftp", &[2121][..]));
        assert_eq!(host.settings.passive_address.as_ref().unwrap().value, "192.0.2.9");
        assert_eq!(host.settings.passive_ports.as_ref().unwrap().value, 5000..=6000);
        assert_eq!(host.settings.passive_ports.as_ref().unwrap().place, "applicationHost.config line 8");
        assert_eq!(host.settings.tls.as_ref().unwrap().value, ServerTls::Required);
    }

    #[test]
    fn the_metabase_is_read() {
        let text = "<configuration><MBProperty>\n<IIsFtpService Location=\"/LM/MSFTPSVC\" PassivePortRange=\"5500-5525\"/>\n<IIsFtpServer Location=\"/LM/MSFTPSVC/1\" ServerBindings=\":21:\" ServerComment=\"Default FTP Site\"/>\n</MBProperty></configuration>";
        let files = read(Source { name: "MetaBase.xml", text }).unwrap();
        assert_eq!(files.language, Language::IisMetabase);
        assert_eq!(files.hosts[0].ports, [21]);
        assert_eq!(files.hosts[0].settings.passive_ports.as_ref().unwrap().value, 5500..=5525);
    }
}
