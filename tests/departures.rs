//! Replays of packets for which behaviour Exact sends something else than Linux, and its reasons. They are the
//! situations of `tests/peers.rs` in which Linux is wrong, and the others, in which nothing differs.

mod common;

use common::*;
use ftp_conntrack::capture::{Direction, Interface, Reader, Writer};
use ftp_conntrack::config::{Directory, parse_addresses, parse_routes, parse_rules};
use ftp_conntrack::packet::Family;
use ftp_conntrack::packet::link::LinkType;
use ftp_conntrack::replay::{Departure, Options, Replay, Sink, Summary};
use ftp_conntrack::router::Router;
use ftp_conntrack::{Behaviour, Instant};

const ADDRESSES: &str = r#"[
    {"ifindex":1,"ifname":"lan","mtu":1500,"operstate":"UP","flags":["UP"],"addr_info":
        [{"family":"inet","local":"10.77.1.1","prefixlen":24,"scope":"global"}]},
    {"ifindex":2,"ifname":"wan","mtu":1500,"operstate":"UP","flags":["UP"],"addr_info":
        [{"family":"inet","local":"203.0.113.1","prefixlen":24,"scope":"global"}]}]"#;
const ROUTES: &str = r#"[{"dst":"10.77.1.0/24","dev":"lan"},{"dst":"default","dev":"wan"}]"#;
const DNAT: &str = "*raw\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
                    *nat\n-A PREROUTING -i wan -p tcp --dport 21 -j DNAT --to-destination 10.77.1.2\nCOMMIT\n";

/// A capture of what arrives at a router, and what the replay says of it.
struct Told {
    rules: &'static str,
    client: [&'static str; 2],
    server: [&'static str; 2],
    interfaces: [usize; 2],
    next: [u32; 2],
    frames: Vec<(usize, Vec<u8>)>,
}

impl Told {
    fn masqueraded() -> Self {
        Self::new(MASQUERADE, [CLIENT, SERVER], [OUTSIDE, SERVER], [LAN, WAN])
    }

    fn forwarded() -> Self {
        let ([client, server], inside) = (["198.51.100.9:5000", "203.0.113.1:21"], "10.77.1.2:21");
        Self::new(DNAT, [client, server], [client, inside], [WAN, LAN])
    }

    /// The login takes frames 1 to 5.
    fn new(rules: &'static str, client: [&'static str; 2], server: [&'static str; 2], interfaces: [usize; 2]) -> Self {
        let mut told = Self { rules, client, server, interfaces, next: [1000, 5000], frames: Vec::new() };
        let syn = tcp(client[0], client[1], SYN, 999, 0, "");
        let answer = tcp(server[1], server[0], SYN | ACK, 4999, 1000, "");
        told.frames.extend([(interfaces[0], syn), (interfaces[1], answer)]);
        told.server("220 ready\r\n").client("USER ftp\r\n").server("230 in\r\n")
    }

    fn client(mut self, text: &str) -> Self {
        let at = self.next[0];
        self.next[0] += text.len() as u32;
        self.client_at(at, text)
    }

    fn client_at(mut self, at: u32, text: &str) -> Self {
        let packet = tcp(self.client[0], self.client[1], PSH_ACK, at, self.next[1], text);
        self.frames.push((self.interfaces[0], packet));
        self
    }

    fn server(self, text: &str) -> Self {
        let acknowledged = self.next[0];
        self.server_saw(acknowledged, text)
    }

    fn server_saw(mut self, acknowledged: u32, text: &str) -> Self {
        let packet = tcp(self.server[1], self.server[0], PSH_ACK, self.next[1], acknowledged, text);
        self.next[1] += text.len() as u32;
        self.frames.push((self.interfaces[1], packet));
        self
    }

    fn arrives(mut self, interface: usize, packet: Vec<u8>) -> Self {
        self.frames.push((interface, packet));
        self
    }

    fn replay(&self) -> (Vec<Departure>, Summary) {
        let (rules4, _) = parse_rules("rules.v4", self.rules, Family::V4).unwrap();
        let mut directory = Directory::default();
        directory.rules4 = Some(rules4);
        directory.interfaces = parse_addresses("addr.json", ADDRESSES).unwrap();
        directory.routes = parse_routes("route.json", ROUTES).unwrap();
        let interfaces = ["lan", "wan"].map(|name| Interface::named(name, LinkType::RAW));
        let mut writer = Writer::new(Vec::new(), &interfaces).unwrap();
        for (i, (interface, packet)) in self.frames.iter().enumerate() {
            writer.write(*interface, Instant::from_secs(1000 + i as i64), Direction::In, packet).unwrap();
        }
        let capture = writer.into_inner().unwrap();
        let mut options = Options::default();
        options.behaviour = Behaviour::Exact;
        let mut replay = Replay::new(&directory, options).unwrap();
        let mut departures = Departures::default();
        let summary = replay.run(&mut Reader::new(&capture[..]).unwrap(), &mut departures);
        (departures.0, summary)
    }

    /// That each of these frames differs for this reason, and no other frame.
    #[track_caller]
    fn says(self, expected: &[(u64, &str)]) {
        let (departures, summary) = self.replay();
        assert_eq!(summary.departures - summary.departures_alike, departures.len() as u64);
        let told: Vec<(u64, String)> = departures.iter().map(|d| (d.frame, d.to_string())).collect();
        let told: Vec<(u64, &str)> = told.iter().map(|(frame, text)| (*frame, text.as_str())).collect();
        assert_eq!(told, expected, "{told:#?}");
        assert!(departures.iter().all(Departure::is_explained));
    }
}

#[derive(Default)]
struct Departures(Vec<Departure>);

impl Sink for Departures {
    fn departs(&mut self, departure: &Departure, _: &Router) {
        self.0.extend((!departure.alike).then(|| departure.clone()));
    }
}

#[test]
fn rows_01_02_04_08_11_14_17_19_to_22_in_which_linux_is_right() {
    Told::masqueraded().client("PORT 10,77,1,2,4,210\r\n").says(&[]);
    Told::masqueraded().client("port 10,77,1,2,4,210\r\n").says(&[]);
    Told::masqueraded().client("PORT 10,77,1,2,4,210\r\nLIST\r\n").says(&[]);
    Told::masqueraded().client("EPRT |1|10.77.1.2|1234|\r\n").says(&[]);
}

#[test]
fn row_03() {
    Told::masqueraded().client("TYPE I\r\nPORT 10,77,1,2,4,210\r\n").says(&[(
        6,
        "Linux lets it pass as it came: it reads only the first line of a segment; here it leaves as \
             PORT 203,0,113,1,4,210",
    )]);
}

#[test]
fn row_05() {
    Told::masqueraded().client("PORT 10,77,1,").client("2,4,210\r\n").client("LIST\r\n").client("NOOP\r\n").says(&[
        (
            6,
            "Linux drops it (partial announcement): it reads no announcement that is not whole in its \
             segment; here 13 bytes of an unfinished line wait, its sender is told that all up to 1023 \
             arrived",
        ),
        (
            7,
            "Linux lets it pass as it came: it reads no announcement that is not whole in its segment; \
             here what waited leaves with it, it leaves as PORT 203,0,113,1,4,210",
        ),
        (8, "Linux sends nothing besides it; here what waited leaves in its speaker's name"),
        (9, "Linux sends nothing besides it; here what waited leaves in its speaker's name"),
    ]);
}

#[test]
fn row_06() {
    Told::masqueraded().client("PORT 10,77,1,2,4,210\n").says(&[(
        6,
        "Linux drops it (partial announcement): it cannot read this PORT; here it leaves as PORT \
             203,0,113,1,4,210",
    )]);
}

#[test]
fn row_07() {
    Told::masqueraded().client("PORT  10,77,1,2,4,210\r\n").says(&[(
        6,
        "Linux drops it (partial announcement): it cannot read this PORT; here it leaves as PORT  \
             203,0,113,1,4,210",
    )]);
}

#[test]
fn row_09_keeps_the_delimiter() {
    Told::masqueraded().client("EPRT !1!10.77.1.2!1234!\r\n").says(&[(
        6,
        "Linux writes EPRT |1|203.0.113.1|1234|: it spells every announcement in its own way; here \
             it leaves as EPRT !1!203.0.113.1!1234!",
    )]);
}

#[test]
fn row_10() {
    let syn = tcp("198.51.100.9:20", "203.0.113.1:1234", SYN, 1, 0, "");
    let answer = tcp("10.77.1.2:1234", "198.51.100.9:20", SYN | ACK, 1, 2, "");
    Told::masqueraded().client("LPRT 4,4,10,77,1,2,2,4,210\r\n").arrives(WAN, syn).arrives(LAN, answer).says(&[
        (
            6,
            "Linux lets it pass as it came: it does not know LPRT; here it leaves as LPRT \
             4,4,203,0,113,1,2,4,210",
        ),
        (7, "Linux does not translate it: it did not expect what was announced in frame 6"),
    ]);
}

#[test]
fn row_11() {
    let port = "PORT 10,77,1,2,4,210\r\n";
    Told::masqueraded().client(port).client_at(1010, port).client("LIST\r\n").says(&[]);
}

/// Another client inside has announced the port: frames 6 to 10.
fn another_client_expects(told: Told) -> Told {
    let (client, outside) = ("10.77.1.3:40003", "203.0.113.1:40003");
    told.arrives(LAN, tcp(client, SERVER, SYN, 999, 0, ""))
        .arrives(WAN, tcp(SERVER, outside, SYN | ACK, 4999, 1000, ""))
        .arrives(LAN, tcp(client, SERVER, PSH_ACK, 1000, 5000, "USER ftp\r\n"))
        .arrives(WAN, tcp(SERVER, outside, PSH_ACK, 5000, 1010, "230 in\r\n"))
        .arrives(LAN, tcp(client, SERVER, PSH_ACK, 1010, 5008, "PORT 10,77,1,3,4,210\r\n"))
}

#[test]
fn row_12() {
    let port = "PORT 10,77,1,2,4,210\r\n";
    another_client_expects(Told::masqueraded()).client(port).client_at(1010, port).says(&[
        (
            11,
            "Linux writes PORT 203,0,113,1,179,74: it chose another port; here it leaves as PORT \
             203,0,113,1,179,10",
        ),
        (
            12,
            "Linux writes PORT 203,0,113,1,89,36: it reads what is sent again anew; here it is sent \
             again, and leaves with the bytes first sent",
        ),
    ]);
}

#[test]
fn row_13() {
    let (one, two) = ("PORT 10,77,1,2,4,210\r\n", "PORT 10,77,1,2,4,211\r\n");
    Told::masqueraded().client(one).client(two).client_at(1010, one).client_at(1054, "LIST\r\n").says(&[(
        8,
        "Linux lets it pass as it came: it keeps no text that it replaced; here it is sent again, \
             and leaves with the bytes first sent",
    )]);
}

#[test]
fn row_15() {
    let told = Told::masqueraded().client("PORT 10,77,1,7,4,210\r\n").client("EPRT |1|192.0.2.1|1234|\r\n");
    told.client("NOOP\r\n").server("200 ok\r\n").client("NOOP\r\n").says(&[
        (6, "Linux lets it pass as it came; here it is refused (10.77.1.7 is not the sender's address; policy: allowed_third_parties)"),
        (7, "Linux lets it pass as it came; here it is refused (192.0.2.1 is not the sender's address; policy: allowed_third_parties)"),
        (
            8,
            "Linux sends it with its sequence number 9 higher: numbers differ since frame 6, where other \
             text left",
        ),
    ]);
}

#[test]
fn row_16() {
    let syn = tcp("198.51.100.9:20", "203.0.113.1:22", SYN, 1, 0, "");
    Told::masqueraded().client("PORT 10,77,1,2,0,22\r\n").arrives(WAN, syn).says(&[
        (6, "Linux writes PORT 203,0,113,1,0,22; here it is refused (port 22 is too low; policy: lowest_port)"),
        (
            7,
            "Linux sends it to 10.77.1.2:22: it expects this connection since frame 6; here it is for \
             the router itself",
        ),
    ]);
}

#[test]
fn row_18() {
    let told = Told::masqueraded().client("AUTH TLS\r\n").server("234 go on\r\n");
    told.client("PORT 10,77,1,2,4,210\r\n").client("POR").server("227 (10,0,0,1,2,3)\r\n").says(&[
        (
            8,
            "Linux writes PORT 203,0,113,1,4,210: it reads on within TLS, which began in frame 7; here \
             it passes as it came",
        ),
        (
            9,
            "Linux drops it (partial announcement): it reads on within TLS, which began in frame 7; here \
             it passes as it came",
        ),
        (
            10,
            "Linux sends it with its acknowledgement 2 lower: numbers differ since frame 8, where other \
             text left",
        ),
    ]);
}

#[test]
fn rows_19_to_22() {
    for reply in [
        "227 Entering Passive Mode (10,77,1,2,200,10).\r\n",
        "227 Entering Passive Mode 10,77,1,2,200,10\r\n",
        "227 =10,77,1,2,200,10\r\n",
        "229 Entering Extended Passive Mode (|||51210|)\r\n",
    ] {
        Told::forwarded().client("PASV\r\n").server(reply).says(&[]);
    }
}

#[test]
fn row_23() {
    let reply = "227-listen 10,77,1,2,200,10\r\n227 (10,77,1,2,200,10)\r\n";
    Told::forwarded().client("PASV\r\n").server(reply).says(&[(
        7,
        "Linux lets it pass as it came: it cannot read this 227; here it leaves as 227-listen \
             203,0,113,1,200,10, it leaves as 227 (203,0,113,1,200,10)",
    )]);
}

#[test]
fn row_24() {
    let told = Told::forwarded().client("TYPE I\r\nPASV\r\n").server("200 ok\r\n227 (10,77,1,2,200,10)\r\n");
    told.says(&[(
        7,
        "Linux lets it pass as it came: it reads only the first line of a segment; here it leaves as \
             227 (203,0,113,1,200,10)",
    )]);
}

#[test]
fn row_25() {
    Told::forwarded().client("PASV\r\n").server("227 Passive (10,77,1,2,300,10)\r\n").says(&[(
        7,
        "Linux writes 227 Passive (203,0,113,1,44,10); here it is refused (malformed: a number is \
             out of range)",
    )]);
}

#[test]
fn row_26() {
    Told::forwarded().client("PASV\r\n").server("227 Passive (0,0,0,0,200,10)\r\n").says(&[(
        7,
        "Linux lets it pass as it came: it takes 0.0.0.0 for another than the speaker's address; \
             here it leaves as 227 Passive (203,0,113,1,200,10)",
    )]);
}

#[test]
fn row_27() {
    Told::forwarded().server("227 Logout.\r\n").says(&[(
        6,
        "Linux drops it (partial announcement): it looks for an endpoint in this 227, which has \
             none; here it passes as it came",
    )]);
}

#[test]
fn bytes_that_come_early() {
    let told = Told::masqueraded().client_at(1018, "77,1,2,4,210\r\n").client_at(1010, "PORT 10,");
    told.client_at(1018, "77,1,2,4,210\r\n").says(&[
        (6, "Linux lets it pass as it came; here it waits for the bytes before it"),
        (
            7,
            "Linux drops it (partial announcement): it reads no announcement that is not whole in its segment; \
             here what waited leaves with it, it leaves as PORT 203,0,113,1,4,210",
        ),
        (
            8,
            "Linux lets it pass as it came: it keeps no text that it replaced; here it is sent again, and leaves \
             with the bytes first sent",
        ),
    ]);
}

#[test]
fn bytes_that_the_other_side_has() {
    let told = Told::masqueraded().client("PORT 10,77,1,2,4,210\r\n").server_saw(1034, "200 ok\r\n");
    told.client_at(1010, "PORT 10,77,1,2,4,210\r\n").client_at(1010, "PORT 10,77,1,2,4,210\r\nLIST\r\n").says(&[
        (
            8,
            "Linux writes PORT 203,0,113,1,4,210: it reads what is sent again anew; here the other side \
             has all of it, and it leaves without bytes, its sender is told that all up to 1032 arrived",
        ),
        (
            9,
            "Linux writes PORT 203,0,113,1,4,210: it reads what is sent again anew; here the other side \
             has its beginning, and it leaves without that",
        ),
    ]);
}

#[test]
fn an_acknowledgement_within_a_replaced_text() {
    let told = Told::masqueraded().client("PORT 10,77,1,2,4,210\r\n").server_saw(1020, "200 ok\r\n");
    told.server_saw(1034, "150 ok\r\n").says(&[(
        7,
        "Linux sends it with its acknowledgement 3 higher: it corrects numbers by its last \
             replacement alone; here it acknowledges a part of a replaced text, and so none of it",
    )]);
}

#[test]
fn a_second_announcement_in_one_segment() {
    let told = Told::masqueraded().client("PORT 10,77,1,2,4,210\r\nPORT 10,77,1,2,4,211\r\n");
    told.client("LIST\r\n").client("NOOP\r\n").server("200 ok\r\n").server("150 ok\r\n").says(&[
        (
            6,
            "Linux writes PORT 203,0,113,1,4,210: it reads only the first line of a segment; here it \
             leaves as PORT 203,0,113,1,4,210, it leaves as PORT 203,0,113,1,4,211",
        ),
        (
            7,
            "Linux sends it with its sequence number 2 lower: numbers differ since frame 6, where other \
             text left",
        ),
    ]);
}

#[test]
fn a_stream_that_ends_within_a_line() {
    let fin = tcp(CLIENT, SERVER, PSH_ACK | FIN, 1010, 5018, "PORT 10,77,1,");
    Told::masqueraded().arrives(LAN, fin).says(&[(
        6,
        "Linux drops it (partial announcement): it reads no announcement that is not whole in its \
             segment; here the stream ends within a line, which does not leave, its sender is told that all \
             up to 1023 arrived",
    )]);
}

#[test]
fn what_only_looks_like_an_announcement() {
    Told::masqueraded().client("STOR 10,77,1,2,4,210\r\n").says(&[]);
    Told::masqueraded().client("PORTABLE\r\n").says(&[(
        6,
        "Linux drops it (partial announcement): it looks for an endpoint in this PORT, which has \
             none; here it passes as it came",
    )]);
}

#[test]
fn text_that_outgrows_its_segment() {
    // The server takes segments of 30 bytes.
    let mut answer = tcp(SERVER, OUTSIDE, SYN | ACK, 4999, 1000, "");
    answer[32] = 0x60;
    answer.extend([2, 4, 0, 30]);
    let mut told = Told::masqueraded();
    told.frames[1].1 = finish(answer);
    told.client("TYPE I\r\nPORT 10,77,1,2,4,210\r\n").says(&[(
        6,
        "Linux lets it pass as it came: it reads only the first line of a segment; here it leaves in \
             2 segments, it leaves as PORT 203,0,113,1,4,210",
    )]);
}
