//! Places of a session where packets were captured: which of them is nearest to which end.

use core::net::{IpAddr, SocketAddr};
use std::vec::Vec;

use super::diagnose::Diagnosis;
use super::dialogue::plain;
use super::session::{Place, hops};

impl Diagnosis<'_> {
    /// The true ends: the client as the view nearest to it has it, the server as the view nearest to that.
    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        let nearest = |side: usize| {
            let ttl = |place: &&Place| {
                let ttl = self.scene.flow(**place).sides[side].ttls.first().copied();
                (ttl.map_or(u8::MAX, hops), self.scene.view(**place).is_router)
            };
            let place = self.session.places.iter().min_by_key(ttl).copied().unwrap_or(self.main_place());
            plain(self.scene.flow(place).ends[side])
        };
        (nearest(0), nearest(1))
    }

    /// The control connection as the client sees it.
    pub(super) fn ends_of_client(&self) -> [SocketAddr; 2] {
        let ttl = |place: &&Place| {
            (
                self.scene.flow(**place).sides[0].ttls.first().map_or(u8::MAX, |ttl| hops(*ttl)),
                self.scene.view(**place).is_router,
            )
        };
        let place = self.session.places.iter().min_by_key(ttl).copied().unwrap_or(self.main_place());
        self.scene.flow(place).ends.map(plain)
    }

    /// The control connection's ends as the view nearest to the server has them.
    pub(super) fn ends_at_server(&self) -> (SocketAddr, SocketAddr) {
        let place = self.near(1).unwrap_or(self.main_place());
        let [client, server] = self.scene.flow(place).ends.map(plain);
        (client, server)
    }

    /// True if a view was taken near this side, so that it has all that this side sends and gets.
    fn is_near(&self, place: Place, side: usize) -> bool {
        let flow = self.scene.flow(place);
        let distance = |side: usize| flow.sides[side].ttls.first().map_or(u8::MAX, |ttl| hops(*ttl));
        !self.is_router_view(place) && distance(side) == 0 && distance(1 - side) > 0
    }

    /// True if one file shows the session's packets before and after a router.
    fn is_router_view(&self, place: Place) -> bool {
        let view = self.scene.view(place);
        view.is_router || self.levels(view.file).len() > 1
    }

    /// With how many different distances a file shows the client's packets.
    fn levels(&self, file: usize) -> Vec<u8> {
        let places = self.session.places.iter().filter(|place| self.scene.view(**place).file == file);
        let mut levels: Vec<u8> = places.flat_map(|place| self.scene.flow(*place).sides[0].ttls.clone()).collect();
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    pub(super) fn has_router_views(&self) -> bool {
        let routers: Vec<Place> =
            self.session.places.iter().copied().filter(|place| self.is_router_view(*place)).collect();
        let mut levels: Vec<u8> =
            routers.iter().flat_map(|place| self.scene.flow(*place).sides[0].ttls.clone()).collect();
        levels.sort_unstable();
        levels.dedup();
        levels.len() > 1
    }

    pub(super) fn near(&self, side: usize) -> Option<Place> {
        self.session.places.iter().copied().find(|place| self.is_near(*place, side))
    }

    pub(super) fn ends_of_peer(&self, opener: usize) -> IpAddr {
        let (client, server) = self.ends();
        if opener == 0 { server.ip() } else { client.ip() }
    }
}
