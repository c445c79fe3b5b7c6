//! Events of one packet in a router, as far as they matter to text.

use core::net::IpAddr;
use std::vec::Vec;

use crate::conntrack::Tuple;
use crate::event::AnnouncementOutcome;
use crate::ftp::{Form, Text};
use crate::helper::{Intervention, RefusalReason};

/// The events of the packet at hand.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) announced: Vec<Announced>,
    pub(super) denied: Vec<(Form, RefusalReason)>,
    pub(super) partial: Option<Form>,
    pub(super) interventions: Vec<Intervention>,
    /// The expectation that it met.
    pub(super) fulfilled: Option<Tuple>,
}

pub(super) struct Announced {
    pub(super) form: Form,
    pub(super) address: IpAddr,
    pub(super) outcome: AnnouncementOutcome,
}

impl Heard {
    pub(super) fn has_heard(&self) -> bool {
        self.partial.is_some() || !self.announced.is_empty()
    }
}

impl Announced {
    pub(super) fn texts(&self) -> Option<(Text, Text)> {
        match &self.outcome {
            AnnouncementOutcome::Expected { before, after, .. } => Some((*before, after.unwrap_or(*before))),
            _ => None,
        }
    }

    pub(super) fn expected(&self) -> Option<&Tuple> {
        match &self.outcome {
            AnnouncementOutcome::Expected { expected, .. } => Some(expected),
            _ => None,
        }
    }
}
