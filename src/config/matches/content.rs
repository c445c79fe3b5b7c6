//! Matches on bytes and on the time: string, u32, bpf, time.

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::super::error::{Error, ErrorKind};
use super::super::options::{OptionSpec, flag, one, text};
use super::super::values;
use super::super::words::Word;
use super::{MatchWords, ModuleSpec, undecided_module, when};
use crate::netfilter::{Condition, Match, TextMatch, TimeMatch, U32Step, U32Test};

static STRING: &[OptionSpec] = &[
    one("--algo"),
    one("--from"),
    one("--to"),
    text("--string").or_not(),
    text("--hex-string").or_not(),
    flag("--icase"),
];
static U32: &[OptionSpec] = &[one("--u32").or_not()];
static TIME: &[OptionSpec] = &[
    one("--datestart"),
    one("--datestop"),
    one("--timestart"),
    one("--timestop"),
    one("--monthdays").or_not(),
    one("--weekdays").or_not(),
    flag("--contiguous"),
    flag("--kerneltz").undecided(),
    flag("--utc"),
    flag("--localtz").undecided(),
];
static BPF: &[OptionSpec] = &[one("--bytecode").undecided(), one("--object-pinned").undecided()];
static OSF: &[OptionSpec] = &[one("--genre").or_not().undecided(), one("--ttl").undecided(), one("--log").undecided()];

pub(super) static MODULES: &[ModuleSpec] = &[
    ModuleSpec::new("string", STRING, string),
    ModuleSpec::new("u32", U32, u32_tests),
    ModuleSpec::new("time", TIME, time).bare(),
    ModuleSpec::new("bpf", BPF, undecided_module),
    ModuleSpec::new("osf", OSF, undecided_module),
];

/// Maximum number of bytes of a text.
const LONGEST_TEXT: usize = 128;

fn string(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let wanted = "write --algo bm or --algo kmp, and --string or --hex-string";
    let algorithm = words.required("--algo", wanted)?.value();
    if algorithm.text.is_empty() || algorithm.text.len() > 15 {
        return Err(Error::bad_value(algorithm, wanted));
    }
    let Some(given) = words.at_most_one(&["--string", "--hex-string"])? else { return Err(words.missing(wanted)) };
    let pattern = match given.name {
        "--string" => given.value().text.as_bytes().to_vec(),
        _ => hex(given.value())?,
    };
    if pattern.is_empty() || pattern.len() > LONGEST_TEXT {
        return Err(Error::bad_value(given.value(), "write a text of 1 to 128 bytes"));
    }
    let from = words.number("--from", 65_535)?.unwrap_or(0) as u16;
    let to = words.number("--to", 65_535)?.unwrap_or(65_535) as u16;
    let test = Match::Text(TextMatch::new(&pattern, words.has("--icase"), from, to));
    Ok(vec![when(test, given.negated)])
}

/// A text of which the bytes between bars are written in hexadecimal: `|0D 0A|`.
fn hex(word: &Word) -> Result<Vec<u8>, Error> {
    let wanted = "write a text with bytes between bars, such as '|0D 0A|'";
    let mut bytes = Vec::new();
    let mut chars = word.text.chars();
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '|' => inside = !inside,
            ' ' if inside => {}
            _ if inside => {
                let digits: String = [Some(c), chars.next()].into_iter().flatten().collect();
                let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
                bytes.push(byte.ok_or_else(|| Error::bad_value(word, wanted))?);
            }
            '\\' => bytes.extend(chars.next().into_iter().flat_map(|c| String::from(c).into_bytes())),
            c => bytes.extend(String::from(c).into_bytes()),
        }
    }
    if inside { Err(Error::bad_value(word, wanted)) } else { Ok(bytes) }
}

const WANTED_U32: &str = "write tests such as \"6 & 0xFF = 6 && 4 & 0x1FFF = 0\"";

fn u32_tests(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let given = words.required("--u32", WANTED_U32)?;
    let mut reader = U32Reader { rest: given.value().text.as_str() };
    let tests = reader.tests().ok_or_else(|| Error::bad_value(given.value(), WANTED_U32))?;
    Ok(vec![when(Match::U32(tests), given.negated)])
}

/// Maximum number of tests, of steps of a test, and of ranges of a test.
const MOST_U32: usize = 10;

struct U32Reader<'a> {
    rest: &'a str,
}

impl U32Reader<'_> {
    fn pass(&mut self, text: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn number(&mut self) -> Option<u32> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(end);
        self.rest = rest;
        values::number(digits)
    }

    fn tests(&mut self) -> Option<Vec<U32Test>> {
        let mut tests = Vec::new();
        loop {
            tests.push(self.test()?);
            if !self.pass("&&") {
                break;
            }
        }
        (self.rest.trim().is_empty() && tests.len() <= MOST_U32).then_some(tests)
    }

    fn test(&mut self) -> Option<U32Test> {
        let start = self.number()?;
        let mut steps = Vec::new();
        while !self.pass("=") {
            let step = if self.rest.trim_start().starts_with("&&") {
                return None;
            } else if self.pass("&") {
                U32Step::And(self.number()?)
            } else if self.pass("<<") {
                U32Step::ShiftLeft(self.number()?)
            } else if self.pass(">>") {
                U32Step::ShiftRight(self.number()?)
            } else if self.pass("@") {
                U32Step::Move(self.number()?)
            } else {
                return None;
            };
            steps.push(step);
        }
        let mut ranges = Vec::new();
        loop {
            let first = self.number()?;
            let last = if self.pass(":") { self.number()? } else { first };
            ranges.push((first, last));
            if !self.pass(",") {
                break;
            }
        }
        (steps.len() < MOST_U32 && ranges.len() <= MOST_U32).then_some(U32Test { start, steps, ranges })
    }
}

const DAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn time(words: &MatchWords<'_, '_>) -> Result<Vec<Condition>, Error> {
    let mut test = TimeMatch::default();
    for given in words.given {
        let value = given.value();
        match given.name {
            "--datestart" => test.dates.0 = date(value)?,
            "--datestop" => test.dates.1 = date(value)?,
            "--timestart" => test.daytime.0 = daytime(value)?,
            "--timestop" => test.daytime.1 = daytime(value)?,
            "--monthdays" => {
                let days = value.text.split(',').try_fold(0u32, |days, day| {
                    let day = values::decimal::<u32>(day).filter(|day| *day <= 31)?;
                    Some(days | 1 << day)
                });
                let days = days.ok_or_else(|| Error::bad_value(value, "list days from 1 to 31"))?;
                test.month_days = if given.negated { !days & !1 } else { days };
            }
            "--weekdays" => {
                let days = value.text.split(',').try_fold(0u8, |days, day| Some(days | 1 << week_day(day)?));
                let days = days.ok_or_else(|| Error::bad_value(value, "list days such as Mon,Tue or 1,2"))?;
                test.week_days = if given.negated { !days & !1 } else { days };
            }
            "--contiguous" => test.contiguous = true,
            _ => {}
        }
    }
    if let Some(given) = words.option("--contiguous").filter(|_| test.daytime.1 >= test.daytime.0) {
        return Err(Error::at(given.word, ErrorKind::Misplaced, "it needs a --timestop before --timestart"));
    }
    Ok(vec![when(Match::Time(test), false)])
}

fn week_day(text: &str) -> Option<u8> {
    if let Some(number) = values::decimal::<u8>(text) {
        return (1..=7).contains(&number).then_some(number);
    }
    let text = text.to_ascii_lowercase();
    let place = DAYS.iter().position(|day| *day == text || text.len() == 2 && day.starts_with(text.as_str()))?;
    u8::try_from(place).ok()?.checked_add(1)
}

/// `hh:mm[:ss]` in seconds.
fn daytime(word: &Word) -> Result<u32, Error> {
    let parse = || {
        let parts: Option<Vec<u32>> = word.text.split(':').map(values::decimal::<u32>).collect();
        let (hours, minutes, seconds) = match parts?.as_slice() {
            [hours, minutes] => (*hours, *minutes, 0),
            [hours, minutes, seconds] => (*hours, *minutes, *seconds),
            _ => return None,
        };
        (hours < 24 && minutes < 60 && seconds < 60).then_some(hours * 3_600 + minutes * 60 + seconds)
    };
    parse().ok_or_else(|| Error::bad_value(word, "write a time such as 06:03 or 23:59:59"))
}

/// `YYYY[-MM[-DD[Thh[:mm[:ss]]]]]` in seconds since 1970.
fn date(word: &Word) -> Result<u32, Error> {
    let parse = || {
        let (day, time) = word.text.split_once('T').unwrap_or((&word.text, "00"));
        let days: Option<Vec<u32>> = day.split('-').map(values::decimal::<u32>).collect();
        let days = days?;
        let part = |at: usize| days.get(at).copied().unwrap_or(1);
        let (year, month, day) = (*days.first()?, part(1), part(2));
        let times: Option<Vec<u32>> = time.split(':').map(values::decimal::<u32>).collect();
        let times = times?;
        let of = |at: usize| times.get(at).copied().unwrap_or(0);
        let fits = days.len() <= 3
            && times.len() <= 3
            && (1970..=2038).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && of(0) < 24
            && of(1) < 60
            && of(2) < 60;
        if !fits || word.text.contains('T') && days.len() < 3 {
            return None;
        }
        let seconds = values::days_since_1970(year, month, day).checked_mul(86_400)?;
        seconds.checked_add(i64::from(of(0) * 3_600 + of(1) * 60 + of(2)))
    };
    let seconds = parse().and_then(|seconds| u32::try_from(seconds).ok());
    seconds.ok_or_else(|| Error::bad_value(word, "write a date such as 2038-01-19 or 2038-01-19T04:17:07"))
}
