//! Comparing tables.

use core::fmt;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

/// A line that one table has and the other has not, or not with this time left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableDifference {
    /// Only the kernel has it.
    OnlyKernel(String),
    /// Only the library has it.
    OnlyHere(String),
    /// Both have it, with different times left.
    Seconds {
        /// The line as the kernel printed it.
        line: String,
        /// The seconds left here.
        here: i64,
    },
}

impl fmt::Display for TableDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyKernel(line) => write!(f, "only the kernel has: {line}"),
            Self::OnlyHere(line) => write!(f, "only here:           {line}"),
            Self::Seconds { line, here } => write!(f, "{here} seconds left here: {line}"),
        }
    }
}

/// The times may be this far apart: the kernel prints whole seconds.
const TOLERANCE: i64 = 1;

/// The differences between two tables of connections or of expectations, order and `use=` aside.
pub(super) fn compare(kernel: &str, ours: &str) -> Vec<TableDifference> {
    let mut here = read(ours);
    let mut differences = Vec::new();
    for line in kernel.lines().filter(|line| !line.trim().is_empty()) {
        let (key, seconds) = key(line);
        match here.get_mut(&key).and_then(|times| closest(times, seconds)) {
            Some(ours) if (ours - seconds).abs() <= TOLERANCE => {}
            Some(ours) => differences.push(TableDifference::Seconds { line: line.to_string(), here: ours }),
            None => differences.push(TableDifference::OnlyKernel(line.to_string())),
        }
    }
    for (key, times) in here {
        differences.extend(times.iter().map(|seconds| TableDifference::OnlyHere(std::format!("{seconds}: {key}"))));
    }
    differences
}

fn read(table: &str) -> BTreeMap<String, Vec<i64>> {
    let mut lines: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let (key, seconds) = key(line);
        lines.entry(key).or_default().push(seconds);
    }
    lines
}

/// Takes the time nearest to `wanted` out.
fn closest(times: &mut Vec<i64>, wanted: i64) -> Option<i64> {
    let (at, _) = times.iter().enumerate().min_by_key(|(_, seconds)| (*seconds - wanted).abs())?;
    Some(times.swap_remove(at))
}

/// A line without its time and `use=`, and the time: the fifth word of a connection's, the first of an expectation's,
/// the ninth of a load balancing entry's.
fn key(line: &str) -> (String, i64) {
    let mut words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("use=")).collect();
    let at = match words.first() {
        Some(word) if word.starts_with("ipv") => 4,
        Some(&("TCP" | "UDP" | "IP")) => 8,
        _ => 0,
    };
    let seconds = words.get(at).and_then(|word| word.parse().ok());
    if seconds.is_some() && at < words.len() {
        words.remove(at);
    }
    (words.join(" ").to_owned(), seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.77.1.2 dst=198.51.100.9 mark=0 zone=0 use=6\n";

    #[test]
    fn use_and_a_second_do_not_count() {
        assert_eq!(compare(LINE, &LINE.replace("use=6", "use=2").replace("431999", "432000")), []);
    }

    #[test]
    fn everything_else_does() {
        let late = LINE.replace("431999", "431997");
        let seconds = TableDifference::Seconds { line: LINE.trim_end().to_string(), here: 431_997 };
        assert_eq!(compare(LINE, &late), [seconds]);
        assert_eq!(compare(LINE, "").len(), 1);
        assert_eq!(compare("", LINE).len(), 1);
        assert_eq!(compare(LINE, &LINE.replace("ESTABLISHED", "CLOSE")).len(), 2);
        assert_eq!(compare(&[LINE, LINE].concat(), LINE).len(), 1);
    }

    #[test]
    fn expectations_have_their_time_first() {
        let line = "298 l3proto = 2 proto=6 src=198.51.100.9 dst=203.0.113.1 sport=0 dport=5 ftp\n";
        assert_eq!(compare(line, &line.replace("298", "299")), []);
        assert_eq!(compare(line, &line.replace("298", "300")).len(), 1);
    }
}
