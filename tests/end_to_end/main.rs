//! Two stacks that know nothing of the library speak FTP through its router, on a clock of their own.
//!
//! Each dialogue is drawn from a seed: the topology, the faults of the links, the cuts of the text and its form. Every
//! file must arrive. Each side must receive the other's text with nothing but the announced endpoints changed. No
//! inside address may be seen outside, and in the end the router must have forgotten everything.
//!
//! `E2E_SEED` is the first seed, `E2E_DIALOGUES` the number of dialogues, and `E2E_BEHAVIOUR` (`linux` or `exact`) the
//! router's behaviour, in all tests that are run.

mod client;
mod host;
mod link;
mod options;
mod oracle;
mod plan;
#[path = "../kernel/rng.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod rng;
mod server;
#[path = "../common/servers.rs"]
mod servers;
mod speech;
mod text;
mod trace;
mod urgent;
mod wire;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ftp_conntrack::Behaviour;

use options::{Class, Options};
use rng::Rng;
use world::World;

/// Whole lines, one at a time, on links that lose nothing: what Linux can do.
const WHOLE_LINES: Class = Class {
    weather: false,
    cuts: false,
    windows: false,
    links: false,
    pipelining: false,
    dresses: false,
    opaque: false,
    urgent: false,
    open: false,
    director: false,
    wild: false,
};

/// All at once, each in most dialogues.
const EVERYTHING: Class = Class {
    weather: true,
    cuts: true,
    windows: true,
    links: true,
    pipelining: true,
    dresses: true,
    opaque: true,
    urgent: false,
    open: false,
    director: false,
    wild: false,
};

#[test]
fn linux_whole_lines() {
    prove("linux_whole_lines", WHOLE_LINES, Behaviour::Linux, 200);
}

#[test]
fn open_everything() {
    prove("open_everything", Class { open: true, ..EVERYTHING }, Behaviour::Linux, 60);
}

#[test]
fn exact_whole_lines() {
    prove("exact_whole_lines", WHOLE_LINES, Behaviour::Exact, 100);
}

#[test]
fn exact_dresses() {
    prove("exact_dresses", Class { dresses: true, ..WHOLE_LINES }, Behaviour::Exact, 200);
}

#[test]
fn exact_pipelining() {
    prove("exact_pipelining", Class { pipelining: true, ..WHOLE_LINES }, Behaviour::Exact, 150);
}

#[test]
fn exact_cuts() {
    prove("exact_cuts", Class { cuts: true, ..WHOLE_LINES }, Behaviour::Exact, 200);
}

#[test]
fn exact_weather() {
    prove("exact_weather", Class { weather: true, ..WHOLE_LINES }, Behaviour::Exact, 250);
}

#[test]
fn exact_links() {
    prove("exact_links", Class { links: true, pipelining: true, ..WHOLE_LINES }, Behaviour::Exact, 100);
}

#[test]
fn exact_opaque() {
    prove("exact_opaque", Class { opaque: true, ..WHOLE_LINES }, Behaviour::Exact, 200);
}

#[test]
fn exact_opaque_weather() {
    let class = Class { opaque: true, weather: true, cuts: true, ..WHOLE_LINES };
    prove("exact_opaque_weather", class, Behaviour::Exact, 200);
}

#[test]
fn exact_windows() {
    prove("exact_windows", Class { windows: true, ..WHOLE_LINES }, Behaviour::Exact, 100);
}

#[test]
fn exact_urgent() {
    prove("exact_urgent", Class { urgent: true, ..WHOLE_LINES }, Behaviour::Exact, 100);
}

#[test]
fn exact_urgent_cuts() {
    let class = Class { urgent: true, cuts: true, pipelining: true, dresses: true, ..WHOLE_LINES };
    prove("exact_urgent_cuts", class, Behaviour::Exact, 200);
}

#[test]
fn exact_urgent_everything() {
    prove("exact_urgent_everything", Class { urgent: true, ..EVERYTHING }, Behaviour::Exact, 300);
}

#[test]
fn exact_everything() {
    prove("exact_everything", EVERYTHING, Behaviour::Exact, 700);
}

#[test]
fn exact_director() {
    prove("exact_director", Class { director: true, ..WHOLE_LINES }, Behaviour::Exact, 100);
}

#[test]
fn exact_director_everything() {
    prove("exact_director_everything", Class { director: true, ..EVERYTHING }, Behaviour::Exact, 200);
}

#[test]
fn exact_wild() {
    prove("exact_wild", Class { wild: true, opaque: true, pipelining: true, ..WHOLE_LINES }, Behaviour::Exact, 200);
}

#[test]
fn exact_wild_cuts() {
    let class = Class { wild: true, cuts: true, opaque: true, dresses: true, ..WHOLE_LINES };
    prove("exact_wild_cuts", class, Behaviour::Exact, 200);
}

#[test]
fn exact_wild_everything() {
    prove("exact_wild_everything", Class { wild: true, ..EVERYTHING }, Behaviour::Exact, 290);
}

/// Runs dialogues of a class, and tells of those that fail: of the first one everything, of the others the seed.
fn prove(test: &str, class: Class, behaviour: Behaviour, dialogues: u64) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let behaviour = match env::var("E2E_BEHAVIOUR").as_deref() {
        Ok("linux") => Behaviour::Linux,
        Ok("exact") => Behaviour::Exact,
        Ok(other) => panic!("E2E_BEHAVIOUR={other}: it is linux or exact"),
        Err(_) => behaviour,
    };
    let first = number("E2E_SEED").unwrap_or(1);
    let dialogues = number("E2E_DIALOGUES").unwrap_or(dialogues);
    let (mut packets, mut failed, mut shown) = (0, Vec::new(), false);
    for seed in first..first + dialogues {
        match dialogue(class, behaviour, seed) {
            Ok(count) => packets += count,
            Err(story) => {
                if !shown {
                    shown = true;
                    let name = format!("{behaviour:?}").to_lowercase();
                    println!(
                        "{story}\nE2E_SEED={seed} E2E_DIALOGUES=1 E2E_BEHAVIOUR={name} cargo test --test end_to_end {test}\n"
                    );
                }
                failed.push((seed, story.lines().next().unwrap_or_default().to_string()));
            }
        }
    }
    println!("{test}: {dialogues} dialogues, {packets} packets, {} failed", failed.len());
    let list: String = failed.iter().map(|(seed, why)| format!("\n  seed {seed}: {why}")).collect();
    assert!(failed.is_empty(), "{} of {dialogues} dialogues failed:{list}", failed.len());
}

/// One dialogue; gives the number of packets that the router got, or the story of what went wrong.
fn dialogue(class: Class, behaviour: Behaviour, seed: u64) -> Result<u64, String> {
    let mut rng = Rng::of("end to end", seed);
    let options = Options::draw(class, behaviour, &mut rng);
    let mut world = World::new(options, &mut rng);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if world.run()? {
            oracle::check(&world)?;
        }
        world.forget()
    }));
    let outcome = outcome.unwrap_or_else(|_| Err("panicked".into()));
    let options = &world.options;
    outcome
        .map(|()| world.watch.packets)
        .map_err(|why| format!("{why}\nseed {seed}, {options:#?}\n{}\n{why}", world.trace.to_text(world.progress)))
}
