//! Connections that began before this router saw them.

use super::packet_context::PacketContext;
use super::{Router, family_index};
use crate::Instant;
use crate::conntrack::{ConnectionId, ImportedState};
use crate::event::DropReason;
use crate::netfilter::{Hook, Tracking};
use crate::packet::{Headers, Packet};

impl Router {
    /// Takes a connection over that began before this router saw it: as [`Conntrack::adopt`], with the helper and the
    /// zone that the rules give to its packets. `packet` is one of its original direction as it arrives on `interface`;
    /// it does not leave by this, and may be handed to [`Router::process`] afterwards.
    ///
    /// Under [`Behaviour::Exact`](crate::Behaviour::Exact) streams grow from nothing: what `adopted` says of their growth
    /// is not looked at.
    ///
    /// # Errors
    /// When the packet cannot be read, a rule drops or does not track it, or there is no room.
    ///
    /// [`Conntrack::adopt`]: crate::conntrack::Conntrack::adopt
    pub fn adopt(
        &mut self,
        now: Instant,
        interface: usize,
        packet: &mut Packet<'_>,
        adopted: ImportedState,
    ) -> Result<ConnectionId, DropReason> {
        let mut headers = Headers::find(packet.bytes()).map_err(|_| DropReason::Malformed)?;
        let family = family_index(headers.family);
        let mut probe = None;
        let mut context = PacketContext::new(now, packet, &mut headers, &mut probe, Some(interface));
        let tracking = match self.ask_raw(Hook::Prerouting, &mut context) {
            Ok(tracking) if self.tracks[family] => tracking,
            Ok(_) => return Err(DropReason::NotTracked),
            Err(refusal) => return Err(refusal.reason),
        };
        let template = match tracking {
            Tracking::Template(template) => template,
            Tracking::Usual => self.automatic_helper(&context),
            Tracking::None => return Err(DropReason::NotTracked),
        };
        let adopted = if self.helper.is_exact() { adopted.grown([0; 2]) } else { adopted };
        self.conntrack.adopt(now, context.packet.bytes(), context.headers, template, adopted)
    }
}
