//! The tool `replay`, run as people run it.
#![allow(missing_docs)]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{ACK, FIN, PSH_ACK, SYN, tcp};
use ftp_conntrack::Instant;
use ftp_conntrack::capture::{Direction, Interface, Reader, Writer};
use ftp_conntrack::packet::link::LinkType;

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
                fill_in_checksum(&mut frame.bytes);
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

/// Makes the TCP checksum of an IPv4 packet right: a router drops what arrives with a wrong one.
fn fill_in_checksum(frame: &mut [u8]) {
    let start = if frame[0] >> 4 == 4 { 0 } else { 14 };
    let packet = &mut frame[start..];
    let header = usize::from(packet[0] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    packet[header + 16..header + 18].fill(0);
    let pseudo = [&packet[12..20], &[0, 6], &((length - header) as u16).to_be_bytes()].concat();
    let words = pseudo.chunks(2).chain(packet[header..length].chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[header + 16..header + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/netfilter/masquerade-1")
}

/// The output of the tool.
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

fn tool() -> Command {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_ftp-conntrack"));
    tool.arg("replay");
    tool
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
fn connections_through_a_load_balancer_are_told() {
    let directory = |name: &str| format!("{}/../testdata/lvs/{name}", env!("CARGO_MANIFEST_DIR"));
    // As the LVS documents have it: a mark, persistence, MASQUERADE for active data.
    let told = run(&["--router", &directory("lvs_classic-3")]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    told.assert_says(&[
        "FTP        3 control connections, ",
        "Warning    active data leaves from 203.0.113.1, and not from the virtual address 203.0.113.21 (by configuration)\n",
        "Warning    passive port 203.0.113.21:50820: no service, mark or entry takes it (frame 21)\n",
        "Control connection 1: 198.51.100.7:39863 > 203.0.113.21:21\n    the server sees 198.51.100.7:39863 > 10.77.1.13:21\n\
         \x20   service -f 21: 10.77.1.13:21 (Masq), chosen by rr\n",
        "     35    +0.040616  S 200 ok\n",
        "     39    +0.041985      data connection: 10.77.1.13:20 > 198.51.100.7:35311\n",
        "led by no entry: it leaves from 203.0.113.1:20\n",
        "keeps 198.51.100.7 there\n",
    ]);
    let json = run(&["--router", &directory("lvs_classic-3"), "--json"]);
    json.assert_says(&[
        "{\"event\":\"warning\",\"frame\":null,\"kind\":\"active_from_another_address\",",
        "\"service\":\"-f 21\",\"client\":\"198.51.100.7:39863\",\"dialled\":\"203.0.113.21:21\",\
         \"real_server\":\"10.77.1.13:21\",\"by\":\"rr\",\"template\":null}",
        "\"by\":\"persistence\",\"template\":\"",
    ]);

    // Replies do not come back through the director, and nothing is tracked.
    let told = run(&["--router", &directory("lvs_dr-1")]);
    told.assert_says(&[
        "    service -f 21: 10.77.1.13:21 (Route), chosen by wrr\n",
        "      9    +0.003407  C PASV\n     11    +0.003861      data connection: 198.51.100.7:43726 > 203.0.113.21:16219\n",
        "sent: client 3 packets, 124 bytes; server 0 packets, 0 bytes\n",
        "led by entry ",
        " to 10.77.1.13:16219: by persistence: template ",
    ]);

    // ip_vs_ftp reads what is announced.
    let told = run(&["--router", &directory("lvs_port21-4")]);
    told.assert_says(&[
        ", which waited for it\n",
        " waits: 198.51.100.",
        "leaves as 227 Entering Passive Mode (203,0,113,21,",
    ]);
}

#[test]
fn a_session_that_a_helper_reads_is_told_once_with_its_real_server() {
    let scratch = Scratch::new("balanced");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/lvs/lvs_port21-4");
    for name in ["addr.json", "route.json", "ipvs.rules", "rules.v4", "router.pcapng"] {
        fs::copy(directory.join(name), scratch.0.join(name)).unwrap();
    }
    // Without the file the conntrack helper is there.
    let _ = fs::remove_file(scratch.0.join("modules"));
    let told = run(&["--router", scratch.0.to_str().unwrap(), "--behaviour", "exact", "--ports", "21"]);
    told.assert_says(&[
        "FTP        3 control connections, ",
        "\n    service -t 203.0.113.21:21: 10.77.1.13:21 (Masq), chosen by rr\n",
        "                        expected: 198.51.100.",
    ]);
    assert!(!told.stdout.contains("which waited for it") && !told.stdout.contains("Warning"), "{}", told.stdout);
}

#[test]
fn where_exact_differs_from_linux_it_is_said_why() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/netfilter/ugly-5");
    let run = |more: &[&str]| {
        let arguments = ["--router", directory.to_str().unwrap(), "--behaviour", "exact"];
        run(&[&arguments, more].concat())
    };
    let told = run(&[]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    let held = "Linux lets it pass as it came: it does not wait for what is missing; here 22 bytes of an unfinished line \
                wait, its sender is told that all up to 4051686303 arrived\n";
    let shifted = "Linux sends it with its sequence number 22 higher, its acknowledgement 23 lower: numbers differ since \
                   frame 19, where other text left\n";
    told.assert_says(&[
        "Linux      would send something else for 10 packets, 4 for reasons already shown for that connection\n",
        &format!("     19    +0.000412  {held}"),
        "     23    +0.000463  Linux lets it pass as it came; here it is refused (the client did not ask for it)\n",
        &format!("     25    +0.000485  {shifted}"),
        "Linux drops it (partial announcement): it cannot read this EPRT; here it is refused (malformed: ",
    ]);
    assert_eq!(told.stdout.matches("numbers differ since").count(), 1, "{}", told.stdout);

    // The capture shows what Linux sent: each packet that differs is followed by its reason.
    let verified = run(&["--verify"]);
    assert_eq!(verified.status, Some(1));
    verified.assert_says(&[
        "  bytes 40-61, only in the capture: 504f52542031302c37372c312c322c31...\n  Linux lets it pass as it came: it does not wait",
        &format!("  bytes 36-37, TCP checksum: replay 2388, capture 2389\n  {shifted}"),
        "\nLinux would send something else for 10 packets, ",
    ]);
    let blocks = verified.stdout.split("\n\n").filter(|block| block.starts_with("frame "));
    for block in blocks {
        assert!(block.lines().last().is_some_and(|line| line.starts_with("  Linux ")), "{block}");
    }

    let json = run(&["--json"]);
    json.assert_says(&[
        "{\"event\":\"intervened\",\"frame\":19,\"time\":\"1795167186.350497\",\"connection\":\"0.3\",\
         \"sender\":\"client\",\"what\":\"held\",\"text\":\"22 bytes of an unfinished line wait\"}\n",
        "{\"event\":\"departs\",\"frame\":19,\"time\":\"1795167186.350497\",\"connection\":\"0.3\",\
         \"direction\":\"original\",\"linux\":\"passes\",\"why\":\"does_not_wait\",\"here\":[\"held\",\"acknowledged\"],\
         \"text\":\"Linux lets it pass as it came: ",
        "\"departures\":10,\"departures_alike\":4}\n",
    ]);
    assert_eq!(json.stdout.matches("{\"event\":\"departs\"").count(), 6);
}

#[test]
fn where_exact_does_what_linux_does_nothing_is_said() {
    let told = run(&["--behaviour", "exact"]);
    told.assert_says(&["Linux      would send the same packets\n"]);
    assert!(!run(&[]).stdout.contains("\nLinux "), "Linux is Linux");
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
        " differ from the capture; --verify shows them\n",
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
        let expected = format!("OK: all 63 packets leave as captured\n{AGREES}\n");
        assert_eq!((told.status, told.stdout.as_str(), told.stderr.as_str()), (Some(0), expected.as_str(), ""));
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
        "  replay   203.0.113.1:38327 > 198.51.100.9:21 tcp [PA] seq 3280387033 ack 1930549445 win 64240 len 24 \
         \"PORT 203,0,113,1,11,65\\r\\n\"\n",
        "  capture  203.0.113.1:38327 > 198.51.100.9:21 tcp [PA] seq 3280387033 ack 1930549445 win 64240 len 24 \
         \"PORT 203,0,113,1,11,65\\r\\r\"\n",
        "  payload differs from byte 63, 23 into it: replay 0a, capture 0d\n",
    ]);
}

#[test]
fn a_changed_field_is_named() {
    let scratch = Scratch::new("field");
    scratch.change(|capture| capture.frames[1].bytes[8] = 1);
    let told = scratch.verify(&[]);
    assert_eq!((told.status, told.last_line()), (Some(1), AGREES.replace("0 differ", "1 differ").as_str()));
    told.assert_says(&["  bytes 8-8, IP time to live: replay 3f, capture 01\n"]);
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
    told.assert_says(&["frame 23 arrived: replay sends a packet, the capture has none (by out at "]);
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
    told.assert_says(&["frame 127 left: replay sends no such packet (by in at "]);
}

#[test]
fn a_repeated_packet_of_a_forwarded_connection_is_found_though_it_has_the_routers_address() {
    let scratch = Scratch::new("own");
    scratch.change(|capture| {
        let again = capture.frames[1].clone();
        capture.frames.push(again);
    });
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1), "{told:?}");
    assert!(told.last_line().starts_with("verified: 63 arrived, 0 own, 64 left, 1 differ, "), "{told:?}");
    told.assert_says(&["frame 127 left: replay sends no such packet (by out at "]);
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
    scratch.change(|capture| {
        let first = capture.frames.iter().position(|frame| frame.direction == Direction::Out).unwrap();
        let mut number = 0..;
        capture.frames.retain(|frame| number.next() == Some(first) || frame.direction == Direction::In);
    });
    let told = scratch.verify(&[]);
    assert_eq!(told.status, Some(1));
    assert_eq!(told.stdout.matches(": replay sends a packet, the capture has none").count(), 20);
    told.assert_says(&["... and 42 more packets that differ; --json shows all\n"]);
    let all = scratch.verify(&["--json"]);
    assert_eq!(all.status, Some(1));
    assert_eq!(all.stdout.matches("{\"event\":\"packet_differs\",").count(), 62);
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
    told.assert_says(&[
        "FTP        1 control connection to port 21; 4 data connections announced, 4 came\n",
        "1 control connection is seen on both sides of NAT, and counted once\n",
        "on the other side of NAT it is 203.0.113.1:38327 > 198.51.100.9:21\n",
        "C PORT 10,77,1,2,11,65\n",
        "the helper expects 198.51.100.9:* > 10.77.1.2:2881\n",
        "on the other side of NAT it is PORT 203,0,113,1,11,65\n",
        "sent: server 5 packets, 38 bytes (frames: 242); client 3 packets, 0 bytes (frames: 124)",
    ]);
    let elsewhere = run(&["--ports", "2121", path.to_str().unwrap()]);
    elsewhere.assert_says(&[
        "FTP        0 control connections to port 2121; no data connection announced\n",
        "Note       FTP is spoken on a port that is not watched: 198.51.100.9:21; --ports 2121,21\n",
    ]);
}

#[test]
fn help_tells_what_json_says() {
    let told = run(&["--help"]);
    assert_eq!(told.status, Some(0));
    told.assert_says(&[
        "--all",
        "announced             an endpoint: sender, form, address, port, well_formed, wrong, foreign, helper",
    ]);
}

#[test]
fn what_a_capture_lacks_is_made_good_and_said() {
    let scratch = Scratch::new("lacking");
    scratch.change(|capture| {
        capture.frames.drain(8..12);
    });
    let told = scratch.verify(&[]);
    told.assert_says(&[
        "packets are missing from the capture; 10 bytes were filled in with blanks\n",
        ", 0 differ, 0 table lines differ,",
    ]);
    assert_eq!(told.status, Some(0));
    let told = scratch.verify(&["--json"]);
    told.assert_says(&[
        "{\"event\":\"lacking\",\"frame\":9,",
        "\"own\":0,\"other\":10}",
        "\"supplied\":10,\"adopted\":0",
    ]);
}

#[test]
fn connections_older_than_the_capture_are_adopted() {
    let scratch = Scratch::new("adopt");
    scratch.change(|capture| {
        capture.frames.drain(..20);
    });
    let told = scratch.verify(&[]);
    told.assert_says(&["older than the capture: 1 TCP connection; --adopt takes them over\n"]);
    assert_eq!(told.status, Some(1));
    let told = scratch.verify(&["--adopt"]);
    told.assert_says(&[
        "packets are missing from the capture; 2 connections were taken over without their beginning\n",
        ", 0 differ, 0 table lines differ,",
    ]);
    assert_eq!(told.status, Some(0));
    let told = scratch.verify(&["--json", "--adopt"]);
    told.assert_says(&["{\"event\":\"adopted\",\"frame\":1,", "\"supplied\":0,\"adopted\":2"]);
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
        (
            &["--router", directory, "--behaviour", "exact", "--policy", "lowst_port=1"],
            "the settings are lowest_port, ",
        ),
        (&["--router", directory, "--behaviour", "exact", "--policy", "lowest_port"], "write KEY=VALUE"),
        (
            &["--router", directory, "--behaviour", "exact", "--policy", "lowest_port=x"],
            "lowest_port takes a port from 0 to 65535",
        ),
        (&["--router", directory, "--policy", "lowest_port=1"], "--policy needs --behaviour exact"),
        (&["--adopt"], "--adopt needs --router DIR"),
        (&["--masquerade", "203.0.113.1"], "need a CAPTURE"),
        (&["--masquerade", "203.0.113.1", "--router", directory], "cannot be used with"),
        (&["--masquerade", "203.0.113.1", "--behaviour", "linux", text], "behave exactly"),
        (&["--unmasquerade", "203.0.113.1", text], "--inside 10.0.0.5"),
        (&["--unmasquerade", "203.0.113.1", "--inside", "10.0.0.0/8", text], "--inside 10.0.0.5"),
        (&["--unmasquerade", "203.0.113.1", "--inside", "fd00::5", text], "of different families"),
        (&["--masquerade", "203.0.113"], "write an IPv4 or IPv6 address"),
        (&["--inside", "10.0.0.0/8"], "--inside belongs to --masquerade"),
        (&["--inside", "10.0.0.0/33"], "write an address and a prefix length"),
        (&["--router", directory], "has no router.pcapng, router.pcap or router-NAME.pcap"),
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
            told.stderr.starts_with("ftp-conntrack replay: ") && told.stderr.contains(expected),
            "{arguments:?}: {}",
            told.stderr
        );
        assert_eq!(told.stderr.lines().count(), 1, "{}", told.stderr);
    }
}

#[test]
fn a_refusal_names_the_setting_of_the_policy() {
    let scratch = Scratch::new("policy");
    let directory = scratch.0.to_str().unwrap();
    let exact = ["--router", directory, "--behaviour", "exact"];
    let refused =
        |arguments: &[&str]| run(&[&exact, arguments].concat()).stdout.matches("; policy: lowest_port").count();
    assert_eq!(refused(&[]), 0);
    assert!(refused(&["--policy", "lowest_port = 60000"]) > 0);
    fs::write(scratch.0.join("policy.conf"), "lowest_port = 60000\n").unwrap();
    assert!(refused(&[]) > 0);
    assert_eq!(refused(&["--policy", "lowest_port=1"]), 0, "the command line counts more");
    run(&[&exact[..], &["--json"]].concat()).assert_says(&["\"setting\":\"lowest_port\""]);
    fs::write(scratch.0.join("policy.conf"), "\nlowst_port = 1\n").unwrap();
    let told = run(&exact);
    assert_eq!((told.status, told.stderr.lines().count()), (Some(2), 1));
    assert!(told.stderr.contains("policy.conf:2: \"lowst_port\" "), "{}", told.stderr);
}

#[test]
fn help_lists_every_setting_of_the_policy() {
    let told = run(&["--help"]);
    for setting in ftp_conntrack::helper::PolicySetting::ALL {
        told.assert_says(&[setting.name(), setting.about(), setting.takes()]);
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
    assert_eq!(verified.status, Some(0), "what is there agrees");
    verified.assert_says(&[
        "packets are missing from the capture; 4 lines of the kernel's tables that no packet in it explains were not compared\n",
        "2 lines of the kernel's tables not compared: connections that the capture has no packet of (older, or left out by its filter)\n",
    ]);
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

/// A capture on one device, of bare IP packets a millisecond apart.
struct Anywhere(PathBuf);

impl Anywhere {
    fn new(name: &str, packets: &[Vec<u8>]) -> Self {
        let path = env::temp_dir().join(format!("ftp-conntrack-anywhere-{}-{name}.pcapng", std::process::id()));
        let device = Interface::named("eth0", LinkType::RAW);
        let mut writer = Writer::new(fs::File::create(&path).unwrap(), &[device]).unwrap();
        for (millis, packet) in (0..).zip(packets) {
            writer.write(0, Instant::from_micros(1_000_000_000 + millis * 1000), Direction::Unknown, packet).unwrap();
        }
        writer.into_inner().unwrap();
        Self(path)
    }

    fn run(&self, more: &[&str]) -> Told {
        let mut arguments = vec![self.0.to_str().unwrap()];
        arguments.extend(more);
        run(&arguments)
    }

    fn events(&self) -> Vec<serde_json::Value> {
        let told = self.run(&["--json"]);
        assert_eq!(told.status, Some(0), "{told:?}");
        told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Anywhere {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A session from this port: opened, greeted, these lines said in turn by server (`S`) and client (`C`), closed.
fn dialogue(port: u16, lines: &[&str]) -> Vec<Vec<u8>> {
    let (client, server) = (format!("10.77.1.2:{port}"), common::SERVER);
    let mut next = [101, 501];
    let mut packets = vec![
        tcp(&client, server, SYN, 100, 0, ""),
        tcp(server, &client, SYN | ACK, 500, 101, ""),
        tcp(&client, server, ACK, 101, 501, ""),
    ];
    for line in lines {
        let (who, text) = line.split_at(2);
        let text = format!("{text}\r\n");
        let side = usize::from(who == "S ");
        let (from, to) = if side == 0 { (client.as_str(), server) } else { (server, client.as_str()) };
        packets.push(tcp(from, to, PSH_ACK, next[side], next[1 - side], &text));
        next[side] += text.len() as u32;
    }
    packets.push(tcp(&client, server, FIN | ACK, next[0], next[1], ""));
    packets.push(tcp(server, &client, FIN | ACK, next[1], next[0] + 1, ""));
    packets
}

#[test]
fn a_story_of_a_capture_from_anywhere() {
    let lines = [
        "S 220 hi",
        "C USER ftp",
        "S 230 in",
        "C PORT 10,77,1,2,4,300",
        "S 500 no",
        "C PORT 10,77,1,9,4,1",
        "S 200 ok",
    ];
    let capture = Anywhere::new("story", &dialogue(4000, &lines));
    let told = capture.run(&[]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    told.assert_says(&[
        ".pcapng: 12 frames in 0.011 s\n",
        "FTP        1 control connection to port 21; 2 data connections announced, 0 came\n",
        "Helper     Linux's helper would act on 1 of 2\n           1: the address announced is not the sender's\n",
        "Wrong      1 announcement is malformed\n",
        "1 announced data connection was refused or not used\n",
        "\nControl connection 1: 10.77.1.2:4000 > 198.51.100.9:21\n  frame       time\n",
        "      1    +0.000000  opened by the client\n",
        "      5    +0.004000  C USER ftp\n      6    +0.005000  S 230 in\n",
        "      7    +0.006000  C PORT 10,77,1,2,4,300\n                        malformed: a number is out of range\n",
        "the helper expects 198.51.100.9:* > 10.77.1.2:1324\n",
        "the helper reads another endpoint: 10.77.1.2:1324\n      8    +0.007000  S 500 no\n",
        "ignored by Linux's helper: announces 10.77.1.9, but the sender is 10.77.1.2\n                        no data connection: no \
         transfer was asked for\n",
        "     12               closed by the client in frame 11, by the server in frame 12\n",
    ]);
    assert!(!told.stdout.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn events_of_a_capture_from_anywhere() {
    let lines = ["S 220 hi", "C USER ftp", "S 230 in", "C PASV", "S 227 ok (198,51,100,9,4,1)", "C PASS secret"];
    let mut packets = dialogue(4000, &lines);
    packets.insert(8, tcp("10.77.1.2:4001", "198.51.100.9:1025", SYN, 7, 0, ""));
    let capture = Anywhere::new("events", &packets);
    let events = capture.events();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let expected =
        ["new", "command", "reply", "command", "reply", "announced", "fulfilled", "destroyed", "destroyed", "summary"];
    assert_eq!(names, expected);
    assert!(!events.iter().any(|event| event.to_string().contains("secret")), "passwords are not told");
    let announced = &events[5];
    let mut expected = serde_json::json!({
        "event": "announced", "frame": 8, "time": "1000.007000", "connection": "1", "sender": "server", "form": "227",
        "address": "198.51.100.9", "port": 1025, "well_formed": true, "wrong": null, "foreign": false,
        "helper": {"acts": true, "drops": false, "known": true, "why": "expects the data connection", "address": null, "port": null},
        "expected": {"protocol": "tcp", "source": "10.77.1.2", "source_port": 0, "destination": "198.51.100.9",
            "destination_port": 1025},
        "number": 1, "first_frame": 8, "line": "227 ok (198,51,100,9,4,1)",
    });
    assert_eq!(announced, &expected);
    expected = serde_json::json!({
        "event": "fulfilled", "frame": 9, "time": "1000.008000", "connection": "1.1", "master": "1", "number": 1,
        "original": {"protocol": "tcp", "source": "10.77.1.2", "source_port": 4001, "destination": "198.51.100.9",
            "destination_port": 1025},
        "opener": "client", "began": "syn", "fit": "exact", "related": true,
    });
    assert_eq!(events[6], expected);
    assert_eq!((&events[7]["reason"], &events[8]["login"]), (&"never_answered".into(), &"done".into()));
    let summary = &events[9];
    for (key, count) in [("frames", 12), ("sessions", 1), ("announcements", 1), ("handled", 1), ("data_failed", 1)] {
        assert_eq!(summary[key], count, "{key}");
    }
}

#[test]
fn of_many_sessions_only_some_are_told() {
    let mut packets = Vec::new();
    for port in 5000..5100 {
        let talks = ["S 220 hi", "C USER x", "S 331 word?", "C PASS y", "S 530 no"];
        packets
            .extend(dialogue(port, if port == 5050 { &["S 220 hi", "C NOOP", "C PORT 10,77,1,2,9"] } else { &talks }));
    }
    let capture = Anywhere::new("many", &packets);
    let told = capture.run(&[]);
    told.assert_says(&[
        "FTP        100 control connections to port 21; 1 data connection announced, 0 came\n",
        "\n99 control connections: login failed\n     99  10.77.1.2 > 198.51.100.9:21\n",
        "\nControl connection 51: 10.77.1.2:5050 > 198.51.100.9:21\n",
    ]);
    assert_eq!(told.stdout.matches("Control connection ").count(), 1);
    let all = capture.run(&["--all"]);
    assert_eq!(all.stdout.matches("Control connection ").count(), 100);
    assert!(all.stdout.starts_with("Control connection 1: "), "they are told as they end");
    all.assert_says(&["\nCapture    ", "\nFTP        100 control connections to port 21; "]);
    // More of the interesting ones than are shown.
    let announcing: Vec<_> =
        (5000..5030).flat_map(|port| dialogue(port, &["S 220 hi", "C NOOP", "C PORT 10,77,1,2,9,1"])).collect();
    let told = Anywhere::new("interesting", &announcing).run(&[]);
    assert_eq!(told.stdout.matches("Control connection ").count(), 20);
    told.assert_says(&[
        "... and 10 more control connections with something announced or wrong; --all tells of every one\n",
    ]);
}

#[test]
fn a_long_session_is_told_in_part() {
    let lines: Vec<_> = std::iter::repeat_n("C PORT 10,77,1,2,9,1", 150).collect();
    let capture = Anywhere::new("long", &dialogue(4000, &lines));
    let told = capture.run(&[]);
    assert_eq!(told.stdout.matches("C PORT").count(), 100);
    told.assert_says(&["and 50 more; --all tells them\n"]);
    assert_eq!(capture.run(&["--all"]).stdout.matches("C PORT").count(), 150);
}

#[test]
fn copies_and_damage_are_told_once() {
    let once = dialogue(4000, &["S 220 hi", "C NOOP", "C PORT 10,77,1,2,9,1"]);
    let twice: Vec<_> = once.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
    let capture = Anywhere::new("copies", &twice);
    let told = capture.run(&[]);
    told.assert_says(&[
        "1 data connection announced",
        "Note       8 duplicate packets (same packet captured twice) ignored\n",
    ]);
    assert_eq!(told.stdout.matches("C PORT").count(), 1);
    let whole = fs::read(&capture.0).unwrap();
    fs::write(&capture.0, &whole[..whole.len() - 7]).unwrap();
    let told = capture.run(&[]);
    assert_eq!(told.status, Some(0));
    assert!(told.stderr.contains(": the file is cut short in frame 16, "), "{}", told.stderr);
    told.assert_says(&["1 data connection announced", "1 damaged place in the capture\n"]);
    assert_eq!(capture.events().iter().filter(|event| event["event"] == "damaged").count(), 1);
}

#[test]
fn a_capture_of_headers_is_told_as_far_as_it_reaches() {
    let capture = Anywhere::new("headers", &dialogue(4000, &["S 220 hi!!", "C NOOP", "C PORT 10,77,1,2,9,1"]));
    // Snap length 48, as in old captures: 20 bytes of each packet's TCP header, and eight of what is said.
    let frames = Capture::read(&capture.0).frames;
    let header = [0xa1b2_c3d4_u32, 2 << 16 | 4, 0, 0, 48, 101];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    for frame in &frames {
        let kept = frame.bytes.get(..48).unwrap_or(&frame.bytes);
        let words = [1, 0, kept.len() as u32, frame.bytes.len() as u32];
        file.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        file.extend(kept);
    }
    fs::write(&capture.0, &file).unwrap();
    let told = capture.run(&[]);
    told.assert_says(&[
        "the capture cuts packets short: here 2 bytes of the server's\n",
        "C PORT 10,\n                        its end is not in the capture\n",
        "Linux's helper: cannot be judged: the capture has not all of the line\n",
        "Note       2 packets of FTP were cut by the capture\n",
    ]);
    assert_eq!(told.stdout.matches("cuts packets short").count(), 1);
}

#[test]
fn packets_of_a_capture_from_anywhere_are_written() {
    let packets = dialogue(4000, &["S 220 hi"]);
    let capture = Anywhere::new("write", &packets);
    let written = capture.0.with_extension("written");
    let told = capture.run(&["-w", written.to_str().unwrap()]);
    assert_eq!(told.status, Some(0), "{told:?}");
    assert!(told.stderr.contains("-w copies the packets unchanged: "), "{told:?}");
    let frames = Capture::read(&written).frames;
    fs::remove_file(&written).unwrap();
    assert_eq!(frames.into_iter().map(|frame| frame.bytes).collect::<Vec<_>>(), packets);
}

#[test]
fn other_formats_are_named() {
    let capture = Anywhere::new("foreign", &[]);
    fs::write(&capture.0, b"snoop\0\0\0\0\0\0\x02\0\0\0\x04").unwrap();
    let told = capture.run(&[]);
    assert_eq!((told.status, told.stdout.as_str()), (Some(2), ""));
    assert!(told.stderr.contains("not pcap or pcapng but snoop; to convert: editcap -F pcapng IN OUT"), "{told:?}");
}

#[test]
fn a_capture_from_the_inside_is_masqueraded_and_brought_back() {
    let scratch = Scratch::new("masquerade");
    let [there, back] = ["there.pcapng", "back.pcapng"].map(|name| scratch.0.join(name).display().to_string());
    let capture = scratch.capture().display().to_string();
    let told = run(&[&capture, "--masquerade", "192.0.2.1", "-w", &there]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    assert!(told.stdout.contains("PORT 10,77,1,2,11,65\n         PORT 192,0,2,1,11,65\n"), "{}", told.stdout);
    assert!(told.stdout.contains("Rewritten  2 announcements"), "{}", told.stdout);

    let told = run(&[&there, "--unmasquerade", "192.0.2.1", "--inside", "10.77.1.2", "-w", &back, "--json"]);
    assert_eq!((told.status, told.stderr.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["event"], "rewritten");
    assert_eq!(lines[0]["leaves_as"], "PORT 10,77,1,2,11,65");
    assert_eq!(lines.last().unwrap()["event"], "summary");
    assert_eq!(lines.last().unwrap()["rewritten"], 2);

    let packets = |file: &str| {
        let mut capture = Reader::open(file).unwrap();
        let mut packets = Vec::new();
        while let Some(record) = capture.next() {
            packets.push(record.unwrap().data.to_vec());
        }
        packets
    };
    assert_eq!(packets(&back), packets(&capture));
    assert_ne!(packets(&there), packets(&capture));
}

#[test]
fn a_connection_without_helper_says_why() {
    let scratch = Scratch::new("unhelped");
    let rules = fs::read_to_string(scratch.0.join("rules.v4")).unwrap();
    let without = |change: &dyn Fn(&str) -> Option<String>| {
        let changed: Vec<_> = rules.lines().filter_map(change).collect();
        fs::write(scratch.0.join("rules.v4"), changed.join("\n") + "\n").unwrap();
        run(&["--router", scratch.0.to_str().unwrap()])
    };
    let told = without(&|line| (!line.contains("--helper")).then(|| line.to_owned()));
    told.assert_says(&[
        "connection without FTP helper: 10.77.1.2:38327 > 198.51.100.9:21 (frame 1): no rule attaches the helper",
    ]);
    let told = without(&|line| Some(line.replace("--dport 21 ", "--dport 2121 ")));
    told.assert_says(&[
        "connection without FTP helper: 10.77.1.2:38327 > 198.51.100.9:21 (frame 1): the rule that attaches the helper does \
         not match it (other port, interface or address)\n",
    ]);
}
