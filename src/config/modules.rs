//! `modules`: which kernel modules are loaded, and with which parameters.

use std::borrow::Cow;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::error::{Error, ErrorKind};
use super::values::decimal;
use super::words::{Word, commands};

/// `nf_conntrack_ftp`, `nf_nat_ftp` and `ip_vs_ftp` have room for this many ports in Linux.
const MOST_PORTS: usize = 8;

/// Modules that modprobe loads along with a module, of those that matter here.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("nf_conntrack_ftp", &["nf_conntrack"]),
    ("nf_nat_ftp", &["nf_conntrack_ftp", "nf_nat", "nf_conntrack"]),
    ("nf_nat", &["nf_conntrack"]),
    ("ip_vs", &["nf_conntrack"]),
    ("ip_vs_ftp", &["ip_vs", "nf_nat", "nf_conntrack"]),
];

/// lsmod's heading, and lines of modprobe.d.
const LOADS_NOTHING: &[&str] = &["Module", "alias", "blacklist", "install", "remove", "softdep", "weakdep"];

/// Kernel modules and their parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Modules {
    /// The modules that are loaded, with underscores for dashes, in order, each once.
    pub names: Vec<String>,
    /// The parameters, in order; of the same parameter, the last counts.
    pub options: Vec<ModuleOption>,
}

/// A parameter of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleOption {
    /// The module, with underscores for dashes.
    pub module: String,
    /// The parameter.
    pub name: String,
    /// Value of the parameter; empty where only the parameter is named.
    pub value: String,
}

impl Modules {
    /// Returns true if the module is loaded.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        let module = canonical(module);
        self.names.iter().any(|name| *name == module)
    }

    /// Returns the value of a parameter of a module.
    #[must_use]
    pub fn option(&self, module: &str, name: &str) -> Option<&str> {
        let module = canonical(module);
        let found = self.options.iter().rev().find(|option| option.module == module && option.name == name)?;
        Some(&found.value)
    }

    /// The control ports that the module was told (`ports=21,2121`), at most eight; 21 where it was told none, as Linux
    /// has it.
    pub fn ports(&self, module: &str) -> Vec<u16> {
        let ports = self.option(module, "ports").and_then(ports);
        ports.unwrap_or_else(|| vec![21])
    }

    /// Returns true if `nf_conntrack_ftp` has `loose=1`: it expects data connections to and from other machines than
    /// the control connection's.
    pub fn loose(&self) -> bool {
        self.option("nf_conntrack_ftp", "loose").and_then(switch).unwrap_or(false)
    }

    fn load(&mut self, name: &str, with_dependencies: bool) {
        let name = canonical(name);
        let needed = DEPENDENCIES.iter().find(|(module, _)| with_dependencies && *module == name);
        for other in needed.map_or(&[] as &[&str], |(_, needed)| needed) {
            self.add(other);
        }
        self.add(&name);
    }

    fn add(&mut self, name: &str) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.into());
        }
    }

    fn unload(&mut self, name: &str) {
        let name = canonical(name);
        self.names.retain(|known| *known != name);
    }

    fn set(&mut self, module: &str, word: &Word) -> Result<(), Error> {
        let (name, value) = word.text.split_once('=').unwrap_or((&word.text, ""));
        if name.is_empty() {
            return Err(Error::bad_value(word, "write NAME=VALUE, such as ports=21,2121"));
        }
        if name == "ports" && ports(value).is_none() {
            return Err(Error::bad_value(word, "write one to eight ports, such as ports=21,2121"));
        }
        if name == "loose" && switch(value).is_none() {
            return Err(Error::bad_value(word, "write loose=1 or loose=0"));
        }
        self.options.push(ModuleOption {
            module: canonical(module).into_owned(),
            name: name.into(),
            value: value.into(),
        });
        Ok(())
    }
}

/// Reads what `lsmod` prints (or /proc/modules holds), lines as of modules-load.d (a name, perhaps with parameters) and
/// modprobe.d (`options`), and commands (`modprobe`, `insmod`, `rmmod`); they may be mixed. `options` alone loads
/// nothing, and modprobe loads what a module needs.
///
/// # Errors
///
/// Parameters of the FTP modules that Linux would refuse, and lines that are none of these.
///
/// ```
/// let modules = ftp_conntrack::config::parse_modules("modules", "modprobe nf_conntrack_ftp ports=21,2121")?;
/// assert!(modules.has("nf_conntrack_ftp"));
/// assert_eq!(modules.ports("nf_conntrack_ftp"), [21, 2121]);
/// # Ok::<(), ftp_conntrack::config::Error>(())
/// ```
pub fn parse_modules(file: &str, text: &str) -> Result<Modules, Error> {
    amend_modules(Modules::default(), file, text)
}

/// Reads lines on top of modules that are there, as [`parse_modules`] does.
///
/// # Errors
/// As [`parse_modules`].
pub(super) fn amend_modules(modules: Modules, file: &str, text: &str) -> Result<Modules, Error> {
    read(modules, text).map_err(|error| error.in_file(file))
}

fn read(mut modules: Modules, text: &str) -> Result<Modules, Error> {
    for words in commands(&without_semicolon_comments(text))? {
        line(&mut modules, &words)?;
    }
    Ok(modules)
}

/// The text with such lines left empty; modules-load.d has comments behind `;` as well as `#`.
fn without_semicolon_comments(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        kept.push_str(if line.trim_start().starts_with(';') { "" } else { line });
        kept.push('\n');
    }
    kept
}

fn line(modules: &mut Modules, words: &[Word]) -> Result<(), Error> {
    let words =
        if words.first().is_some_and(|word| word.is("sudo")) { words.get(1..).unwrap_or_default() } else { words };
    let Some((first, rest)) = words.split_first() else { return Ok(()) };
    let name = first.text.rsplit('/').next().unwrap_or_default();
    if LOADS_NOTHING.contains(&name) {
        return Ok(());
    }
    if let Some(word) = words.iter().find(|word| word.expands || word.operator) {
        return Err(Error::at(word, ErrorKind::Variable, "write one plain command a line"));
    }
    match name {
        "options" => options(modules, first, rest),
        "modprobe" => modprobe(modules, first, rest),
        "insmod" => insmod(modules, first, rest),
        "rmmod" => {
            rest.iter().filter(|word| !word.is_option()).for_each(|word| modules.unload(&word.text));
            Ok(())
        }
        _ => named(modules, first, rest),
    }
}

fn options(modules: &mut Modules, first: &Word, rest: &[Word]) -> Result<(), Error> {
    let Some((module, parameters)) = rest.split_first() else {
        return Err(Error::at(first, ErrorKind::MissingValue, "write options MODULE NAME=VALUE"));
    };
    parameters.iter().try_for_each(|word| modules.set(&module.text, word))
}

/// `modprobe MODULE [NAME=VALUE]...`, `modprobe -a MODULE...`, `modprobe -r MODULE...`.
fn modprobe(modules: &mut Modules, first: &Word, rest: &[Word]) -> Result<(), Error> {
    let has = |names: &[&str]| rest.iter().any(|word| names.iter().any(|name| word.is(name)));
    let (all, remove) = (has(&["-a", "--all"]), has(&["-r", "--remove"]));
    let mut names = rest.iter().filter(|word| !word.is_option());
    if remove {
        names.for_each(|word| modules.unload(&word.text));
        return Ok(());
    }
    if all {
        names.for_each(|word| modules.load(&word.text, true));
        return Ok(());
    }
    let module = names.next().ok_or_else(|| Error::at(first, ErrorKind::MissingValue, "write the module behind it"))?;
    modules.load(&module.text, true);
    names.try_for_each(|word| modules.set(&module.text, word))
}

/// `insmod PATH/MODULE.ko [NAME=VALUE]...`.
fn insmod(modules: &mut Modules, first: &Word, rest: &[Word]) -> Result<(), Error> {
    let mut words = rest.iter().filter(|word| !word.is_option());
    let path =
        words.next().ok_or_else(|| Error::at(first, ErrorKind::MissingValue, "write the module's file behind it"))?;
    let file = path.text.rsplit('/').next().unwrap_or_default();
    let module = file.split_once(".ko").map_or(file, |(module, _)| module);
    modules.load(module, false);
    words.try_for_each(|word| modules.set(module, word))
}

/// A line that begins with a module's name: of lsmod with numbers behind, of modules-load.d, or with parameters.
fn named(modules: &mut Modules, first: &Word, rest: &[Word]) -> Result<(), Error> {
    let wanted = "write a module's name, a line of lsmod, or a modprobe command";
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if first.text.is_empty() || !first.text.chars().all(in_name) {
        return Err(Error::bad_value(first, wanted));
    }
    let number = |word: &Word| decimal::<u64>(&word.text).is_some();
    match rest {
        [size, used, ..] if number(size) && word_is_count(used) => {
            modules.load(&first.text, false);
            Ok(())
        }
        _ => {
            if let Some(word) = rest.iter().find(|word| !word.text.contains('=')) {
                return Err(Error::bad_value(word, wanted));
            }
            modules.load(&first.text, true);
            rest.iter().try_for_each(|word| modules.set(&first.text, word))
        }
    }
}

/// Returns true if the word is a module's use count; `-` where the kernel does not count, and below zero where it
/// cannot be unloaded.
fn word_is_count(word: &Word) -> bool {
    word.text == "-" || word.text.parse::<i64>().is_ok()
}

/// A module's name as the kernel has it: underscores, and the names that aliases stand for.
fn canonical(name: &str) -> Cow<'_, str> {
    match name {
        "ip_conntrack_ftp" | "nfct-helper-ftp" | "nfct_helper_ftp" => "nf_conntrack_ftp".into(),
        "ip_nat_ftp" | "nf-nat-helper-ftp" | "nf_nat_helper_ftp" => "nf_nat_ftp".into(),
        _ if name.contains('-') => name.replace('-', "_").into(),
        _ => name.into(),
    }
}

fn ports(text: &str) -> Option<Vec<u16>> {
    let ports: Option<Vec<u16>> = text.split(',').map(decimal).collect();
    ports.filter(|ports| ports.len() <= MOST_PORTS)
}

/// The kernel's ways to write a boolean; a parameter without value is on.
fn switch(text: &str) -> Option<bool> {
    match text {
        "" | "1" | "y" | "Y" | "on" | "t" | "T" => Some(true),
        "0" | "n" | "N" | "off" | "f" | "F" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Modules {
        parse_modules("modules", text).unwrap()
    }

    #[test]
    fn lsmod() {
        let modules = parse(
            "Module                  Size  Used by\nnf_nat_ftp             20480  0\n\
             nf_conntrack_ftp       24576  1 nf_nat_ftp\nip_vs 200704 -2 [permanent]\n",
        );
        assert_eq!(modules.names, ["nf_nat_ftp", "nf_conntrack_ftp", "ip_vs"]);
        assert!(!modules.has("nf_nat"));
        assert_eq!(modules.ports("nf_conntrack_ftp"), [21]);
        assert!(!modules.loose());
    }

    #[test]
    fn lines_of_modprobe_d_and_modules_load_d() {
        let modules = parse(
            "# x\n; it's y\ninstall a /bin/true $X; b\nip_vs_ftp\noptions nf-conntrack-ftp ports=21,2121 loose=1\nblacklist z\n",
        );
        assert!(modules.has("ip_vs_ftp") && modules.has("ip-vs") && !modules.has("nf_conntrack_ftp"));
        assert_eq!(modules.ports("nf_conntrack_ftp"), [21, 2121]);
        assert!(modules.loose());
        assert_eq!(parse("nf_conntrack_ftp ports=21,2121").ports("ip_conntrack_ftp"), [21, 2121]);
    }

    #[test]
    fn commands_as_typed() {
        let modules = parse("modprobe nf_conntrack_ftp ports=21");
        assert!(modules.has("nf_conntrack_ftp") && modules.has("nf_conntrack"));
        assert_eq!(modules.option("nf_conntrack_ftp", "ports"), Some("21"));
        let modules =
            parse("sudo /sbin/modprobe -q ip_nat_ftp\ninsmod /lib/x/ip_vs_ftp.ko.xz ports=2121\nrmmod nf_nat");
        assert!(modules.has("nf_nat_ftp") && modules.has("nf_conntrack_ftp") && modules.has("ip_vs_ftp"));
        assert!(!modules.has("ip_vs") && !modules.has("nf_nat"));
        assert_eq!(modules.ports("ip_vs_ftp"), [2121]);
        assert_eq!(parse("modprobe -a a b\nmodprobe -r a").names, ["b"]);
        assert_eq!(parse("modprobe nf_conntrack_ftp ports=21 \\\n ports=2121").ports("nf_conntrack_ftp"), [2121]);
    }

    #[test]
    fn refusals_name_the_word() {
        let refused = |text| parse_modules("modules", text).map_err(|e| (e.kind, e.line.unwrap(), e.word)).unwrap_err();
        let bad = |line, word: &str| (ErrorKind::BadValue, line, word.into());
        assert_eq!(refused("a\nmodprobe nf_conntrack_ftp ports=21,ftp"), bad(2, "ports=21,ftp"));
        assert_eq!(refused("options nf_conntrack_ftp loose=maybe"), bad(1, "loose=maybe"));
        assert_eq!(refused("options a ports=1,2,3,4,5,6,7,8,9"), bad(1, "ports=1,2,3,4,5,6,7,8,9"));
        assert_eq!(refused("options a =1"), bad(1, "=1"));
        assert_eq!(refused("load the modules"), bad(1, "the"));
        assert_eq!(refused("modprobe $M").0, ErrorKind::Variable);
        assert_eq!(refused("modprobe").0, ErrorKind::MissingValue);
    }
}
