//! The tool `replay`, run as people run it.
#![cfg(all(feature = "config", feature = "capture"))]
#![allow(missing_docs)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Direction, Interface, Reader, Writer};

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    interface: String,
    time: Instant,
    direction: Direction,
    bytes: Vec<u8>,
}

/// A capture: its interfaces and frames.
struct Capture {
    interfaces: Vec<Interface>,
    frames: Vec<Frame>,
}

impl Capture {
    fn read(path: &Path) -> Self {
        let mut reader = Reader::open(path).unwrap();
        let mut frames = Vec::new();
        while let Some(record) = reader.next() {
            let record = record.unwrap();
            frames.push(Frame {
                interface: record.interface_name.unwrap().to_owned(),
                time: record.time,
                direction: record.direction,
                bytes: record.data.to_vec(),
            });
        }
        Self { interfaces: reader.interfaces().to_vec(), frames }
    }

    fn write(&self, path: &Path) {
        let mut writer = Writer::new(fs::File::create(path).unwrap(), &self.interfaces).unwrap();
        for frame in &self.frames {
            let named = |interface: &Interface| interface.name.as_deref() == Some(&frame.interface);
            let interface = self.interfaces.iter().position(named).unwrap();
            writer.write(interface, frame.time, frame.direction, &frame.bytes).unwrap();
        }
        writer.into_inner().unwrap();
    }

    fn leaving(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(|frame| frame.direction == Direction::Out)
    }

    /// Replaces a text by another of the same length where it arrives for the first time.
    fn replace_arriving(&mut self, text: &[u8], other: &[u8]) {
        assert_eq!(text.len(), other.len());
        let arriving = self.frames.iter_mut().filter(|frame| frame.direction == Direction::In);
        for frame in arriving {
            if let Some(at) = frame.bytes.windows(text.len()).position(|window| window == text) {
                frame.bytes[at..at + text.len()].copy_from_slice(other);
                return;
            }
        }
        panic!("nowhere");
    }

    /// The number of the first frame that leaves with this text in it, from 0.
    fn leaving_with(&self, text: &[u8]) -> usize {
        let has = |frame: &Frame| {
            frame.direction == Direction::Out && frame.bytes.windows(text.len()).any(|window| window == text)
        };
        self.frames.iter().position(has).unwrap()
    }
}

/// A copy of the bundled router directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("ftp-conntrack-replay-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for file in fs::read_dir(bundled()).unwrap() {
            let file = file.unwrap();
            fs::write(path.join(file.file_name()), fs::read(file.path()).unwrap()).unwrap();
        }
        Self(path)
    }

    fn capture(&self) -> PathBuf {
        self.0.join("router.pcapng")
    }

    /// Changes the capture.
    fn change(&self, change: impl FnOnce(&mut Capture)) {
        let mut capture = Capture::read(&self.capture());
        change(&mut capture);
        capture.write(&self.capture());
    }

    fn verify(&self, more: &[&str]) -> Told {
        let mut arguments = vec!["--router", self.0.to_str().unwrap(), "--verify"];
        arguments.extend(more);
        run(&arguments)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/netfilter/masquerade-1")
}

/// What the tool said.
#[derive(Debug)]
struct Told {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Told {
    fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }

    fn assert_says(&self, lines: &[&str]) {
        for line in lines {
            assert!(self.stdout.contains(line), "{line:?} is missing in\n{}", self.stdout);
        }
    }
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn run(arguments: &[&str]) -> Told {
    tool().args(arguments).output().unwrap().into()
}

/// The example beside this test: cargo builds all examples before it runs all tests.
fn tool() -> Command {
    let own = env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap();
    let tool = folder.join("examples").join(format!("replay{}", env::consts::EXE_SUFFIX));
    assert!(tool.is_file(), "{} is not there; cargo build --example replay makes it", tool.display());
    Command::new(tool)
}

const AGREES: &str = "verified: 63 arrived, 0 own, 63 left, 0 differ, 0 table lines differ, 0 choices taken, \
                      0 undecidable";

#[test]
fn without_arguments_it_tells_of_the_bundled_recording() {
    let told = run(&[]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    told.assert_says(&[
        "FTP        1 control connection, 4 data connections announced, 4 came\n",
        "Control connection 1: 10.77.1.2:38327 > 198.51.100.9:21\n    the server sees 203.0.113.1:38327 > 198.51.100.9:21\n",
        "     19    +0.000630  C PORT 10,77,1,2,11,65\n",
        "leaves as PORT 203,0,113,1,11,65\n",
        "+2: sequence numbers after 3280387033 leave 2 higher\n",
        "expected: 198.51.100.9:* > 203.0.113.1:2881\n",
        "     25    +0.000910      data connection: 198.51.100.9:20 > 203.0.113.1:2881\n",
        "the client sees 198.51.100.9:20 > 10.77.1.2:2881\n",
        "sent: server 5 packets, 242 bytes; client 3 packets, 124 bytes\n",
        "closed by the server in frame 35, by the client in frame 37; in the end TIME_WAIT\n",
        "ipv4     2 tcp      6 431999 ESTABLISHED src=198.51.100.9 dst=203.0.113.1 sport=20 dport=57287 ",
        "/proc/net/nf_conntrack_expect, +0.009988 after the capture began\n(empty)\n",
    ]);
    assert!(!told.stdout.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn what_the_helper_drops_is_told() {
    let scratch = Scratch::new("partial");
    scratch.change(|capture| capture.replace_arriving(b"PORT 10,77,1,2,11,65\r\n", b"PORT 10,77,1,2,11,6543"));
    let told = run(&["--router", scratch.0.to_str().unwrap()]);
    assert_eq!(told.status, Some(0));
    told.assert_says(&[
        "     19    +0.000630  dropped, partial announcement: 10.77.1.2:38327 > 198.51.100.9:21 tcp [PA] seq 3280387033 ",
        "Packets    ",
        " differ from the kernel's; --verify shows them\n",
    ]);
}

#[test]
fn what_is_not_the_speakers_address_is_told() {
    let scratch = Scratch::new("foreign");
    scratch.change(|capture| capture.replace_arriving(b"PORT 10,77,1,2,11,65", b"PORT 10,77,1,3,11,65"));
    let told = run(&["--router", scratch.0.to_str().unwrap()]);
    told.assert_says(&[
        "FTP        1 control connection, 1 data connection announced, 0 came\n",
        "C PORT 10,77,1,3,11,65\n                        not the speaker's address: nothing is expected, ",
    ]);
    let json = run(&["--router", scratch.0.to_str().unwrap(), "--json"]);
    json.assert_says(&["\"address\":\"10.77.1.3\",\"port\":2881,\"outcome\":\"foreign_address\",\"expected\":null,"]);
    assert!(!json.stdout.contains("packet_differs"), "differences are not asked for");
}

#[test]
fn the_bundled_recording_agrees() {
    for told in [run(&["--verify"]), run(&["--router", bundled().to_str().unwrap(), "--verify"])] {
        assert_eq!((told.status, told.stdout.trim_end(), told.stderr.as_str()), (Some(0), AGREES, ""));
    }
}

#[test]
fn a_changed_byte_is_found() {
    let scratch = Scratch::new("byte");
    scratch.change(|capture| {
        let at = capture.leaving_with(b"PORT 203,0,113,1,11,65");
        *capture.frames[at].bytes.last_mut().unwrap() = b'\r';
    });
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1));
    assert_eq!(told.last_line(), AGREES.replace("0 differ", "1 differ"));
    told.assert_says(&[
        "frame 19 arrived, frame 20 left: other bytes (by out at ",
        "  library  203.0.113.1:38327 > 198.51.100.9:21 tcp [PA] seq 3280387033 ack 1930549445 win 64240 len 24 \
         \"PORT 203,0,113,1,11,65\\r\\n\"\n",
        "  capture  203.0.113.1:38327 > 198.51.100.9:21 tcp [PA] seq 3280387033 ack 1930549445 win 64240 len 24 \
         \"PORT 203,0,113,1,11,65\\r\\r\"\n",
        "  payload differs from byte 63, 23 into it: 0a here, 0d there\n",
    ]);
}

#[test]
fn a_changed_field_is_named() {
    let scratch = Scratch::new("field");
    scratch.change(|capture| capture.frames[1].bytes[8] = 1);
    let told = scratch.verify(&[]);
    assert_eq!((told.status, told.last_line()), (Some(1), AGREES.replace("0 differ", "1 differ").as_str()));
    told.assert_says(&["  bytes 8-8, IP time to live: 3f here, 01 there\n"]);
}

#[test]
fn a_missing_packet_is_found() {
    let scratch = Scratch::new("missing");
    scratch.change(|capture| {
        let at = capture.leaving_with(b"RETR f");
        capture.frames.remove(at);
    });
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1));
    let expected = AGREES.replace("63 left, 0 differ", "62 left, 1 differ");
    assert_eq!(told.last_line(), expected);
    told.assert_says(&["frame 23 arrived: the library sends a packet, the capture has none (by out at "]);
}

#[test]
fn an_extra_packet_is_found() {
    let scratch = Scratch::new("extra");
    scratch.change(|capture| {
        let again = capture.frames[3].clone();
        capture.frames.push(again);
    });
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1), "{told:?}");
    assert_eq!(told.last_line(), AGREES.replace("63 left, 0 differ", "64 left, 1 differ"));
    told.assert_says(&["frame 127 left: the library sends no such packet (by in at "]);
}

#[test]
fn an_extra_packet_from_the_routers_address_is_its_own() {
    let scratch = Scratch::new("own");
    scratch.change(|capture| {
        let again = capture.frames[1].clone();
        capture.frames.push(again);
    });
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1), "{told:?}");
    assert!(told.last_line().starts_with("verified: 63 arrived, 1 own, 64 left, 1 differ, "), "{told:?}");
    told.assert_says(&["frame 127, the router's own: other bytes (by out at "]);
}

#[test]
fn a_changed_table_line_is_found() {
    let scratch = Scratch::new("table");
    let path = scratch.0.join("nf_conntrack");
    let table = fs::read_to_string(&path).unwrap();
    fs::write(&path, table.replacen("119 TIME_WAIT", "90 TIME_WAIT", 1)).unwrap();
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1));
    assert_eq!(told.last_line(), AGREES.replace("0 table lines", "1 table lines"));
    told.assert_says(&["table: 119 seconds left here: ipv4     2 tcp      6 90 TIME_WAIT src=10.77.1.2 "]);
}

#[test]
fn at_most_twenty_packets_are_shown() {
    let scratch = Scratch::new("many");
    scratch.change(|capture| capture.frames.retain(|frame| frame.direction == Direction::In));
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1));
    assert_eq!(told.stdout.matches(": the library sends a packet, the capture has none").count(), 20);
    told.assert_says(&["... and 43 more packets that differ; --json shows all\n"]);
    let all = scratch.verify(&["--json"]);
    assert_eq!(all.status, Some(1));
    assert_eq!(all.stdout.matches("{\"event\":\"packet_differs\",").count(), 63);
}

#[test]
fn what_is_written_is_what_was_compared() {
    let scratch = Scratch::new("write");
    let written = scratch.0.join("written.pcapng");
    let told = scratch.verify(&["--write", written.to_str().unwrap()]);
    assert_eq!((told.status, told.last_line()), (Some(0), AGREES));
    let (captured, written) = (Capture::read(&scratch.capture()), Capture::read(&written));
    let names: Vec<_> = written.interfaces.iter().map(|interface| interface.name.as_deref()).collect();
    assert_eq!(names, [Some("lo"), Some("in"), Some("out")]);
    let packets =
        |capture: &Capture| capture.leaving().map(|f| (f.interface.clone(), f.bytes.clone())).collect::<Vec<_>>();
    assert_eq!(packets(&written), packets(&captured));
    assert_eq!(written.frames.len(), written.leaving().count());
    let arrived: Vec<_> = captured.frames.iter().filter(|f| f.direction == Direction::In).map(|f| f.time).collect();
    assert_eq!(written.frames.iter().map(|frame| frame.time).collect::<Vec<_>>(), arrived);
}

#[test]
fn json_is_an_object_a_line() {
    let told = run(&["--json", "--verify"]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let announced = lines.iter().find(|line| line["event"] == "announced").unwrap();
    assert_eq!((&announced["frame"], &announced["form"]), (&19.into(), &"PORT".into()));
    assert_eq!(announced["after"], "203,0,113,1,11,65");
    assert_eq!(
        announced["shift"],
        serde_json::json!({"after": 3_280_387_033_u32, "offset_before": 0, "offset_after": 2})
    );
    assert_eq!(announced["expected"]["source_port"], 0);
    let events: Vec<_> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(events[..3], ["new", "announced", "fulfilled"]);
    let summary = lines.last().unwrap();
    assert_eq!((&summary["event"], &summary["left"], &summary["differ"]), (&"summary".into(), &63.into(), &0.into()));
    assert_eq!(summary["agrees"], true);
    assert!(told.stdout.lines().all(|line| line.starts_with("{\"event\":\"")));
}

#[test]
fn a_capture_from_anywhere_is_followed() {
    let path = bundled().join("router.pcapng");
    let told = run(&[path.to_str().unwrap()]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    told.assert_says(&["Router     none given", "Helper     on port 21\n", "C PORT 10,77,1,2,11,65\n"]);
    let elsewhere = run(&["--ports", "2121", path.to_str().unwrap()]);
    elsewhere.assert_says(&["FTP        0 control connections", "Helper     on port 2121\n"]);
}

#[test]
fn a_wrong_use_is_told_on_one_line() {
    let scratch = Scratch::new("wrong");
    fs::remove_file(scratch.capture()).unwrap();
    let text = scratch.0.join("rules.v4");
    let (directory, text) = (scratch.0.to_str().unwrap(), text.to_str().unwrap());
    let cases: &[(&[&str], &str)] = &[
        (&["--nonsense"], "unexpected argument '--nonsense'"),
        (&["--ports", "0"], "write port numbers from 1 to 65535"),
        (&["--ports", "21,ftp"], "write port numbers from 1 to 65535"),
        (&["--behaviour", "other"], "possible values: linux, exact"),
        (&["--behaviour", "exact"], "--behaviour exact is not there yet"),
        (&["--adopt"], "--adopt is not there yet"),
        (&["--masquerade", "203.0.113.1"], "--masquerade is not there yet"),
        (&["--masquerade", "203.0.113"], "write an IPv4 or IPv6 address"),
        (&["--inside", "10.0.0.0/8"], "--inside is not there yet"),
        (&["--inside", "10.0.0.0/33"], "write an address and a prefix length"),
        (&["--router", directory], "has no router.pcapng or router.pcap"),
        (&["--router", text], "is no directory"),
        (&["--router", directory, text], "rules.v4: not pcap or pcapng: begins with 2a 72 61 77"),
        (&["--verify", text], "--verify needs the router"),
        (&[directory], "is a directory, no capture"),
        (&["not there"], "not there: cannot be read: "),
        (&["-w", "not/there"], "not/there: cannot be written: "),
        (&["one", "two"], "unexpected argument 'two'"),
    ];
    for (arguments, expected) in cases {
        let told = run(arguments);
        assert_eq!((told.status, told.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            told.stderr.starts_with("replay: ") && told.stderr.contains(expected),
            "{arguments:?}: {}",
            told.stderr
        );
        assert_eq!(told.stderr.lines().count(), 1, "{}", told.stderr);
    }
}

#[test]
fn a_word_in_a_file_is_named() {
    let scratch = Scratch::new("word");
    fs::write(scratch.0.join("rules.v4"), "iptables -A INPUT -s 10.0.0.300 -j DROP\n").unwrap();
    let told = scratch.verify(&[]);
    assert_eq!((told.status, told.stdout.as_str()), (Some(2), ""));
    assert!(told.stderr.contains("rules.v4:1: \"10.0.0.300\" "), "{}", told.stderr);
    assert_eq!(told.stderr.lines().count(), 1);
}

#[test]
fn warnings_do_not_hinder() {
    let scratch = Scratch::new("warning");
    fs::write(scratch.0.join("keepalived.conf"), "vrrp_instance A {\n}\nfrobnicate\n").unwrap();
    let told = scratch.verify(&[]);
    assert_eq!((told.status, told.last_line()), (Some(0), AGREES));
    assert_eq!(told.stderr, "warning: keepalived.conf:3: \"frobnicate\" is not known and passed over\n");
}

#[test]
fn the_input_is_not_overwritten() {
    let scratch = Scratch::new("overwrite");
    let before = fs::read(scratch.capture()).unwrap();
    let told = scratch.verify(&["-w", scratch.capture().to_str().unwrap()]);
    assert_eq!(told.status, Some(2));
    assert!(told.stderr.contains("is the capture that is read"), "{}", told.stderr);
    assert_eq!(fs::read(scratch.capture()).unwrap(), before);
}

#[test]
fn a_capture_that_breaks_off_is_processed_up_to_there() {
    let scratch = Scratch::new("truncated");
    let whole = fs::read(scratch.capture()).unwrap();
    fs::write(scratch.capture(), &whole[..whole.len() / 2]).unwrap();
    let told = run(&["--router", scratch.0.to_str().unwrap()]);
    assert_eq!(told.status, Some(0));
    told.assert_says(&["FTP        1 control connection, ", "leaves as PORT 203,0,113,1,11,65\n"]);
    assert!(told.stderr.starts_with("replay: router.pcapng: the file is cut short in frame "), "{}", told.stderr);
    assert_eq!(told.stderr.lines().count(), 1);
    let verified = scratch.verify(&[]);
    assert_eq!(verified.status, Some(1), "the tables differ");
    assert!(verified.last_line().starts_with("verified: "), "{verified:?}");
}

#[test]
fn nobody_has_to_read_to_the_end() {
    for arguments in [&["--json"][..], &[], &["--verify"]] {
        let mut child = tool().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let told: Told = child.wait_with_output().unwrap().into();
        assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
