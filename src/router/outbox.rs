//! Packets that leave besides the packet at hand.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Packets that the router sends of its own accord: ICMP errors and resets, parts of packets that were too long, what
/// was held back; and those for this machine that it put together of parts. Its memory is taken when it is made; the caller empties it after each call.
#[derive(Debug)]
pub struct Outbox {
    buffer: Box<[u8]>,
    used: usize,
    entries: Vec<Entry>,
    refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    end: usize,
    egress: Egress,
    mark: u32,
}

/// The way by which a packet of the outbox leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Egress {
    /// It leaves.
    Forward {
        /// The number of the interface it leaves by.
        interface: usize,
        /// Next hop.
        next_hop: IpAddr,
    },
    /// It is for this machine.
    Local,
}

/// A packet that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing<'o> {
    /// The packet, from its IP header.
    pub bytes: &'o [u8],
    /// Way by which it leaves.
    pub egress: Egress,
    /// Firewall mark.
    pub mark: u32,
}

impl Outbox {
    /// An outbox for `count` packets of together `bytes` bytes. A reassembled packet of 64 KiB wants that much and
    /// 48 places.
    #[must_use]
    pub fn new(count: usize, bytes: usize) -> Self {
        Self { buffer: vec![0; bytes].into(), used: 0, entries: Vec::with_capacity(count), refused: 0 }
    }

    /// The packets in it, in the order they leave.
    pub fn iter(&self) -> impl Iterator<Item = Outgoing<'_>> {
        self.entries.iter().map(|entry| Outgoing {
            bytes: self.buffer.get(entry.start..entry.end).unwrap_or_default(),
            egress: entry.egress,
            mark: entry.mark,
        })
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.used = 0;
    }

    /// Returns true if it has no packets.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of packets that found no room.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns the number of bytes that it takes at most.
    #[cfg(feature = "smoltcp")]
    pub(crate) const fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Room for a packet of `len` bytes that is about to be made; `None`, and counted, when there is none.
    pub(crate) fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.entries.len() == self.entries.capacity() || len > self.buffer.len() - self.used {
            self.refused += 1;
            return None;
        }
        self.buffer.get_mut(self.used..self.used + len)
    }

    /// Sends the packet that was made in [`Outbox::room`].
    pub(crate) fn send(&mut self, len: usize, egress: Egress, mark: u32) {
        self.entries.push(Entry { start: self.used, end: self.used + len, egress, mark });
        self.used += len;
    }

    /// Moves all that is in it to another one.
    #[inline]
    pub(crate) fn move_to(&mut self, other: &mut Self) {
        if !self.is_empty() {
            for outgoing in self.iter() {
                other.send_copy(outgoing.bytes, outgoing.egress, outgoing.mark);
            }
            self.clear();
        }
    }

    /// Takes a copy of a packet.
    pub(crate) fn send_copy(&mut self, bytes: &[u8], egress: Egress, mark: u32) {
        if let Some(room) = self.room(bytes.len()) {
            room.copy_from_slice(bytes);
            self.send(bytes.len(), egress, mark);
        }
    }
}
