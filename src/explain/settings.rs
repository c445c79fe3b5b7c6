//! The lines of the server's own files that a cause stands on.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::cause::{Code, Evidence};
use super::dialogue::Announcement;
use super::server::{ServerSettings, ServerTls, Setting};

/// Returns the settings that make a cause, as evidence.
pub(super) fn evidence(code: Code, settings: &ServerSettings, announced: Option<&Announcement>) -> Vec<Evidence> {
    let mut found = Vec::new();
    match code {
        Code::WrongAddress | Code::PrivateAddress | Code::OtherServer => match &settings.passive_address {
            Some(address) => found.push(line(address, format!("lets the server announce {}", address.value))),
            None => found.push(absent("no address to announce is set", "the server announces its own")),
        },
        Code::NoPassive => found.extend(
            settings
                .passive
                .as_ref()
                .filter(|passive| !passive.value)
                .map(|passive| line(passive, "turns passive mode off".into())),
        ),
        Code::PortRefused => found.extend(
            settings
                .active
                .as_ref()
                .filter(|active| !active.value)
                .map(|active| line(active, "turns active mode off".into())),
        ),
        Code::Range => match &settings.passive_ports {
            Some(ports) => {
                let (low, high) = (ports.value.start(), ports.value.end());
                found.push(line(ports, format!("the server listens on ports {low} to {high}")));
            }
            None => found.push(absent("no passive ports are set", "the server takes any port")),
        },
        Code::Tls => {
            found.extend(settings.tls.as_ref().filter(|tls| tls.value != ServerTls::Off).map(|tls| {
                let how = if tls.value == ServerTls::Allowed { "offers TLS" } else { "wants TLS" };
                line(tls, how.into())
            }));
            found.extend(settings.passive_ports.as_ref().map(|ports| {
                let (low, high) = (ports.value.start(), ports.value.end());
                line(ports, format!("the firewall has to open ports {low} to {high}"))
            }));
        }
        Code::TlsSessionReuse => match &settings.session_reuse {
            Some(reuse) if reuse.value => found.push(line(reuse, "wants the session to be resumed".into())),
            Some(_) => {}
            None => found.push(absent("session reuse is not set", "the server's default may be to want it")),
        },
        Code::DropServer | Code::DropRouter => {
            let port = announced.map(|announced| announced.port);
            found.extend(
                settings
                    .passive_ports
                    .as_ref()
                    .filter(|ports| port.is_some_and(|port| ports.value.contains(&port)))
                    .map(|ports| line(ports, "the announced port is one of these".into())),
            );
        }
        _ => {}
    }
    found
}

fn line<T>(setting: &Setting<T>, means: String) -> Evidence {
    Evidence { view: setting.place.clone(), frame: 0, shown: setting.text.clone(), means }
}

fn absent(shown: &str, means: &str) -> Evidence {
    Evidence { view: "the server's file".into(), frame: 0, shown: shown.into(), means: means.into() }
}
