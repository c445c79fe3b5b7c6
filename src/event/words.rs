//! Events in words, one line each: who did what, and why.

use core::fmt::{Display, Formatter, Result};

use super::{AnnouncementOutcome, BalancedBy, DestroyReason, Event};
use crate::ftp::Sender;

/// Returns the side of a control connection in a word.
const fn side(sender: Sender) -> &'static str {
    match sender {
        Sender::Client => "client",
        Sender::Server => "server",
    }
}

const fn family(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::New { connection, original, reply, master, helper } => {
                write!(f, "connection {connection} begins: {original}, replies {reply}")?;
                if let Some(master) = master {
                    write!(f, ", expected by {master}")?;
                }
                if *helper { f.write_str(", read by the helper") } else { Ok(()) }
            }
            Self::Destroyed { connection, original, reason, .. } => {
                write!(f, "connection {connection} is forgotten: {original}: {reason}")
            }
            Self::Announced { connection, sender, form, address, port, outcome } => {
                let sender = side(*sender);
                write!(f, "the {sender} of connection {connection} announces {address} port {port} ({form}): {outcome}")
            }
            Self::PartialAnnouncement { connection, sender, form } => {
                let sender = side(*sender);
                write!(f, "the {sender} of connection {connection} begins a {form} and does not end it: dropped")
            }
            Self::Denied { connection, sender, form, reason } => {
                write!(f, "the {form} of the {} of connection {connection} is refused: {reason}", side(*sender))
            }
            Self::Intervened { connection, sender, intervention } => {
                write!(f, "a segment of the {} of connection {connection}: {intervention}", side(*sender))
            }
            Self::Encrypted { connection, passive } => {
                write!(f, "connection {connection} switches to TLS and is not read any more")?;
                match passive {
                    Some(ports) => write!(f, "; its client may dial ports {} to {}", ports.start(), ports.end()),
                    None => Ok(()),
                }
            }
            Self::Fulfilled { connection, master, expected } => {
                write!(f, "connection {connection} comes as connection {master} announced: {expected}")
            }
            Self::Unfulfilled { master, expected, reason } => {
                write!(f, "no connection came that connection {master} announced: {expected}: {reason}")
            }
            Self::Balanced { entry, service, client, dialled, real_server, by } => {
                write!(f, "entry {entry} of service {service}: {client} dials {dialled} and gets {real_server} ({by})")
            }
            Self::BalancedDataAnnounced { control, entry, sender, client, dialled, real_server } => {
                write!(f, "the {} of entry {control} announces a data connection: ", side(*sender))?;
                write!(f, "entry {entry} waits, {client} to {dialled}, for {real_server}")
            }
            Self::BalancedDataArrived { entry, client, dialled, real_server, .. } => {
                write!(f, "the data connection of entry {entry} comes: {client} to {dialled}, for {real_server}")
            }
            Self::BalancedContested { client, dialled, real_servers: [one, other] } => {
                write!(f, "{client} to {dialled} may be for {one} or {other}: the services decide")
            }
            Self::Dropped { reason, connection, direction, .. } => {
                f.write_str("a packet is dropped: ")?;
                reason.fmt(f)?;
                if let Some(connection) = connection {
                    write!(f, ", of connection {connection}")?;
                }
                match direction {
                    Some(direction) => write!(f, ", {direction} direction"),
                    None => Ok(()),
                }
            }
            Self::Log { ipv6, rule } => write!(f, "a packet meets LOG rule {rule} of {}", family(*ipv6)),
            Self::Undecided { ipv6, rule } => {
                write!(f, "a packet meets rule {rule} of {}, which is not understood", family(*ipv6))
            }
        }
    }
}

impl Display for AnnouncementOutcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Expected { expected, after: None, .. } => write!(f, "{expected} is expected"),
            Self::Expected { expected, after: Some(after), .. } => write!(f, "{expected} is expected, sent as {after}"),
            Self::ForeignAddress => f.write_str("ignored, since the address is not the sender's"),
            Self::Refused(reason) => write!(f, "dropped: {reason}"),
        }
    }
}

impl Display for DestroyReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Timeout => "its timeout passed",
            Self::Reopened => "its ports are used again",
            Self::Reset => "it was reset before it was answered",
            Self::Evicted => "another connection needed its place",
            Self::Replaced => "a newer expectation took its place",
            Self::Master => "its control connection is gone",
            Self::Deleted => "it was deleted",
            Self::Rerouted => "it would leave by another interface than its masqueraded address",
            Self::Balancer => "the load balancer's entry is over",
        })
    }
}

impl Display for BalancedBy {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Scheduler(scheduler) => write!(f, "chosen by {}", scheduler.name()),
            Self::Persistence(template) => write!(f, "by persistence of entry {template}"),
        }
    }
}
