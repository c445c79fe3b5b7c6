//! The arguments, in the environment or as `NAME=VALUE` after `--`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::families::{FAMILIES, Family};

/// So many by default: it takes a few seconds.
const FEW: u64 = 200;

pub(crate) struct Arguments {
    pub(crate) dialogues: u64,
    pub(crate) seed: u64,
    pub(crate) families: Vec<Family>,
    /// Seeds from the clock; findings are saved and reported and do not fail.
    pub(crate) fresh: bool,
    pub(crate) findings: PathBuf,
    /// So many of the first dialogues are saved beside the findings even if both agree.
    pub(crate) saved: u64,
    /// Stop after so many findings of different kinds.
    pub(crate) most: usize,
}

impl Arguments {
    pub(crate) fn read() -> Result<Self, String> {
        let given: Vec<String> = std::env::args().skip(1).collect();
        let value = |name: &str| {
            let prefix = format!("{name}=");
            let given = given.iter().find_map(|argument| argument.strip_prefix(&prefix)).map(str::to_owned);
            given.or_else(|| std::env::var(name).ok())
        };
        let number = |name: &str, default: u64| match value(name) {
            Some(text) => text.parse().map_err(|_| format!("{name}={text} is no number")),
            None => Ok(default),
        };
        let fresh = value("KERNEL_FRESH").is_some_and(|text| text != "0");
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let families = match value("KERNEL_FAMILIES") {
            None => FAMILIES.to_vec(),
            Some(names) => names.split(',').map(family).collect::<Result<_, _>>()?,
        };
        let findings = value("KERNEL_FINDINGS").map_or_else(default_findings, PathBuf::from);
        Ok(Self {
            dialogues: number("KERNEL_DIALOGUES", FEW)?,
            seed: number("KERNEL_SEED", if fresh { clock } else { 1 })?,
            families,
            fresh,
            findings,
            saved: number("KERNEL_SAVE", 0)?,
            most: number("KERNEL_MOST", 20)? as usize,
        })
    }
}

fn family(name: &str) -> Result<Family, String> {
    FAMILIES.iter().find(|family| family.name == name).copied().ok_or_else(|| format!("there is no family {name}"))
}

/// `kernel-findings` beside what cargo builds.
fn default_findings() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    target.join("kernel-findings")
}
