//! The words of rules that are read and not decided.

use std::fmt::Write as _;
use std::string::String;

use super::{matches, targets};

/// Returns the matches and targets of iptables that this library knows and does not decide, as a list for readers. A
/// packet that reaches a rule with one of them is undecided, and everything else is not.
pub fn undecided_words() -> String {
    let mut text = String::from("Matches:\n\n");
    let list = |text: &mut String, words: std::vec::Vec<(&str, std::vec::Vec<&str>)>, dash: &str| {
        for (name, options) in words {
            let options: String = options.iter().map(|option| std::format!(" `{option}`")).collect();
            // A string takes everything.
            let _ = writeln!(text, "* `{dash} {name}`{}{options}", if options.is_empty() { "" } else { ":" });
        }
    };
    list(&mut text, matches::undecided(), "-m");
    text.push_str("\nTargets:\n\n");
    list(&mut text, targets::undecided(), "-j");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_what_is_undecided() {
        let documented = include_str!("undecided.md");
        let list = documented.split_once("Matches:\n").map(|(_, list)| std::format!("Matches:\n{list}"));
        assert_eq!(list.as_deref(), Some(undecided_words().as_str()), "write it to src/config/undecided.md");
    }
}
