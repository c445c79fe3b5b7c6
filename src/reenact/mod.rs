//! A session spoken again, in a closed loop: two TCP stacks that say what the capture says they said, dial what they are
//! told, and transfer what they transferred, through a [`Router`](crate::router::Router) with a configuration that may be
//! another than the captured one.
//!
//! A recorded packet cannot be replayed through changed rules: its sender acknowledges text that was never sent to it. So
//! the ends are played. A [`Script`] holds what they do, [`play`] lets them do it, and an [`Outcome`] says which transfers
//! worked. The clock is virtual: hours of waiting take no time.
//!
//! ```
//! use ftp_conntrack::config::parse_rules;
//! use ftp_conntrack::ftp::{Form, Sender};
//! use ftp_conntrack::packet::Family;
//! use ftp_conntrack::reenact::{Act, Script, Setup, play};
//! use ftp_conntrack::router::{Interface, Route, RouterConfig};
//! use core::time::Duration;
//!
//! let script = Script::new("10.77.1.2:40000".parse()?, "198.51.100.9:21".parse()?)
//!     .with("", "220 ready", Act::Say)
//!     .with("PASV", "227 on", Act::Passive { form: Form::Pasv, address: None, port: 50_006 })
//!     .with("LIST", "226 sent", Act::Transfer { sender: Sender::Server, bytes: 600, lasts: Duration::ZERO, from_port: 20 });
//! let mut rules = String::from("
//!     iptables -P FORWARD DROP
//!     iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
//!     iptables -A FORWARD -p tcp --dport 21 -j ACCEPT
//! ");
//! let works = |rules: &str| -> Result<bool, Box<dyn std::error::Error>> {
//!     let mut config = RouterConfig::default();
//!     config.interfaces = vec![
//!         Interface::new("lan").with_address("10.77.1.1".parse()?, 24),
//!         Interface::new("wan").with_address("198.51.100.1".parse()?, 24),
//!     ];
//!     for (number, network) in ["10.77.1.0", "198.51.100.0"].into_iter().enumerate() {
//!         let network = ftp_conntrack::netfilter::Cidr::new(network.parse()?, 24).unwrap();
//!         config.routes.push(Route::on_link(network, number));
//!     }
//!     config.rules4 = parse_rules("rules.v4", rules, Family::V4)?.0;
//!     Ok(play(&Setup::through(config), &[script.clone()])?[0].works())
//! };
//! assert!(!works(&rules)?);
//! rules.push_str("iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp");
//! assert!(works(&rules)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod data;
mod host;
mod script;
mod segments;
mod server;
mod setup;
mod talk;
mod world;

use std::vec::Vec;

use crate::netfilter::RulesError;
pub use script::{Act, Failure, Outcome, Script, Turn};
pub use setup::Setup;

/// Plays sessions, each from its time on, and returns what became of each.
///
/// # Errors
/// When the router's rules call a chain that is not there, or chains call each other in a circle.
pub fn play(setup: &Setup, scripts: &[Script]) -> Result<Vec<Outcome>, RulesError> {
    Ok(world::World::new(setup, scripts)?.run())
}
