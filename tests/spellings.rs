//! Odd spellings of announcements under behaviour Exact: no server that is modelled here reads an inside address in what
//! leaves. The models have what `tests/servers/ask.py` measured.

mod common;

use common::servers::{SERVERS, Server};
use common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::packet::Headers;
use ftp_conntrack::router::Verdict;
use proptest::prelude::*;

const INSIDE: [u32; 4] = [10, 77, 1, 2];
/// Sends a logged in client's text in pieces of these lengths, and gives what the server gets.
fn leaves(text: &[u8], pieces: &[usize]) -> Vec<u8> {
    let mut config = config(MASQUERADE);
    config.helper = config.helper.behaving(Behaviour::Exact);
    // Small tables: a router is made for each case.
    config.helper.hold_buffers = 4;
    (config.conntrack.limits.connections, config.conntrack.limits.helped) = (16, 4);
    let mut world = World::new(config);
    world.forward(LAN, &tcp(CLIENT, SERVER, SYN, 999, 0, ""));
    world.forward(WAN, &tcp(SERVER, OUTSIDE, SYN | ACK, 4999, 1000, ""));
    world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 5000, 1000, "220 hi\r\n"));
    world.forward(LAN, &tcp(CLIENT, SERVER, PSH_ACK, 1000, 5008, "USER a\r\n"));
    world.forward(WAN, &tcp(SERVER, OUTSIDE, PSH_ACK, 5008, 1008, "230 in\r\n"));
    let (mut left, mut rest, mut next) = (Vec::new(), text, 1008);
    let mut lengths = pieces.iter().copied();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(lengths.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        let (verdict, bytes) = world.send(LAN, &tcp(CLIENT, SERVER, PSH_ACK, next, 5016, piece));
        if matches!(verdict, Verdict::Forward { .. }) {
            left.extend_from_slice(Headers::find(&bytes).unwrap().payload(&bytes));
        }
        (rest, next) = (behind, next + piece.len() as u32);
    }
    left
}

/// Panics if some server reads an inside address in what leaves. Returns the servers that read one in what came.
fn no_server_reads_an_inside_address(text: &[u8], pieces: &[usize]) -> Vec<&'static str> {
    let reads = |server: &Server, text: &[u8]| {
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        lines.any(|line| server.reads(line).is_some_and(|numbers| numbers[..4] == INSIDE))
    };
    let left = leaves(text, pieces);
    for server in &SERVERS {
        let (came, went) = (text.escape_ascii(), left.escape_ascii());
        assert!(!reads(server, &left), "{} reads the inside address: {came} left as {went}", server.name);
    }
    SERVERS.iter().filter(|server| reads(server, text)).map(|server| server.name).collect()
}

/// One line of the measured table each: the spelling, the servers that read it, and what leaves.
#[test]
fn each_measured_spelling_leaves_rewritten_or_refused() {
    const GOOD: &[u8] = b"203,0,113,1,78,52";
    const BAD: &[u8] = b"0,0,0,0,0,0";
    let all = ["vsftpd", "proftpd", "pure-ftpd", "pyftpdlib"];
    let rows: &[(&[u8], &[&str], &[u8])] = &[
        (b"PORT @\r\n", &all, GOOD),
        (b"port @\r\n", &all, GOOD),
        (b"PORT @\n", &all, GOOD),
        (b"PORT @\r\r\n", &all, GOOD),
        (b"PORT @\0\r\n", &["vsftpd", "proftpd", "pure-ftpd"], GOOD),
        (b"\0PORT @\r\n", &[], GOOD),
        (b"PO\0RT @\r\n", &[], BAD),
        (b"PORT\0@\r\n", &[], GOOD),
        (b"NOOP\rPORT @\r\n", &[], BAD),
        (b"NOOP\0PORT @\r\n", &[], BAD),
        (b"NOOP\x0bPORT @\r\n", &[], BAD),
        (b"NOOP\nPORT @\r\n", &all, GOOD),
        (b"\rPORT @\r\n", &["proftpd"], GOOD),
        (b" PORT @\r\n", &[], GOOD),
        (b"PORT  @\r\n", &all, GOOD),
        (b"PORT \x7f@\r\n", &[], BAD),
        (b"PORT \x01 @\r\n", &[], BAD),
        (b"PORT\t@\r\n", &["proftpd"], GOOD),
        (b"PORT\x0b@\r\n", &["proftpd"], GOOD),
        (b"PORT @ text\r\n", &["vsftpd", "proftpd", "pure-ftpd"], GOOD),
        (b"PORT @x\r\n", &["vsftpd", "proftpd", "pure-ftpd"], GOOD),
        (b"PORT @\xff\xf1\r\n", &["vsftpd", "proftpd", "pure-ftpd"], GOOD),
        (b"PORT 10 , 77 , 1 , 2 , 78 , 52\r\n", &["vsftpd", "pyftpdlib"], GOOD),
        (b"PORT 010,0077,+1,002,78,52\r\n", &all, GOOD),
        (b"PORT 1_0,77,1,2,78,52\r\n", &["pyftpdlib"], BAD),
        (b"PORT 10x,77,1,2,78,52\r\n", &["vsftpd"], BAD),
        (b"PORT \"10,77,1,2,78,52\"\r\n", &["proftpd"], BAD),
        (b"PO\xff\xf1RT @\r\n", &["proftpd"], BAD),
        (b"\xff\xfd\x01PORT @\r\n", &["proftpd"], GOOD),
        (b"PO\xff\xfdART @\r\n", &["proftpd"], BAD),
        (b"\xef\xbb\xbfPORT @\r\n", &[], BAD),
    ];
    for (spelling, servers, expected) in rows {
        let at = spelling.iter().position(|byte| *byte == b'@');
        let text =
            at.map_or(spelling.to_vec(), |at| [&spelling[..at], b"10,77,1,2,78,52", &spelling[at + 1..]].concat());
        let name = text.escape_ascii();
        assert_eq!(no_server_reads_an_inside_address(&text, &[]), *servers, "{name}");
        let left = leaves(&text, &[]);
        assert!(left.windows(expected.len()).any(|part| part == *expected), "{name}: {}", left.escape_ascii());
        for cut in 0..text.len() {
            let left = leaves(&text, &[cut]);
            assert!(!left.windows(5).any(|part| part == b"10,77"), "{name}, cut at {cut}: {}", left.escape_ascii());
        }
    }
}

/// A line that began to leave may hide an announcement further on, wherever it is cut.
#[test]
fn an_announcement_is_found_in_a_line_whose_beginning_left() {
    for hidden in [&b"NOOP\rPORT @\r\n"[..], b"STAT a\0PO\xff\xf1RT @\r\n", b"SITE x\x0bEPRT |1|10.77.1.2|20020|\r\n"] {
        let at = hidden.iter().position(|byte| *byte == b'@');
        let hidden = at.map_or(hidden.to_vec(), |at| [&hidden[..at], b"10,77,1,2,78,52", &hidden[at + 1..]].concat());
        let text = [&hidden, &b"PORT 10,77,1,2,78,52\r\nNOOP\r\n"[..]].concat();
        for cut in 1..hidden.len() {
            for next in 1..6 {
                let left = leaves(&text, &[cut, next, 1, 1]);
                let shown = left.escape_ascii();
                assert!(!left.windows(4).any(|part| part == b"77,1" || part == b"77.1"), "cut at {cut}: {shown}");
                let ends = b"\r\nPORT 203,0,113,1,78,52\r\nNOOP\r\n";
                assert!(left.ends_with(ends), "cut at {cut}: what follows leaves as ever: {shown}");
            }
        }
    }
    // More of it than an announcement may be long: only the line's end leaves.
    let text = [b"NOOP\rPORT ", &[b'0'; 3000][..], b"10,77,1,2,78,52\r\nNOOP\r\n"].concat();
    assert_eq!(leaves(&text, &[4, 700, 700, 700]).escape_ascii().to_string(), "NOOP\\nNOOP\\r\\n");
}

fn odd() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        3 => prop::sample::select(b"\0\t\n\x0b\x0c\r \"+0,_;|x\x7f\xa0\xff".to_vec()).prop_map(|byte| vec![byte]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => prop::sample::select(vec![&b"\xff\xf1"[..], b"\xff\xfdA", b"\xff\xf4\xff\xf2", b"\r\0", b"PORT ", b"NOOP\r"])
            .prop_map(<[u8]>::to_vec),
    ];
    let first = prop::sample::select(vec![&b""[..], b"NOOP\r\n", b"TYPE I\r\n", b"\n"]);
    (first, prop::collection::vec((0..24_usize, bytes), 0..4)).prop_map(|(first, changes)| {
        let mut text = [first, b"PORT 10,77,1,2,78,52\r\n"].concat();
        for (at, bytes) in changes {
            let at = at.min(text.len());
            text.splice(at..at, bytes);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_inside_address_leaves_that_a_server_would_read(text in odd(), pieces in prop::collection::vec(1..9_usize, 0..6)) {
        no_server_reads_an_inside_address(&text, &pieces);
    }
}

#[test]
fn the_random_spellings_are_read_by_every_server() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut read = [0; SERVERS.len()];
    for _ in 0..400 {
        let text = odd().new_tree(&mut runner).unwrap().current();
        let mut lines = text.split(|byte| *byte == b'\n');
        let line = lines.find(|line| line.windows(4).any(|word| word == b"PORT")).unwrap_or_default();
        for (server, read) in SERVERS.iter().zip(&mut read) {
            *read += usize::from(line != b"PORT 10,77,1,2,78,52\r" && server.reads(line).is_some());
        }
    }
    assert!(read.iter().all(|read| *read > 3), "{read:?}");
}
