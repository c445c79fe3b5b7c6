//! TCP as the tracker follows it: opening, closing, resets, challenge ACKs and windows. Worked examples by number; that the
//! kernel does the same, `--test kernel` asks.

use ftp_conntrack::Instant;
use ftp_conntrack::conntrack::{Conntrack, ConntrackConfig, InvalidReason, PacketState, TcpInvalid, Template};
use ftp_conntrack::packet::Headers;

use crate::common::{ACK, CLIENT, FIN, PSH_ACK, RST, SERVER, SYN, finish, tcp};

const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;
const RST_ACK: u8 = RST | ACK;

/// The side that speaks.
#[derive(Clone, Copy, Debug)]
enum Side {
    Client,
    Server,
}

use Side::{Client, Server};

/// A tracker and the one connection that it follows.
struct Dialogue {
    conntrack: Conntrack,
    now: Instant,
}

impl Dialogue {
    fn with(config: ConntrackConfig) -> Self {
        Self { conntrack: Conntrack::new(config, [1, 2]), now: Instant::from_secs(0) }
    }

    fn new() -> Self {
        Self::with(ConntrackConfig::default())
    }

    /// A connection that is open: the client's next number is 101, the server's 501.
    fn open(config: ConntrackConfig) -> Self {
        let mut dialogue = Self::with(config);
        dialogue.say(Client, SYN, 100, 0);
        dialogue.say(Server, SYN_ACK, 500, 101);
        dialogue.say(Client, ACK, 101, 501);
        assert_eq!(dialogue.state(), "ESTABLISHED");
        dialogue
    }

    /// The same, and both sides have said that they are done.
    fn closed_by_both() -> Self {
        let mut dialogue = Self::open(ConntrackConfig::default());
        dialogue.say(Client, FIN_ACK, 101, 501);
        dialogue.say(Server, FIN_ACK, 501, 102);
        assert_eq!(dialogue.state(), "LAST_ACK");
        dialogue
    }

    fn packet(from: Side, flags: u8, sequence: u32, acknowledgement: u32, text: &[u8]) -> Vec<u8> {
        match from {
            Client => tcp(CLIENT, SERVER, flags, sequence, acknowledgement, text),
            Server => tcp(SERVER, CLIENT, flags, sequence, acknowledgement, text),
        }
    }

    fn take(&mut self, packet: &[u8]) -> PacketState {
        let headers = Headers::find(packet).unwrap();
        let tracked = self.conntrack.track(self.now, packet, &headers, Template::default()).unwrap();
        if let Some(connection) = tracked.connection {
            self.conntrack.confirm(self.now, connection).unwrap();
        }
        tracked.state
    }

    /// Takes a segment without text; its window is 64,240 bytes.
    fn say(&mut self, from: Side, flags: u8, sequence: u32, acknowledgement: u32) -> PacketState {
        self.take(&Self::packet(from, flags, sequence, acknowledgement, b""))
    }

    /// Takes a segment with so many bytes of text.
    fn send(&mut self, from: Side, sequence: u32, acknowledgement: u32, len: usize) -> PacketState {
        self.take(&Self::packet(from, PSH_ACK, sequence, acknowledgement, &vec![b'x'; len]))
    }

    /// Takes a SYN or SYN/ACK with options, a multiple of four bytes.
    fn begin(&mut self, from: Side, flags: u8, sequence: u32, acknowledgement: u32, options: &[u8]) {
        let mut packet = Self::packet(from, flags, sequence, acknowledgement, options);
        packet[32] += (options.len() as u8 / 4) << 4;
        self.take(&finish(packet));
    }

    fn word(&self, number: usize) -> String {
        let text = self.conntrack.to_proc_text(self.now);
        text.split_whitespace().nth(number).unwrap_or("gone").to_owned()
    }

    fn state(&self) -> String {
        self.word(5)
    }

    /// True if the connection is not given up for want of space.
    fn is_assured(&self) -> bool {
        self.conntrack.to_proc_text(self.now).contains("[ASSURED]")
    }

    /// The seconds for which the connection is kept.
    fn timeout(&self) -> u64 {
        self.word(4).parse().unwrap()
    }
}

fn invalid(why: TcpInvalid) -> PacketState {
    PacketState::Invalid(InvalidReason::Tcp(why))
}

#[test]
fn an_ack_of_the_server_opens_nothing_but_a_simultaneous_open() {
    let mut usual = Dialogue::new();
    usual.say(Client, SYN, 100, 0);
    usual.say(Server, SYN_ACK, 500, 101);
    usual.say(Server, ACK, 501, 101);
    assert_eq!(usual.state(), "SYN_RECV");

    let mut simultaneous = Dialogue::new();
    simultaneous.say(Client, SYN, 100, 0);
    simultaneous.say(Server, SYN, 500, 0);
    assert_eq!(simultaneous.state(), "SYN_SENT2");
    simultaneous.say(Client, SYN_ACK, 100, 501);
    assert_eq!(simultaneous.state(), "SYN_RECV");
    simultaneous.say(Server, ACK, 501, 101);
    assert_eq!(simultaneous.state(), "ESTABLISHED");
}

#[test]
fn a_syn_again_does_not_keep_the_entry() {
    let mut dialogue = Dialogue::new();
    dialogue.say(Client, SYN, 100, 0);
    dialogue.now = Instant::from_secs(10);
    assert_eq!(dialogue.say(Client, SYN, 100, 0), PacketState::New);
    assert_eq!((dialogue.state().as_str(), dialogue.timeout()), ("SYN_SENT", 110));
}

#[test]
fn a_challenge_ack_does_not_end_what_waits_for_its_last_ack() {
    let mut challenged = Dialogue::closed_by_both();
    assert_eq!(challenged.say(Client, SYN, 9000, 0), PacketState::Established);
    assert_eq!(challenged.say(Server, ACK, 502, 102), PacketState::Established);
    assert_eq!(challenged.state(), "LAST_ACK");
    // One SYN is answered by one of them.
    challenged.say(Server, ACK, 502, 102);
    assert_eq!(challenged.state(), "TIME_WAIT");

    let mut last = Dialogue::closed_by_both();
    last.say(Client, ACK, 102, 502);
    assert_eq!(last.state(), "TIME_WAIT");

    let mut own = Dialogue::closed_by_both();
    own.say(Client, SYN, 9000, 0);
    own.say(Client, ACK, 102, 502);
    assert_eq!(own.state(), "TIME_WAIT", "who sends the SYN does not challenge it");
}

#[test]
fn only_a_syn_in_last_ack_is_challenged_there() {
    let mut dialogue = Dialogue::open(ConntrackConfig::default());
    dialogue.say(Client, FIN_ACK, 101, 501);
    assert_eq!(dialogue.state(), "FIN_WAIT");
    dialogue.say(Client, SYN, 9000, 0);
    dialogue.say(Server, FIN_ACK, 501, 102);
    assert_eq!(dialogue.state(), "LAST_ACK");
    dialogue.say(Server, ACK, 502, 102);
    assert_eq!(dialogue.state(), "TIME_WAIT");
}

#[test]
fn a_syn_in_an_open_connection_counts_once_it_is_answered() {
    let mut other = Dialogue::open(ConntrackConfig::default());
    assert_eq!(other.say(Client, SYN, 4_000_000_000, 0), PacketState::Established);
    other.say(Server, SYN_ACK, 3_900_000_000, 4_000_000_002);
    assert_eq!(other.state(), "ESTABLISHED", "it answers another SYN");

    let mut again = Dialogue::open(ConntrackConfig::default());
    again.say(Client, SYN, 4_000_000_000, 0);
    again.say(Server, SYN_ACK, 3_900_000_000, 4_000_000_001);
    assert_eq!(again.state(), "SYN_RECV");
    for sequence in [3_900_000_001, 3_900_000_011] {
        let early = again.send(Server, sequence, 4_000_000_001, 10);
        assert_eq!(early, PacketState::Established, "the window is that of the SYN");
    }
    again.say(Client, ACK, 4_000_000_001, 3_900_000_001);
    assert_eq!(again.state(), "ESTABLISHED");
    assert_eq!(again.send(Client, 4_000_000_001, 3_900_000_001, 10), PacketState::Established);
    assert!(matches!(again.send(Client, 101, 501, 10), PacketState::Invalid(_)), "the old numbers are over");
}

#[test]
fn a_reset_in_answer_to_a_challenge_of_the_syn_is_believed() {
    for (sequence, state) in [(777, "CLOSE"), (778, "SYN_SENT")] {
        let mut dialogue = Dialogue::new();
        dialogue.say(Client, SYN, 100, 0);
        // The server has an older connection, and says where that is.
        dialogue.say(Server, ACK, 500, 777);
        dialogue.say(Client, RST, sequence, 0);
        assert_eq!(dialogue.state(), state, "{sequence}");
    }
}

#[test]
fn a_reset_in_answer_to_a_syn_must_acknowledge_it() {
    let mut refused = Dialogue::new();
    refused.say(Client, SYN, 100, 0);
    refused.say(Server, RST_ACK, 0, 101);
    assert_eq!(refused.state(), "gone");

    let mut forged = Dialogue::new();
    forged.say(Client, SYN, 100, 0);
    assert_eq!(forged.say(Server, RST_ACK, 0, 105), invalid(TcpInvalid::AcknowledgesUnsent));
    assert_eq!(forged.state(), "SYN_SENT");
}

#[test]
fn a_reset_must_hit_the_number_that_the_other_side_expects() {
    let reset = |sequence| {
        let mut dialogue = Dialogue::open(ConntrackConfig::default());
        dialogue.send(Client, 101, 501, 10);
        dialogue.send(Server, 501, 111, 10);
        let verdict = dialogue.say(Client, RST, sequence, 0);
        (verdict, dialogue.state())
    };
    assert_eq!(reset(111), (PacketState::Established, "CLOSE".to_owned()));
    assert_eq!(reset(110), (invalid(TcpInvalid::OldReset), "ESTABLISHED".to_owned()));
    // It passes, for the receiver to challenge it.
    assert_eq!(reset(115), (PacketState::Established, "ESTABLISHED".to_owned()));
}

#[test]
fn a_reset_may_follow_its_own_data() {
    let mut dialogue = Dialogue::open(ConntrackConfig::default());
    dialogue.send(Server, 501, 101, 10);
    dialogue.send(Client, 101, 501, 10);
    dialogue.say(Client, RST, 111, 0);
    assert_eq!(dialogue.state(), "CLOSE");
}

#[test]
fn old_resets_pass_where_they_are_to_be_ignored() {
    let mut config = ConntrackConfig::default();
    config.tcp.ignore_invalid_rst = true;
    let mut dialogue = Dialogue::open(config);
    dialogue.send(Server, 501, 101, 10);
    assert_eq!(dialogue.say(Client, RST, 100, 0), PacketState::Established);
    assert_eq!(dialogue.state(), "ESTABLISHED");
}

#[test]
fn segments_outside_the_windows_are_invalid() {
    let open = || Dialogue::open(ConntrackConfig::default());
    // The server's window ends at 101 + 64,240. What ends less than another window after that passes, and counts for nothing.
    let end = 101 + 64_240;
    assert_eq!(open().send(Client, end + 64_238, 501, 1), PacketState::Established);
    assert_eq!(open().send(Client, end + 64_239, 501, 1), invalid(TcpInvalid::AboveWindow));
    let mut narrow = open();
    let mut offer = Dialogue::packet(Server, ACK, 501, 101, b"");
    offer[34..36].copy_from_slice(&1000_u16.to_be_bytes());
    narrow.take(&finish(offer));
    let largest = narrow.send(Client, end + 64_238, 501, 1);
    assert_eq!(largest, PacketState::Established, "the largest window that was offered counts");
    assert_eq!(open().say(Client, ACK, 101, 501), PacketState::Established);
    assert_eq!(open().say(Client, ACK, 101, 502), invalid(TcpInvalid::AcknowledgesUnsent));
}

#[test]
fn windows_are_scaled_if_both_sides_offer_it() {
    const SCALED: [u8; 4] = [1, 3, 3, 2];
    const PLAIN: [u8; 4] = [2, 4, 5, 0xb4];
    let far = |of_client: &[u8], of_server: &[u8]| {
        let mut dialogue = Dialogue::new();
        dialogue.begin(Client, SYN, 100, 0, of_client);
        dialogue.begin(Server, SYN_ACK, 500, 101, of_server);
        dialogue.say(Client, ACK, 101, 501);
        // The server opens its window: four times 64,240 bytes, if it is scaled.
        dialogue.say(Server, ACK, 501, 101);
        dialogue.send(Client, 101 + 3 * 64_240, 501, 1)
    };
    assert_eq!(far(&SCALED, &SCALED), PacketState::Established);
    for (of_client, of_server) in [(SCALED, PLAIN), (PLAIN, SCALED), (PLAIN, PLAIN)] {
        assert_eq!(far(&of_client, &of_server), invalid(TcpInvalid::AboveWindow));
    }
}

#[test]
fn time_is_short_while_something_is_not_acknowledged() {
    let mut dialogue = Dialogue::open(ConntrackConfig::default());
    dialogue.say(Server, ACK, 501, 101);
    assert_eq!(dialogue.timeout(), 432_000);
    dialogue.send(Client, 101, 501, 10);
    assert_eq!(dialogue.timeout(), 300);
    dialogue.say(Server, ACK, 501, 111);
    assert_eq!(dialogue.timeout(), 432_000);
}

#[test]
fn time_is_short_after_the_same_segment_three_times_more() {
    let mut dialogue = Dialogue::open(ConntrackConfig::default());
    let timeouts: Vec<_> = (0..4)
        .map(|_| {
            dialogue.say(Server, ACK, 501, 101);
            dialogue.timeout()
        })
        .collect();
    assert_eq!(timeouts, [432_000, 432_000, 432_000, 300]);
    dialogue.say(Client, ACK, 101, 501);
    assert_eq!(dialogue.timeout(), 432_000);
}

#[test]
fn time_is_short_while_a_window_is_closed() {
    let mut dialogue = Dialogue::open(ConntrackConfig::default());
    let mut closed = Dialogue::packet(Server, ACK, 501, 101, b"");
    closed[34..36].fill(0);
    dialogue.take(&finish(closed));
    assert_eq!(dialogue.timeout(), 300);
    dialogue.say(Server, ACK, 501, 101);
    assert_eq!(dialogue.timeout(), 432_000);
}

#[test]
fn closing_out_of_the_windows_by_both_sides_shortens_the_time() {
    let mut dialogue = Dialogue::open(ConntrackConfig::default());
    dialogue.say(Server, ACK, 501, 101);
    assert!(matches!(dialogue.say(Client, FIN_ACK, 1_000_000, 501), PacketState::Invalid(_)));
    assert_eq!(dialogue.timeout(), 432_000);
    assert!(matches!(dialogue.say(Client, FIN_ACK, 1_000_000, 501), PacketState::Invalid(_)));
    assert_eq!(dialogue.timeout(), 432_000, "the same side again");
    assert!(matches!(dialogue.send(Server, 1_000_000, 101, 1), PacketState::Invalid(_)), "nothing is closed by this");
    assert_eq!(dialogue.timeout(), 432_000);
    assert!(matches!(dialogue.say(Server, FIN_ACK, 1_000_000, 101), PacketState::Invalid(_)));
    assert_eq!((dialogue.state().as_str(), dialogue.timeout()), ("ESTABLISHED", 300));
}

#[test]
fn a_stream_is_taken_up_in_the_middle_if_that_is_allowed() {
    let mut loose = Dialogue::new();
    assert_eq!(loose.send(Client, 7, 9, 1), PacketState::New);
    assert_eq!((loose.state().as_str(), loose.timeout()), ("ESTABLISHED", 300));
    loose.send(Client, 8, 9, 1);
    assert!(!loose.is_assured(), "nobody has answered");
    assert_eq!(loose.say(Server, ACK, 9, 9), PacketState::Established);
    assert!(!loose.is_assured());
    assert_eq!(loose.say(Client, ACK, 9, 9), PacketState::Established);
    assert!(loose.is_assured());
    assert_eq!(loose.timeout(), 432_000);
    // Nobody knows the windows.
    assert_eq!(loose.send(Client, 50_000_000, 9, 1), PacketState::Established);

    let mut config = ConntrackConfig::default();
    config.tcp.loose = false;
    let mut strict = Dialogue::with(config);
    assert_eq!(strict.send(Client, 7, 9, 1), invalid(TcpInvalid::Pickup));
    assert_eq!(strict.state(), "gone");
}

#[test]
fn a_connection_that_is_over_makes_way_for_a_syn() {
    let mut finished = Dialogue::closed_by_both();
    finished.say(Client, ACK, 102, 502);
    assert_eq!(finished.state(), "TIME_WAIT");
    assert_eq!(finished.say(Client, SYN, 9000, 0), PacketState::New);
    assert_eq!(finished.state(), "SYN_SENT");

    for (from, sequence, state) in [(Client, 101, "SYN_SENT"), (Server, 501, "CLOSE")] {
        let mut reset = Dialogue::open(ConntrackConfig::default());
        reset.say(Server, ACK, 501, 101);
        reset.say(from, RST, sequence, 0);
        assert_eq!(reset.state(), "CLOSE");
        // After a reset of the other side, that side has to answer first.
        reset.say(Client, SYN, 9000, 0);
        assert_eq!(reset.state(), state, "{from:?}");
    }
}

#[test]
fn flags_that_do_not_go_together_are_invalid() {
    for flags in [0, FIN, SYN | FIN, SYN | RST, FIN | RST, SYN_ACK | FIN, 0x20, 0x08] {
        assert_eq!(Dialogue::new().say(Client, flags, 1, 0), invalid(TcpInvalid::Flags), "{flags:#x}");
    }
    // A first segment that begins nothing.
    for flags in [SYN_ACK, FIN_ACK, RST, RST_ACK] {
        assert_eq!(Dialogue::new().say(Client, flags, 1, 0), invalid(TcpInvalid::State), "{flags:#x}");
    }
    assert_eq!(Dialogue::new().say(Client, SYN | 0xc8, 1, 0), PacketState::New, "PSH, ECE and CWR do not matter");
}
