//! FileZilla Server's XML: the old form with an `Item` for each option, and today's with an element for each.

use std::format;
use std::string::ToString;
use std::vec::Vec;

use roxmltree::{Document, Node};

use super::{ServerFileError, ServerFiles, ServerHost, ServerTls, Setting, Source};
use crate::explain::remedy::Language;

/// Returns the setting that an element makes.
pub(super) fn setting<T>(source: Source, node: Node, value: T) -> Setting<T> {
    let number = node.document().text_pos_at(node.range().start).row;
    let line = source.text.lines().nth(number as usize - 1).unwrap_or_default().trim();
    // A file may be one long line.
    let line = if line.len() > 160 { &source.text[node.range()] } else { line };
    Setting { value, place: format!("{} line {number}", source.name), text: line.trim().to_string() }
}

pub(super) fn document<'a>(source: Source<'a>) -> Result<Document<'a>, ServerFileError> {
    Document::parse(source.text.trim_start_matches('\u{feff}'))
        .map_err(|error| ServerFileError::NotXml(error.to_string()))
}

/// Reads FileZilla Server.xml (to 0.9) or settings.xml (from 1.0).
pub(super) fn read_filezilla(source: Source) -> Result<ServerFiles, ServerFileError> {
    let document = document(source)?;
    let root = document.root_element();
    let hosts = if root.has_tag_name("FileZillaServer") { old(source, root) } else { today(source, root) };
    Ok(ServerFiles { language: Language::FileZilla, hosts, notes: Vec::new() })
}

fn old(source: Source, root: Node) -> Vec<ServerHost> {
    let mut host = ServerHost::default();
    let item =
        |name: &str| root.descendants().find(|node| node.has_tag_name("Item") && node.attribute("name") == Some(name));
    let text = |name: &str| item(name).and_then(|node| node.text()).unwrap_or_default().trim();
    let number = |name: &str| text(name).parse::<u16>().ok().filter(|port| *port > 0);
    let ports = text("Serverports");
    let ports = if ports.is_empty() { text("Serverport") } else { ports };
    host.ports = ports.split([' ', ',', ';']).filter_map(|port| port.parse().ok()).collect();
    // 1: the address in the file; 2: one that a web page tells.
    if text("Custom PASV IP type") == "1"
        && let Some(node) = item("Custom PASV IP")
    {
        host.settings.passive_address = Some(setting(source, node, text("Custom PASV IP").to_string()));
    }
    if let (Some(low), Some(high), Some(node)) =
        (number("Custom PASV min port"), number("Custom PASV max port"), item("Custom PASV min port"))
    {
        host.settings.passive_ports = (low <= high).then(|| setting(source, node, low..=high));
    }
    if let Some(node) = item("Enable SSL") {
        let tls = match (text("Enable SSL"), text("Force explicit SSL")) {
            ("1", "1") => ServerTls::Required,
            ("1", _) => ServerTls::Allowed,
            _ => ServerTls::Off,
        };
        host.settings.tls = Some(setting(source, node, tls));
    }
    if let Some(node) = item("Force TLS session resumption") {
        host.settings.session_reuse = Some(setting(source, node, text("Force TLS session resumption") == "1"));
    }
    [host].into()
}

fn today(source: Source, root: Node) -> Vec<ServerHost> {
    let mut host = ServerHost::default();
    let child = |node: Node<'_, '_>, name: &str| -> Option<(u64, std::string::String)> {
        let found = node.children().find(|node| node.has_tag_name(name))?;
        Some((found.range().start as u64, found.text().unwrap_or_default().trim().to_string()))
    };
    for listener in root.descendants().filter(|node| node.has_tag_name("listener")) {
        let is_ftp = listener.ancestors().any(|node| node.has_tag_name("ftp_server"));
        if let Some(port) = child(listener, "port").and_then(|(_, port)| port.parse().ok())
            && is_ftp
        {
            host.ports.push(port);
        }
        if let Some((_, mode)) = child(listener, "tls_mode")
            && is_ftp
        {
            let tls = match mode.as_str() {
                "0" => ServerTls::Off,
                "1" => ServerTls::Allowed,
                "2" => ServerTls::Implicit,
                _ => ServerTls::Required,
            };
            host.settings.tls = Some(setting(source, listener, tls));
        }
    }
    for passive in root.descendants().filter(|node| node.has_tag_name("pasv")) {
        if let Some(node) = passive.children().find(|node| node.has_tag_name("host_override")) {
            let name = node.text().unwrap_or_default().trim();
            if !name.is_empty() {
                host.settings.passive_address = Some(setting(source, node, name.to_string()));
            }
        }
        if let Some(ports) = passive.children().find(|node| node.has_tag_name("port_range")) {
            let bound = |name: &str| child(ports, name).and_then(|(_, port)| port.parse::<u16>().ok());
            if let (Some(low), Some(high)) = (bound("min"), bound("max"))
                && low > 0
                && low <= high
            {
                host.settings.passive_ports = Some(setting(source, ports, low..=high));
            }
        }
    }
    [host].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let old = "<FileZillaServer>\n<Settings>\n<Item name=\"Serverports\" type=\"string\">21 2121</Item>\n<Item name=\"Custom PASV IP type\" type=\"numeric\">1</Item>\n<Item name=\"Custom PASV IP\" type=\"string\">192.0.2.7</Item>\n<Item name=\"Custom PASV min port\" type=\"numeric\">50000</Item>\n<Item name=\"Custom PASV max port\" type=\"numeric\">51000</Item>\n<Item name=\"Enable SSL\" type=\"numeric\">1</Item>\n</Settings>\n</FileZillaServer>";
        let today = "<filezilla>\n<ftp_server>\n<listener><address>0.0.0.0</address><port>21</port><tls_mode>1</tls_mode></listener>\n<listener><address>::</address><port>2121</port></listener>\n<session>\n<pasv>\n<host_override>192.0.2.7</host_override>\n<port_range><min>50000</min><max>51000</max></port_range>\n</pasv>\n</session>\n</ftp_server>\n</filezilla>";
        for text in [old, today] {
            let files = read_filezilla(Source { name: "server.xml", text }).unwrap();
            let host = &files.hosts[0];
            assert_eq!(host.ports, [21, 2121]);
            assert_eq!(host.settings.passive_address.as_ref().unwrap().value, "192.0.2.7");
            assert_eq!(host.settings.passive_ports.as_ref().unwrap().value, 50000..=51000);
            assert_eq!(host.settings.tls.as_ref().unwrap().value, ServerTls::Allowed);
        }
        let host = &read_filezilla(Source { name: "server.xml", text: old }).unwrap().hosts[0];
        assert_eq!(host.settings.passive_address.as_ref().unwrap().place, "server.xml line 5");
    }

    #[test]
    fn an_address_that_is_not_in_use_is_not_announced() {
        let text = "<FileZillaServer><Item name=\"Custom PASV IP type\">0</Item><Item name=\"Custom PASV IP\">192.0.2.7</Item></FileZillaServer>";
        let files = read_filezilla(Source { name: "server.xml", text }).unwrap();
        assert_eq!(files.hosts[0].settings.passive_address, None);
    }

    #[test]
    fn broken_xml_is_one_sentence() {
        let error = read_filezilla(Source { name: "server.xml", text: "<filezilla><pasv>" }).unwrap_err();
        assert!(error.to_string().starts_with("is not well-formed XML: "));
    }
}
