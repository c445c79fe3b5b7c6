//! Sessions of real software through real routers, whole and broken in a known way: the cause that is told.

use std::path::{Path, PathBuf};

use ftp_conntrack::explain::{Code, Explanation, Options, Remedy, Report, RouterFiles, ServerFiles, Trial};

const UNSURE: Code = Code::Unknown;

/// The case; the code from all files together, from the client's capture, the server's, the router's with its files.
const TABLE: [(&str, [Code; 4]); 19] = [
    ("drop-client-port", [Code::DropClient, Code::DropClient, UNSURE, Code::DropClient]),
    ("drop-router-pasv", [Code::DropRouter, UNSURE, UNSURE, Code::DropRouter]),
    ("drop-server-pasv", [Code::DropServer, UNSURE, Code::DropServer, Code::DropServer]),
    ("healthy-port", [Code::Healthy; 4]),
    // The client's capture shows no more than that the server refuses the address.
    ("helper-port-port", [Code::HelperPort, Code::PrivateAddress, Code::PrivateAddress, Code::HelperPort]),
    ("helper-port-dnat-epsv", [Code::HelperPort, Code::RejectRouter, UNSURE, Code::HelperPort]),
    ("login", [Code::Login; 4]),
    ("nft-drop", [Code::DropRouter, UNSURE, UNSURE, Code::DropRouter]),
    ("no-helper-dnat", [Code::NoHelper, Code::PrivateAddress, UNSURE, Code::NoHelper]),
    ("no-helper-dnat-active", [Code::NoHelper, Code::NoHelper, UNSURE, Code::NoHelper]),
    ("no-helper-port", [Code::NoHelper, Code::PrivateAddress, Code::PrivateAddress, Code::NoHelper]),
    ("no-passive", [Code::NoPassive; 4]),
    ("no-related-pasv", [Code::NoRelated, UNSURE, UNSURE, Code::NoRelated]),
    ("range-pasv", [Code::Range, UNSURE, UNSURE, Code::Range]),
    // This server dials when it reads PORT, and refuses the command if nobody answers.
    ("no-related-active", [Code::NoRelated, Code::PrivateAddress, Code::RejectRouter, Code::NoRelated]),
    ("reject-router-pasv", [Code::RejectRouter, Code::RejectRouter, UNSURE, Code::RejectRouter]),
    // The server's own capture has an encrypted dialogue to which nobody came: it cannot know.
    ("tls-dnat", [Code::Tls, Code::Tls, UNSURE, Code::Tls]),
    ("tls-drop", [Code::Tls, Code::Tls, UNSURE, Code::Tls]),
    ("wrong-address", [Code::WrongAddress; 4]),
];

fn directory(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/explain").join(case)
}

fn explained(case: &str, captures: &[&str], with_router: bool) -> Report {
    let directory = directory(case);
    let mut options = Options::default();
    let mut files: Vec<(PathBuf, bool)> = captures.iter().map(|name| (directory.join(name), false)).collect();
    if with_router {
        let router = RouterFiles::read(&directory.join("router")).unwrap();
        files.extend(router.captures().into_iter().map(|path| (path, true)));
        options.router = Some(router);
    }
    let mut explanation = Explanation::of(options);
    for (path, is_router) in files {
        explanation.read_file(&path, is_router).unwrap();
    }
    explanation.report()
}

#[test]
fn each_view_gets_the_cause_or_says_what_is_missing() {
    let mut wrong = Vec::new();
    for (case, expected) in TABLE {
        let views: [(&[&str], bool); 4] = [
            (&["client.pcap", "server.pcap"], true),
            (&["client.pcap"], false),
            (&["server.pcap"], false),
            (&[], true),
        ];
        for ((captures, with_router), expected) in views.iter().zip(expected) {
            let report = explained(case, captures, *with_router);
            assert_eq!(report.sessions.len(), 1, "{case} {captures:?}");
            let session = &report.sessions[0];
            if session.code() != expected {
                wrong.push((case, captures.to_vec(), *with_router, session.code(), expected));
            }
            let cause = &session.causes[0];
            let decides = session.code() == expected && expected != UNSURE;
            assert!(decides || !cause.missing.is_empty(), "{case} {captures:?}: {cause:?}");
        }
    }
    assert!(wrong.is_empty(), "case, views, router, found, expected: {wrong:#?}");
}

#[test]
fn a_cause_shows_its_frames_and_its_remedy_is_a_command() {
    let report = explained("drop-router-pasv", &["client.pcap", "server.pcap"], true);
    let cause = &report.sessions[0].causes[0];
    assert!(
        cause.evidence.iter().any(|evidence| evidence.frame > 0 && evidence.shown.starts_with("227 ")),
        "{cause:?}"
    );
    assert!(cause.evidence.iter().any(|evidence| evidence.shown.contains("policy of chain FORWARD")), "{cause:?}");
    assert_eq!(cause.remedies[0].to_string(), "iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp");
}

/// The server's file of a case, where it has one.
fn with_server(case: &str) -> Report {
    let directory = directory(case);
    let mut options = Options::default();
    options.router = Some(RouterFiles::read(&directory.join("router")).unwrap());
    options.server = ServerFiles::read(&directory.join("vsftpd.conf")).ok();
    let routers = options.router.as_ref().unwrap().captures();
    let mut explanation = Explanation::of(options);
    for name in ["client.pcap", "server.pcap"] {
        explanation.read_file(&directory.join(name), false).unwrap();
    }
    for path in routers {
        explanation.read_file(&path, true).unwrap();
    }
    explanation.report()
}

#[test]
fn the_first_remedy_is_tried_and_works_where_the_machine_was_recorded() {
    let tried = [
        "drop-router-pasv",
        "helper-port-port",
        "nft-drop",
        "no-helper-dnat",
        "no-helper-dnat-active",
        "no-helper-port",
        "no-passive",
        "no-related-active",
        "no-related-pasv",
        "range-pasv",
        "reject-router-pasv",
        "tls-dnat",
        "tls-drop",
        "wrong-address",
    ];
    for case in tried {
        let report = with_server(case);
        let cause = &report.sessions[0].causes[0];
        assert!(cause.remedies.iter().all(|remedy| remedy.trial.works()), "{case}: {:#?}", cause.remedies);
        assert!(!cause.remedies.is_empty(), "{case}");
    }
}

#[test]
fn a_machine_that_nobody_recorded_gets_an_assumption() {
    for case in ["drop-client-port", "drop-server-pasv"] {
        let report = with_server(case);
        let cause = &report.sessions[0].causes[0];
        let assumed = |remedy: &Remedy| matches!(&remedy.trial, Trial::NotTried(reason) if reason.contains("assumed"));
        assert!(!cause.remedies.is_empty() && cause.remedies.iter().all(assumed), "{case}: {cause:?}");
    }
    // Without the router's files nothing can be re-enacted.
    let report = explained("drop-router-pasv", &["client.pcap", "server.pcap"], false);
    let remedies = &report.sessions[0].causes[0].remedies;
    assert!(!remedies.is_empty() && remedies.iter().all(|remedy| !remedy.trial.works()), "{remedies:?}");
}

#[test]
fn the_servers_own_file_is_evidence_and_gives_the_remedys_language() {
    let report = |case: &str, file: &str, text: &str| {
        let directory = directory(case);
        let mut options = Options::default();
        options.server = Some(ServerFiles::parse(file, text).unwrap());
        let mut explanation = Explanation::of(options);
        explanation.read_file(&directory.join("client.pcap"), false).unwrap();
        explanation.report().sessions[0].causes[0].clone()
    };
    let cause = report("wrong-address", "vsftpd.conf", "listen=YES\npasv_address=192.0.2.99\n");
    assert_eq!(cause.code, Code::WrongAddress);
    let line = cause.evidence.iter().find(|evidence| evidence.view == "vsftpd.conf line 2").unwrap();
    assert_eq!(line.shown, "pasv_address=192.0.2.99");
    assert_eq!(cause.remedies[0].to_string(), "pasv_address=198.51.100.9");
    let cause = report("no-passive", "proftpd.conf", "<Limit PASV EPSV>\n  DenyAll\n</Limit>\n");
    assert_eq!(cause.code, Code::NoPassive);
    assert!(cause.evidence.iter().any(|evidence| evidence.view == "proftpd.conf line 2"), "{cause:?}");
    // A server that has its ports already needs the firewall to open them, and nothing else.
    let cause = report("tls-drop", "vsftpd.conf", "ssl_enable=YES\npasv_min_port=10000\npasv_max_port=20000\n");
    assert_eq!(cause.code, Code::Tls);
    assert_eq!(
        cause.remedies[0].to_string(),
        "iptables -I FORWARD -p tcp --dport 10000:20000 -m conntrack --ctstate NEW -j ACCEPT"
    );
}

/// Re-enacts a case's session with changes; the results of its transfers before and after.
fn what_if(case: &str, changes: &str) -> Vec<(bool, bool)> {
    let directory = directory(case);
    let mut options = Options::default();
    options.router = Some(RouterFiles::read(&directory.join("router")).unwrap());
    let mut explanation = Explanation::of(options);
    for name in ["client.pcap", "server.pcap"] {
        explanation.read_file(&directory.join(name), false).unwrap();
    }
    let (sessions, _) = explanation.what_if("changes", changes).unwrap();
    let transfers = sessions[0].transfers.as_ref().unwrap();
    transfers.iter().map(|transfer| (transfer.before.is_ok(), transfer.after.is_ok())).collect()
}

#[test]
fn a_wrong_change_of_each_kind_leaves_the_failure() {
    let helper = "iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp\n";
    let wrong = [
        // A rule for another port, another interface, another chain, and behind the one that decides.
        ("no-helper-port", helper.replace("21", "2121")),
        ("no-helper-port", helper.replace("-p tcp", "-i wan -p tcp")),
        ("no-helper-dnat", "iptables -t raw -A OUTPUT -p tcp --dport 21 -j CT --helper ftp\n".into()),
        ("reject-router-pasv", "iptables -A FORWARD -m conntrack --ctstate RELATED -j ACCEPT\n".into()),
        ("no-related-pasv", "iptables -I FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n".into()),
        ("drop-router-pasv", "iptables -I FORWARD -p tcp --dport 1024:1025 -j ACCEPT\n".into()),
        ("tls-drop", helper.into()),
        // A rule of nftables in the wrong chain, a module, a setting, a service.
        ("nft-drop", "nft insert rule inet edge pre ct state related accept\n".into()),
        ("no-helper-port", "modprobe nf_nat_ftp\n".into()),
        ("helper-port-port", "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1\n".into()),
        ("no-helper-dnat", "ipvsadm -A -t 203.0.113.80:21 -s rr\n".into()),
    ];
    for (case, changes) in wrong {
        let results = what_if(case, &changes);
        assert!(!results.is_empty() && results.iter().all(|result| *result == (false, false)), "{case}: {changes}");
    }
    for (case, right) in [("no-helper-port", helper), ("helper-port-port", helper), ("no-helper-dnat", helper)] {
        let results = what_if(case, right);
        assert!(results.iter().any(|(before, after)| !before && *after), "{case}: {results:?}");
    }
}

#[test]
fn a_change_may_break_what_worked() {
    let results = what_if("healthy-port", "iptables -t raw -F PREROUTING\n");
    assert_eq!(results, [(true, false)]);
    assert!(what_if("healthy-port", "sysctl -w net.netfilter.nf_conntrack_helper=1\n").iter().all(|result| result.1));
}

#[test]
fn a_full_table_is_named_and_a_larger_one_is_tried() {
    // A session that the router's rules would let pass, and whose data connection does not: its table has no room.
    let case = directory("drop-router-pasv");
    let router = std::env::temp_dir().join(format!("ftp-conntrack-full-{}", std::process::id()));
    std::fs::create_dir_all(&router).unwrap();
    for name in ["addr.json", "route.json", "router.pcap", "nf_conntrack"] {
        std::fs::copy(case.join("router").join(name), router.join(name)).unwrap();
    }
    let rules = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 21 -j CT --helper ftp\nCOMMIT\n";
    std::fs::write(router.join("rules.v4"), rules).unwrap();
    std::fs::write(
        router.join("sysctl.conf"),
        "net.netfilter.nf_conntrack_max = 8\nnet.netfilter.nf_conntrack_count = 8\n",
    )
    .unwrap();
    let mut options = Options::default();
    options.router = Some(RouterFiles::read(&router).unwrap());
    let mut explanation = Explanation::of(options);
    for (path, is_router) in [("client.pcap", false), ("server.pcap", false), ("router/router.pcap", true)] {
        explanation.read_file(&case.join(path), is_router).unwrap();
    }
    let report = explanation.report();
    std::fs::remove_dir_all(&router).unwrap();
    let cause = &report.sessions[0].causes[0];
    assert_eq!(cause.code, Code::TableFull, "{cause:?}");
    assert_eq!(cause.remedies[0].to_string(), "sysctl -w net.netfilter.nf_conntrack_max=262144");
    assert!(cause.remedies[0].trial.works(), "{:?}", cause.remedies[0].trial);
}
