//! Reads the text of `nft list ruleset` and `nft -f`, and makes the objects that `nft -j` writes.

mod blocks;
mod cursor;
mod expressions;
mod statements;
mod tokens;

use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::{Map, Value, json};

use super::load::Object;
use crate::config::error::{Error, ErrorKind};
use blocks::{Found, TableName, chain, object, object_name, table};
use cursor::{Cursor, Parsed, Unread};
use expressions::elements;
use tokens::{Kind, tokens};

/// Maximum number of files that are read, the first included.
const MAX_FILES: usize = 1000;

/// Returns the files that an `include` names, each with its name and text; none where there is no such file.
pub(super) type Include<'i> = &'i mut dyn FnMut(&str) -> Vec<(String, String)>;

/// A script that is being read.
pub(super) struct Script<'i> {
    cursor: Cursor,
    files: Vec<String>,
    include: Include<'i>,
    objects: Vec<Object>,
}

impl<'i> Script<'i> {
    /// Reads a script into objects, in the order of its commands.
    ///
    /// # Errors
    /// A quote or a block that is not closed, a file that is not there, and a command that is not known.
    pub(super) fn read(file: &str, text: &str, include: Include<'i>) -> Result<Vec<Object>, Error> {
        let mut script = Self { cursor: Cursor::new(), files: Vec::new(), include, objects: Vec::new() };
        script.open(file, text)?;
        loop {
            script.cursor.skip_ends();
            script.cursor.mark();
            if script.cursor.peek().is_none() {
                break;
            }
            let line = script.cursor.next_line();
            let file = script.cursor.next_file();
            let mut found = Vec::new();
            let result = script.command(&mut found)?;
            let name = script.files.get(usize::from(file)).map(String::as_str).unwrap_or_default();
            let file: std::sync::Arc<str> = name.into();
            script.objects.extend(found.into_iter().map(|(value, line)| Object { value, line, file: file.clone() }));
            if result.is_err() {
                return Err(script.unread(line));
            }
        }
        if script.cursor.is_too_long() {
            return Err(Error::of_file(file, ErrorKind::BadValue, "its variables stand for too many words"));
        }
        Ok(script.objects)
    }

    fn open(&mut self, file: &str, text: &str) -> Result<(), Error> {
        let number = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        let read = tokens(text, number).map_err(|error| error.in_file(file))?;
        self.files.push(file.to_string());
        self.cursor.insert(read);
        Ok(())
    }

    /// The error at the next token. `line` is where the command began.
    fn unread(&mut self, line: u32) -> Error {
        let text = self.cursor.next_text();
        let is_end = self.cursor.peek().is_none();
        let (at, file) = (self.cursor.next_line(), self.cursor.next_file());
        let file = self.files.get(usize::from(file)).map(String::as_str).unwrap_or_default();
        let (at, wanted) = if is_end {
            (line, "close the block that this line opens")
        } else {
            (at, "save the output of nft list ruleset, or what nft -f reads")
        };
        Error::new(ErrorKind::UnknownCommand, at, &text, wanted).in_file(file)
    }

    /// One command of the outermost level.
    fn command(&mut self, found: &mut Found) -> Result<Parsed<()>, Error> {
        let line = self.cursor.next_line();
        let Ok(word) = self.cursor.name() else { return Ok(Err(Unread)) };
        Ok(match word.as_str() {
            "include" => return self.include().map(Ok),
            "define" | "redefine" => self.cursor.define(),
            "undefine" => self.cursor.undefine(),
            "add" | "create" => match self.cursor.name() {
                Ok(kind) => self.add(&kind, "add", line, found),
                Err(unread) => Err(unread),
            },
            "insert" => match self.cursor.name() {
                Ok(kind) => self.add(&kind, "insert", line, found),
                Err(unread) => Err(unread),
            },
            "flush" => self.flush(line, found),
            "delete" | "destroy" => self.delete(line, found),
            "list" | "monitor" | "describe" | "reset" => {
                self.cursor.skip_statement();
                Ok(())
            }
            // `add` may be left out.
            _ => self.add(&word, "add", line, found),
        })
    }

    /// `include "FILE"`: its text takes the place of the command.
    fn include(&mut self) -> Result<(), Error> {
        let line = self.cursor.line;
        let from = self.files.get(usize::from(self.cursor.file)).cloned().unwrap_or_default();
        let fail =
            |name: &str, wanted: &'static str| Error::new(ErrorKind::Unreadable, line, name, wanted).in_file(&from);
        let Ok(name) = self.cursor.name() else { return Err(fail("", "name a file")) };
        let files = (self.include)(&name);
        if files.is_empty() && !name.contains(['*', '?', '[']) {
            return Err(fail(&name, "save this file beside ruleset.nft"));
        }
        if self.files.len() + files.len() > MAX_FILES {
            return Err(fail(&name, "include fewer files; one that includes itself has no end"));
        }
        // The last is put in front first, so that the first is read first.
        for (name, text) in files.iter().rev() {
            self.open(name, text)?;
        }
        Ok(())
    }

    /// The family, if it is given, and name of a table.
    fn table_name(&mut self) -> Parsed<TableName> {
        let first = self.cursor.name()?;
        let is_family = matches!(first.as_str(), "ip" | "ip6" | "inet" | "arp" | "bridge" | "netdev");
        if is_family && matches!(self.cursor.peek(), Some(Kind::Word(_) | Kind::Quoted(_) | Kind::Number(_))) {
            return Ok(TableName { family: first, table: self.cursor.name()? });
        }
        Ok(TableName { family: "ip".into(), table: first })
    }

    /// A command that makes something, after the word that says what.
    fn add(&mut self, kind: &str, action: &str, line: u32, found: &mut Found) -> Parsed<()> {
        if kind == "ct" {
            // The name of the object comes after its table.
            let kind = std::format!("ct {}", self.cursor.name()?);
            return self.add_object(&kind, line, found);
        }
        match kind {
            "table" => self.add_table(line, found),
            "chain" => {
                let of = self.table_name()?;
                let name = self.cursor.name()?;
                if self.cursor.take_sign("{") {
                    return chain(&mut self.cursor, &of, &name, line, found);
                }
                found.push((of.object("chain", &name, Map::new()), line));
                Ok(())
            }
            "rule" => self.add_rule(action, line, found),
            "element" => {
                let of = self.table_name()?;
                let name = self.cursor.name()?;
                let read = self.elements()?;
                let mut inner = Map::new();
                inner.insert("elem".into(), Value::Array(read));
                found.push((of.object("element", &name, inner), line));
                Ok(())
            }
            "set" | "map" | "meter" | "counter" | "quota" | "limit" | "flowtable" | "secmark" | "synproxy"
            | "tunnel" => self.add_object(kind, line, found),
            _ => {
                self.cursor.rewind(0);
                Err(Unread)
            }
        }
    }

    fn add_table(&mut self, line: u32, found: &mut Found) -> Parsed<()> {
        let of = self.table_name()?;
        found.push((json!({"table": {"family": of.family, "name": of.table}}), line));
        self.cursor.skip_lines_before("{");
        if self.cursor.take_sign("{") { table(&mut self.cursor, &of, found) } else { Ok(()) }
    }

    fn add_object(&mut self, kind: &str, line: u32, found: &mut Found) -> Parsed<()> {
        let of = self.table_name()?;
        let (kind, name) = object_name(&mut self.cursor, kind)?;
        self.cursor.skip_lines_before("{");
        if self.cursor.take_sign("{") {
            return object(&mut self.cursor, &of, &kind, &name, line, found);
        }
        // `add limit t l rate 10/second`, `add counter t c`.
        let mut inner = Map::new();
        let read = match kind.as_str() {
            "limit" => Some(statements::limit(&mut self.cursor)?),
            "quota" => Some(statements::quota(&mut self.cursor)?),
            _ => None,
        };
        if let Some(Value::Object(read)) = read {
            inner = read;
        }
        self.cursor.skip_statement();
        found.push((of.object(&kind, &name, inner), line));
        Ok(())
    }

    fn add_rule(&mut self, action: &str, line: u32, found: &mut Found) -> Parsed<()> {
        let of = self.table_name()?;
        let name = self.cursor.name()?;
        let index = if self.cursor.take_word("index") { Some(self.cursor.number()?) } else { None };
        if self.cursor.is_word("handle") || self.cursor.is_word("position") {
            // Handles are the kernel's: where the rule belongs, the text does not say.
            return Err(Unread);
        }
        let mut rule = of.rule(&name, &mut self.cursor);
        if let (Some(index), Some(inner)) = (index, rule.get_mut("rule")) {
            inner["index"] = index.into();
        }
        let mut made = Map::new();
        made.insert(action.to_string(), rule);
        found.push((Value::Object(made), line));
        Ok(())
    }

    /// Elements of a set or of a map.
    fn elements(&mut self) -> Parsed<Vec<Value>> {
        let start = self.cursor.position();
        elements(&mut self.cursor, false, 0).or_else(|Unread| {
            self.cursor.rewind(start);
            elements(&mut self.cursor, true, 0)
        })
    }

    /// `flush ruleset|table|chain|set|map`.
    fn flush(&mut self, line: u32, found: &mut Found) -> Parsed<()> {
        let kind = self.cursor.name()?;
        let what = match kind.as_str() {
            "ruleset" => {
                let family = self.cursor.name().ok();
                json!({"flush": {"ruleset": family.map(|family| json!({"family": family}))}})
            }
            "table" => {
                let of = self.table_name()?;
                json!({"flush": {"table": {"family": of.family, "name": of.table}}})
            }
            "chain" | "set" | "map" | "meter" => {
                let of = self.table_name()?;
                let name = self.cursor.name()?;
                json!({"flush": of.object(&kind, &name, Map::new())})
            }
            _ => return Err(Unread),
        };
        found.push((what, line));
        Ok(())
    }

    /// `delete` and `destroy`.
    fn delete(&mut self, line: u32, found: &mut Found) -> Parsed<()> {
        let mut kind = self.cursor.name()?;
        if kind == "ct" {
            kind = std::format!("ct {}", self.cursor.name()?);
        }
        let of = self.table_name()?;
        let what = match kind.as_str() {
            "table" => json!({"delete": {"table": {"family": of.family, "name": of.table}}}),
            // Handles are the kernel's: which rule is meant, the text does not say.
            "rule" => return Err(Unread),
            "element" => {
                let name = self.cursor.name()?;
                let read = elements(&mut self.cursor, false, 0)?;
                let mut inner = Map::new();
                inner.insert("elem".into(), Value::Array(read));
                json!({"delete": of.object("element", &name, inner)})
            }
            _ => {
                let name = self.cursor.name()?;
                json!({"delete": of.object(&kind, &name, Map::new())})
            }
        };
        found.push((what, line));
        Ok(())
    }
}
