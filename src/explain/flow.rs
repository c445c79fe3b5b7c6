//! One TCP connection as one view has it.

use core::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use super::text::Text;
use crate::packet::{Segment, TcpFlags};

/// A frame of a view, and when it was captured (microseconds; comparable within a view only).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) frame: u64,
    pub(super) time: i64,
}

/// An ICMP error that quotes a packet of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct IcmpError {
    pub(super) at: Mark,
    pub(super) from: IpAddr,
    pub(super) kind: u8,
    pub(super) code: u8,
}

/// A segment that its sender sent again, because nobody acknowledged it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resent {
    pub(super) sequence: u32,
    pub(super) length: usize,
    pub(super) times: u32,
    pub(super) last: Mark,
}

/// One side's part.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    /// The sequence number of its SYN.
    pub(super) isn: Option<u32>,
    /// The TTLs of its packets; the first one is that of the copy that is followed.
    pub(super) ttls: Vec<u8>,
    pub(super) packets: u64,
    /// The first sequence number after all that was seen of its stream.
    pub(super) end: Option<u32>,
    /// The bytes seen of its stream, those that were sent again left out.
    pub(super) bytes: u64,
    /// The highest acknowledgement that the other side sent for its stream.
    pub(super) acked: Option<u32>,
    pub(super) fin: Option<Mark>,
    pub(super) reset: Option<(Mark, u8)>,
    pub(super) last_data: Option<Mark>,
    pub(super) longest: usize,
    pub(super) resent: Resent,
}

/// A TCP connection in one view. Side 0 opened it.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) ends: [SocketAddr; 2],
    pub(super) sides: [Side; 2],
    pub(super) syns: Vec<Mark>,
    /// The TTLs with which its first SYN was seen.
    pub(super) syn_ttls: Vec<u8>,
    pub(super) syn_ack: Option<Mark>,
    pub(super) first: Mark,
    pub(super) last: Mark,
    pub(super) icmp: Vec<IcmpError>,
    pub(super) text: Option<std::boxed::Box<Text>>,
}

/// Maximum number of SYNs and ICMP errors that are kept of one connection.
const KEPT: usize = 16;

fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

impl Flow {
    pub(super) fn new(ends: [SocketAddr; 2], at: Mark) -> Self {
        Self {
            ends,
            sides: Default::default(),
            syns: Vec::new(),
            syn_ttls: Vec::new(),
            syn_ack: None,
            first: at,
            last: at,
            icmp: Vec::new(),
            text: None,
        }
    }

    /// True if side 1 answered the SYN, and side 0, which sends it again, acknowledges nothing.
    pub(super) fn is_answered_in_vain(&self) -> bool {
        self.syn_ack.is_some()
            && self.syns.len() > 1
            && self.sides[1].acked.is_none()
            && self.sides.iter().all(|side| side.bytes == 0)
    }

    /// True if this segment begins another connection with the same ends.
    pub(super) fn is_replaced_by(&self, side: usize, segment: &Segment) -> bool {
        let opens = segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::ACK);
        let known = self.sides[side].isn;
        opens && known.is_none_or(|isn| isn != segment.sequence.0) && (known.is_some() || self.last.frame > 0)
    }

    /// Takes a segment in. Returns false if it is a copy that only passed another interface.
    pub(super) fn segment(&mut self, side: usize, at: Mark, ttl: u8, segment: &Segment, length: usize) -> bool {
        self.last = at;
        let other = 1 - side;
        let flags = segment.flags;
        let opens = flags.has(TcpFlags::SYN) && !flags.has(TcpFlags::ACK);
        if opens && !self.syn_ttls.contains(&ttl) && self.syn_ttls.len() < KEPT {
            self.syn_ttls.push(ttl);
        }
        let this = &mut self.sides[side];
        if !this.ttls.contains(&ttl) && this.ttls.len() < KEPT {
            this.ttls.push(ttl);
        }
        if flags.has(TcpFlags::RST) {
            // A machine on the path resets with a TTL of its own.
            this.reset.get_or_insert((at, ttl));
            return true;
        }
        if this.ttls.first() != Some(&ttl) {
            return false;
        }
        this.packets += 1;
        if flags.has(TcpFlags::SYN) {
            this.isn = Some(segment.sequence.0);
            this.end.get_or_insert(segment.sequence.0.wrapping_add(1));
            if opens && self.syns.len() < KEPT {
                self.syns.push(at);
            }
            if !opens {
                self.syn_ack.get_or_insert(at);
            }
        }
        if flags.has(TcpFlags::FIN) {
            this.fin.get_or_insert(at);
        }
        if length > 0 {
            this.data(at, segment.sequence.0.wrapping_add(u32::from(flags.has(TcpFlags::SYN))), length);
        }
        if flags.has(TcpFlags::ACK) {
            let acked = &mut self.sides[other].acked;
            let acknowledgement = segment.acknowledgement.0;
            if acked.is_none_or(|known| distance(known, acknowledgement) > 0) {
                *acked = Some(acknowledgement);
            }
        }
        true
    }

    pub(super) fn icmp_error(&mut self, error: IcmpError) {
        if self.icmp.len() < KEPT {
            self.icmp.push(error);
        }
    }

    /// True if the other side completed the handshake, or bytes passed.
    pub(super) fn is_open(&self) -> bool {
        self.syn_ack.is_some() || self.sides[1].packets > 0 || self.sides[0].bytes > 0
    }

    /// True if it begins with its SYN.
    pub(super) const fn has_syn(&self) -> bool {
        !self.syn_ttls.is_empty()
    }

    /// The sequence number that its opener began with, which NAT leaves alone.
    pub(super) fn isn(&self) -> Option<u32> {
        self.sides[0].isn
    }
}

impl Side {
    fn data(&mut self, at: Mark, sequence: u32, length: usize) {
        self.last_data = Some(at);
        self.longest = self.longest.max(length);
        let end = sequence.wrapping_add(length as u32);
        let fresh = self.end.map_or(length as i32, |known| distance(known, end));
        if fresh > 0 {
            self.bytes += u64::from(fresh.unsigned_abs().min(length as u32));
            self.end = Some(end);
        }
        if fresh <= 0 {
            if self.resent.sequence == sequence && self.resent.times > 0 {
                self.resent.times += 1;
                self.resent.length = self.resent.length.max(length);
            } else {
                self.resent = Resent { sequence, length, times: 1, last: at };
            }
            self.resent.last = at;
        }
    }
}

impl Side {
    /// True if the host itself says by ICMP that nothing listens.
    pub(super) fn icmp_refused(&self, flow: &Flow) -> bool {
        flow.icmp.iter().any(|error| error.from == flow.ends[1].ip() && error.kind != 11)
    }
}
