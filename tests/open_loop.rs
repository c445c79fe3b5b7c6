//! Dialogues that are cut, repeated and reordered at random, through a router that behaves exactly: what leaves, put
//! together, is each side's stream with the announced endpoints replaced, and nothing else.
//!
//! `OPEN_LOOP_SEED=7 OPEN_LOOP_DIALOGUES=1 cargo test --test open_loop` plays one.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use common::*;
use ftp_conntrack::Behaviour;
use ftp_conntrack::packet::{Headers, Layer4, TcpFlags};
use ftp_conntrack::router::{Egress, Verdict};

const DNAT: &str = "*raw\n-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp\nCOMMIT\n\
                    *nat\n-A PREROUTING -i wan -p tcp --dport 21 -j DNAT --to-destination 10.77.1.2\nCOMMIT\n";

#[test]
fn both_far_streams_are_what_they_must_be() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let first: u64 = number("OPEN_LOOP_SEED", 1);
    for seed in first..first + number("OPEN_LOOP_DIALOGUES", 1500) {
        for masqueraded in [true, false] {
            let mut dialogue = Dialogue::new(seed, masqueraded);
            if let Err(wrong) = dialogue.play() {
                panic!("OPEN_LOOP_SEED={seed}, the client inside: {masqueraded}\n{}{wrong}", dialogue.trace);
            }
        }
    }
}

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// One side of the connection.
struct Side {
    interface: usize,
    /// From where to where it sends.
    ends: [&'static str; 2],
    /// The number of its first byte.
    first: u32,
    /// Text that it sends, and the part of it that is to arrive.
    near: Vec<u8>,
    far: Vec<u8>,
    /// Bytes that arrived, and the end of the stream.
    arrived: BTreeMap<i32, u8>,
    ended: Option<i32>,
}

struct Dialogue {
    world: World,
    random: Random,
    sides: [Side; 2],
    /// The address of each side as it knows it, and as the other does.
    addresses: [[&'static str; 2]; 2],
    trace: String,
}

/// A segment: where in its sender's stream, and how long.
type Piece = (usize, usize);

impl Dialogue {
    fn new(seed: u64, masqueraded: bool) -> Self {
        let mut random = Random(seed);
        let mut config = config(if masqueraded { MASQUERADE } else { DNAT });
        config.helper = config.helper.behaving(Behaviour::Exact);
        config.helper.hold_buffers = 4;
        config.conntrack.limits.connections = 16;
        config.conntrack.limits.helped = 4;
        let (client, server, addresses) = if masqueraded {
            let addresses = [["10,77,1,2", "203,0,113,1"], ["198,51,100,9", "198,51,100,9"]];
            ((LAN, [CLIENT, SERVER]), (WAN, [SERVER, OUTSIDE]), addresses)
        } else {
            let client = "198.51.100.9:5000";
            let addresses = [["198,51,100,9", "198,51,100,9"], ["10,77,1,2", "203,0,113,1"]];
            ((WAN, [client, "203.0.113.1:21"]), (LAN, ["10.77.1.2:21", client]), addresses)
        };
        let mut side = |(interface, ends)| Side {
            interface,
            ends,
            first: random.below(1 << 32) as u32,
            near: Vec::new(),
            far: Vec::new(),
            arrived: BTreeMap::new(),
            ended: None,
        };
        let sides = [side(client), side(server)];
        Self { world: World::new(config), random, sides, addresses, trace: String::new() }
    }

    fn play(&mut self) -> Result<(), String> {
        let [client, server] = [0, 1].map(|who| self.sides[who].first);
        self.send(0, SYN, client.wrapping_sub(1), 0, &[])?;
        self.send(1, SYN | ACK, server.wrapping_sub(1), client, &[])?;
        self.send(0, ACK, client, server, &[])?;
        for (who, line) in [(1, "220 ready\r\n"), (0, "USER ftp\r\n"), (1, "230 in\r\n")] {
            self.says(who, line)?;
        }
        for _ in 0..self.random.below(6) + 1 {
            self.transfer()?;
        }
        let [client, server] = [0, 1].map(|who| self.number(who, self.sides[who].near.len()));
        let [client_seen, server_seen] = [0, 1].map(|who| self.number(who, self.sides[who].far.len()));
        self.send(1, FIN | ACK, server, client_seen, &[])?;
        self.send(0, FIN | ACK, client, server_seen.wrapping_add(1), &[])?;
        for side in &self.sides {
            let arrived: Vec<u8> = side.arrived.values().copied().collect();
            let expected = side.far.escape_ascii().to_string();
            if arrived != side.far || side.ended != Some(side.far.len() as i32) {
                let arrived = arrived.escape_ascii();
                return Err(format!("arrived  {arrived} (end: {:?})\nexpected {expected}\n", side.ended));
            }
        }
        Ok(())
    }

    /// One transfer's lines: an announcement, and what is asked and answered around it.
    fn transfer(&mut self) -> Result<(), String> {
        let port = 1024 + self.random.below(60_000);
        let port = format!("{},{}", port >> 8, port & 255);
        let end = self.random.of(&["\r\n", "\n"]);
        let (delimiter, dots) =
            (self.random.of(&["|", "!", "+"]), self.addresses[0].map(|text| text.replace(',', ".")));
        match self.random.below(9) {
            0 => self.announces(0, |address| format!("PORT {address},{port}{end}"))?,
            1 => {
                let d = delimiter;
                let said = dots.map(|address| format!("EPRT {d}1{d}{address}{d}5000{d}{end}"));
                self.says_otherwise(0, &said)?;
            }
            2 => self.announces(0, |address| format!("LPRT 4,4,{address},2,{port}{end}"))?,
            3 => self.announces(0, |address| format!("TYPE I\r\nport  {address},{port}{end}NOOP\r\n"))?,
            4 => {
                self.says(0, "STOR 10,77,1,2,4,5\r\n")?;
                return self.says(1, "550 PORT 10,77,1,2,4,5\r\n");
            }
            5 => {
                self.says(0, "EPSV\r\n")?;
                return self.says(1, "229 ok (|||5000|)\r\n");
            }
            6 => {
                self.says(0, "PASV\r\n")?;
                let text = "227-on {},p\r\n  still {},p\r\n227 ({},p)\r\n".replace('p', &port);
                return self.announces(1, |address| text.replace("{}", address));
            }
            7 => {
                self.says(0, "HELP\r\n")?;
                return self.says(1, "214-these\r\n227 (10,77,1,2,4,5)\r\n214 all\r\n");
            }
            _ => {
                self.says(0, &format!("PASV{end}"))?;
                let dress = self.random.of(&["227 Passive ({}).\r\n", "227 ={}\n", "227 {}\r\n"]);
                return self.announces(1, |address| dress.replace("{}", &format!("{address},{port}")));
            }
        }
        self.says(1, "200 ok\r\n")
    }

    fn announces(&mut self, who: usize, text: impl Fn(&str) -> String) -> Result<(), String> {
        let said = self.addresses[who].map(text);
        self.says_otherwise(who, &said)
    }

    fn says(&mut self, who: usize, text: &str) -> Result<(), String> {
        self.says_otherwise(who, &[text.to_owned(), text.to_owned()])
    }

    /// One side says something, which arrives otherwise; in pieces, some of them again, in any order.
    fn says_otherwise(&mut self, who: usize, [near, far]: &[String; 2]) -> Result<(), String> {
        let start = self.sides[who].near.len();
        self.sides[who].near.extend(near.as_bytes());
        self.sides[who].far.extend(far.as_bytes());
        let most = self.random.of(&[0, 0, 1, 3, near.len()]);
        let mut cuts: Vec<usize> = (0..most).map(|_| self.random.below(near.len())).collect();
        cuts.extend([0, near.len()]);
        cuts.sort_unstable();
        let mut pieces: Vec<Piece> = cuts.windows(2).map(|cut| (start + cut[0], cut[1] - cut[0])).collect();
        for _ in 0..self.random.below(3) {
            // Anything that was said so far may come once more.
            let from = self.random.below(start + near.len());
            let len = 1 + self.random.below((start + near.len() - from).min(60));
            let place = self.random.below(pieces.len() + 1);
            pieces.insert(place, (from, len));
        }
        if self.random.one_in(2) {
            for last in (1..pieces.len()).rev() {
                pieces.swap(last, self.random.below(last + 1));
            }
        }
        let acknowledged = self.number(1 - who, self.sides[1 - who].far.len());
        for (from, len) in pieces {
            let bytes = self.sides[who].near[from..from + len].to_vec();
            self.send(who, PSH_ACK, self.number(who, from), acknowledged, &bytes)?;
        }
        if self.random.one_in(2) {
            let own = self.number(1 - who, self.sides[1 - who].near.len());
            self.send(1 - who, ACK, own, self.number(who, self.sides[who].far.len()), &[])?;
        }
        Ok(())
    }

    fn number(&self, who: usize, place: usize) -> u32 {
        self.sides[who].first.wrapping_add(place as u32)
    }

    /// Sends a segment; what leaves arrives.
    fn send(&mut self, who: usize, flags: u8, sequence: u32, acknowledgement: u32, bytes: &[u8]) -> Result<(), String> {
        let side = &self.sides[who];
        let text = std::str::from_utf8(bytes).unwrap();
        let packet = tcp(side.ends[0], side.ends[1], flags, sequence, acknowledgement, text);
        let place = sequence.wrapping_sub(side.first) as i32;
        let name = ["client", "server"][who];
        writeln!(self.trace, "{name} {flags:#x} at {place}: {}", bytes.escape_ascii()).unwrap();
        let interface = side.interface;
        self.world.outbox.clear();
        let (verdict, left) = self.world.send(interface, &packet);
        let mut leaving = Vec::from([left]);
        for outgoing in self.world.outbox.iter() {
            if matches!(outgoing.egress, Egress::Forward { interface: out, .. } if out != interface) {
                leaving.push(outgoing.bytes.to_vec());
            }
        }
        if !matches!(verdict, Verdict::Forward { .. }) {
            return Err(format!("{verdict:?}\n"));
        }
        leaving.iter().try_for_each(|bytes| self.arrives(who, bytes))
    }

    fn arrives(&mut self, who: usize, bytes: &[u8]) -> Result<(), String> {
        let headers = Headers::find(bytes).map_err(|error| error.to_string())?;
        let Layer4::Tcp(segment) = headers.layer4 else { return Err("no segment".into()) };
        if !headers.transport_checksum_ok(bytes) || !headers.header_checksum_ok(bytes) {
            return Err("a wrong checksum\n".into());
        }
        let side = &mut self.sides[who];
        let start = segment.sequence.0.wrapping_sub(side.first) as i32;
        let payload = headers.payload(bytes);
        writeln!(self.trace, "    leaves at {start}: {} {:?}", payload.escape_ascii(), segment.flags).unwrap();
        if segment.flags.has(TcpFlags::SYN) {
            return Ok(());
        }
        for (place, byte) in (start..).zip(payload) {
            if place < 0 || *side.arrived.entry(place).or_insert(*byte) != *byte {
                return Err(format!("the byte at {place} left as another\n"));
            }
        }
        if segment.flags.has(TcpFlags::FIN) {
            side.ended = Some(start + payload.len() as i32);
        }
        Ok(())
    }
}
