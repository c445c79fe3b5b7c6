//! The events of the observer, packet by packet.

use std::time::Duration;

use crate::common::{ACK, CLIENT, FIN, PSH_ACK, RST, SERVER, SYN, tcp};
use ftp_conntrack::Instant;
use ftp_conntrack::inspect::{FramePos, FtpEvent, Inspector, Options, SessionId, Sink, Summary};
use proptest::prelude::*;

/// The events, one line each.
#[derive(Default)]
struct Told(Vec<String>);

impl Sink for Told {
    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        let line = match event {
            FtpEvent::Opened(opened) => format!("opened {} > {} {:?}", opened.client, opened.server, opened.began),
            FtpEvent::Command { line, .. } => format!("C {}", text(line)),
            FtpEvent::Reply { line, .. } => format!("S {}", text(line)),
            FtpEvent::Announced(a) => {
                let there = match (a.address, a.port) {
                    (Some(address), Some(port)) => format!("{address} {port}"),
                    _ => "nowhere".to_owned(),
                };
                let wrong = a.wrong.map_or(String::new(), |wrong| format!(", {wrong}"));
                let reads = a.helper_reads.map_or(String::new(), |(address, port)| format!(", reads {address} {port}"));
                format!("{} {}{wrong}{reads}: {}", a.form, there, a.helper)
            }
            FtpEvent::Again { number, form, helper, .. } => format!("again {form} {number:?}: {helper}"),
            FtpEvent::WouldDrop { form, .. } => format!("would drop {form}"),
            FtpEvent::Gap { sender, bytes, .. } => format!("gap {sender:?} {bytes}"),
            FtpEvent::Cut { sender, bytes, .. } => format!("cut {sender:?} {bytes}"),
            FtpEvent::Tls { how, .. } => format!("TLS {how:?}"),
            FtpEvent::Clear { .. } => "clear".to_owned(),
            FtpEvent::DataOpened(data) => {
                let related = if data.related { " related" } else { "" };
                format!("data {} {} > {} {:?} {:?}{related}", data.number, data.from, data.to, data.began, data.fit)
            }
            FtpEvent::DataEnded(data, ending) => {
                format!("data {} {}, {:?} bytes", data.number, ending.how(), ending.bytes)
            }
            FtpEvent::Unfulfilled { number, why, .. } => format!("unfulfilled {number}: {why}"),
            FtpEvent::Ended(ended) => {
                format!("ended {} {:?} {:?}", ended.ending.how(), ended.login, ended.ending.bytes)
            }
            FtpEvent::OtherSide { client, server, .. } => format!("other side {client} > {server}"),
            FtpEvent::Translated { number, line, .. } => format!("translated {number} {}", text(line)),
            FtpEvent::IcmpError { number, error, .. } => {
                format!("{error} about {} > {} {number:?}", error.from, error.to)
            }
            FtpEvent::Done { .. } => "done".to_owned(),
            FtpEvent::Elsewhere { server, .. } => format!("elsewhere {server}"),
            // Told as something else, too.
            FtpEvent::Line { .. } => return,
            other => format!("{other:?}"),
        };
        self.0.push(format!("{} {line}", at.frame));
    }
}

/// An observer, and a control connection that goes on.
struct Watch {
    inspector: Inspector,
    told: Told,
    frame: u64,
    now: Instant,
    /// The next byte of the client and of the server.
    next: [u32; 2],
}

impl Watch {
    fn new() -> Self {
        let mut options = Options::default();
        options.ports = vec![21, 2121];
        options.sessions = 8;
        Self {
            inspector: Inspector::new(options),
            told: Told::default(),
            frame: 0,
            now: Instant::from_secs(1000),
            next: [101, 501],
        }
    }

    /// A connection that was opened and greeted, whose sides have both said a line; nothing of it is told.
    fn logged_in() -> Self {
        let mut watch = Self::new();
        watch.open();
        watch.server("220 ready\r\n").client("NOOP\r\n").server("200 ok\r\n");
        watch.told.0.clear();
        watch.frame = 0;
        watch
    }

    fn open(&mut self) -> &mut Self {
        self.packet(&tcp(CLIENT, SERVER, SYN, 100, 0, ""));
        self.packet(&tcp(SERVER, CLIENT, SYN | ACK, 500, 101, ""));
        self.packet(&tcp(CLIENT, SERVER, ACK, 101, 501, ""))
    }

    fn packet(&mut self, bytes: &[u8]) -> &mut Self {
        self.cut(bytes, bytes.len())
    }

    /// A packet of which the capture has only the beginning.
    fn cut(&mut self, bytes: &[u8], captured: usize) -> &mut Self {
        self.frame += 1;
        self.now = self.now + Duration::from_millis(10);
        let at = FramePos { frame: self.frame, time: self.now };
        self.inspector.packet(at, &bytes[..captured], bytes.len(), &mut self.told);
        self
    }

    /// Sends the client's next text.
    fn client(&mut self, text: &str) -> &mut Self {
        let [client, server] = self.next;
        self.next[0] += text.len() as u32;
        self.packet(&tcp(CLIENT, SERVER, PSH_ACK, client, server, text))
    }

    /// Sends the server's next text.
    fn server(&mut self, text: &str) -> &mut Self {
        let [client, server] = self.next;
        self.next[1] += text.len() as u32;
        self.packet(&tcp(SERVER, CLIENT, PSH_ACK, server, client, text))
    }

    #[track_caller]
    fn says(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(self.told.0, expected);
        self.told.0.clear();
        self
    }

    fn finish(&mut self) -> Summary {
        self.inspector.finish(&mut self.told)
    }
}

const PORT: &str = "PORT 10,77,1,2,4,210\r\n";
const THERE: &str = "10.77.1.2:1234";

#[test]
fn a_whole_session() {
    let mut watch = Watch::new();
    watch.open().server("220 ready\r\n").client("USER ftp\r\n").server("331 word?\r\n").client("PASS x\r\n");
    watch.server("230 in\r\n").client("PASV\r\n").server("227 ok (198,51,100,9,200,1)\r\n").says(&[
        "1 opened 10.77.1.2:40000 > 198.51.100.9:21 Syn",
        "4 S 220 ready",
        "5 C USER ftp",
        "6 S 331 word?",
        "7 C PASS x",
        "8 S 230 in",
        "9 C PASV",
        "10 S 227 ok (198,51,100,9,200,1)",
        "10 227 198.51.100.9 51201: expects the data connection",
    ]);
    let (from, to) = ("10.77.1.2:41000", "198.51.100.9:51201");
    watch.packet(&tcp(from, to, SYN, 7, 0, "")).packet(&tcp(to, from, SYN | ACK, 9, 8, ""));
    watch.packet(&tcp(to, from, PSH_ACK, 10, 8, "five!")).packet(&tcp(to, from, FIN | ACK, 15, 8, ""));
    watch
        .packet(&tcp(from, to, FIN | ACK, 8, 16, ""))
        .packet(&tcp(to, from, ACK, 16, 9, ""))
        .says(&["11 data 1 10.77.1.2:41000 > 198.51.100.9:51201 Syn Exact related"]);
    let [client, server] = watch.next;
    watch.packet(&tcp(CLIENT, SERVER, FIN | ACK, client, server, ""));
    watch.packet(&tcp(SERVER, CLIENT, FIN | ACK, server, client + 1, "")).says(&[]);
    let summary = watch.finish();
    watch.says(&["16 data 1 closed, [0, 5] bytes", "18 ended closed Done [24, 59]", "18 done"]);
    assert_eq!((summary.sessions, summary.announcements, summary.handled, summary.data), (1, 1, 1, 1));
    assert_eq!((summary.unfulfilled, summary.ftp, summary.copies, summary.gaps), (0, 18, 0, 0));
}

#[test]
fn who_is_the_client() {
    let opened = |packet: Vec<u8>| {
        let mut watch = Watch::new();
        watch.packet(&packet);
        watch.told.0.first().cloned().unwrap_or_default()
    };
    let [client, server] = ["10.77.1.2:40000", "198.51.100.9:21"];
    let as_it_is = |began| format!("1 opened {client} > {server} {began}");
    assert_eq!(opened(tcp(client, server, SYN, 1, 0, "")), as_it_is("Syn"));
    assert_eq!(opened(tcp(server, client, SYN | ACK, 1, 2, "")), as_it_is("SynAck"));
    assert_eq!(opened(tcp(server, client, ACK, 1, 2, "")), as_it_is("MidStream"));
    assert_eq!(opened(tcp(client, server, ACK, 1, 2, "")), as_it_is("MidStream"));
    // Both ports are control ports: what is said decides.
    let [a, b] = ["10.77.1.2:21", "198.51.100.9:2121"];
    assert_eq!(opened(tcp(a, b, PSH_ACK, 1, 2, "220 hi\r\n")), format!("1 opened {b} > {a} MidStream"));
    assert_eq!(opened(tcp(a, b, PSH_ACK, 1, 2, "USER x\r\n")), format!("1 opened {a} > {b} MidStream"));
    // A server opens no control connection.
    assert_eq!(opened(tcp(server, client, SYN, 1, 0, "")), "");
    assert_eq!(opened(tcp(server, client, RST, 1, 0, "")), "");
    assert_eq!(opened(tcp(client, "198.51.100.9:80", SYN, 1, 0, "")), "");
}

#[test]
fn what_is_sent_again_is_told_once() {
    let mut watch = Watch::logged_in();
    let [client, server] = watch.next;
    watch
        .client(PORT)
        .packet(&tcp(CLIENT, SERVER, PSH_ACK, client, server, PORT))
        .says(&["1 C PORT 10,77,1,2,4,210", "1 PORT 10.77.1.2 1234: expects the data connection"]);
    assert_eq!(watch.finish().copies, 1, "the same packet at once is a copy");
    let mut watch = Watch::logged_in();
    watch.client(PORT);
    watch.now = watch.now + Duration::from_secs(1);
    watch.packet(&tcp(CLIENT, SERVER, PSH_ACK, client, server, PORT)).server("200 ok\r\n").says(&[
        "1 C PORT 10,77,1,2,4,210",
        "1 PORT 10.77.1.2 1234: expects the data connection",
        "2 again PORT Some(1): expects the data connection",
        "3 S 200 ok",
    ]);
}

#[test]
fn segments_out_of_order() {
    let mut watch = Watch::logged_in();
    let [client, server] = watch.next;
    let later = client + "TYPE I\r\n".len() as u32;
    watch.packet(&tcp(CLIENT, SERVER, PSH_ACK, later, server, PORT)).says(&[]);
    watch.packet(&tcp(CLIENT, SERVER, PSH_ACK, client, server, "TYPE I\r\n")).says(&[
        "2 C TYPE I",
        "1 C PORT 10,77,1,2,4,210",
        // It came before the segment that ends where it begins.
        "1 PORT 10.77.1.2 1234: its segment does not begin where one ended in a line feed",
    ]);
}

#[test]
fn gaps_are_stepped_over() {
    let mut watch = Watch::logged_in();
    let [client, server] = watch.next;
    let later = client + 8;
    watch.packet(&tcp(CLIENT, SERVER, PSH_ACK, later, server, PORT)).says(&[]);
    let end = later + PORT.len() as u32;
    watch.packet(&tcp(SERVER, CLIENT, PSH_ACK, server, end, "200 ok\r\n")).says(&[
        "2 gap Client 8",
        "1 C PORT 10,77,1,2,4,210",
        "1 PORT 10.77.1.2 1234: cannot be judged: the capture lacks what comes before the segment",
        "2 S 200 ok",
    ]);
    // It was only late.
    watch.packet(&tcp(CLIENT, SERVER, PSH_ACK, client, server, "EPSV 1\r\n")).says(&["3 C EPSV 1"]);
}

#[test]
fn a_line_whose_beginning_is_missing() {
    let mut watch = Watch::logged_in();
    let [client, server] = watch.next;
    watch.packet(&tcp(SERVER, CLIENT, PSH_ACK, server + 4, client, "ok (198,51,100,9,200,1)\r\n"));
    watch.packet(&tcp(CLIENT, SERVER, ACK, client, server + 29, "")).says(&[
        "2 gap Server 4",
        "1 227 198.51.100.9 51201, its beginning is not in the capture: cannot be judged: the capture lacks what comes \
         before the segment",
    ]);
}

#[test]
fn lines_cut_by_the_capture() {
    let mut watch = Watch::logged_in();
    let [client, server] = watch.next;
    let whole = tcp(CLIENT, SERVER, PSH_ACK, client, server, PORT);
    watch.cut(&whole, whole.len() - 4).says(&[
        "1 cut Client 4",
        "1 C PORT 10,77,1,2,4,2",
        "1 PORT 10.77.1.2 1026, its end is not in the capture: cannot be judged: the capture has not all of the line",
    ]);
    // The stream goes on behind it.
    watch.next[0] += PORT.len() as u32;
    watch
        .client("PORT 10,77,1,2,4,211\r\n")
        .says(&["2 C PORT 10,77,1,2,4,211", "2 PORT 10.77.1.2 1235: expects the data connection"]);
    // Only headers were captured, and not even all of TCP's.
    let [client, server] = watch.next;
    let whole = tcp(CLIENT, SERVER, PSH_ACK, client, server, PORT);
    watch.cut(&whole, 40).cut(&whole, 30).says(&["3 cut Client 22"]);
}

#[test]
fn ends_of_lines() {
    let mut watch = Watch::logged_in();
    watch.client("PORT 10,77,1,2,4,210\n").says(&[
        "1 C PORT 10,77,1,2,4,210",
        "1 PORT 10.77.1.2 1234: the packet is dropped: its segment begins like an announcement and has not all of one",
    ]);
    watch.client("PORT 10,77,1,2,4,210\rLIST\r\n").says(&[
        "2 C PORT 10,77,1,2,4,210\rLIST",
        // The helper looks no further than the first carriage return.
        "2 PORT 10.77.1.2 1234, something follows the endpoint: its segment does not begin where one ended in a line feed",
    ]);
    watch.client("QUIT").says(&[]);
    watch.finish();
    assert!(watch.told.0.contains(&"3 C QUIT".to_owned()), "{:?}", watch.told.0);
}

#[test]
fn why_the_helper_does_nothing() {
    let first = |text: &str| {
        let mut watch = Watch::logged_in();
        watch.client(text);
        watch.told.0.pop().unwrap()
    };
    assert_eq!(
        first("NOOP\r\nPORT 10,77,1,2,4,210\r\n"),
        "1 PORT 10.77.1.2 1234: one line stands before it in its segment, and only the first is read"
    );
    assert_eq!(first("PORT 10,77,1,3,4,210\r\n"), "1 PORT 10.77.1.3 1234: the address announced is not the sender's");
    assert_eq!(first("LPRT 4,4,10,77,1,2,2,4,210\r\n"), "1 LPRT 10.77.1.2 1234: the helper does not know this form");
    assert_eq!(
        first(" PORT 10,77,1,2,4,210\r\n"),
        "1 PORT 10.77.1.2 1234: the line does not begin as the helper wants it"
    );
    assert_eq!(
        first("EPRT |2|fd00::1|1234|\r\n"),
        "1 EPRT fd00::1 1234, not the control connection's address family: the packet is dropped: its segment begins like \
         an announcement and has not all of one"
    );
    assert_eq!(
        first("PORT 10,77,1,2,4,466\r\n"),
        "1 PORT nowhere, a number is out of range, reads 10.77.1.2 1490: expects the data connection"
    );
    // The very first line of its side.
    let mut watch = Watch::new();
    watch.open().client(PORT);
    assert_eq!(
        watch.told.0.pop().unwrap(),
        "4 PORT 10.77.1.2 1234: the first line of its side: the helper does not know yet where lines begin"
    );
    // The connection began before the capture.
    let mut watch = Watch::new();
    watch.server("200 ok\r\n").client("NOOP\r\n").server("200 ok\r\n").client(PORT);
    assert_eq!(
        watch.told.0.pop().unwrap(),
        "4 PORT 10.77.1.2 1234: cannot be judged: the connection began before the capture"
    );
    assert_eq!((watch.finish().unjudged, watch.finish().handled), (1, 0));
    // Beyond the window.
    let mut watch = Watch::logged_in();
    watch.next[0] += 1 << 20;
    watch.client(PORT).server("200 ok\r\n");
    let told = watch.told.0.join("\n");
    assert!(told.contains("its segment is invalid for conntrack: beyond the receiver's window"), "{told}");
}

#[test]
fn a_line_over_two_segments() {
    let mut watch = Watch::logged_in();
    watch.client("PORT 10,77,1,2,").client("4,210\r\n").says(&[
        "2 C PORT 10,77,1,2,4,210",
        "2 PORT 10.77.1.2 1234: the packet is dropped: its segment begins like an announcement and has not all of one",
    ]);
    watch.client("P").client("WD\r\n").says(&[
        "4 C PWD",
        // A line begins there all the same: behind the second half of the one whose first half is dropped.
        "3 would drop PORT",
    ]);
    let mut watch = Watch::logged_in();
    watch.client("P").client("WD\r\n").says(&["2 C PWD", "1 would drop PORT"]);
}

#[test]
fn what_only_linux_reads() {
    let mut watch = Watch::logged_in();
    watch.client("PORTX 10,77,1,2,4,210\r\n").says(&[
        "1 C PORTX 10,77,1,2,4,210",
        "1 PORT 10.77.1.2 1234, only Linux's helper reads an endpoint in it: expects the data connection",
    ]);
}

#[test]
fn tls() {
    let mut watch = Watch::logged_in();
    watch.client("AUTH TLS\r\n").server("234 go\r\n").client("\x16\x03\x01\0\x03\x01\0\0");
    watch.server("\x16\x03\x03\0\x02PO").client("\x17\x03\x03\0\x16PORT 10,77,1,2,4,210\r\n").says(&[
        "1 C AUTH TLS",
        "2 S 234 go",
        "3 TLS Explicit",
    ]);
    // After CCC, which cannot be read.
    watch.client("\x17\x03\x03\0\x01x").server("200 clear now\r\n").says(&["7 clear", "7 S 200 clear now"]);
    let mut implicit = Watch::new();
    implicit.open().client("\x16\x03\x01\0\x03\x01\0\0").server("\x16\x03\x03\0\x02xx");
    implicit.says(&["1 opened 10.77.1.2:40000 > 198.51.100.9:21 Syn", "4 TLS Implicit"]);
}

#[test]
fn data_connections_that_fit_less() {
    let mut watch = Watch::logged_in();
    watch.client("PORT 192,168,9,9,4,210\r\n").told.0.clear();
    watch
        .packet(&tcp("198.51.100.9:20", THERE, SYN, 7, 0, ""))
        .says(&["2 data 1 198.51.100.9:20 > 10.77.1.2:1234 Syn OwnAddress"]);
    watch
        .packet(&tcp("203.0.113.7:20", "192.168.9.9:1234", SYN, 7, 0, ""))
        .says(&["3 data 1 203.0.113.7:20 > 192.168.9.9:1234 Syn OtherSource"]);
    watch.packet(&tcp("203.0.113.7:20", THERE, SYN, 7, 0, "")).says(&[]);
}

#[test]
fn data_connections_that_end_otherwise() {
    let from = "198.51.100.9:20";
    let told = |packets: &[(&str, &str, u8)]| {
        let mut watch = Watch::logged_in();
        watch.client(PORT);
        for (from, to, flags) in packets {
            watch.packet(&tcp(from, to, *flags, 7, 0, ""));
        }
        watch.finish();
        watch.told.0.into_iter().filter(|line| line.contains("data 1") || line.contains("unf")).collect::<Vec<_>>()
    };
    let opened = "2 data 1 198.51.100.9:20 > 10.77.1.2:1234 Syn Exact related";
    assert_eq!(told(&[(from, THERE, SYN)]), [opened, "2 data 1 never answered, [0, 0] bytes"]);
    assert_eq!(told(&[(from, THERE, SYN), (THERE, from, RST | ACK)]), [opened, "3 data 1 refused, [0, 0] bytes"]);
    assert_eq!(told(&[(from, THERE, SYN), (THERE, from, SYN | ACK)]), [opened, "3 data 1 still open, [0, 0] bytes"]);
    assert_eq!(
        told(&[(THERE, from, ACK)]),
        ["2 data 1 198.51.100.9:20 > 10.77.1.2:1234 MidStream Exact", "2 data 1 still open, [0, 0] bytes"]
    );
    assert_eq!(told(&[]), ["1 unfulfilled 1: the capture ended"]);
}

#[test]
fn data_connections_between_the_same_ports() {
    let from = "198.51.100.9:20";
    let mut watch = Watch::logged_in();
    watch.client(PORT);
    watch.packet(&tcp(from, THERE, SYN, 7, 0, "")).packet(&tcp(from, THERE, SYN, 7, 0, ""));
    watch.packet(&tcp(THERE, from, SYN | ACK, 9, 8, "")).packet(&tcp(from, THERE, ACK, 8, 10, ""));
    watch.packet(&tcp(from, THERE, FIN | ACK, 8, 10, "")).packet(&tcp(THERE, from, FIN | ACK, 10, 9, ""));
    watch.packet(&tcp(from, THERE, ACK, 9, 11, ""));
    watch.client(PORT).told.0.clear();
    // The tracker has seen the first one close.
    watch
        .packet(&tcp(from, THERE, SYN, 70_000, 0, ""))
        .says(&["8 data 1 closed, [0, 0] bytes", "10 data 2 198.51.100.9:20 > 10.77.1.2:1234 Syn Exact related"]);
    assert_eq!(watch.finish().copies, 1);
}

#[test]
fn data_connections_that_never_came() {
    let mut watch = Watch::logged_in();
    watch.client(PORT).server("500 no\r\n").client("PORT 10,77,1,2,4,211\r\n").server("200 ok\r\n");
    watch.client("LIST\r\n").server("150 now\r\n").server("226 done\r\n").client("PORT 10,77,1,2,4,212\r\n");
    let [client, server] = watch.next;
    watch.packet(&tcp(CLIENT, SERVER, RST, client, server, "")).told.0.clear();
    let summary = watch.finish();
    watch.says(&[
        "9 ended reset Unknown [78, 54]",
        "9 unfulfilled 1: the server refused the announcement: 500",
        "9 unfulfilled 2: the transfer began and was completed; its packets are not in the capture",
        "9 unfulfilled 3: no transfer was asked for",
        "9 done",
    ]);
    assert_eq!((summary.unfulfilled, summary.unused, summary.not_captured), (0, 2, 1));
}

#[test]
fn why_nothing_came_is_what_the_server_said() {
    let told = |lines: &[&str]| {
        let mut watch = Watch::logged_in();
        watch.client(PORT).server("200 ok\r\n");
        for line in lines {
            let is_reply = line.as_bytes()[0].is_ascii_digit();
            if is_reply {
                watch.server(&format!("{line}\r\n"))
            } else {
                watch.client(&format!("{line}\r\n"))
            };
        }
        let summary = watch.finish();
        let why =
            watch.told.0.into_iter().find_map(|line| line.split_once("unfulfilled 1: ").map(|(_, why)| why.to_owned()));
        (why.unwrap(), summary.unfulfilled)
    };
    // A plain get of a file that is not there is no failure of FTP.
    assert_eq!(told(&["RETR nosuchfile", "550 no"]), ("the server refused the transfer: 550".to_owned(), 0));
    assert_eq!(told(&["RETR f", "150 now", "425 no"]), ("the server could not open it: 425".to_owned(), 1));
    // A 226 without 150 or 125 does not show that a connection was opened.
    assert_eq!(told(&["RETR f", "226 done"]), ("the capture ended".to_owned(), 1));
    assert_eq!(told(&["RETR f", "QUIT", "221 bye"]), ("the client quit".to_owned(), 1));
    assert_eq!(told(&["QUIT", "221 bye"]), ("no transfer was asked for".to_owned(), 0));
    assert_eq!(told(&["RETR f"]), ("the capture ended".to_owned(), 1));
}

#[test]
fn a_227_that_answers_no_pasv_announces_nothing() {
    let mut watch = Watch::logged_in();
    watch.client("QUIT\r\n").server("227 Logout.\r\n").says(&["1 C QUIT", "2 S 227 Logout.", "2 would drop 227"]);
    assert_eq!(watch.finish().announcements, 0);
    let mut watch = Watch::logged_in();
    watch.client("PASV\r\n").server("227 what?\r\n");
    assert_eq!(watch.finish().malformed_announcements, 1);
}

#[test]
fn a_data_connection_to_a_control_port_is_a_data_connection() {
    let mut watch = Watch::logged_in();
    watch.client("PORT 203,0,113,7,0,21\r\n").told.0.clear();
    let (from, to) = ("198.51.100.9:20", "203.0.113.7:21");
    watch.packet(&tcp(from, to, SYN, 7, 0, "")).packet(&tcp(to, from, SYN | ACK, 9, 8, ""));
    watch.says(&["2 data 1 198.51.100.9:20 > 203.0.113.7:21 Syn Exact"]);
    let summary = watch.finish();
    assert_eq!((summary.sessions, summary.data, summary.unfulfilled), (1, 1, 0));
}

/// A session with four announcements, as one text of what passes; `lost`: the place of a packet that the capture lacks.
fn session_without(lost: Option<usize>) -> Summary {
    let mut watch = Watch::new();
    let mut place = 0;
    let mut pass = |watch: &mut Watch, packet: Vec<u8>| {
        if lost != Some(place) {
            watch.packet(&packet);
        }
        place += 1;
    };
    pass(&mut watch, tcp(CLIENT, SERVER, SYN, 100, 0, ""));
    pass(&mut watch, tcp(SERVER, CLIENT, SYN | ACK, 500, 101, ""));
    pass(&mut watch, tcp(CLIENT, SERVER, ACK, 101, 501, ""));
    let mut next = [101, 501];
    let lines = ["220 hi\r\n", "USER a\r\n", "230 in\r\n"].into_iter();
    let ports = ["PORT 10,77,1,2,4,1\r\n", "200 ok\r\n", "PORT 10,77,1,2,4,2\r\n", "200 ok\r\n"].into_iter();
    for line in lines.chain(ports.clone()).chain(ports) {
        let [client, server] = next;
        if line.as_bytes()[0].is_ascii_digit() {
            pass(&mut watch, tcp(SERVER, CLIENT, PSH_ACK, server, client, line));
            next[1] += line.len() as u32;
        } else {
            pass(&mut watch, tcp(CLIENT, SERVER, PSH_ACK, client, server, line));
            next[0] += line.len() as u32;
        }
        // Longer than conntrack waits for an acknowledgement.
        watch.now = watch.now + Duration::from_secs(200);
    }
    watch.finish()
}

#[test]
fn one_lost_frame_does_not_change_what_the_helper_would_do() {
    assert_eq!(session_without(None).handled, 4);
    for lost in 0..14 {
        let summary = session_without(Some(lost));
        // A line that is lost itself cannot be counted.
        let shown = if [6, 8, 10, 12].contains(&lost) { 3 } else { 4 };
        assert_eq!((summary.handled, summary.announcements), (shown, shown), "without packet {lost}");
    }
}

/// A packet as it is behind a router.
fn routed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[8] -= 1;
    packet
}

#[test]
fn a_session_seen_on_both_sides_of_nat_is_one() {
    let mut watch = Watch::new();
    let outside = "203.0.113.1:61000";
    let mut both = |from_client: bool, flags: u8, sequence: u32, acknowledgement: u32, text: [&str; 2]| {
        if from_client {
            watch.packet(&tcp(CLIENT, SERVER, flags, sequence, acknowledgement, text[0]));
            watch.packet(&routed(tcp(outside, SERVER, flags, sequence, acknowledgement, text[1])));
        } else {
            watch.packet(&tcp(SERVER, outside, flags, sequence, acknowledgement, text[0]));
            watch.packet(&routed(tcp(SERVER, CLIENT, flags, sequence, acknowledgement, text[1])));
        }
    };
    both(true, SYN, 100, 0, ["", ""]);
    both(false, SYN | ACK, 500, 101, ["", ""]);
    both(false, PSH_ACK, 501, 101, ["220 hi\r\n"; 2]);
    both(true, PSH_ACK, 101, 509, ["NOOP\r\n"; 2]);
    both(true, PSH_ACK, 107, 509, [PORT, "PORT 203,0,113,1,4,210\r\n"]);
    let data = ["198.51.100.9:20", "203.0.113.1:1234", THERE];
    watch.packet(&tcp(data[0], data[1], SYN, 7, 0, "")).packet(&routed(tcp(data[0], data[2], SYN, 7, 0, "")));
    let summary = watch.finish();
    let told: Vec<_> = watch.told.0.iter().filter(|line| !line.contains(" C ") && !line.contains(" S ")).collect();
    assert_eq!(
        told,
        [
            "1 opened 10.77.1.2:40000 > 198.51.100.9:21 Syn",
            "2 other side 203.0.113.1:61000 > 198.51.100.9:21",
            "9 PORT 10.77.1.2 1234: expects the data connection",
            "10 translated 1 PORT 203,0,113,1,4,210",
            "12 data 1 198.51.100.9:20 > 10.77.1.2:1234 Syn Exact related",
            "12 data 1 never answered, [0, 0] bytes",
            "9 ended still open Unknown [28, 8]",
            "12 done",
        ]
    );
    assert_eq!((summary.sessions, summary.announcements, summary.data, summary.two_sided), (1, 1, 1, 1));
}

#[test]
fn an_icmp_error_belongs_to_the_connection_that_it_quotes() {
    let mut watch = Watch::logged_in();
    watch.client(PORT);
    watch.packet(&tcp("198.51.100.9:20", THERE, SYN, 7, 0, "")).told.0.clear();
    let mut quoted = |bytes: Vec<u8>| {
        let mut packet =
            vec![0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 10, 77, 1, 1, 198, 51, 100, 9, 3, 13, 0, 0, 0, 0, 0, 0];
        packet.extend(&bytes[..28]);
        watch.packet(&packet);
    };
    quoted(tcp("198.51.100.9:20", THERE, SYN, 7, 0, ""));
    quoted(tcp(SERVER, CLIENT, ACK, 7, 0, ""));
    quoted(tcp("198.51.100.9:99", THERE, SYN, 7, 0, ""));
    watch.says(&[
        "3 ICMP administratively prohibited from 10.77.1.1 about 198.51.100.9:20 > 10.77.1.2:1234 Some(1)",
        "4 ICMP administratively prohibited from 10.77.1.1 about 198.51.100.9:21 > 10.77.1.2:40000 None",
    ]);
    assert_eq!(watch.finish().icmp_errors, 2);
}

#[test]
fn a_data_connection_may_come_before_its_announcement() {
    let mut watch = Watch::logged_in();
    watch.packet(&tcp("198.51.100.9:20", THERE, SYN, 7, 0, "")).says(&[]);
    watch.client(PORT).says(&[
        "2 C PORT 10,77,1,2,4,210",
        "2 PORT 10.77.1.2 1234: expects the data connection",
        "1 data 1 198.51.100.9:20 > 10.77.1.2:1234 Syn Exact",
    ]);
}

#[test]
fn ports_used_again() {
    let mut watch = Watch::logged_in();
    watch.packet(&tcp(CLIENT, SERVER, SYN, 9000, 0, "")).says(&[
        "6 ended still open Unknown [6, 19]",
        "1 done",
        "1 opened 10.77.1.2:40000 > 198.51.100.9:21 Syn",
    ]);
    // The same SYN again is none.
    watch.now = watch.now + Duration::from_secs(1);
    watch.packet(&tcp(CLIENT, SERVER, SYN, 9000, 0, "")).says(&[]);
}

#[test]
fn tunnels_are_entered() {
    let inner = tcp(CLIENT, SERVER, SYN, 100, 0, "");
    let mut outer = vec![0x45, 0, 0, 20 + 4 + inner.len() as u8, 0, 0, 0, 0, 64, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    outer.extend([0, 0, 8, 0]);
    outer.extend(&inner);
    let mut watch = Watch::new();
    watch.packet(&outer).says(&["1 opened 10.77.1.2:40000 > 198.51.100.9:21 Syn"]);
    assert_eq!(watch.finish().tunnelled, 1);
    // IP in IP in IP ... ends somewhere.
    let mut deep = inner;
    for _ in 0..20 {
        let length = (deep.len() as u16 + 20).to_be_bytes();
        let mut around = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        around.extend(&deep);
        deep = around;
    }
    Watch::new().packet(&deep).says(&[]);
}

#[test]
fn parts_are_put_together() {
    let mut watch = Watch::logged_in();
    let [client, server] = watch.next;
    let whole = tcp(CLIENT, SERVER, PSH_ACK, client, server, PORT);
    let part = |from: usize, to: usize, more: bool| {
        let mut bytes = whole[..20].to_vec();
        bytes.extend(&whole[20 + from..20 + to]);
        let length = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&length);
        let field = (from as u16 / 8 + if more { 0x2000 } else { 0 }).to_be_bytes();
        bytes[6..8].copy_from_slice(&field);
        bytes
    };
    let end = whole.len() - 20;
    watch.packet(&part(24, end, false)).says(&[]);
    watch
        .packet(&part(0, 24, true))
        .says(&["2 C PORT 10,77,1,2,4,210", "2 PORT 10.77.1.2 1234: expects the data connection"]);
}

#[test]
fn segments_that_hardware_will_cut_have_no_length() {
    let mut watch = Watch::logged_in();
    let [client, server] = watch.next;
    let mut whole = tcp(CLIENT, SERVER, PSH_ACK, client, server, PORT);
    whole[2..4].fill(0);
    watch.packet(&whole).says(&["1 C PORT 10,77,1,2,4,210", "1 PORT 10.77.1.2 1234: expects the data connection"]);
}

#[test]
fn ftp_elsewhere_is_noticed() {
    let mut watch = Watch::new();
    let [client, server] = ["10.77.1.2:40000", "198.51.100.9:8021"];
    watch.packet(&tcp(server, client, PSH_ACK, 1, 1, "220 hi\r\n"));
    watch.packet(&tcp(client, server, PSH_ACK, 1, 9, "USER x\r\n")).says(&["2 elsewhere 198.51.100.9:8021"]);
}

#[test]
fn any_time_to_live_and_any_address() {
    let mut watch = Watch::new();
    let [client, server] = ["127.0.0.1:40000", "127.0.0.1:21"];
    let say = |watch: &mut Watch, from: &str, to: &str, flags, sequence, acknowledgement, text: &str| {
        let mut bytes = tcp(from, to, flags, sequence, acknowledgement, text);
        // The checksum of the header is wrong then, too.
        bytes[8] = 0;
        watch.packet(&bytes);
    };
    say(&mut watch, client, server, SYN, 100, 0, "");
    say(&mut watch, server, client, SYN | ACK, 500, 101, "");
    say(&mut watch, client, server, PSH_ACK, 101, 501, "NOOP\r\n");
    say(&mut watch, client, server, PSH_ACK, 107, 501, "PORT 127,0,0,1,4,210\r\n");
    assert_eq!(watch.told.0.pop().unwrap(), "4 PORT 127.0.0.1 1234: expects the data connection");
}

/// Counts the sessions that live.
#[derive(Default)]
struct Living {
    now: usize,
    most: usize,
    done: Vec<SessionId>,
}

impl Sink for Living {
    fn event(&mut self, _: FramePos, event: &FtpEvent<'_>) {
        match event {
            FtpEvent::Opened(_) => self.now += 1,
            FtpEvent::Done { session } => {
                self.now -= 1;
                self.done.push(*session);
            }
            _ => {}
        }
        self.most = self.most.max(self.now);
    }
}

#[test]
fn sessions_are_bounded() {
    const MOST: usize = 100;
    let mut options = Options::default();
    options.sessions = MOST;
    let mut inspector = Inspector::new(options);
    let mut living = Living::default();
    let count = 10 * MOST as u64;
    for n in 0..count {
        let client = format!("10.{}.{}.{}:4000", n >> 16 & 255, n >> 8 & 255, n & 255);
        let packet = tcp(&client, SERVER, SYN, 1, 0, "");
        let at = FramePos { frame: n + 1, time: Instant::from_secs(0) };
        inspector.packet(at, &packet, packet.len(), &mut living);
    }
    let summary = inspector.finish(&mut living);
    assert_eq!((summary.sessions, living.now, living.done.len() as u64), (count, 0, count));
    assert_eq!(living.most, MOST);
    assert!(summary.evicted >= count - MOST as u64, "{summary:?}");
    living.done.sort_unstable();
    living.done.dedup();
    assert_eq!(living.done.len() as u64, count, "each is told once");
}

/// A segment of a session, changed by chance.
fn segment() -> impl Strategy<Value = (bool, u8, u8, u8, String, usize)> {
    let lines = prop_oneof![
        Just(PORT.to_owned()),
        Just("227 x (198,51,100,9,4,1)\r\n".to_owned()),
        Just("229 (|||7|)\r\n".to_owned()),
        Just("220 hi\r\n".to_owned()),
        Just("AUTH TLS\r\n234 go\r\n\x16\x03\x01\0\x04".to_owned()),
        "[ -~\r\n]{0,40}",
    ];
    (any::<bool>(), any::<u8>(), 0..80_u8, 0..80_u8, lines, 0..90_usize)
}

proptest! {
    #[test]
    fn any_segments_end(segments in prop::collection::vec(segment(), 0..60)) {
        let mut watch = Watch::new();
        for (from_client, flags, sequence, acknowledgement, text, captured) in segments {
            let (from, to) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
            let bytes = tcp(from, to, flags, sequence.into(), acknowledgement.into(), &text);
            let captured = captured.clamp(1, bytes.len());
            watch.cut(&bytes, captured);
        }
        let summary = watch.finish();
        let done = watch.told.0.iter().filter(|line| line.ends_with(" done")).count();
        prop_assert_eq!(summary.sessions, done as u64);
    }

    #[test]
    fn any_bytes_end(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..20)) {
        let mut watch = Watch::new();
        for bytes in packets {
            watch.packet(&bytes);
        }
        watch.finish();
    }
}
