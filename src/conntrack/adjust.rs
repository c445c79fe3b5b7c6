//! Adjusting the numbers of a packet whose stream has shifted (`nf_ct_seq_adjust`).

use core::ops::Range;

use super::Conntrack;
use super::connection::{Connection, Direction};
use crate::SequenceNumber;
use crate::event::DropReason;
use crate::packet::{Headers, TcpFlags, TcpOptions};

impl Conntrack {
    /// Writes the sequence number, the acknowledgement and the edges of SACK blocks as the receiver knows them.
    ///
    /// Worked example. The client's PORT of 22 bytes at 1000 became 24 bytes long. Its next segment, at 1022, leaves
    /// at 1024. The server acknowledges 1030 and, by SACK, has 1040..1050: the client reads 1028, and 1038..1048.
    ///
    /// What follows the IP header is taken for a segment whatever it is: an ICMP error in original direction is adjusted
    /// too, as if the packet quoted in it stood where acknowledgement and options stand (seen on 6.18).
    ///
    /// # Errors
    /// When an option does not fit: the packet is to be dropped, as Linux does.
    #[inline]
    pub fn adjust(
        &self,
        connection: &Connection,
        direction: Direction,
        bytes: &mut [u8],
        headers: &mut Headers,
    ) -> Result<(), DropReason> {
        let Some(adjustment) = connection.helper_slot.and_then(|helped| self.adjustment(helped)) else { return Ok(()) };
        let segment = bytes.get(headers.transport..headers.end).unwrap_or_default();
        let Some(&[_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, ..]) = segment.first_chunk::<20>() else {
            return Err(DropReason::TcpOptions);
        };
        let sequence = SequenceNumber(u32::from_be_bytes([s0, s1, s2, s3]));
        let acknowledgement = SequenceNumber(u32::from_be_bytes([a0, a1, a2, a3]));
        let other = direction.other() as usize;
        headers.write_sequence(bytes, adjustment.outgoing(direction as usize, sequence));
        if TcpFlags(flags).has(TcpFlags::ACK) {
            headers.write_acknowledgement(bytes, adjustment.returning(other, acknowledgement));
            let options = headers.transport + 20..headers.transport + usize::from(offset >> 4) * 4;
            adjust_sack(|edge| adjustment.returning(other, edge), options, bytes, headers)?;
        }
        Ok(())
    }
}

/// Writes the edges of SACK blocks as the sender of the acknowledged data knows them.
fn adjust_sack(
    returning: impl Fn(SequenceNumber) -> SequenceNumber,
    options: Range<usize>,
    bytes: &mut [u8],
    headers: &Headers,
) -> Result<(), DropReason> {
    if options.is_empty() {
        return Ok(());
    }
    let whole = bytes.get(..headers.end).and_then(|packet| packet.get(options));
    let options = TcpOptions::new(whole.ok_or(DropReason::TcpOptions)?);
    // A header has at most 40 bytes of options: two times four blocks.
    let mut edges = [(0, 0); 16];
    let mut count = 0;
    for option in options.iter() {
        let (kind, at, value) = option.map_err(|_| DropReason::TcpOptions)?;
        if kind != TcpOptions::SACK || value.is_empty() || value.len() % 8 != 0 {
            continue;
        }
        for (i, edge) in value.as_chunks::<4>().0.iter().enumerate() {
            if let Some(slot) = edges.get_mut(count) {
                *slot = (20 + at + i * 4, u32::from_be_bytes(*edge));
                count += 1;
            }
        }
    }
    for (at, edge) in edges.into_iter().take(count) {
        headers.set_tcp_word(bytes, at, returning(SequenceNumber(edge)).0);
    }
    Ok(())
}
