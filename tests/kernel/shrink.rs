//! Leaving out what a difference does not need.

use crate::judge::{Judge, Step, Trial};
use crate::setup::Setup;

/// The shortest dialogue found in which both still differ, and its trial. `None` when its packets alone do not bring
/// the difference back.
pub(crate) fn shrink(judge: &mut Judge, setup: &Setup, steps: &[Step]) -> Result<Option<(Setup, Trial)>, String> {
    let mut setup = setup.clone();
    let Some(mut best) = differing(judge, &setup, steps)? else { return Ok(None) };
    let mut size = best.steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.steps.len() {
            let end = (at + size).min(best.steps.len());
            let fewer: Vec<Step> = [&best.steps[..at], &best.steps[end..]].concat();
            match differing(judge, &setup, &fewer)? {
                Some(trial) => best = trial,
                None => at = end,
            }
        }
        size /= 2;
    }
    while let Some((simpler, trial)) = without_a_rule(judge, &setup, &best.steps.clone())? {
        (setup, best) = (simpler, trial);
    }
    for simpler in simpler(&setup) {
        if let Some(trial) = differing(judge, &simpler, &best.steps.clone())? {
            (setup, best) = (simpler, trial);
        }
    }
    Ok(Some((setup, best)))
}

/// A trial of these steps, if both differ in it. Its steps end where they do.
fn differing(judge: &mut Judge, setup: &Setup, steps: &[Step]) -> Result<Option<Trial>, String> {
    let trial = judge.again(setup, steps)?;
    Ok(trial.difference.is_some().then_some(trial))
}

/// The configuration without its settings.
fn simpler(setup: &Setup) -> Vec<Setup> {
    if setup.sysctl.is_empty() { Vec::new() } else { vec![Setup { sysctl: Vec::new(), ..setup.clone() }] }
}

/// The first script with a line of nftables less in which both still differ. What nft refuses is none.
fn without_a_rule(judge: &mut Judge, setup: &Setup, steps: &[Step]) -> Result<Option<(Setup, Trial)>, String> {
    let lines: Vec<&str> = setup.nft.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if !line.starts_with("    ") {
            continue;
        }
        let fewer = lines.iter().enumerate().filter(|(at, _)| *at != number).map(|(_, line)| format!("{line}\n"));
        let simpler = Setup { nft: fewer.collect(), ..setup.clone() };
        if let Ok(Some(trial)) = differing(judge, &simpler, steps) {
            return Ok(Some((simpler, trial)));
        }
    }
    Ok(None)
}
