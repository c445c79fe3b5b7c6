//! Packets that arrive in parts, and packets that leave in parts.

use super::answer::Refusal;
use super::fragments::{Gathered, Whole, begins_too_short};
use super::packet_context::PacketContext;
use super::{Egress, Outbox, Router, Verdict, family_index};
use crate::Instant;
use crate::conntrack::PacketState;
use crate::event::DropReason;
use crate::packet::{
    Cut, Family, Fragment, Headers, IcmpError, Packet, atomic_fragment_header, must_not_be_cut, unfragmentable_v6,
};

impl Router {
    /// A part of a packet: the packet goes its way when all its parts are there.
    #[inline(never)]
    pub(super) fn gather(
        &mut self,
        now: Instant,
        in_interface: Option<usize>,
        packet: &Packet<'_>,
        headers: &mut Headers,
        fragment: Fragment,
        outbox: &mut Outbox,
    ) -> Option<Verdict> {
        let mut whole = match self.fragments.gather(now, in_interface, packet.bytes(), headers, fragment) {
            Gathered::Waits => return Some(Verdict::Held),
            Gathered::Refused => return Some(self.dropped(now, DropReason::Fragment, None)),
            Gathered::Passes => {
                if fragment.offset == 0 {
                    // From here on the packet counts as whole.
                    headers.fragment = None;
                }
                return None;
            }
            Gathered::Whole(whole) => whole,
        };
        let mut buffer = core::mem::take(&mut whole.buffer);
        let verdict = match Packet::new(&mut buffer, whole.range.clone()) {
            Ok(mut gathered) => {
                gathered.mark = packet.mark;
                self.run_in_fragments(now, in_interface, &mut gathered, &whole, outbox)
            }
            Err(_) => Verdict::Drop(DropReason::Fragment),
        };
        whole.buffer = buffer;
        self.fragments.give_back(whole);
        Some(verdict)
    }

    /// Takes the fragment header out of an IPv6 packet that is whole, and takes one with another such header after it for
    /// whole. Tracking connections does that.
    #[inline(never)]
    pub(super) fn defragment_atomic(&self, packet: &mut Packet<'_>, headers: &mut Headers) {
        let Some(found) = atomic_fragment_header(packet.bytes(), headers.end) else { return };
        let (at, named_at) = found;
        let after = Fragment { offset: 0, more: false, header: at, body: at + 8, identification: 0, named_at };
        if !self.tracks[family_index(Family::V6)] || begins_too_short(packet.bytes(), headers, after) {
            return;
        }
        packet.truncate(headers.end);
        packet.remove_atomic_fragment_header(found);
        if let Ok(found) = Headers::find(packet.bytes()) {
            *headers = found;
            if headers.fragment.is_some_and(|fragment| fragment.offset == 0) {
                headers.fragment = None;
            }
        }
    }

    /// A packet that came in parts goes on in parts.
    fn run_in_fragments(
        &mut self,
        now: Instant,
        in_interface: Option<usize>,
        packet: &mut Packet<'_>,
        whole: &Whole,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Ok(mut headers) = Headers::find(packet.bytes()) else {
            return self.dropped(now, DropReason::Malformed, None);
        };
        let mut probe = self.conntrack.probe(now, packet.bytes(), &headers, 0);
        let mut context = PacketContext::new(now, packet, &mut headers, &mut probe, in_interface);
        context.longest_part = Some(whole.longest);
        match self.run_hooks(&mut context) {
            Ok(()) => {
                match context.egress {
                    Egress::Forward { .. } => self.send_in_fragments(&context, whole, outbox),
                    Egress::Local => outbox.send_copy(context.packet.bytes(), Egress::Local, context.packet.mark),
                }
                Verdict::Held
            }
            Err(refusal) => self.refuse(&mut context, refusal, outbox),
        }
    }

    /// Parts leave in the sizes they came, if these fit; if a helper read the packet, as Linux has it, in the size of the
    /// longest. IPv6 parts bear another identification, and one that is not longer than the longest part leaves whole.
    fn send_in_fragments(&mut self, context: &PacketContext<'_, '_>, whole: &Whole, outbox: &mut Outbox) {
        let (bytes, mark, egress) = (context.packet.bytes(), context.packet.mark, context.egress);
        let mut removed = 0;
        let (cut, longest) = match context.headers.family {
            Family::V4 => (Cut::v4(bytes), whole.longest),
            Family::V6 if bytes.len() <= whole.longest => return outbox.send_copy(bytes, egress, mark),
            Family::V6 => {
                let identification = self.identifications.below(u32::MAX);
                let (header, named_at) = unfragmentable_v6(bytes);
                // Every fragment bears these headers, the first one less of the rest.
                removed = header as isize - whole.header.0 as isize;
                (Cut::v6(header, named_at, identification), whole.longest.max(MIN_MTU_V6))
            }
        };
        let mtu = context.mtu.min(longest);
        let connection = context.tracked.connection.and_then(|id| self.conntrack.get(id));
        let was_read = context.tracked.state == PacketState::Established && connection.is_some_and(|c| c.has_helper());
        // Offset and length of a fragment in what is cut now.
        let place = |&(offset, len): &(u16, u16)| {
            let start = usize::from(offset).checked_add_signed(if offset == 0 { 0 } else { -removed })?;
            let len = usize::from(len).checked_add_signed(if offset == 0 { -removed } else { 0 })?;
            Some((start, len))
        };
        let fits = |(i, part): (usize, &(u16, u16))| {
            let last = i + 1 == whole.parts.len();
            place(part).is_some_and(|(_, len)| len > 0 && len + cut.overhead() <= mtu && (last || len % 8 == 0))
        };
        let gathered: usize = whole.parts.iter().filter_map(place).map(|(_, len)| len).sum();
        if was_read || gathered != cut.body(bytes) || !whole.parts.iter().enumerate().all(fits) {
            return send_cut(&cut, bytes, mtu, egress, mark, outbox);
        }
        for (offset, len) in whole.parts.iter().filter_map(place) {
            send_part(&cut, bytes, offset, len, egress, mark, outbox);
        }
    }

    /// A packet that is longer than the link takes leaves in parts, or not at all.
    #[inline(never)]
    pub(super) fn cut_for_link(&mut self, context: &mut PacketContext<'_, '_>, outbox: &mut Outbox) -> Verdict {
        let (bytes, mtu) = (context.packet.bytes(), context.mtu);
        if context.headers.family == Family::V4 && !must_not_be_cut(bytes) {
            send_cut(&Cut::v4(bytes), bytes, mtu, context.egress, context.packet.mark, outbox);
            return Verdict::Held;
        }
        if context.rewritten {
            // Linux sums a rewritten packet when it leaves: the error quotes one with only the pseudo-header summed.
            context.headers.sum_pseudo_header_only(context.packet.bytes_mut());
        }
        let error = IcmpError::too_big(context.headers.family, mtu as u32);
        self.refuse(context, Refusal::with_error(DropReason::TooBig, error), outbox)
    }
}

/// The least that an IPv6 link takes (RFC 8200 section 5).
const MIN_MTU_V6: usize = 1280;

/// Sends a packet in parts that are no longer than `mtu`.
fn send_cut(cut: &Cut, bytes: &[u8], mtu: usize, egress: Egress, mark: u32, outbox: &mut Outbox) {
    let body = cut.body(bytes);
    let room = mtu.saturating_sub(cut.overhead());
    let mut offset = 0;
    while offset < body && room >= 8 {
        // The last part need not be a multiple of eight bytes long.
        let rest = body - offset;
        let len = if rest <= room { rest } else { room & !7 };
        send_part(cut, bytes, offset, len, egress, mark, outbox);
        offset += len;
    }
}

fn send_part(cut: &Cut, bytes: &[u8], offset: usize, len: usize, egress: Egress, mark: u32, outbox: &mut Outbox) {
    let Some(room) = outbox.room(cut.overhead() + len) else { return };
    if let Some(written) = cut.write(room, bytes, offset, len) {
        outbox.send(written, egress, mark);
    }
}
