//! Settings of the policy as text: `KEY = VALUE`.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;
use core::str::FromStr;

use super::policy::Policy;

/// A setting of [`Policy`], by its name.
///
/// ```
/// use ftp_conntrack::helper::PolicySetting;
///
/// for setting in PolicySetting::ALL {
///     println!("{setting} = {}: {}", setting.takes(), setting.about());
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicySetting {
    /// [`Policy::lowest_port`].
    LowestPort,
    /// [`Policy::require_login`].
    RequireLogin,
    /// [`Policy::allowed_third_parties`].
    AllowedThirdParties,
    /// [`Policy::rewrite_foreign_pasv`].
    RewriteForeignPasv,
    /// [`Policy::max_expectations`].
    MaxExpectations,
    /// [`Policy::max_expectations_per_client`].
    MaxExpectationsPerClient,
    /// [`Policy::tls_passive_ports`].
    TlsPassivePorts,
    /// [`Policy::learn_tls_passive_ports`].
    LearnTlsPassivePorts,
}

impl PolicySetting {
    /// Every setting, in the order of [`Policy`].
    pub const ALL: [Self; 8] = [
        Self::LowestPort,
        Self::RequireLogin,
        Self::AllowedThirdParties,
        Self::RewriteForeignPasv,
        Self::MaxExpectations,
        Self::MaxExpectationsPerClient,
        Self::TlsPassivePorts,
        Self::LearnTlsPassivePorts,
    ];

    /// Returns the name: that of the field of [`Policy`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LowestPort => "lowest_port",
            Self::RequireLogin => "require_login",
            Self::AllowedThirdParties => "allowed_third_parties",
            Self::RewriteForeignPasv => "rewrite_foreign_pasv",
            Self::MaxExpectations => "max_expectations",
            Self::MaxExpectationsPerClient => "max_expectations_per_client",
            Self::TlsPassivePorts => "tls_passive_ports",
            Self::LearnTlsPassivePorts => "learn_tls_passive_ports",
        }
    }

    /// Describes the values that the setting takes.
    #[must_use]
    pub const fn takes(self) -> &'static str {
        match self {
            Self::LowestPort => "a port from 0 to 65535",
            Self::RequireLogin | Self::RewriteForeignPasv => "yes or no",
            Self::AllowedThirdParties => {
                "none, any, or a list such as 192.0.2.7,198.51.100.0/24,2001:db8::1-2001:db8::9"
            }
            Self::MaxExpectations => "a number from 1 to 255",
            Self::MaxExpectationsPerClient => "a number from 1 to 65535",
            Self::TlsPassivePorts => "none, or ports such as 50000-50100",
            Self::LearnTlsPassivePorts => "none, or a number of ports from 1 to 65535",
        }
    }

    /// Describes the setting in one line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::LowestPort => "refuse lower ports",
            Self::RequireLogin => "refuse announcements before the server's 230",
            Self::AllowedThirdParties => {
                "addresses that may be announced besides the sender's own (default: any with loose=1, else none)"
            }
            Self::RewriteForeignPasv => {
                "replace an address in a 227 that clients cannot reach by the one that they dialled; no: refuse it"
            }
            Self::MaxExpectations => "forget a control connection's oldest expectation beyond this number",
            Self::MaxExpectationsPerClient => {
                "refuse announcements beyond this number of expectations of a client's address"
            }
            Self::TlsPassivePorts => "open these ports of the server once a control connection is in TLS",
            Self::LearnTlsPassivePorts => "learn those ports from readable sessions, if they lie within so many",
        }
    }
}

impl fmt::Display for PolicySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PolicySetting {
    type Err = PolicyError;

    fn from_str(name: &str) -> Result<Self, PolicyError> {
        Self::ALL.into_iter().find(|setting| setting.name() == name).ok_or(PolicyError::UnknownSetting)
    }
}

/// The reason why a setting cannot be changed. [`Display`](fmt::Display) says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyError {
    /// No setting has this name.
    UnknownSetting,
    /// The setting does not take this value.
    BadValue(PolicySetting),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSetting => {
                f.write_str("no setting has this name; the settings are ")?;
                for (index, setting) in PolicySetting::ALL.into_iter().enumerate() {
                    write!(f, "{}{setting}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::BadValue(setting) => write!(f, "{setting} takes {}", setting.takes()),
        }
    }
}

impl core::error::Error for PolicyError {}

impl Policy {
    /// Changes the setting called `name` to the value that `value` says.
    ///
    /// # Errors
    /// See [`PolicyError`]; nothing is changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PolicyError> {
        let setting: PolicySetting = name.parse()?;
        self.change(setting, value).ok_or(PolicyError::BadValue(setting))
    }

    fn change(&mut self, setting: PolicySetting, value: &str) -> Option<()> {
        match setting {
            PolicySetting::LowestPort => self.lowest_port = number(value)?,
            PolicySetting::RequireLogin => self.require_login = switch(value)?,
            PolicySetting::AllowedThirdParties => self.allowed_third_parties = Some(addresses(value)?),
            PolicySetting::RewriteForeignPasv => self.rewrite_foreign_pasv = switch(value)?,
            PolicySetting::MaxExpectations => {
                self.max_expectations = number(value).filter(|most| *most > 0)?;
            }
            PolicySetting::MaxExpectationsPerClient => {
                self.max_expectations_per_client = number(value).filter(|most| *most > 0)?;
            }
            PolicySetting::TlsPassivePorts => self.tls_passive_ports = optional(value, ports)?,
            PolicySetting::LearnTlsPassivePorts => {
                let most = |value: &str| number(value).filter(|most| *most > 0);
                self.learn_tls_passive_ports = optional(value, most)?;
            }
        }
        Some(())
    }
}

/// Reads a number of decimal digits.
fn number<T: FromStr>(value: &str) -> Option<T> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

fn switch(value: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    match value {
        _ if is(["yes", "true", "on", "1"]) => Some(true),
        _ if is(["no", "false", "off", "0"]) => Some(false),
        _ => None,
    }
}

/// Reads `none`, or something else.
fn optional<T>(value: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if value.eq_ignore_ascii_case("none") { Some(None) } else { read(value).map(Some) }
}

fn ports(value: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    (0 < first && first <= last).then_some(first..=last)
}

fn addresses(value: &str) -> Option<Vec<RangeInclusive<IpAddr>>> {
    if value.eq_ignore_ascii_case("none") {
        return Some(Vec::new());
    }
    if value.eq_ignore_ascii_case("any") {
        return Some([network(Ipv4Addr::UNSPECIFIED.into(), 0)?, network(Ipv6Addr::UNSPECIFIED.into(), 0)?].into());
    }
    value.split(',').map(|item| range(item.trim())).collect()
}

/// Reads an address, a network with its prefix length, or two addresses with `-` between.
fn range(item: &str) -> Option<RangeInclusive<IpAddr>> {
    if let Some((address, prefix)) = item.split_once('/') {
        return network(address.parse().ok()?, number(prefix)?);
    }
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(first..=last)
}

/// Returns the first and the last address of a network.
fn network(address: IpAddr, prefix: u32) -> Option<RangeInclusive<IpAddr>> {
    match address {
        IpAddr::V4(v4) => {
            let hosts = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let bits = u32::from(v4);
            let ends = Ipv4Addr::from(bits & !hosts).into()..=Ipv4Addr::from(bits | hosts).into();
            (prefix <= u32::BITS).then_some(ends)
        }
        IpAddr::V6(v6) => {
            let hosts = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let bits = u128::from(v6);
            let ends = Ipv6Addr::from(bits & !hosts).into()..=Ipv6Addr::from(bits | hosts).into();
            (prefix <= u128::BITS).then_some(ends)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn after(name: &str, value: &str) -> Result<Policy, PolicyError> {
        let mut policy = Policy::default();
        policy.set(name, value).map(|()| policy)
    }

    fn allows(value: &str, address: &str) -> bool {
        after("allowed_third_parties", value).unwrap().allows_third_party(address.parse().unwrap(), true)
    }

    #[test]
    fn every_setting_changes_its_field_and_no_other() {
        let default = Policy::default();
        let any = [network([0; 4].into(), 0).unwrap(), network([0; 16].into(), 0).unwrap()];
        for (name, value, expected) in [
            ("lowest_port", "0", Policy { lowest_port: 0, ..default.clone() }),
            ("require_login", "no", Policy { require_login: false, ..default.clone() }),
            ("allowed_third_parties", "any", Policy { allowed_third_parties: Some(any.into()), ..default.clone() }),
            ("rewrite_foreign_pasv", "Off", Policy { rewrite_foreign_pasv: false, ..default.clone() }),
            ("max_expectations", "255", Policy { max_expectations: 255, ..default.clone() }),
            ("max_expectations_per_client", "7", Policy { max_expectations_per_client: 7, ..default.clone() }),
            ("tls_passive_ports", "5000-5001", Policy { tls_passive_ports: Some(5000..=5001), ..default.clone() }),
            ("learn_tls_passive_ports", "9", Policy { learn_tls_passive_ports: Some(9), ..default.clone() }),
        ] {
            assert_eq!(after(name, value), Ok(expected), "{name}");
        }
        assert_eq!(PolicySetting::ALL.map(|setting| setting.name().parse()), PolicySetting::ALL.map(Ok));
    }

    #[test]
    fn third_parties() {
        assert!(allows("192.0.2.7", "192.0.2.7") && !allows("192.0.2.7", "192.0.2.8"));
        assert!(allows("192.0.2.9/29,::1", "192.0.2.15") && !allows("192.0.2.9/29", "192.0.2.16"));
        assert!(allows("192.0.2.1 - 192.0.2.3, 2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!allows("192.0.2.1-192.0.2.3", "192.0.2.4") && !allows("none", "192.0.2.4"));
        assert!(allows("any", "255.255.255.255") && allows("any", "::") && !allows("0.0.0.0/0", "::1"));
        assert!(Policy::default().allows_third_party([192, 0, 2, 4].into(), true), "as loose says");
        assert!(!Policy::default().allows_third_party([192, 0, 2, 4].into(), false));
    }

    #[test]
    fn a_bad_value_is_refused_and_changes_nothing() {
        for (name, values) in [
            ("lowest_port", &["", "x", "-1", "+1", "65536", "1 2"][..]),
            ("require_login", &["", "maybe", "2"]),
            (
                "allowed_third_parties",
                &["", "x", "192.0.2.0/33", "::/129", "192.0.2.2-192.0.2.1", "192.0.2.1-::1", "any,none", ","],
            ),
            ("max_expectations", &["0", "256", "none"]),
            ("max_expectations_per_client", &["0", "65536"]),
            ("tls_passive_ports", &["", "0", "2-1", "1-", "1-2-3", "70000"]),
            ("learn_tls_passive_ports", &["0", "yes"]),
        ] {
            let setting: PolicySetting = name.parse().unwrap();
            for value in values {
                let mut policy = Policy::default();
                assert_eq!(policy.set(name, value), Err(PolicyError::BadValue(setting)), "{name} = {value:?}");
                assert_eq!(policy, Policy::default());
            }
        }
    }

    #[test]
    fn errors_name_what_would_be_right() {
        let unknown = after("lowst_port", "1").unwrap_err().to_string();
        assert!(PolicySetting::ALL.iter().all(|setting| unknown.contains(setting.name())), "{unknown}");
        assert_eq!(
            after("max_expectations", "0").unwrap_err().to_string(),
            "max_expectations takes a number from 1 to 255"
        );
    }
}
