//! Telling several listeners of one replay.

use ftp_conntrack::Instant;
use ftp_conntrack::capture::ReadError;
use ftp_conntrack::event::Event;
use ftp_conntrack::replay::{Departure, Difference, Lacking, Seen, Sink, TableDifference};
use ftp_conntrack::router::{Router, Verdict};

/// One listener, and others after it.
pub(crate) struct Fan<'f, 's> {
    pub(crate) first: &'f mut dyn Sink,
    pub(crate) others: &'f mut [&'s mut dyn Sink],
}

impl Fan<'_, '_> {
    fn each(&mut self, mut tell: impl FnMut(&mut dyn Sink)) {
        tell(self.first);
        self.others.iter_mut().for_each(|other| tell(*other));
    }
}

impl Sink for Fan<'_, '_> {
    fn packet(&mut self, packet: Seen<'_>, verdict: Verdict, router: &Router) {
        self.each(|sink| sink.packet(packet, verdict, router));
    }

    fn event(&mut self, frame: u64, time: Instant, event: &Event, router: &Router) {
        self.each(|sink| sink.event(frame, time, event, router));
    }

    fn leaves(&mut self, packet: Seen<'_>, router: &Router) {
        self.each(|sink| sink.leaves(packet, router));
    }

    fn departs(&mut self, departure: &Departure, router: &Router) {
        self.each(|sink| sink.departs(departure, router));
    }

    fn differs(&mut self, difference: &Difference, router: &Router) {
        self.each(|sink| sink.differs(difference, router));
    }

    fn table_differs(&mut self, difference: &TableDifference) {
        self.each(|sink| sink.table_differs(difference));
    }

    fn lacks(&mut self, frame: u64, time: Instant, lacking: Lacking) {
        self.each(|sink| sink.lacks(frame, time, lacking));
    }

    fn broken(&mut self, error: &ReadError) {
        self.each(|sink| sink.broken(error));
    }
}
