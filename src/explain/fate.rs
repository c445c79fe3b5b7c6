//! The place at which the SYN of a data connection got lost.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::cause::Certainty::{self, Inferred, Shown};
use super::diagnose::Diagnosis;
use super::session::{Attempt, Place, address, hops};

/// The place where a SYN got lost, or the machine that refused it.
pub(super) enum Fate {
    /// It was answered.
    Open,
    /// The peer's host has it and says nothing.
    DroppedAtPeer(Place, Certainty),
    /// The peer answered, as this place has it, and the answer does not get back.
    AnswerLost(Place),
    /// The router has it and does not send it on.
    DroppedAtRouter(Certainty),
    /// The peer's host, or a machine with its address, resets.
    RefusedByPeer,
    /// A machine on the way says no.
    RefusedOnTheWay { by: String, is_router: bool },
    /// It left the last place that was looked at.
    Lost,
}

impl Diagnosis<'_> {
    /// Finds out where the connection to a peer got lost. `opener`: the side of the control connection that dials.
    pub(super) fn fate(&self, attempt: &Attempt, opener: usize) -> Fate {
        let flows = || attempt.places.iter().map(|place| (*place, self.scene.flow(*place)));
        let is_open =
            flows().any(|(_, flow)| flow.syn_ack.is_some() || flow.sides[0].bytes > 0 || flow.sides[1].bytes > 0);
        if is_open {
            let near_opener = flows().find(|(place, _)| self.near(opener).is_some_and(|near| near.view == place.view));
            match near_opener {
                Some((_, flow)) if flow.syn_ack.is_none() && flow.has_syn() => {}
                None if !flows().any(|(_, flow)| flow.is_answered_in_vain()) => return Fate::Open,
                None => {}
                _ => return Fate::Open,
            }
            if let Some((place, _)) = flows().find(|(_, flow)| flow.is_answered_in_vain()) {
                return Fate::AnswerLost(place);
            }
        }
        for (_, flow) in flows() {
            if let Some(error) = flow.icmp.iter().find(|error| error.kind == 3 && error.code != 4 || error.kind == 1) {
                let from = error.from.to_canonical();
                if from == address(flow.ends[1]) {
                    continue;
                }
                let is_router = self.router.is_none_or(|router| router.is_local(from)) || self.has_router_views();
                return Fate::RefusedOnTheWay {
                    by: format!("{from} (ICMP type {} code {})", error.kind, error.code),
                    is_router,
                };
            }
        }
        // Distances that the SYN has come, in all views.
        let mut distances: Vec<u8> = flows().flat_map(|(_, flow)| flow.syn_ttls.iter().map(|ttl| hops(*ttl))).collect();
        distances.sort_unstable();
        distances.dedup();
        let passed = distances.len() > 1;
        // A peer's reset has come as far as its other packets.
        for (place, flow) in flows() {
            let Some((_, ttl)) = flow.sides[1].reset else { continue };
            let control = self.session.places.iter().find(|other| other.view == place.view);
            let usual = control.map(|other| self.scene.flow(*other).sides[1 - opener].ttls.clone()).unwrap_or_default();
            if usual.is_empty() || usual.iter().any(|other| hops(*other) == hops(ttl)) {
                // A router that has the address itself answers what it does not send on.
                let local = self.router.is_some_and(|router| router.is_local(address(flow.ends[1])));
                if !local || passed || self.ends_of_peer(opener) == address(flow.ends[1]) {
                    return Fate::RefusedByPeer;
                }
            }
            let by = format!("a reset from a machine on the way, as {}", flow.ends[1].ip());
            return Fate::RefusedOnTheWay { by, is_router: true };
        }
        if flows().any(|(_, flow)| flow.sides[1].icmp_refused(flow)) {
            return Fate::RefusedByPeer;
        }
        let near_peer = self.near(1 - opener);
        if let Some(near) = near_peer
            && let Some((place, _)) = flows().find(|(place, flow)| place.view == near.view && flow.has_syn())
        {
            return Fate::DroppedAtPeer(place, Shown);
        }
        match (self.has_router_views(), passed, near_peer) {
            (true, true, None) => match attempt
                .places
                .iter()
                .max_by_key(|place| self.scene.flow(**place).syn_ttls.iter().map(|ttl| hops(*ttl)).max())
            {
                Some(place) => Fate::DroppedAtPeer(*place, Inferred),
                None => Fate::Lost,
            },
            (true, true, Some(_)) => Fate::Lost,
            (true, false, _) => Fate::DroppedAtRouter(Shown),
            (false, _, Some(_)) => Fate::DroppedAtRouter(Inferred),
            (false, _, None) => Fate::Lost,
        }
    }
}
