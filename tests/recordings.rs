//! Recordings of real kernels on routers, replayed: every leaving packet to the byte, and the kernel's tables
//! afterwards.
//!
//! `testdata/field` are sessions through routers as their owners set them up: offloads on, nftables, dumpcap, no module
//! loaded. `testdata/netfilter` are crafted dialogues through Linux 6.18.44, several of each family. `testdata/kernel`
//! are packets of every odd kind through the same, named by their oddity. `testdata/lvs` are load balancers through
//! Linux 6.1, one of each family. `testdata/live` are real FTP clients and servers. `testdata/found` are differences
//! once found, by `tests/kernel` or with load balancers of 6.1. Each is a router directory that `replay --router DIR
//! --verify` shows.

use std::fs;
use std::path::{Path, PathBuf};

use ftp_conntrack::capture::Reader;
use ftp_conntrack::config::Directory;
use ftp_conntrack::replay::{Difference, Options, Replay, Sink, Summary, TableDifference};
use ftp_conntrack::router::Router;

/// Keeps the first differences, to be shown.
#[derive(Default)]
struct Differences(Vec<String>);

impl Sink for Differences {
    fn differs(&mut self, difference: &Difference, _: &Router) {
        self.0.push(format!("{difference:?}"));
    }

    fn table_differs(&mut self, difference: &TableDifference) {
        self.0.push(difference.to_string());
    }
}

fn directories(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(kind);
    let mut found: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The family of a recording: its name without the number.
fn family(directory: &Path) -> String {
    let name = directory.file_name().unwrap().to_string_lossy();
    name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').to_owned()
}

fn verify(path: &Path) -> (Summary, Vec<String>) {
    let directory = Directory::read(path).unwrap();
    let mut capture = Reader::open(directory.captures.first().unwrap()).unwrap();
    let mut options = Options::default();
    options.verify = true;
    let mut differences = Differences::default();
    let summary = Replay::new(&directory, options).unwrap().run(&mut capture, &mut differences);
    (summary, differences.0)
}

fn verify_all(kind: &str) -> Vec<(PathBuf, Summary)> {
    let mut failed = Vec::new();
    let mut summaries = Vec::new();
    for path in directories(kind) {
        let (summary, differences) = verify(&path);
        if !summary.agrees() {
            let first: Vec<&String> = differences.iter().take(3).collect();
            failed.push(format!("{}: {summary}\n  {first:#?}", path.display()));
        }
        // Nothing is lacking in these: what agrees agrees by itself.
        let made_good = summary.supplied + summary.adopted + summary.lines_beyond;
        assert_eq!(made_good, 0, "{}: {summary:?}", path.display());
        summaries.push((path, summary));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    summaries
}

#[test]
fn crafted_dialogues_leave_as_linux_sent_them() {
    let summaries = verify_all("netfilter");
    // A recording that is not compared would agree too.
    for (path, summary) in &summaries {
        assert!(summary.tables_compared && summary.arrived > 0 && summary.left > 0, "{}: {summary}", path.display());
        let random = matches!(family(path).as_str(), "collide" | "ranges");
        assert!(random || summary.choices == 0, "{}: {summary}", path.display());
    }
    let mut families: Vec<String> = summaries.iter().map(|(path, _)| family(path)).collect();
    families.dedup();
    assert_eq!(families.len(), 32, "{families:?}");
}

#[test]
fn load_balanced_dialogues_leave_as_linux_sent_them() {
    let summaries = verify_all("lvs");
    assert_eq!(summaries.len(), 11);
    for (path, summary) in &summaries {
        assert!(summary.tables_compared && summary.arrived > 0 && summary.left > 0, "{}: {summary}", path.display());
        assert_eq!(summary.choices, 0, "{}: {summary}", path.display());
        for table in ["ip_vs", "ip_vs_conn"] {
            assert!(path.join(table).exists(), "{}", path.display());
        }
    }
}

#[test]
fn what_was_once_found_to_differ_agrees() {
    let summaries = verify_all("found");
    assert!(summaries.iter().all(|(_, summary)| summary.tables_compared && summary.arrived > 0));
}

#[test]
fn odd_packets_leave_as_linux_sent_them() {
    let summaries = verify_all("kernel");
    assert!(summaries.iter().all(|(_, summary)| summary.tables_compared && summary.arrived > 0));
}

#[test]
fn routers_with_ordinary_settings_agree_with_nothing_made_good() {
    let summaries = verify_all("field");
    assert_eq!(summaries.len(), 5);
    for (directory, summary) in summaries {
        let made_good = summary.supplied + summary.adopted + summary.choices + summary.undecidable;
        assert_eq!(made_good, 0, "{}: {summary:?}", directory.display());
        assert!(summary.tables_compared && summary.left > 10 && summary.housekeeping > 0, "{}", directory.display());
    }
}

#[test]
fn real_clients_and_servers_leave_as_linux_sent_them() {
    let summaries = verify_all("live");
    assert!(summaries.len() > 20);
    assert!(summaries.iter().all(|(_, summary)| summary.tables_compared && summary.left > 10));
}
