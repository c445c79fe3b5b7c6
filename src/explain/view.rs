//! The packets that one place on the path saw: an interface of a capture.

use core::net::SocketAddr;
use std::boxed::Box;
use std::collections::HashMap;
use std::format;
use std::io::Read;
use std::string::{String, ToString};
use std::vec::Vec;

use super::flow::{Flow, IcmpError, Mark};
use super::text::Text;
use crate::capture::{ReadError, Reader};
use crate::ftp::{Command, Reply};
use crate::inspect::packets::Packets;
use crate::inspect::{FramePos, Summary};
use crate::packet::link::find_network;
use crate::packet::{Headers, Layer4, Protocol, TcpFlags};

/// Maximum number of connections that are followed in one view; later ones are counted.
const FLOWS: usize = 1 << 18;

/// An interface of a capture.
pub(super) struct View {
    pub(super) name: String,
    /// The number of the file that it belongs to.
    pub(super) file: usize,
    /// True if the capture is said to be the router's.
    pub(super) is_router: bool,
    /// True for a client's log: frames are lines, and packets are not known.
    pub(super) is_log: bool,
    pub(super) flows: Vec<Flow>,
    /// Index of the latest connection between these ends.
    latest: HashMap<[SocketAddr; 2], usize>,
    /// Connections that were not followed, because there were too many.
    pub(super) left_out: u64,
    pub(super) last: Mark,
}

/// A capture's interfaces, while it is read.
pub(super) struct Views {
    file: String,
    number: usize,
    is_router: bool,
    /// Interfaces by their index, and whether it is a cooked capture's.
    found: HashMap<(usize, Option<u32>), usize>,
    views: Vec<View>,
}

/// The totals of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) frames: u64,
    pub(super) cut: u64,
}

impl Views {
    pub(super) fn new(file: &str, number: usize, is_router: bool) -> Self {
        Self { file: file.to_string(), number, is_router, found: HashMap::new(), views: Vec::new() }
    }

    /// Reads a capture to its end, or to where it breaks. `device` names an interface by its index.
    pub(super) fn read<R: Read>(
        mut self,
        capture: &mut Reader<R>,
        device: &dyn Fn(u32) -> Option<String>,
    ) -> (Vec<View>, Totals, Option<ReadError>) {
        let (mut totals, mut broken) = (Totals::default(), None);
        let (mut packets, mut counted) = (Packets::new(), Summary::default());
        while let Some(record) = capture.next() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    broken = Some(error);
                    continue;
                }
            };
            totals.frames += 1;
            totals.cut += u64::from(record.data.len() < record.original_len);
            let Ok(payload) = find_network(record.link_type, record.data) else { continue };
            if payload.family.is_none() {
                continue;
            }
            let cooked = payload.cooked.and_then(|cooked| cooked.interface);
            let name = record.interface_name.map(ToString::to_string).or_else(|| cooked.and_then(device));
            let view = self.view(record.interface, cooked, name);
            let bytes = record.data.get(payload.offset..).unwrap_or_default();
            let original = record.original_len.saturating_sub(payload.offset);
            let at = Mark { frame: record.frame, time: record.time.micros() };
            view.last = at;
            if !view.icmp(at, bytes) {
                let moment = FramePos { frame: record.frame, time: record.time };
                if let Some(packet) = packets.find(moment, bytes, original, &mut counted) {
                    let captured = packet.captured;
                    view.tcp(at, &packets.buffer, &packet.headers, captured);
                }
            }
        }
        for flow in self.views.iter_mut().flat_map(|view| &mut view.flows) {
            if let Some(text) = &mut flow.text {
                text.finish();
            }
        }
        (self.views, totals, broken)
    }

    fn view(&mut self, interface: usize, cooked: Option<u32>, name: Option<String>) -> &mut View {
        let index = *self.found.entry((interface, cooked)).or_insert_with(|| {
            let device = name.or_else(|| cooked.map(|index| format!("interface {index}")));
            let name = device.map_or_else(|| self.file.clone(), |device| format!("{} ({device})", self.file));
            self.views.push(View::empty(name, self.number, self.is_router));
            self.views.len() - 1
        });
        &mut self.views[index]
    }
}

/// The ends of a connection, in an order that does not depend on the direction.
fn key(a: SocketAddr, b: SocketAddr) -> [SocketAddr; 2] {
    if a < b { [a, b] } else { [b, a] }
}

impl View {
    pub(super) fn empty(name: String, file: usize, is_router: bool) -> Self {
        Self {
            name,
            file,
            is_router,
            is_log: false,
            flows: Vec::new(),
            latest: HashMap::new(),
            left_out: 0,
            last: Mark::default(),
        }
    }

    fn tcp(&mut self, at: Mark, buffer: &[u8], headers: &Headers, captured: usize) {
        let (Layer4::Tcp(segment), Some((from, to))) = (headers.layer4, ends(headers, buffer)) else { return };
        let length = headers.end.saturating_sub(segment.payload);
        let ttl = headers.hop_limit(buffer);
        let found = self.latest.get(&key(from, to)).copied();
        let replaced = |index: usize| {
            let flow = &self.flows[index];
            flow.is_replaced_by(usize::from(from != flow.ends[0]), &segment)
        };
        let index = match found {
            Some(index) if !replaced(index) => index,
            _ if self.flows.len() >= FLOWS => {
                self.left_out += 1;
                return;
            }
            _ => {
                let answers = segment.flags.has(TcpFlags::SYN) && segment.flags.has(TcpFlags::ACK);
                let low =
                    !segment.flags.has(TcpFlags::SYN) && is_control_port(from.port()) && !is_control_port(to.port());
                let ends = if answers || low { [to, from] } else { [from, to] };
                self.flows.push(Flow::new(ends, at));
                self.latest.insert(key(from, to), self.flows.len() - 1);
                self.flows.len() - 1
            }
        };
        let flow = &mut self.flows[index];
        let side = usize::from(from != flow.ends[0]);
        if !flow.segment(side, at, ttl, &segment, length) {
            return;
        }
        let payload = buffer.get(segment.payload..headers.end.min(captured)).unwrap_or_default();
        if segment.flags.has(TcpFlags::SYN) {
            flow.text.get_or_insert_default().syn(side, segment.sequence.0);
        } else if !payload.is_empty() {
            // A stream without a beginning may still be one of text.
            let may_begin = flow.sides[0].packets + flow.sides[1].packets < 8 || is_control_port(flow.ends[1].port());
            if flow.text.is_none() && may_begin && flow.sides.iter().all(|side| side.bytes < 4096) {
                flow.text = Some(Box::default());
            }
            if let Some(text) = &mut flow.text {
                text.data(side, at, segment.sequence.0, payload);
                if !is_control_port(flow.ends[1].port()) && is_no_text(text) {
                    flow.text = None;
                }
            }
        }
    }

    /// Notes an ICMP error. Returns false if it is none.
    fn icmp(&mut self, at: Mark, bytes: &[u8]) -> bool {
        let Ok(headers) = Headers::find_cut(bytes) else { return false };
        let Layer4::Icmp(icmp) = headers.layer4 else { return false };
        let is_error = match headers.protocol {
            Protocol::ICMP => matches!(icmp.kind, 3 | 11 | 12),
            _ => matches!(icmp.kind, 1..=4),
        };
        let quoted = bytes.get(headers.transport + 8..).unwrap_or_default();
        if is_error
            && let Ok(inner) = Headers::find_quoted(quoted, headers.family)
            && let Some((from, to)) = ends(&inner, quoted)
            && let Some(index) = self.latest.get(&key(from, to)).copied()
        {
            let error = IcmpError { at, from: headers.source(bytes), kind: icmp.kind, code: icmp.code };
            self.flows[index].icmp_error(error);
        }
        true
    }
}

fn ends(headers: &Headers, bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, to) = headers.ports(bytes)?;
    Some((SocketAddr::new(headers.source(bytes), from), SocketAddr::new(headers.destination(bytes), to)))
}

/// True for the ports that are FTP's by number.
pub(super) const fn is_control_port(port: u16) -> bool {
    matches!(port, 21 | 990)
}

/// True if what was read cannot be a control connection.
fn is_no_text(text: &Text) -> bool {
    let first = |side| text.lines.iter().find(|line| line.side == side);
    let is_reply = |bytes: &[u8]| Reply::parse(bytes).is_some();
    let is_command = |bytes: &[u8]| is_ftp_command(bytes);
    match (first(0), first(1)) {
        (None, None) => false,
        (Some(line), None) | (None, Some(line)) => !is_reply(&line.text) && !is_command(&line.text),
        (Some(a), Some(b)) => {
            let right = is_command(&a.text) || is_reply(&b.text);
            let reverse = is_command(&b.text) || is_reply(&a.text);
            !right && !reverse
        }
    }
}

/// True for a command that FTP has and mail does not.
pub(super) fn is_ftp_command(line: &[u8]) -> bool {
    match Command::parse(line) {
        Some(Command::Other { verb, .. }) => {
            const VERBS: [&str; 24] = [
                "CWD", "PWD", "XPWD", "TYPE", "SIZE", "MDTM", "NLST", "MLSD", "MLST", "STOR", "APPE", "OPTS", "SYST",
                "CLNT", "SITE", "STRU", "MODE", "CDUP", "MKD", "RMD", "RETR", "LIST", "REST", "STOU",
            ];
            VERBS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(verb))
        }
        Some(Command::Quit | Command::Pass(_)) | None => false,
        Some(_) => true,
    }
}
