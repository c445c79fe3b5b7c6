//! pure-ftpd: its command line, pure-ftpd.conf, and Debian's directory with a file for each option.

use std::format;
use std::fs;
use std::io;
use std::path::Path;
use std::string::ToString;
use std::vec::Vec;

use super::options::{pure_ftpd_command, pure_ftpd_option};
use super::{ServerFiles, ServerHost, Setting, Source, entries, text_of};
use crate::explain::remedy::Language;

/// Reads pure-ftpd.conf, or a file that holds its command line.
pub(super) fn read(source: Source) -> ServerFiles {
    let mut host = ServerHost::default();
    let mut notes = Vec::new();
    for (number, line) in source.lines() {
        let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let at = source.setting((), number, line);
        match pure_ftpd_option(&mut host, &name.to_ascii_lowercase(), value.trim(), &at) {
            Ok(true) => {}
            Ok(false) => pure_ftpd_command(&mut host, &mut notes, source, number, line),
            Err(()) => notes.push(format!("{} line {number}: {value} is no value of {name}", source.name)),
        }
    }
    ServerFiles { language: Language::PureFtpd, hosts: [host].into(), notes }
}

/// Reads a directory whose files are named as options and hold their values. `None` if none of its files is one.
pub(super) fn read_directory(path: &Path) -> io::Result<Option<ServerFiles>> {
    let mut host = ServerHost::default();
    let mut notes = Vec::new();
    let mut found = false;
    fs::read_dir(path)?;
    let mut files = entries(path);
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = text_of(&fs::read(&file)?);
        let value = text.lines().next().unwrap_or_default().trim().to_string();
        let at = Setting { value: (), place: format!("conf/{name} line 1"), text: value.clone() };
        match pure_ftpd_option(&mut host, &name.to_ascii_lowercase(), &value, &at) {
            Ok(known) => found |= known,
            Err(()) => notes.push(format!("conf/{name}: {value} is no value of {name}")),
        }
    }
    Ok((found || !notes.is_empty()).then(|| ServerFiles { language: Language::PureFtpd, hosts: [host].into(), notes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::server::ServerTls;

    #[test]
    fn a_file_and_a_command_line_say_the_same() {
        let file = "PassivePortRange          30000 50000\nForcePassiveIP  192.0.2.1\nTLS 2\nBind 127.0.0.1,2121\nNATmode yes\n";
        let line = "ExecStart=/usr/sbin/pure-ftpd -p 30000:50000 -P 192.0.2.1 -Y 2 -S 127.0.0.1,2121 -N\n";
        let [file, line] = [file, line].map(|text| read(Source { name: "pure-ftpd.conf", text }).hosts.remove(0));
        for host in [&file, &line] {
            assert_eq!(host.settings.passive_ports.as_ref().unwrap().value, 30000..=50000);
            assert_eq!(host.settings.passive_address.as_ref().unwrap().value, "192.0.2.1");
            assert_eq!(host.settings.tls.as_ref().unwrap().value, ServerTls::Required);
            assert!(!host.settings.passive.as_ref().unwrap().value);
        }
        assert_eq!(file.ports, [2121]);
    }

    #[test]
    fn a_value_that_is_none_is_noted() {
        let files = read(Source { name: "pure-ftpd.conf", text: "PassivePortRange many\n" });
        assert_eq!(files.notes, ["pure-ftpd.conf line 1: many is no value of PassivePortRange"]);
    }
}
