//! Configurations that cannot be meant.

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;

use super::{Route, RouteKind, RouterConfig};
use crate::netfilter::{Cidr, RulesError};

/// The reason why a router cannot be made from a configuration; it names the item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouterError {
    /// The rules cannot be asked.
    Rules(RulesError),
    /// Two interfaces have the same name.
    TwoInterfaces {
        /// The name.
        name: String,
    },
    /// The prefix of an interface's address has more bits than the address.
    Prefix {
        /// The name of the interface.
        interface: String,
        /// The address.
        address: IpAddr,
        /// The number of leading bits.
        prefix: u8,
    },
    /// A route leaves by an interface that is not there.
    NoInterface {
        /// The network that the route leads to.
        destination: Cidr,
        /// The number of the interface.
        interface: usize,
        /// The number of interfaces that are there.
        interfaces: usize,
    },
}

impl From<RulesError> for RouterError {
    fn from(error: RulesError) -> Self {
        Self::Rules(error)
    }
}

impl fmt::Display for RouterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules(error) => error.fmt(f),
            Self::TwoInterfaces { name } => write!(f, "two interfaces are called {name}: rename one"),
            Self::Prefix { interface, address, prefix } => {
                let (family, bits) = if address.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
                write!(f, "interface {interface}: {address}/{prefix}: {family} addresses have {bits} bits")
            }
            Self::NoInterface { destination, interface, interfaces } => {
                write!(f, "the route to {destination} leaves by interface {interface}, but ")?;
                match interfaces {
                    0 => f.write_str("there is no interface"),
                    1 => f.write_str("only interface 0 is there"),
                    more => write!(f, "only interfaces 0 to {} are there", more - 1),
                }
            }
        }
    }
}

impl core::error::Error for RouterError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Rules(error) => Some(error),
            _ => None,
        }
    }
}

/// Refuses interfaces and routes that cannot be meant.
pub(super) fn check(config: &RouterConfig) -> Result<(), RouterError> {
    let interfaces = &config.interfaces;
    for (index, interface) in interfaces.iter().enumerate() {
        if interfaces[..index].iter().any(|earlier| earlier.name == interface.name) {
            return Err(RouterError::TwoInterfaces { name: interface.name.clone() });
        }
        let bad = interface.addresses.iter().find(|own| Cidr::new(own.address, own.prefix).is_none());
        if let Some(bad) = bad {
            let (interface, address, prefix) = (interface.name.clone(), bad.address, bad.prefix);
            return Err(RouterError::Prefix { interface, address, prefix });
        }
    }
    // Routes that refuse, and those to this machine itself, use no interface.
    let missing = |route: &&Route| route.kind == RouteKind::Unicast && route.interface >= interfaces.len();
    match config.routes.iter().find(missing) {
        Some(route) => Err(RouterError::NoInterface {
            destination: route.destination,
            interface: route.interface,
            interfaces: interfaces.len(),
        }),
        None => Ok(()),
    }
}
