//! Rulesets that nft printed both ways, as JSON and as text, are the same model.
//!
//! `testdata/nft` holds what the real nft printed: `NAME.json` and `NAME.nft`. `NFT_PAIRS` names a folder with more.

use std::fs;
use std::path::Path;

use ftp_conntrack::config::{Directory, parse_nft, parse_nft_json, parse_nft_with};
use ftp_conntrack::netfilter::Policy;
use ftp_conntrack::netfilter::nft::{NftRuleset, NftVerdict, SetRef, Span, Statement};

/// The same ruleset without the places where its rules were read. The order of sets and chains says nothing.
fn without_places(mut ruleset: NftRuleset) -> NftRuleset {
    for table in &mut ruleset.tables {
        table.sets.sort_by(|one, other| one.name.cmp(&other.name));
        table.chains.sort_by(|one, other| one.name.cmp(&other.name));
        table.helpers.sort();
        // JSON has whole seconds, and time passes between the two.
        let elements = table.sets.iter_mut().flat_map(|set| &mut set.elements);
        elements.for_each(|element| element.expires = element.expires.map(|_| 0));
        table.meters.sort_by(|one, other| one.0.cmp(&other.0));
    }
    for rule in ruleset.tables.iter_mut().flat_map(|table| &mut table.chains).flat_map(|chain| &mut chain.rules) {
        rule.origin = None;
        for statement in &mut rule.statements {
            // A statement that is not known is kept in the words of its file.
            if let Statement::Unknown(words) = statement {
                words.clear();
            }
        }
    }
    ruleset
}

/// The first part in which two models differ.
fn difference(json: &NftRuleset, text: &NftRuleset) -> Option<String> {
    for (one, other) in json.tables.iter().zip(&text.tables) {
        if let Some((one, other)) = one.sets.iter().zip(&other.sets).find(|(one, other)| one != other) {
            return Some(format!("{one:?}\n{other:?}"));
        }
        if let Some((one, other)) = one.chains.iter().zip(&other.chains).find(|(one, other)| one != other) {
            let rules = one.rules.iter().zip(&other.rules).find(|(one, other)| one != other);
            return Some(match rules {
                Some((one, other)) => format!("{:?}\n{:?}", one.statements, other.statements),
                None => format!("{one:?}\n{other:?}"),
            });
        }
    }
    (json != text).then(|| format!("{json:?}\n{text:?}"))
}

/// Compares every pair of a folder; returns how many there are.
fn compare(folder: &Path) -> usize {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.retain(|path| path.extension().is_some_and(|end| end == "json"));
    let mut differences = Vec::new();
    for json_path in &names {
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let (json, json_warnings) = parse_nft_json("ruleset.json", &read(json_path)).unwrap();
        let (text, text_warnings) = parse_nft("ruleset.nft", &read(&json_path.with_extension("nft"))).unwrap();
        let found = difference(&without_places(json), &without_places(text));
        if let Some(found) = found {
            differences.push(format!("{}:\n{found}", json_path.display()));
        } else if json_warnings.len() != text_warnings.len() {
            differences.push(format!("{}:\n{json_warnings:?}\n{text_warnings:?}", json_path.display()));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    names.len()
}

#[test]
fn text_and_json_of_nft_are_the_same_model() {
    let folder = std::env::var_os("NFT_PAIRS").unwrap_or_else(|| "testdata/nft".into());
    let pairs = compare(Path::new(&folder));
    assert!(pairs > 0);
    println!("{pairs} pairs");
}

/// The statements of the only rule of a chain `forward` in `table inet edge`.
fn statements(rule: &str) -> Vec<Statement> {
    let text =
        format!("table inet edge {{\n chain forward {{\n type filter hook forward priority 0;\n {rule}\n}}\n}}\n");
    let (ruleset, warnings) = parse_nft("ruleset.nft", &text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    ruleset.tables[0].chains[0].rules[0].statements.clone()
}

#[test]
fn variables_stand_for_values_and_sets() {
    let text = r#"
        define wan = eth0
        define web = { 80, 443 }
        define all = { $web, 8080-8090 }
        define prio = filter
        define nets = 10.0.0.0/8
        table inet edge {
            define inner = 22
            chain forward {
                type filter hook forward priority $prio; policy accept;
                iifname $wan tcp dport $all accept
                ip saddr { $nets, 192.168.0.1 } tcp dport { $inner, $web } drop
            }
        }"#;
    let (ruleset, warnings) = parse_nft("ruleset.nft", text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let rules = &ruleset.tables[0].chains[0].rules;
    let same = statements(r#"iifname "eth0" tcp dport { 80, 443, 8080-8090 } accept"#);
    assert_eq!(rules[0].statements, same);
    assert_eq!(rules[1].statements, statements("ip saddr { 10.0.0.0/8, 192.168.0.1 } tcp dport { 22, 80, 443 } drop"));
    assert_eq!(rules[1].origin.as_ref().unwrap().line, 12);
}

#[test]
fn a_variable_without_a_value_leaves_its_rule_undecided() {
    let text = "table ip t {\n chain c {\n iifname $wan accept\n accept\n }\n}";
    let (ruleset, warnings) = parse_nft("ruleset.nft", text).unwrap();
    let rules = &ruleset.tables[0].chains[0].rules;
    assert!(matches!(rules[0].statements.as_slice(), [Statement::Unknown(_)]), "{rules:?}");
    assert_eq!(rules[1].statements, [Statement::Verdict(NftVerdict::Accept)]);
    let expected = "ruleset.nft:3: \"table ip t, chain c: the statement \\\"iifname $wan accept\\\"\" is not known; a packet \
                    that reaches it is undecided";
    assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_statement_that_is_not_known_leaves_only_its_rule_undecided() {
    let text = "table ip t {\n chain c { type filter hook input priority filter + 5; policy drop; tcp dport 22 accept; \
                moon rises { 1, 2 } accept; tcp dport 80 drop; }\n}";
    let (ruleset, warnings) = parse_nft("ruleset.nft", text).unwrap();
    let chain = &ruleset.tables[0].chains[0];
    assert_eq!(chain.base.map(|base| (base.priority, base.policy)), Some((5, Policy::Drop)));
    assert_eq!(chain.rules.len(), 3);
    assert!(matches!(chain.rules[1].statements.as_slice(), [Statement::Unknown(_)]));
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].line, Some(2));
}

#[test]
fn files_are_included_in_the_place_of_the_command() {
    let text = "include \"defs/*.nft\"\ntable ip t { chain c {\n include \"rules.nft\"\n } }";
    let text = text.replace("table ip t { chain c {\n include \"rules.nft\"\n } }", "include \"rules.nft\"");
    let mut asked = Vec::new();
    let mut include = |name: &str| {
        asked.push(name.to_string());
        match name {
            "defs/*.nft" => vec![("a.nft".into(), "define port = 21".into())],
            "rules.nft" => vec![("rules.nft".into(), "table ip t {\nchain c {\ntcp dport $port accept\n}\n}".into())],
            _ => Vec::new(),
        }
    };
    let (ruleset, warnings) = parse_nft_with("ruleset.nft", &text, &mut include).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let rule = &ruleset.tables[0].chains[0].rules[0];
    assert_eq!(rule.origin.as_ref().unwrap().to_string(), "rules.nft:3 (table ip t, chain c)");
    assert_eq!(asked, ["defs/*.nft", "rules.nft"]);
    let error = parse_nft("ruleset.nft", "\ninclude \"gone.nft\"").unwrap_err();
    assert_eq!(error.to_string(), "ruleset.nft:2: \"gone.nft\" cannot be read; save this file beside ruleset.nft");
}

#[test]
fn commands_make_what_blocks_make() {
    let block = "table inet t { set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 1.1.1.1 } }
        map m { type inet_service : verdict; elements = { 22 : accept, 80 : jump c } }
        chain c { drop; }
        chain f { type filter hook forward priority -5; policy drop; ip saddr @s accept; tcp dport vmap @m; } }";
    let commands = "add table inet t
        add set inet t s { type ipv4_addr; flags interval; }
        add element inet t s { 10.0.0.0/8, 1.1.1.1, 2.2.2.2 }
        delete element inet t s { 2.2.2.2 }
        add map inet t m { type inet_service : verdict; }
        add chain inet t c
        add element inet t m { 22 : accept, 80 : jump c }
        add chain inet t f { type filter hook forward priority -5; policy drop; }
        add rule inet t c accept
        flush chain inet t c
        add rule inet t c drop
        add rule inet t f tcp dport vmap @m
        insert rule inet t f ip saddr @s accept";
    let read = |text: &str| without_places(parse_nft("ruleset.nft", text).unwrap().0);
    assert_eq!(read(block), read(commands));
    let twice = format!("{block}\nflush ruleset\n{block}");
    assert_eq!(read(&twice), read(block));
    let replaced = format!("{block}\ntable inet t\ndelete table inet t\n{block}");
    assert_eq!(read(&replaced), read(block));
}

#[test]
fn what_nft_reads_in_several_ways_is_the_same() {
    let same = [
        ("tcp dport ssh accept", "tcp dport 22 accept"),
        ("tcp dport eq 22 accept", "tcp dport == 22 accept"),
        ("tcp dport {22,80,} accept", "tcp dport { 22, 80 } accept"),
        ("mark set 0x10", "meta mark set 16"),
        ("meta mark set mark and 0xff or 1", "meta mark set meta mark & 255 | 1"),
        ("tcp flags & (syn|ack) == syn drop", "tcp flags syn / syn,ack drop"),
        ("iif lo accept", "iif \"lo\" accept"),
        ("ct state { new,established } accept", "ct state { new, established } accept"),
        ("meta l4proto ipv6-icmp accept", "meta l4proto icmpv6 accept"),
        ("ip saddr . tcp dport { 10.0.0.1 . 80 } accept", "ip saddr . tcp dport {\n 10.0.0.1 . 80\n } accept"),
        ("limit rate until 5/minute accept", "limit rate 5/minute burst 5 packets accept"),
        ("log prefix \"x\" level info flags tcp options drop", "log level info prefix x drop"),
    ];
    for (one, other) in same {
        assert_eq!(statements(one), statements(other), "{one}");
    }
}

#[test]
fn elements_may_have_times_comments_and_counters() {
    let text = "table ip t {\n set s {\n typeof ip saddr\n flags timeout\n elements = { 1.1.1.1 timeout 1h30m expires 5s comment \"a, b\",
        2.2.2.2 counter packets 1 bytes 2 }\n }\n chain c { ip saddr @s drop } }";
    let (ruleset, warnings) = parse_nft("ruleset.nft", text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let keys: Vec<Span> = ruleset.tables[0].sets[0].elements.iter().map(|element| element.key[0]).collect();
    assert_eq!(keys, [Span::one(0x0101_0101), Span::one(0x0202_0202)]);
    let rule = &ruleset.tables[0].chains[0].rules[0];
    assert!(matches!(&rule.statements[0], Statement::Lookup { set: SetRef::Named(name), .. } if name == "s"));
}

#[test]
fn what_cannot_be_used_is_named_by_file_and_line() {
    let wrong = [
        ("table ip t {\n chain c {\n accept\n", "ruleset.nft:1: \"the end of the file\" "),
        ("\n\nmoon rises\n", "ruleset.nft:3: \"moon\" is no command known here"),
        ("table ip t {\n comment \"x\n}", "ruleset.nft:2: \"x\" a quote is not closed"),
        ("add rule ip t c handle 5 accept", "ruleset.nft:1: \"handle\" "),
        ("include \"x\"", "ruleset.nft:1: \"x\" cannot be read"),
    ];
    for (text, expected) in wrong {
        let error = parse_nft("ruleset.nft", text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    // A variable that doubles itself is no way to run out of memory.
    let mut bomb = String::from("define a0 = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }\n");
    for level in 1..60 {
        bomb += &format!("define a{level} = {{ $a{0}, $a{0}, $a{0} }}\n", level - 1);
    }
    assert!(
        parse_nft("ruleset.nft", &format!("{bomb}table ip t {{ set s {{ type mark; elements = $a59 }} }}")).is_err()
    );
    // So is a file that includes itself.
    let mut itself = |_: &str| vec![("a".to_string(), "include \"a\"".to_string())];
    assert!(parse_nft_with("a", "include \"a\"", &mut itself).is_err());
}

/// A folder that goes away with the test.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("ftp-conntrack-nft-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_router_directory_has_a_script_and_the_files_it_includes() {
    let script = "flush ruleset\ninclude \"/etc/nftables.d/*.nft\"\ninclude \"/etc/nftables/defs.conf\"\n\
                  table inet t {\n chain c {\n tcp dport $port accept\n }\n}\n";
    let files = [
        ("ruleset.nft", script),
        ("defs.conf", "define port = 21\n"),
        ("10-more.nft", "table ip more {\n}\n"),
        ("20-last.nft", "table ip last {\n}\n"),
    ];
    let scratch = Scratch::new("includes", &files);
    let directory = Directory::read(&scratch.0).unwrap();
    assert!(directory.warnings.is_empty(), "{:?}", directory.warnings);
    let tables: Vec<String> = directory.nft.unwrap().tables.into_iter().map(|table| table.name).collect();
    assert_eq!(tables, ["more", "last", "t"]);
    let missing = Scratch::new("missing", &[("ruleset.nft", "include \"/etc/nftables/defs.conf\"\n")]);
    let error = Directory::read(&missing.0).unwrap_err().to_string();
    assert_eq!(error, "ruleset.nft:1: \"/etc/nftables/defs.conf\" cannot be read; save this file beside ruleset.nft");
}

#[test]
fn tables_in_which_iptables_keeps_its_rules_are_not_asked_twice() {
    let kept = "table ip filter {\n chain FORWARD {\n type filter hook forward priority filter; policy drop;\n \
                xt match \"comment\" counter accept\n }\n}\ntable ip mine {\n}\ntable ip6 filter {\n chain FORWARD {\n \
                type filter hook forward priority 0;\n }\n}\n";
    let rules = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n";
    let scratch = Scratch::new("kept", &[("ruleset.nft", kept), ("rules.v4", rules)]);
    let directory = Directory::read(&scratch.0).unwrap();
    let names: Vec<String> =
        directory.nft.unwrap().tables.iter().map(|t| format!("{} {}", t.family.name(), t.name)).collect();
    assert_eq!(names, ["ip mine", "ip6 filter"]);
    let warnings: Vec<String> = directory.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["ruleset: \"table ip filter\" is not used, since the files of iptables have its rules"]);
}
