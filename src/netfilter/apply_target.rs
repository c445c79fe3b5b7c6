//! Does what a target says.

use super::context::{EvalContext, RuleVerdict, Tracking};
use super::edit;
use super::rules::{ConnmarkAction, Target};
use crate::conntrack::Conntrack;
use crate::packet::{Family, Layer4};

/// Does what a target says; `None` when the next rule is to be asked.
pub(super) fn apply_target(
    target: &Target,
    rule: u32,
    conntrack: &mut Conntrack,
    subject: &mut EvalContext<'_, '_>,
) -> Option<RuleVerdict> {
    match target {
        Target::Accept => return Some(RuleVerdict::Accept),
        Target::Drop => return Some(RuleVerdict::Drop),
        Target::Reject(with) => return Some(RuleVerdict::Reject(*with)),
        Target::Snat(range) | Target::Dnat(range) => return Some(RuleVerdict::Map(*range)),
        Target::Masquerade(range) => return Some(RuleVerdict::Masquerade(*range)),
        Target::Redirect(range) => return Some(RuleVerdict::Redirect(*range)),
        Target::Netmap(network) => return Some(RuleVerdict::Netmap(*network)),
        Target::Edit(change) => return edit::apply(*change, subject).then_some(RuleVerdict::Drop),
        Target::Mark(change) => subject.packet.mark = (subject.packet.mark & !change.mask) ^ change.value,
        Target::Connmark(action) => connmark(*action, conntrack, subject),
        Target::NoTrack => {
            if *subject.tracking == Tracking::Usual {
                *subject.tracking = Tracking::None;
            }
        }
        Target::Log { .. } => subject.logged = Some(rule as usize),
        Target::Unknown(_) => subject.not_understood = Some(rule as usize),
        Target::TcpMss(mss) => return clamp_mss(*mss, subject),
        // Compiled away.
        Target::Ct { .. } | Target::Continue | Target::Return => {}
        Target::Jump(_) | Target::Goto(_) | Target::UpdateSets(_) => {}
    }
    None
}

/// TCPMSS: `None` for what fits the links towards both ends. A header that cannot be read is dropped, as in Linux.
pub(super) fn clamp_mss(mss: Option<u16>, subject: &mut EvalContext<'_, '_>) -> Option<RuleVerdict> {
    let bytes = subject.packet.bytes();
    let Layer4::Tcp(_) = subject.headers.layer4 else { return Some(RuleVerdict::Drop) };
    let headers_len = if subject.headers.family == Family::V4 { 40 } else { 60 };
    let mss = match mss {
        Some(mss) => mss,
        None => {
            let mtu = subject.surroundings.path_mtu(subject.headers.source(bytes), subject.headers.destination(bytes));
            match mtu.checked_sub(headers_len) {
                None | Some(0) => return Some(RuleVerdict::Drop),
                Some(rest) => u16::try_from(rest).unwrap_or(u16::MAX),
            }
        }
    };
    subject.packet.clamp_mss(subject.headers, mss);
    None
}

fn connmark(action: ConnmarkAction, conntrack: &mut Conntrack, subject: &mut EvalContext<'_, '_>) {
    let Some(id) = subject.tracked.and_then(|t| t.connection) else { return };
    let Some(mark) = conntrack.get(id).map(|c| c.mark()) else { return };
    match action {
        ConnmarkAction::Set(change) => {
            conntrack.set_mark(id, (mark & !change.mask) ^ change.value);
        }
        ConnmarkAction::Save { nfmask, ctmask } => {
            conntrack.set_mark(id, (mark & !ctmask) ^ (subject.packet.mark & nfmask));
        }
        ConnmarkAction::Restore { nfmask, ctmask } => {
            subject.packet.mark = (subject.packet.mark & !nfmask) ^ (mark & ctmask);
        }
    }
}
