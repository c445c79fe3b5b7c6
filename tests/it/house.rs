//! The rules of the house that no compiler knows: layers use only layers above them, and documentation is plain English.

use std::fs;
use std::path::{Path, PathBuf};

/// First words that describe a question instead of a thing or an action.
const QUESTIONS: [&str; 8] = ["What", "Whether", "How", "Who", "Whose", "Where", "Why", "Its"];

/// Maximum number of words in a sentence of public documentation.
const LONGEST_SENTENCE: usize = 30;

/// The doc comment of a public item, or of a module.
struct Doc {
    line: usize,
    text: Vec<String>,
}

/// Returns all Rust files below `directory`, in order of their names.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the first part of a path below `src/`: the layer's folder or file.
fn layer_of(path: &Path) -> String {
    let below = path.strip_prefix(src()).unwrap();
    below.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Returns a file's text up to a module of unit tests with a body.
fn without_unit_tests(text: &str) -> &str {
    let begin = text.match_indices("\n#[cfg(test)]\nmod ").find(|(at, found)| {
        let name = text[at + found.len()..].lines().next().unwrap_or_default();
        name.ends_with('{')
    });
    begin.map_or(text, |(at, _)| &text[..=at])
}

/// Returns the documentation of everything public in a file, without its unit tests.
fn public_docs(text: &str) -> Vec<Doc> {
    let (mut docs, mut block) = (Vec::new(), None::<Doc>);
    let mut module = Doc { line: 1, text: Vec::new() };
    let mut is_public_item = false;
    let mut attribute_depth = 0;
    for (index, line) in without_unit_tests(text).lines().enumerate() {
        let code = line.trim_start();
        if attribute_depth > 0 || code.starts_with("#[") {
            attribute_depth += line.matches('[').count();
            attribute_depth -= line.matches(']').count();
            continue;
        }
        if let Some(doc) = code.strip_prefix("//!") {
            module.text.push(doc.trim().to_owned());
        } else if let Some(doc) = code.strip_prefix("///") {
            let block = block.get_or_insert(Doc { line: index + 1, text: Vec::new() });
            block.text.push(doc.trim().to_owned());
        } else {
            let is_nested = line.starts_with(' ');
            if !is_nested && !code.is_empty() && !code.starts_with(['}', ')']) {
                is_public_item = code.starts_with("pub enum") || code.starts_with("pub trait");
            }
            let is_part = is_nested && is_public_item && !code.starts_with("pub(");
            if let Some(doc) = block.take()
                && (code.starts_with("pub ") || is_part)
            {
                docs.push(doc);
            }
        }
    }
    docs.extend((!module.text.is_empty()).then_some(module));
    docs
}

/// Returns the sentences of a doc comment: no code, no tables, each item of a list by itself.
fn sentences(lines: &[String]) -> Vec<String> {
    let (mut paragraphs, mut is_code) = (vec![String::new()], false);
    for line in lines {
        if line.starts_with("```") {
            is_code = !is_code;
        }
        let begins = ["- ", "* ", "#", "|", "```", "["].iter().any(|mark| line.starts_with(mark)) || line.is_empty();
        if begins {
            paragraphs.push(String::new());
        }
        if !is_code && !line.starts_with("```") && !line.starts_with('|') && !is_link_target(line) {
            let paragraph = paragraphs.last_mut().unwrap();
            paragraph.push_str(line);
            paragraph.push(' ');
        }
    }
    let ended = paragraphs.iter().flat_map(|text| text.split(". ").flat_map(|text| text.split(": ")));
    ended.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

fn is_link_target(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ")
}

fn first_word_is_a_question(comment: &str) -> bool {
    let first = comment.split_whitespace().next().unwrap_or_default();
    QUESTIONS.contains(&first.trim_end_matches([',', '.', ':', ';']))
}

/// Returns complaints about the documentation of one file.
fn complaints(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let at = |line: usize| format!("{}:{line}", path.strip_prefix(src()).unwrap().display());
    let mut found = Vec::new();
    for doc in public_docs(&text) {
        if first_word_is_a_question(&doc.text[0]) {
            found.push(format!("{}: {}", at(doc.line), doc.text[0]));
        }
        for sentence in sentences(&doc.text) {
            let words = sentence.split_whitespace().count();
            if words > LONGEST_SENTENCE {
                found.push(format!("{}: {words} words: {sentence}", at(doc.line)));
            }
        }
    }
    found
}

#[test]
fn public_documentation_is_plain() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in sources(&src()) {
        seen += public_docs(&fs::read_to_string(&path).unwrap()).len();
        wrong.extend(complaints(&path));
    }
    assert!(seen > 2400, "only {seen} public items were seen");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the first line of each comment, of every kind, with its number.
fn comments(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut previous) = (Vec::new(), "");
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let kind = ["///", "//!", "//"].into_iter().find(|kind| line.starts_with(kind)).unwrap_or_default();
        if !kind.is_empty() && kind != previous {
            found.push((index + 1, line[kind.len()..].trim()));
        }
        previous = kind;
    }
    found
}

#[test]
fn no_comment_begins_with_a_question() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut seen, mut wrong) = (0, Vec::new());
    for folder in ["benches", "cli/src", "cli/tests", "examples", "fuzz/fuzz_targets", "src", "tests"] {
        for path in sources(&root.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            for (line, comment) in comments(&text) {
                seen += 1;
                if first_word_is_a_question(comment) {
                    wrong.push(format!("{}:{line}: {comment}", path.display()));
                }
            }
        }
    }
    assert!(seen > 6000, "only {seen} comments were seen");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn questions_and_long_sentences_are_found() {
    let text = "//! Reads.\n\n/// How many there are.\npub fn len() {}\n/// Whether.\nfn private() {}\n\
                pub enum Kind {\n    /// Who spoke.\n    #[cfg(\n        test\n    )]\n    Speaker,\n}\n\
                #[cfg(test)]\nmod tests;\n/// Its.\npub struct Last;\n\
                #[cfg(test)]\nmod more_tests {\n    /// Why.\n    pub fn test() {}\n}\n";
    let docs: Vec<String> = public_docs(text).into_iter().map(|doc| doc.text.join(" ")).collect();
    assert_eq!(docs, ["How many there are.", "Who spoke.", "Its.", "Reads."]);
    let found = comments("// Where\n// it is.\nlet a = 1; // b\n    /// What.\n    //! How.\n");
    assert_eq!(found, [(1, "Where"), (4, "What."), (5, "How.")]);
    let lines = ["One two. Three", "four.", "", "- five", "```", "code. code", "```"].map(str::to_owned);
    assert_eq!(sentences(&lines), ["One two", "Three four", "- five"]);
}

/// The layers in the order of the crate's documentation, each with all that it may use.
fn layers() -> Vec<String> {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let row = |line: &str| Some(line.strip_prefix("//! | [`")?.split('`').next()?.to_owned());
    text.lines().filter_map(row).collect()
}

/// Modules below every layer.
const FOUNDATION: [&str; 7] = ["behaviour", "event", "hash", "hash_index", "sequence", "time", "timer_wheel"];

/// Uses that go against the table's order, each with the reason why it stands.
const EXCEPTIONS: &[(&str, &str)] = &[];

#[test]
fn layers_use_only_layers_above_them() {
    let order = layers();
    assert!(order.len() > 10, "lib.rs lists the layers: {order:?}");
    let mut wrong = Vec::new();
    for path in sources(&src()) {
        let layer = layer_of(&path);
        let Some(rank) = order.iter().position(|other| *other == layer) else {
            if layer != "lib" && !FOUNDATION.contains(&layer.as_str()) {
                wrong.push(format!("src/{layer} is in no row of the table in lib.rs"));
            }
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        for line in without_unit_tests(&text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_below = order.iter().position(|other| *other == used).is_some_and(|other| other > rank);
                if is_below && !EXCEPTIONS.contains(&(layer.as_str(), used.as_str())) {
                    wrong.push(format!("{}: {layer} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files with the values that events are made of.
const EVENT_VALUES: [&str; 9] = [
    "conntrack/connection.rs",
    "conntrack/tuple.rs",
    "ftp/announcement.rs",
    "ftp/sender.rs",
    "ftp/write.rs",
    "helper/exact/intervention.rs",
    "helper/exact/refusal.rs",
    "ipvs/config.rs",
    "ipvs/entry.rs",
];

#[test]
fn events_are_made_of_values_that_know_no_events() {
    for file in EVENT_VALUES {
        let text = fs::read_to_string(src().join(file)).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(code.clone().all(|line| !line.contains("crate::event")), "{file} uses events");
    }
    let text = fs::read_to_string(src().join("event.rs")).unwrap();
    let uses = text.lines().filter(|line| line.starts_with("use crate::"));
    let known = [
        "use crate::Instant;",
        "use crate::conntrack::{ConnectionId, Counters, Direction, Tuple};",
        "use crate::ftp;",
        "use crate::ipvs;",
    ];
    assert!(
        uses.clone().all(|line| known.contains(&line)),
        "a new import of event.rs: are these values? {:?}",
        uses.collect::<Vec<_>>()
    );
}
