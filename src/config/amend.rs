//! Commands that change a router, applied to what its files say.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::directory::Directory;
use super::error::{Error, ErrorKind, Warning};
use super::ipvsadm::amend_ipvs_rules;
use super::modules::amend_modules;
use super::nft::amend_nft;
use super::rules::amend_rules;
use super::sysctl::parse_sysctl;
use super::words::{Word, commands};
use crate::packet::Family;

impl Directory {
    /// Returns the directory as it is after commands, one a line, as its owner would type them: `iptables`, `ip6tables`,
    /// `nft`, `sysctl -w`, `modprobe`, `ipvsadm`, `firewall-cmd --direct`, `ufw`. Lines `KEY = VALUE` are settings.
    ///
    /// Comments are passed over, and so are commands that only make firewalld or ufw read their files again.
    ///
    /// # Errors
    /// A command that is none of these, or that its own tool would refuse.
    ///
    /// ```
    /// use ftp_conntrack::config::Directory;
    /// use ftp_conntrack::netfilter::TableName;
    ///
    /// let commands = "iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp\nsysctl -w a.b=1\n";
    /// let (directory, warnings) = Directory::default().after("what-if", commands)?;
    /// let rules = directory.rules4.unwrap();
    /// assert_eq!(rules.table(TableName::Raw).chain("PREROUTING").unwrap().rules.len(), 1);
    /// assert_eq!(directory.sysctl.get("a.b"), Some("1"));
    /// assert!(warnings.is_empty());
    /// # Ok::<(), ftp_conntrack::config::Error>(())
    /// ```
    pub fn after(&self, file: &str, text: &str) -> Result<(Self, Vec<Warning>), Error> {
        let mut directory = self.clone();
        let mut warnings = Vec::new();
        for (number, line) in lines(text) {
            // Empty lines before it let messages name the right one.
            let line = format!("{}{line}", "\n".repeat(number));
            directory.command(file, &line, &mut warnings)?;
        }
        Ok((directory, warnings))
    }

    fn command(&mut self, file: &str, line: &str, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let words = commands(line).map_err(|error| error.in_file(file))?;
        let words: Vec<&Word> = words.iter().flatten().skip_while(|word| word.is("sudo")).collect();
        let Some(first) = words.first() else { return Ok(()) };
        match first.text.rsplit('/').next().unwrap_or_default() {
            "iptables" | "iptables-legacy" | "iptables-nft" => self.iptables(Family::V4, file, line, warnings),
            "ip6tables" | "ip6tables-legacy" | "ip6tables-nft" => self.iptables(Family::V6, file, line, warnings),
            "nft" => self.nft_command(file, &words, warnings),
            "sysctl" => self.setting(file, line),
            "modprobe" | "insmod" | "rmmod" | "options" => self.module(file, line),
            "ipvsadm" => {
                let services = self.ipvs.clone().unwrap_or_default();
                let (services, said) = amend_ipvs_rules(services, file, line)?;
                self.has_ipvs_rules |= !services.services.is_empty();
                self.ipvs = Some(services);
                warnings.extend(said);
                Ok(())
            }
            "firewall-cmd" => self.firewalld(file, first, &words, warnings),
            "ufw" => self.ufw(file, first, &words, warnings),
            _ if words.iter().any(|word| word.text.contains('=')) && first.text.contains(['.', '/']) => {
                self.setting(file, line)
            }
            _ => Err(unknown(file, first)),
        }
    }

    fn iptables(&mut self, family: Family, file: &str, line: &str, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let rules = if family == Family::V4 { &mut self.rules4 } else { &mut self.rules6 };
        let (amended, said) = amend_rules(rules.clone().unwrap_or_default(), file, line, family)?;
        *rules = Some(amended);
        warnings.extend(said);
        Ok(())
    }

    fn setting(&mut self, file: &str, line: &str) -> Result<(), Error> {
        self.sysctl.extend(parse_sysctl(file, line)?);
        Ok(())
    }

    fn module(&mut self, file: &str, line: &str) -> Result<(), Error> {
        let modules = self.modules.clone();
        // A list without any module is that of a kernel with everything built in.
        let is_built_in = modules.as_ref().is_none_or(|modules| modules.names.is_empty());
        let mut amended = amend_modules(modules.clone().unwrap_or_default(), file, line)?;
        if is_built_in {
            amended.names.clear();
        }
        self.modules = Some(amended).filter(|amended| modules.is_some() || !amended.options.is_empty());
        Ok(())
    }

    fn nft_command(&mut self, file: &str, words: &[&Word], warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let Some((first, rest)) = words.split_first() else { return Ok(()) };
        let command: Vec<&str> = rest.iter().map(|word| word.text.as_str()).collect();
        let line = line_of(first, &command.join(" "));
        let (ruleset, said) = amend_nft(self.nft.clone().unwrap_or_default(), file, &line)?;
        self.nft = Some(ruleset);
        warnings.extend(said);
        Ok(())
    }

    /// `firewall-cmd [--permanent] --direct --add-rule ipv4|ipv6 TABLE CHAIN PRIORITY ARGUMENTS`, which iptables carries
    /// out.
    fn firewalld(
        &mut self,
        file: &str,
        first: &Word,
        words: &[&Word],
        warnings: &mut Vec<Warning>,
    ) -> Result<(), Error> {
        let rest: Vec<&str> = words.iter().skip(1).map(|word| word.text.as_str()).collect();
        let rest: Vec<&str> = rest.into_iter().filter(|word| *word != "--permanent").collect();
        match rest.as_slice() {
            ["--reload"] => Ok(()),
            ["--direct", "--add-rule", family, table, chain, _, arguments @ ..] => {
                let (program, family) = match *family {
                    "ipv4" => ("iptables", Family::V4),
                    "ipv6" => ("ip6tables", Family::V6),
                    _ => return Err(unknown(file, first)),
                };
                let line = line_of(first, &format!("{program} -t {table} -A {chain} {}", arguments.join(" ")));
                self.iptables(family, file, &line, warnings)
            }
            _ => Err(unknown(file, first)),
        }
    }

    /// `ufw [route] allow PORT/tcp` or `... proto tcp [from any] to any port PORT`, which becomes a rule of ufw's own chain.
    fn ufw(&mut self, file: &str, first: &Word, words: &[&Word], warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let rest: Vec<&str> = words.iter().skip(1).map(|word| word.text.as_str()).collect();
        let (chain, rest) = match rest.as_slice() {
            ["reload"] => return Ok(()),
            ["route", rest @ ..] => ("forward", rest),
            rest => ("input", rest),
        };
        let ports = match rest {
            ["allow", port] => port.strip_suffix("/tcp"),
            ["allow", "proto", "tcp", "to", "any", "port", port]
            | ["allow", "proto", "tcp", "from", "any", "to", "any", "port", port] => Some(*port),
            _ => None,
        };
        let Some(ports) = ports else { return Err(unknown(file, first)) };
        for (program, own, family) in [("iptables", "ufw", Family::V4), ("ip6tables", "ufw6", Family::V6)] {
            let rules = if family == Family::V4 { &self.rules4 } else { &self.rules6 };
            let chain = format!("{own}-user-{chain}");
            let has_chain = rules
                .as_ref()
                .is_some_and(|rules| rules.table(crate::netfilter::TableName::Filter).chain(&chain).is_some());
            if has_chain {
                let line =
                    line_of(first, &format!("{program} -A {chain} -p tcp -m multiport --dports {ports} -j ACCEPT"));
                self.iptables(family, file, &line, warnings)?;
            }
        }
        Ok(())
    }
}

/// Returns the commands of a text with the number of lines before each; a backslash continues a line.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (number, line) in text.lines().enumerate() {
        match found.last_mut().filter(|_| continues) {
            Some((_, begun)) => {
                begun.push('\n');
                begun.push_str(line);
            }
            None => found.push((number, line.to_string())),
        }
        continues = line.trim_end().ends_with('\\');
    }
    found
}

/// Returns a command that is said to be on the line of a word.
fn line_of(word: &Word, command: &str) -> String {
    let before = usize::try_from(word.line.saturating_sub(1)).unwrap_or(0);
    format!("{}{command}", "\n".repeat(before))
}

fn unknown(file: &str, word: &Word) -> Error {
    let wanted =
        "write a command of iptables, nft, sysctl, modprobe, ipvsadm, ufw, or firewall-cmd --direct --add-rule";
    Error::at(word, ErrorKind::UnknownCommand, wanted).in_file(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse_modules, parse_rules};
    use crate::netfilter::{Ruleset, TableName};

    fn rules(text: &str) -> Ruleset {
        parse_rules("rules.v4", text, Family::V4).unwrap().0
    }

    fn count(directory: &Directory, table: TableName, chain: &str) -> usize {
        directory.rules4.as_ref().and_then(|rules| rules.table(table).chain(chain)).map_or(0, |chain| chain.rules.len())
    }

    #[test]
    fn commands_change_what_is_there() {
        let saved = "iptables -N ufw-user-forward\niptables -A FORWARD -j ufw-user-forward\niptables -A FORWARD -p tcp -j DROP\n";
        let before = Directory {
            rules4: Some(rules(saved)),
            modules: Some(parse_modules("modules", "nf_nat\n").unwrap()),
            ..Directory::default()
        };
        let text = "# a comment\nsudo iptables -I FORWARD -p tcp \\\n  --dport 21 -j ACCEPT\n\nmodprobe nf_conntrack_ftp loose=1\n\
            net.netfilter.nf_conntrack_max = 5\nufw route allow proto tcp to any port 50000:50100\nufw reload\n\
            firewall-cmd --permanent --direct --add-rule ipv4 raw PREROUTING 0 -p tcp --dport 21 -j CT --helper ftp\n\
            firewall-cmd --reload\nipvsadm -A -t 10.0.0.1:21 -s rr\n";
        let (after, warnings) = before.after("f", text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((count(&before, TableName::Filter, "FORWARD"), count(&after, TableName::Filter, "FORWARD")), (2, 3));
        assert_eq!(count(&after, TableName::Filter, "ufw-user-forward"), 1);
        assert_eq!(count(&after, TableName::Raw, "PREROUTING"), 1);
        let modules = after.modules.unwrap();
        assert!(modules.has("nf_nat") && modules.has("nf_conntrack_ftp") && modules.loose());
        assert_eq!(after.sysctl.get("net.netfilter.nf_conntrack_max"), Some("5"));
        assert_eq!(after.ipvs.unwrap().services.len(), 1);
    }

    #[test]
    fn nft_commands_change_tables_that_are_there() {
        let text = "table inet edge {\n chain forward {\n type filter hook forward priority 0; policy drop;\n tcp dport 21 accept\n }\n}";
        let nft = Some(crate::config::parse_nft("ruleset.nft", text).unwrap().0);
        let before = Directory { nft, ..Directory::default() };
        let commands = "nft add table inet ftp\nnft add ct helper inet ftp ftp-standard '{ type \"ftp\" protocol tcp; }'\n\
            nft add chain inet ftp prerouting '{ type filter hook prerouting priority 0; }'\n\
            nft add rule inet ftp prerouting tcp dport 21 ct helper set ftp-standard\n\
            nft insert rule inet edge forward ct state related accept\n";
        let (after, warnings) = before.after("f", commands).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let tables = after.nft.unwrap().tables;
        assert_eq!((tables[0].chains[0].rules.len(), tables[1].chains[0].rules.len()), (2, 1));
        assert_eq!(tables[1].helpers, [("ftp-standard".to_string(), "ftp".to_string())]);
        let error = before.after("f", "nft insert rule inet filter forward ct state related accept").unwrap_err();
        assert_eq!((error.kind, error.word.as_str()), (ErrorKind::UnknownChain, "inet filter forward"));
    }

    #[test]
    fn a_kernel_with_everything_built_in_stays_one() {
        let (after, _) = Directory::default().after("f", "modprobe nf_conntrack_ftp").unwrap();
        assert!(after.modules.is_none());
        let (after, _) = Directory::default().after("f", "modprobe nf_conntrack_ftp loose=1").unwrap();
        let modules = after.modules.unwrap();
        assert!(modules.names.is_empty() && modules.loose());
    }

    #[test]
    fn what_is_no_such_command_is_refused_by_its_line() {
        for text in [
            "\n\nrm -rf x",
            "\n\niptables -A FORWARD --up 1 -j DROP",
            "\n\nfirewall-cmd --add-service=ftp",
            "\n\nufw deny 1/tcp",
        ] {
            let error = Directory::default().after("f", text).unwrap_err();
            assert_eq!((error.line, error.file.as_str()), (Some(3), "f"), "{text}: {error}");
        }
    }
}
