//! Asking one dialogue after the other, in the namespace.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::families::Family;
use crate::judge::{Judge, Step, Trial};
use crate::rng::Rng;
use crate::setup::Setup;
use crate::world::World;
use crate::{save, shrink};

/// So many dialogues are put in the order of their configurations at a time.
const BLOCK: u64 = 4000;

/// Maximum time of a dialogue that is tried again for shrinking.
const LONGEST_SHRUNK: Duration = Duration::from_secs(60);

struct Planned {
    family: Family,
    seed: u64,
    setup: Setup,
}

/// The findings of a worker.
#[derive(Default)]
struct Findings {
    /// Number of findings of each kind.
    kinds: BTreeMap<String, u64>,
    dialogues: u64,
    /// By family: dialogues, packets that arrived, and packets that left.
    families: BTreeMap<&'static str, [u64; 3]>,
    /// Dialogues that were left because chance decided otherwise for each.
    left: u64,
    /// Scripts that nft or the kernel refused: expressions that do not go together.
    refused: u64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut judge = match Judge::start() {
        Ok(judge) => judge,
        Err(error) => {
            println!("kernel: skipped: {error}");
            return ExitCode::SUCCESS;
        }
    };
    // The message of a panic in the library is part of the difference.
    std::panic::set_hook(Box::new(|_| {}));
    match ask_all(&mut judge, arguments) {
        Ok(findings) if findings.kinds.is_empty() || arguments.fresh => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("kernel: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask_all(judge: &mut Judge, arguments: &Arguments) -> Result<Findings, String> {
    let start = Instant::now();
    let mut findings = Findings::default();
    let mut begin = 0;
    while begin < arguments.dialogues {
        let count = BLOCK.min(arguments.dialogues - begin);
        for planned in plan(arguments, begin, count) {
            ask(judge, arguments, &planned, &mut findings)?;
        }
        begin += count;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "kernel: {} dialogues, {} packets, {} differ, {} left to chance, in {seconds:.1} s ({:.0} dialogues a second), seeds from {}",
        findings.dialogues,
        judge.packets,
        findings.kinds.values().sum::<u64>(),
        findings.left,
        findings.dialogues as f64 / seconds,
        arguments.seed,
    );
    if judge.followed > 0 {
        println!("kernel: {} packets left to the kernel, a tick of its clock from a limit's edge", judge.followed);
    }
    if findings.refused > 0 {
        println!("kernel: {} scripts refused by nft", findings.refused);
    }
    if judge.printed > 0 {
        println!("kernel: {} rulesets of nft printed as JSON and as text, the same models", judge.printed);
    }
    for (family, [dialogues, arrived, left]) in &findings.families {
        println!("  {family:16} {dialogues:8} dialogues {arrived:10} packets arrived {left:10} left");
    }
    let asks_nothing = |[_, arrived, left]: &[u64; 3]| *arrived == 0 || *left == 0;
    let silent: Vec<_> = findings.families.iter().filter(|(_, counts)| asks_nothing(counts)).collect();
    // A family of which a few dialogues show nothing may show something in more.
    for (family, [dialogues, ..]) in silent {
        if *dialogues >= 20 {
            findings.kinds.insert(format!("{family}: the family asks nothing"), *dialogues);
        }
    }
    for (kind, count) in &findings.kinds {
        println!("  {count:6} {kind}");
    }
    Ok(findings)
}

/// Dialogues in the order of their configurations.
fn plan(arguments: &Arguments, begin: u64, count: u64) -> Vec<Planned> {
    let mut planned = Vec::new();
    for number in begin..begin + count {
        let seed = arguments.seed.wrapping_add(number);
        let mut turn = number as usize;
        let family = loop {
            let family = arguments.families[turn % arguments.families.len()];
            let alone = arguments.families.len() == 1;
            if alone || Rng::of("share", seed).percent(family.share) {
                break family;
            }
            turn += 1;
        };
        let (setup, _) = (family.plan)(&mut Rng::of(family.name, seed));
        planned.push(Planned { family, seed, setup });
    }
    planned.sort_by(|a, b| a.setup.cmp(&b.setup));
    planned
}

fn ask(judge: &mut Judge, arguments: &Arguments, planned: &Planned, findings: &mut Findings) -> Result<(), String> {
    let mut rng = Rng::of(planned.family.name, planned.seed);
    let (setup, play) = (planned.family.plan)(&mut rng);
    findings.dialogues += 1;
    let trial = match judge.begin(&setup) {
        Ok(trial) => trial,
        Err(error) if error.starts_with("nft -f") => {
            findings.refused += 1;
            return Ok(());
        }
        Err(error) => {
            *findings.kinds.entry(format!("{}: {error}", planned.family.name)).or_default() += 1;
            return Ok(());
        }
    };
    let mut world = World::new(judge, trial, rng);
    play(&mut world);
    let mut trial = world.trial;
    judge.end(&mut trial)?;
    let counts = findings.families.entry(planned.family.name).or_default();
    let arrived = trial.seen.iter().filter(|seen| seen.arrived).count() as u64;
    for (count, more) in counts.iter_mut().zip([1, arrived, trial.seen.len() as u64 - arrived]) {
        *count += more;
    }
    findings.left += u64::from(trial.chance);
    if findings.dialogues <= arguments.saved && trial.difference.is_none() {
        let path = arguments.findings.join(format!("{}-{}", planned.family.name, planned.seed));
        save::save(&path, &setup, &trial, &judge.files, "").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if trial.difference.is_some() {
        found(judge, arguments, planned, &trial, findings)?;
    }
    Ok(())
}

/// Counts a difference; the first of its kind is shrunk, printed and saved.
fn found(
    judge: &mut Judge,
    arguments: &Arguments,
    planned: &Planned,
    trial: &Trial,
    findings: &mut Findings,
) -> Result<(), String> {
    let kind = trial.difference.as_ref().map(|difference| difference.kind.clone()).unwrap_or_default();
    let count = findings.kinds.entry(kind).or_default();
    *count += 1;
    if *count > 1 || findings.kinds.len() > arguments.most {
        return Ok(());
    }
    let waits = |step: &Step| if let Step::Wait(time) = step { *time } else { Duration::ZERO };
    let shrunk = match trial.steps.iter().map(waits).sum::<Duration>() > LONGEST_SHRUNK {
        true => None,
        false => shrink::shrink(judge, &planned.setup, &trial.steps)?,
    };
    let (setup, trial) = shrunk.as_ref().map_or((&planned.setup, trial), |(setup, trial)| (setup, trial));
    let name = format!("{} {}", planned.family.name, planned.seed);
    let mut story = save::story(&name, setup, trial);
    if shrunk.is_none() {
        story += "(its packets alone do not bring the difference back)\n";
    }
    println!("{story}");
    let path = arguments.findings.join(format!("{}-{}", planned.family.name, planned.seed));
    save::save(&path, setup, trial, &judge.files, &story).map_err(|error| format!("{}: {error}", path.display()))
}
