//! A configuration, as the kernel's own tools take it.

/// The router's configuration before the first packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setup {
    pub(crate) rules4: String,
    pub(crate) rules6: String,
    /// A script for `nft -f`; empty where nftables has no tables.
    pub(crate) nft: String,
    pub(crate) sysctl: Vec<(String, String)>,
    /// Sets, as `ipset save` prints them.
    pub(crate) sets: String,
    /// True if packets delivered to the machine are compared too.
    pub(crate) is_host: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rules4: Rules::empty().text(),
            rules6: Rules::empty().text(),
            nft: String::new(),
            sysctl: Vec::new(),
            sets: String::new(),
            is_host: false,
        }
    }
}

impl Setup {
    /// These rules for one family, none for the other.
    pub(crate) fn new(v6: bool, rules: &Rules) -> Self {
        let mut setup = Self::default();
        *(if v6 { &mut setup.rules6 } else { &mut setup.rules4 }) = rules.text();
        setup
    }

    /// The same with tables of nftables.
    #[must_use]
    pub(crate) fn with_nft(mut self, script: String) -> Self {
        self.nft = script;
        self
    }

    /// Returns true if rules remember packets of one dialogue in the next.
    pub(crate) fn remembers(&self) -> bool {
        const WORDS: [&str; 8] =
            ["connbytes", "limit", "recent", "quota", "statistic", "connlimit", "match-set", "SET"];
        WORDS.iter().any(|word| self.rules4.contains(word) || self.rules6.contains(word))
    }

    /// The same where the machine takes part in the dialogue.
    #[must_use]
    pub(crate) fn with_host(mut self) -> Self {
        self.is_host = true;
        self
    }

    /// The same with a kernel setting, by its whole name.
    #[must_use]
    pub(crate) fn with_sysctl(mut self, key: &str, value: u32) -> Self {
        self.sysctl.push((key.to_owned(), value.to_string()));
        self
    }

    /// The same with a setting of connection tracking.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: u32) -> Self {
        self.sysctl.push((format!("net.netfilter.nf_conntrack_{key}"), value.to_string()));
        self
    }
}

pub(crate) const HELPER: &str = "-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp";
pub(crate) const DROP_INVALID: &str = "-A INPUT -m conntrack --ctstate INVALID -j DROP\n\
     -A FORWARD -m conntrack --ctstate INVALID -j DROP\n-A INPUT -p tcp -j DROP";

/// Rules by table, as iptables-save writes them.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) raw: String,
    pub(crate) mangle: String,
    pub(crate) nat: String,
    pub(crate) filter: String,
    /// The policies of filter's INPUT, FORWARD and OUTPUT.
    pub(crate) policies: [&'static str; 3],
}

impl Rules {
    pub(crate) const fn empty() -> Self {
        Self {
            raw: String::new(),
            mangle: String::new(),
            nat: String::new(),
            filter: String::new(),
            policies: ["ACCEPT"; 3],
        }
    }

    /// The helper on port 21, this translation, and invalid packets dropped.
    pub(crate) fn nat(nat: &str) -> Self {
        Self { raw: HELPER.to_owned(), nat: nat.to_owned(), filter: DROP_INVALID.to_owned(), ..Self::empty() }
    }

    fn text(&self) -> String {
        let tables = [
            ("raw", "PREROUTING OUTPUT", &self.raw),
            ("mangle", "PREROUTING INPUT FORWARD OUTPUT POSTROUTING", &self.mangle),
            ("nat", "PREROUTING INPUT OUTPUT POSTROUTING", &self.nat),
            ("filter", "INPUT FORWARD OUTPUT", &self.filter),
        ];
        let mut out = String::new();
        for (table, chains, rules) in tables {
            out += &format!("*{table}\n");
            for (chain, policy) in chains.split(' ').zip(self.policies.into_iter().chain(["ACCEPT"; 2])) {
                let policy = if table == "filter" { policy } else { "ACCEPT" };
                out += &format!(":{chain} {policy} [0:0]\n");
            }
            for chain in rules.lines().filter(|line| line.starts_with(':')) {
                out += &format!("{chain}\n");
            }
            if table == "mangle" {
                // The kernel tracks connections only where some rule asks about them.
                out += "-A INPUT -m conntrack --ctstate INVALID -j ACCEPT\n";
            }
            for rule in rules.lines().filter(|line| line.starts_with('-')) {
                out += &format!("{rule}\n");
            }
            out += "COMMIT\n";
        }
        out
    }
}
