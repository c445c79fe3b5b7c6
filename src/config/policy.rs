//! `policy.conf`: what behaviour Exact may open.

use std::borrow::ToOwned;
use std::string::ToString;
use std::vec::Vec;

use super::error::{Error, ErrorKind};
use crate::helper::{Policy, PolicyError, PolicySetting};

/// Reads lines `KEY = VALUE`, each a [`PolicySetting`]; `#` and `;` begin comments. Settings without a line keep their
/// default.
///
/// # Errors
///
/// A line without `=`, a setting that does not exist or that an earlier line has, and a value that it does not take.
///
/// ```
/// let policy = ftp_conntrack::config::parse_policy("policy.conf", "lowest_port = 20000\n")?;
/// assert_eq!(policy.lowest_port, 20_000);
/// let error = ftp_conntrack::config::parse_policy("policy.conf", "lowest_port = x\n").unwrap_err();
/// assert_eq!(error.to_string(), r#"policy.conf:1: "x" is no value this option takes; lowest_port takes a port from 0 to 65535"#);
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
pub fn parse_policy(file: &str, text: &str) -> Result<Policy, Error> {
    let mut policy = Policy::default();
    let mut seen: Vec<&str> = Vec::new();
    for (line, text) in (1u32..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            continue;
        }
        let wrong = |kind, word: &str, wanted| Err(Error::new(kind, line, word, wanted).in_file(file));
        let Some((name, value)) = text.split_once('=') else {
            return wrong(ErrorKind::MissingValue, text, "write KEY = VALUE".to_owned());
        };
        let (name, value) = (name.trim(), value.trim());
        if seen.contains(&name) {
            return wrong(ErrorKind::Repeated, name, "keep one line for each setting".to_owned());
        }
        match policy.set(name, value) {
            Ok(()) => seen.push(name),
            Err(error @ PolicyError::BadValue(_)) => return wrong(ErrorKind::BadValue, value, error.to_string()),
            Err(error) => return wrong(ErrorKind::UnknownOption, name, error.to_string()),
        }
    }
    debug_assert!(seen.len() <= PolicySetting::ALL.len(), "each setting once");
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (ErrorKind, Option<u32>, std::string::String) {
        let error = parse_policy("policy.conf", text).unwrap_err();
        assert_eq!(error.file, "policy.conf");
        (error.kind, error.line, error.word)
    }

    #[test]
    fn lines_change_their_settings() {
        let policy = parse_policy("policy.conf", "# c\n; c\n\n require_login=no \nmax_expectations = 3\r\n").unwrap();
        assert_eq!((policy.require_login, policy.max_expectations, policy.lowest_port), (false, 3, 1024));
        assert_eq!(parse_policy("policy.conf", ""), Ok(Policy::default()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(error("\nlowest_port 1"), (ErrorKind::MissingValue, Some(2), "lowest_port 1".into()));
        assert_eq!(error("lowest_port = 1\nlowst_port = 1"), (ErrorKind::UnknownOption, Some(2), "lowst_port".into()));
        assert_eq!(error("require_login = maybe"), (ErrorKind::BadValue, Some(1), "maybe".into()));
        assert_eq!(error("lowest_port=1\nlowest_port=2"), (ErrorKind::Repeated, Some(2), "lowest_port".into()));
        assert_eq!(error("= 2"), (ErrorKind::UnknownOption, Some(1), std::string::String::new()));
    }
}
