//! Output of `ip -j`: an array of objects.

use core::net::IpAddr;
use core::str::FromStr;
use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::{Map, Value};

use super::error::{Error, ErrorKind};

/// One object out of such a file, which knows enough to blame the right line.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    text: &'a str,
    map: &'a Map<String, Value>,
}

/// Parses the file; its value must be an array.
pub(super) fn array(text: &str) -> Result<Vec<Value>, Error> {
    let wanted = "save the output of ip -j again";
    match serde_json::from_str(text) {
        Ok(Value::Array(values)) => Ok(values),
        Ok(other) => Err(Error::new(ErrorKind::Json, 1, &short(&other), wanted)),
        Err(error) => {
            let line = u32::try_from(error.line()).unwrap_or(u32::MAX).max(1);
            Err(Error::new(ErrorKind::Json, line, "", std::format!("{wanted}: {error}")))
        }
    }
}

/// The objects among the values. `ip` leaves empty ones for what it was told to filter out; they are passed over.
pub(super) fn objects<'a>(text: &'a str, values: &'a [Value]) -> Result<Vec<Object<'a>>, Error> {
    let object = |value: &'a Value| match value {
        Value::Object(map) => Ok(Object { text, map }),
        other => Err(Error::new(ErrorKind::Json, line_of(text, &short(other)), &short(other), "write an object here")),
    };
    let objects: Result<Vec<Object<'a>>, Error> = values.iter().map(object).collect();
    Ok(objects?.into_iter().filter(|object| !object.map.is_empty()).collect())
}

impl<'a> Object<'a> {
    /// A text, if there is one.
    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.bad(key, other, "write a text")),
        }
    }

    /// A whole number, if there is one.
    pub(super) fn number(self, key: &str) -> Result<Option<u32>, Error> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                number.map(Some).ok_or_else(|| self.bad(key, value, "write a number from 0 to 4294967295"))
            }
        }
    }

    /// Returns true if a flag is there and true.
    pub(super) fn flag(self, key: &str) -> bool {
        self.map.get(key) == Some(&Value::Bool(true))
    }

    /// Returns true if the array `flags` has this word.
    pub(super) fn has_flag(self, flag: &str) -> bool {
        let flags = self.map.get("flags").and_then(Value::as_array);
        flags.is_some_and(|flags| flags.iter().any(|value| value.as_str() == Some(flag)))
    }

    /// An address, if there is one.
    pub(super) fn address(self, key: &str) -> Result<Option<IpAddr>, Error> {
        self.parsed(key, "write an IPv4 or IPv6 address")
    }

    /// A text of another type, if there is one.
    pub(super) fn parsed<T: FromStr>(self, key: &str, wanted: &'static str) -> Result<Option<T>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.blame(text, wanted))
    }

    /// The objects of an array, if there is one.
    pub(super) fn list(self, key: &str) -> Result<Vec<Self>, Error> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(values)) => objects(self.text, values),
            Some(other) => Err(self.bad(key, other, "write an array")),
        }
    }

    /// An object inside, if there is one.
    pub(super) fn object(self, key: &str) -> Result<Option<Self>, Error> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { text: self.text, map })),
            Some(other) => Err(self.bad(key, other, "write an object")),
        }
    }

    /// That a key is missing which cannot be.
    pub(super) fn missing(self, key: &str) -> Error {
        let line = self.map.values().find_map(Value::as_str).map_or(1, |text| line_of(self.text, text));
        Error::new(ErrorKind::MissingValue, line, key, "each object needs this key")
    }

    /// That a text of it cannot be.
    pub(super) fn blame(self, word: &str, wanted: &'static str) -> Error {
        Error::new(ErrorKind::BadValue, line_of(self.text, word), word, wanted)
    }

    fn bad(self, key: &str, value: &Value, wanted: &'static str) -> Error {
        Error::new(ErrorKind::BadValue, line_of(self.text, key), &short(value), wanted)
    }
}

/// The first line that has the word; parsed JSON does not say where its values stood.
fn line_of(text: &str, word: &str) -> u32 {
    let line = text.lines().position(|line| line.contains(word)).unwrap_or(0);
    u32::try_from(line).unwrap_or(u32::MAX).saturating_add(1)
}

/// The beginning of a value, for an error.
fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}
