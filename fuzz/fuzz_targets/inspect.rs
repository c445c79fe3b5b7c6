//! Arbitrary packets between a few hosts, most of them segments of FTP: the observer ends, tells of each control
//! connection in order and of none after its end, and tells the same of the same packets.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use ftp_conntrack::Instant;
use ftp_conntrack::inspect::{FtpEvent, Inspector, FramePos, Options, SessionId, Sink};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Step {
    /// A segment: who sends it on which connection, its flags, how far from where its side stands, what it says.
    Segment { connection: u8, from_client: bool, flags: u8, shift: i8, line: Line, captured: u8, millis: i8 },
    /// Anything.
    Bytes(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Line {
    Nothing,
    Port(u8),
    Pasv(u8),
    Epsv(u8),
    Eprt(u8),
    AuthTls,
    Agreed,
    Hello,
    Other(Vec<u8>),
}

impl Line {
    fn text(&self, address: [u8; 4]) -> Vec<u8> {
        let [a, b, c, d] = address;
        match self {
            Self::Nothing => Vec::new(),
            Self::Port(port) => format!("PORT {a},{b},{c},{d},4,{port}\r\n").into_bytes(),
            Self::Pasv(port) => format!("227 Go ({a},{b},{c},{d},4,{port})\r\n").into_bytes(),
            Self::Epsv(port) => format!("229 Go (|||{}|)\r\n", 1024 + u16::from(*port)).into_bytes(),
            Self::Eprt(port) => format!("EPRT |1|{a}.{b}.{c}.{d}|{}|\r\n", 1024 + u16::from(*port)).into_bytes(),
            Self::AuthTls => b"AUTH TLS\r\n".to_vec(),
            Self::Agreed => b"234 Go\r\n".to_vec(),
            Self::Hello => b"\x16\x03\x01\0\x04abcd".to_vec(),
            Self::Other(text) => text.clone(),
        }
    }
}

/// The events, and the conditions that they must meet.
#[derive(Default)]
struct Checked {
    told: Vec<String>,
    /// Number of announcements of each living control connection.
    living: BTreeMap<SessionId, u32>,
    latest: u64,
}

impl Sink for Checked {
    fn event(&mut self, at: FramePos, event: &FtpEvent<'_>) {
        self.told.push(format!("{at:?} {event:?}"));
        match event {
            FtpEvent::Opened(opened) => {
                assert_eq!(opened.session.number(), self.latest + 1);
                self.latest += 1;
                self.living.insert(opened.session, 0);
            }
            FtpEvent::Announced(announced) => {
                let count = self.living.get_mut(&announced.session).expect("it lives");
                *count += 1;
                assert_eq!(announced.number, *count);
                assert!(announced.began.frame <= at.frame);
            }
            FtpEvent::DataOpened(data) => assert!(self.living[&data.session] >= data.number),
            FtpEvent::DataEnded(data, _) => assert!(self.living.contains_key(&data.session)),
            FtpEvent::Unfulfilled { session, number, .. } => assert!(self.living[session] >= *number),
            FtpEvent::Done { session } => assert!(self.living.remove(session).is_some()),
            _ => {}
        }
    }
}

fn run(steps: &[Step]) -> Vec<String> {
    let mut options = Options::default();
    // Fewer than there may be, so that some are given up.
    options.sessions = 1;
    let mut inspector = Inspector::new(options);
    let mut checked = Checked::default();
    let mut next = [[1000_u32; 2]; 4];
    let mut time = 0_i64;
    for (frame, step) in (1..).zip(steps) {
        let (bytes, captured) = match step {
            Step::Bytes(bytes) => (bytes.clone(), bytes.len()),
            Step::Segment { connection, from_client, flags, shift, line, captured, millis } => {
                let connection = usize::from(connection % 4);
                let side = usize::from(!*from_client);
                let addresses = [[10, 0, 0, 1], [10, 0, 0, 2]];
                // Two control connections, an active and a passive data connection.
                let ports: [u16; 2] = [[4000, 21], [4001, 21], [1024, 20], [4002, 1024]][connection];
                time = match millis {
                    // As a clock in the wrong unit gives them.
                    0 => i64::MAX - 1,
                    1 => i64::MIN,
                    _ => time.saturating_add(i64::from(*millis) * 1000),
                };
                let text = line.text(addresses[side]);
                let place = &mut next[connection];
                let sequence = place[side].wrapping_add_signed(i32::from(*shift));
                if *shift == 0 {
                    place[side] = place[side].wrapping_add(text.len() as u32 + u32::from(flags & 3 != 0));
                }
                let mut bytes = vec![0x45, 0, 0, 0, 0, frame as u8, 0, 0, 64, 6, 0, 0];
                bytes.extend(addresses[side]);
                bytes.extend(addresses[1 - side]);
                bytes.extend(ports[side].to_be_bytes());
                bytes.extend(ports[1 - side].to_be_bytes());
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(place[1 - side].to_be_bytes());
                bytes.extend([0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(text);
                let length = (bytes.len() as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
                let captured = bytes.len() - usize::from(*captured).min(bytes.len()) * usize::from(*captured > 200);
                (bytes, captured)
            }
        };
        let at = FramePos { frame, time: Instant::from_micros(time) };
        inspector.packet(at, &bytes[..captured], bytes.len(), &mut checked);
    }
    let summary = inspector.finish(&mut checked);
    assert!(checked.living.is_empty());
    assert_eq!(summary.sessions, checked.latest);
    checked.told
}

fuzz_target!(|data: &[u8]| {
    let Ok(steps) = Vec::<Step>::arbitrary(&mut Unstructured::new(data)) else { return };
    if steps.len() <= 64 {
        assert_eq!(run(&steps), run(&steps));
    }
});
