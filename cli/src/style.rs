//! Colours, on terminals that want them.

use std::env;
use std::io::IsTerminal;

/// The emphasis of printed text.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// For standard output: colours on a terminal, unless `NO_COLOR` is set to anything.
    pub(crate) fn standard() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { coloured: !unwanted && std::io::stdout().is_terminal() }
    }

    pub(crate) fn heading(self, text: impl AsRef<str>) -> String {
        self.paint("1", text.as_ref())
    }

    pub(crate) fn faint(self, text: impl AsRef<str>) -> String {
        self.paint("2", text.as_ref())
    }

    pub(crate) fn bad(self, text: impl AsRef<str>) -> String {
        self.paint("31", text.as_ref())
    }

    pub(crate) fn good(self, text: impl AsRef<str>) -> String {
        self.paint("32", text.as_ref())
    }

    pub(crate) fn changed(self, text: impl AsRef<str>) -> String {
        self.paint("33", text.as_ref())
    }

    pub(crate) fn speaker(self, text: impl AsRef<str>) -> String {
        self.paint("36", text.as_ref())
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
