//! Adjusting the numbers of a packet whose stream has shifted (`nf_ct_seq_adjust`).

use super::Conntrack;
use super::connection::{Connection, Direction};
use crate::SequenceNumber;
use crate::event::DropReason;
use crate::packet::{Headers, Layer4, TcpFlags, TcpOptions};

impl Conntrack {
    /// Writes the sequence number, the acknowledgement and the edges of SACK blocks as the receiver knows them.
    ///
    /// Worked example. The client's PORT of 22 bytes at 1000 became 24 bytes long. Its next segment, at 1022, leaves
    /// at 1024. The server acknowledges 1030 and, by SACK, has 1040..1050: the client reads 1028, and 1038..1048.
    ///
    /// # Errors
    /// When a TCP option does not fit: the packet is to be dropped, as Linux does.
    #[inline]
    pub fn adjust(
        &self,
        connection: &Connection,
        direction: Direction,
        bytes: &mut [u8],
        headers: &mut Headers,
    ) -> Result<(), DropReason> {
        let (Some(helped), Layer4::Tcp(segment)) = (connection.helped, headers.layer4) else { return Ok(()) };
        let Some(adjustment) = self.adjustment(helped) else { return Ok(()) };
        let other = direction.other() as usize;
        headers.set_sequence(bytes, adjustment.outgoing(direction as usize, segment.sequence));
        if segment.flags.has(TcpFlags::ACK) {
            headers.set_acknowledgement(bytes, adjustment.returning(other, segment.acknowledgement));
            adjust_sack(|edge| adjustment.returning(other, edge), bytes, headers)?;
        }
        Ok(())
    }
}

/// Writes the edges of SACK blocks as the sender of the acknowledged data knows them.
fn adjust_sack(
    returning: impl Fn(SequenceNumber) -> SequenceNumber,
    bytes: &mut [u8],
    headers: &Headers,
) -> Result<(), DropReason> {
    let options = headers.tcp_options(bytes);
    if options.is_empty() {
        return Ok(());
    }
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
