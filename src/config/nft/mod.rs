//! Tables of nftables: as `nft -j list ruleset` writes them, and as `nft list ruleset` and people do.
//!
//! The text is read into the objects that `nft -j` writes, so that both become the model in one place.

mod datatype;
mod expressions;
mod load;
mod statements;

use std::vec::Vec;

use serde_json::Value;

use super::error::{Error, ErrorKind, Warning};
use crate::netfilter::nft::NftRuleset;
use load::{Loader, Object};

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
    let objects: Vec<Object> = list.iter().map(|object| (object.clone(), 0)).collect();
    Ok(Loader::new(file).load(&objects))
}
