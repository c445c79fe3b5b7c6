//! Small integration tests, in one binary so that the library is linked once for all of them: `cargo test --test it router::`.

#[cfg(feature = "config")]
#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "alloc")]
mod api;
#[cfg(all(feature = "capture", feature = "config"))]
mod ends_of_time;
#[cfg(feature = "explain")]
mod explain;
mod house;
#[cfg(all(feature = "capture", feature = "config"))]
mod inspect;
#[cfg(feature = "config")]
mod ipvs;
#[cfg(all(feature = "capture", feature = "config"))]
mod lacking;
#[cfg(all(feature = "capture", feature = "config"))]
mod masquerade;
#[cfg(feature = "config")]
mod nft;
#[cfg(feature = "explain")]
mod reenact;
#[cfg(feature = "config")]
mod router;
#[cfg(feature = "config")]
mod tcp;
