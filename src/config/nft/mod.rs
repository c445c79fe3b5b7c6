//! Tables of nftables: as `nft -j list ruleset` writes them, and as `nft list ruleset` and people do.
//!
//! The text is read into the objects that `nft -j` writes, so that both become the model in one place.

mod datatype;
mod expressions;
mod load;
mod statements;
mod text;

use std::string::String;
use std::vec::Vec;

use serde_json::Value;

use super::error::{Error, ErrorKind, Warning};
use crate::netfilter::nft::NftRuleset;
use load::{Loader, Object};
use text::Script;

/// Reads what `nft -j list ruleset` writes. An object that is not known is named in a warning, and a packet that reaches a
/// rule with it is undecided.
///
/// # Errors
/// A text that is no JSON, or has no list `nftables`.
///
/// ```
/// use ftp_conntrack::config::parse_nft_json;
///
/// let text = r#"{"nftables": [{"table": {"family": "inet", "name": "edge"}},
///     {"chain": {"family": "inet", "table": "edge", "name": "forward", "type": "filter", "hook": "forward", "prio": 0}},
///     {"rule": {"family": "inet", "table": "edge", "chain": "forward", "handle": 4, "expr": [{"drop": null}]}}]}"#;
/// let (ruleset, warnings) = parse_nft_json("ruleset.json", text)?;
/// assert_eq!(ruleset.tables[0].chains[0].rules.len(), 1);
/// assert!(warnings.is_empty());
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
pub fn parse_nft_json(file: &str, text: &str) -> Result<(NftRuleset, Vec<Warning>), Error> {
    let wanted = "save the output of nft -j list ruleset again";
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let line = u32::try_from(error.line()).unwrap_or(u32::MAX).max(1);
        Error::new(ErrorKind::Json, line, "", std::format!("{wanted}: {error}")).in_file(file)
    })?;
    let list = value.get("nftables").and_then(Value::as_array);
    let list = list.ok_or_else(|| Error::of_file(file, ErrorKind::Json, wanted))?;
    let file: std::sync::Arc<str> = file.into();
    let objects: Vec<Object> =
        list.iter().map(|object| Object { value: object.clone(), line: 0, file: file.clone() }).collect();
    Ok(Loader::new().load(&objects))
}

/// Reads what `nft list ruleset` prints, or a script for `nft -f`. A statement that is not known is named in a warning, and
/// a packet that reaches it is undecided. A script that includes others needs [`parse_nft_with`].
///
/// # Errors
/// A quote or a block that is not closed, a command that is not known, an `include`.
///
/// ```
/// use ftp_conntrack::config::parse_nft;
///
/// let text = "
///     define wan = eth0
///     table inet edge {
///         chain forward {
///             type filter hook forward priority filter; policy drop;
///             ct state vmap { established : accept, related : accept, invalid : drop }
///             iifname != $wan tcp dport { ftp, 2121 } accept
///         }
///     }";
/// let (ruleset, warnings) = parse_nft("ruleset.nft", text)?;
/// let rules = &ruleset.tables[0].chains[0].rules;
/// assert_eq!((rules.len(), warnings.len()), (2, 0));
/// assert_eq!(rules[1].origin.as_ref().unwrap().to_string(), "ruleset.nft:7 (table inet edge, chain forward)");
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
pub fn parse_nft(file: &str, text: &str) -> Result<(NftRuleset, Vec<Warning>), Error> {
    parse_nft_with(file, text, &mut |_| Vec::new())
}

/// Reads a script for `nft -f`, and the files it includes: `include` returns those that a path or pattern names, each with
/// its name and text, in their order.
///
/// # Errors
/// As [`parse_nft`]; a file that `include` does not return, unless a pattern names it.
pub fn parse_nft_with(
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Vec<(String, String)>,
) -> Result<(NftRuleset, Vec<Warning>), Error> {
    let objects = Script::read(file, text, include)?;
    Ok(Loader::new().load(&objects))
}

/// Reads commands on top of tables that are there.
///
/// # Errors
/// As [`parse_nft`], and a rule for a chain that is not there.
pub(super) fn amend_nft(ruleset: NftRuleset, file: &str, text: &str) -> Result<(NftRuleset, Vec<Warning>), Error> {
    let objects = Script::read(file, text, &mut |_| Vec::new())?;
    let (ruleset, warnings) = Loader::after(ruleset).load(&objects);
    for object in &objects {
        let rule = object.value.get("add").or_else(|| object.value.get("insert")).and_then(|inner| inner.get("rule"));
        let Some(rule) = rule else { continue };
        let word = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
        let tables =
            ruleset.tables.iter().filter(|table| table.family.name() == word("family") && table.name == word("table"));
        if !tables.into_iter().any(|table| table.chains.iter().any(|chain| chain.name == word("chain"))) {
            let name = std::format!("{} {} {}", word("family"), word("table"), word("chain"));
            let wanted = "name a chain of the ruleset";
            return Err(Error::new(ErrorKind::UnknownChain, object.line, &name, wanted).in_file(file));
        }
    }
    Ok((ruleset, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::nft::{NftVerdict, Statement};
    use std::format;
    use std::string::{String, ToString};

    /// The rules of a chain `forward` in a table `inet edge` with a set `ports`.
    fn rules(expressions: &str) -> (NftRuleset, Vec<String>) {
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}}, {{"table": {{"family": "inet", "name": "edge"}}}},
            {{"table": {{"family": "bridge", "name": "ports"}}}},
            {{"set": {{"family": "inet", "table": "edge", "name": "ports", "type": "inet_service", "elem": [21, {{"range": [80, 90]}}]}}}},
            {{"set": {{"family": "inet", "table": "edge", "name": "strange", "type": "moon", "elem": [1]}}}},
            {{"chain": {{"family": "inet", "table": "edge", "name": "forward", "type": "filter", "hook": "forward", "prio": 0}}}},
            {{"rule": {{"family": "inet", "table": "edge", "chain": "forward", "handle": 7, "expr": {expressions}}}}}]}}"#
        );
        let (ruleset, warnings) = parse_nft_json("ruleset.json", &text).unwrap();
        (ruleset, warnings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_statement_that_is_not_known_is_named_by_table_chain_and_handle() {
        let (ruleset, warnings) =
            rules(r#"[{"match": {"op": "==", "left": {"moon": 1}, "right": 1}}, {"drop": null}]"#);
        let statements = &ruleset.tables[0].chains[0].rules[0].statements;
        assert!(matches!(statements.as_slice(), [Statement::Unknown(_), Statement::Verdict(NftVerdict::Drop)]));
        let expected = "ruleset.json: \"table inet edge, chain forward, handle 7: the expression {\\\"moon\\\":1}\" is not \
                        known; a packet that reaches it is undecided";
        assert_eq!(warnings[2], expected);
        assert!(warnings[0].contains("bridge ports") && warnings[1].contains("set strange"), "{warnings:?}");
        let origin = ruleset.tables[0].chains[0].rules[0].origin.as_ref().unwrap().to_string();
        assert_eq!(origin, "ruleset.json (table inet edge, chain forward, handle 7)");
    }

    #[test]
    fn a_rule_with_a_set_that_is_not_known_is_undecided() {
        let dport = r#"{"payload": {"protocol": "tcp", "field": "dport"}}"#;
        for (set, known) in [("@ports", true), ("@strange", false), ("@gone", false)] {
            let expression = format!(r#"[{{"match": {{"op": "==", "left": {dport}, "right": "{set}"}}}}]"#);
            let (ruleset, _) = rules(&expression);
            let statements = &ruleset.tables[0].chains[0].rules[0].statements;
            assert_eq!(matches!(statements[0], Statement::Lookup { .. }), known, "{set}");
        }
    }

    #[test]
    fn what_is_no_list_of_objects_is_refused() {
        for text in ["", "[]", "{}", "{\"nftables\": 1}", "{\"nftables\": ["] {
            assert!(parse_nft_json("ruleset.json", text).is_err(), "{text}");
        }
    }
}
