//! The binary `ftp-conntrack`, run as people run it.
#![allow(missing_docs)]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ftp-conntrack")).args(arguments).output().unwrap()
}

#[test]
fn a_wrong_command_is_one_line_on_stderr_and_status_2() {
    for (arguments, expected) in [
        (
            &[][..],
            "ftp-conntrack: name a command, as in ftp-conntrack replay CAPTURE; ftp-conntrack --help tells more\n",
        ),
        (&["replya"], "ftp-conntrack: unrecognized subcommand 'replya'; ftp-conntrack --help tells more\n"),
        (
            &["replay", "--verfiy"],
            "ftp-conntrack replay: unexpected argument '--verfiy' found; ftp-conntrack replay --help tells more\n",
        ),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), expected, "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_lists_the_commands_and_each_has_its_own() {
    let tool = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(tool.contains("Usage: ftp-conntrack <COMMAND>") && tool.contains("\n  replay "), "{tool}");
    let replay = String::from_utf8(run(&["replay", "--help"]).stdout).unwrap();
    assert!(replay.contains("Usage: ftp-conntrack replay [OPTIONS] [CAPTURE]"), "{replay}");
    assert!(replay.contains("With --json, one object a line"), "{replay}");
}

#[test]
fn behavior_is_behaviour() {
    let router = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/netfilter/ugly-5");
    let [us, gb] =
        ["--behavior", "--behaviour"].map(|word| run(&["replay", "--router", router, word, "exact", "--json"]));
    assert_eq!(us.status.code(), Some(0));
    assert!(!us.stdout.is_empty() && us.stdout == gb.stdout);
}

#[test]
fn explain_names_the_rule_and_the_command_that_mends_it() {
    let case = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/explain/drop-router-pasv");
    let [client, router] = ["client.pcap", "router"].map(|name| format!("{case}/{name}"));
    let output = run(&["explain", &client, "--router", &router]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("[drop-router]") && text.contains("the policy of chain FORWARD (table filter)"), "{text}");
    assert!(text.contains("\n    iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp\n"), "{text}");
    let json = String::from_utf8(run(&["explain", "--json", &client, "--router", &router]).stdout).unwrap();
    assert!(json.contains("\"code\":\"drop-router\""), "{json}");
}

#[test]
fn explain_exits_0_if_healthy_and_2_if_the_input_is_wrong() {
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/explain/healthy-port/client.pcap");
    assert_eq!(run(&["explain", client]).status.code(), Some(0));
    for wrong in [
        &["explain"][..],
        &["explain", "none.pcap"],
        &["explain", client, "--session", "7"],
        &["explain", client, "--router", client],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1, "{wrong:?}");
    }
}

#[test]
fn explain_reads_a_clients_log() {
    let directory = std::env::temp_dir().join(format!("ftp-conntrack-log-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let logs = [
        (
            "private.log",
            "Status:\tVerbinde mit 192.0.2.7:21...\nAntwort:\t220 ready\nBefehl:\tUSER u\nAntwort:\t331 password\n\
             Befehl:\tPASS ***\nAntwort:\t230 in\nBefehl:\tPASV\nAntwort:\t227 Entering Passive Mode (10,0,0,5,195,80).\n\
             Befehl:\tMLSD\nFehler:\tDie Datenverbindung konnte nicht hergestellt werden\n",
            "[private-address, inferred]",
        ),
        (
            "login.log",
            "*   Trying 192.0.2.7:21...\n< 220 ready\n> USER u\n< 331 password\n> PASS x\n< 530 Login incorrect.\n",
            "[login]",
        ),
        (
            "dropped.log",
            "---- Connecting to h (192.0.2.7) port 21\n<--- 220 ready\n---> USER u\n<--- 230 in\n---> PASV\n\
             <--- 227 Entering Passive Mode (192,0,2,7,195,80).\n---> LIST\n",
            "[unknown, inferred]",
        ),
    ];
    for (name, log, expected) in logs {
        let path = directory.join(name);
        std::fs::write(&path, log).unwrap();
        let output = run(&["explain", "--transcript", path.to_str().unwrap()]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(expected), "{name}: {text}");
        assert!(!text.contains("PASS x"), "{text}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_if_re_enacts_sessions_with_changes() {
    let router = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/explain/no-helper-port/router");
    let file = std::env::temp_dir().join(format!("ftp-conntrack-what-if-{}", std::process::id()));
    let changes = file.to_str().unwrap();
    let mut outputs = Vec::new();
    for text in ["iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp\n", "# nothing\n", "moon\n"] {
        std::fs::write(&file, text).unwrap();
        outputs.push(run(&["replay", "--router", router, "--what-if", changes]));
    }
    std::fs::remove_file(&file).unwrap();
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(outputs.iter().map(|output| output.status.code()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    assert!(text(&outputs[0]).contains("re-enacted as it was: the server refuses with 500"), "{}", text(&outputs[0]));
    assert!(text(&outputs[0]).lines().last().unwrap().ends_with(": works"), "{}", text(&outputs[0]));
    assert!(!text(&outputs[1]).contains(": works"), "{}", text(&outputs[1]));
    assert!(String::from_utf8(outputs[2].stderr.clone()).unwrap().contains("moon"));
}
