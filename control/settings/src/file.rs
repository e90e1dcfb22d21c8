//! The configuration file: TOML, with the names of the flags.
//!
//! The settings of every role stand at the top. Those of one role stand in its table, as `[gateway]` or `[slave]`. A
//! role's table may also hold settings of every role; they take precedence over the top.

use crate::catalog::{Catalog, RoleName};
use crate::given::Given;
use common::exit::Failure;
use common::place::{Place, Problem};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// The file that is read if it exists and no other is named.
pub fn default_path() -> PathBuf {
    let directory = std::env::var_os("GVM_DP_CONFIG_DIR").filter(|value| !value.is_empty());
    directory.map_or_else(|| PathBuf::from("/etc/gvm-dp"), PathBuf::from).join("gvm-dp.toml")
}

/// One value of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The role whose table it is in; `None` at the top.
    pub role: Option<RoleName>,
    /// The setting's name.
    pub name: String,
    /// The texts that the flag would get.
    pub texts: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

/// A file that was read and has no fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// The file.
    pub path: Arc<Path>,
    /// The roles that have a table in it.
    pub roles: Vec<RoleName>,
    /// Its values.
    pub entries: Vec<FileEntry>,
}

impl ConfigFile {
    /// Reads a file. The error names every fault in it.
    ///
    /// # Errors
    /// The error is [`Failure::ConfigFile`] when the file cannot be read or is too long. It is [`Failure::ConfigText`]
    /// when its text has faults.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::ConfigFile { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > LONGEST {
            return Err(failed(io::Error::other(format!("it is longer than {LONGEST} bytes"))));
        }
        Self::parse(path, &text).map_err(Failure::ConfigText)
    }

    /// Reads the default file, if it exists.
    ///
    /// # Errors
    /// It fails as [`ConfigFile::read`] does. A file that does not exist is not an error.
    pub fn read_default() -> Result<Option<Self>, Failure> {
        match Self::read(&default_path()) {
            Err(Failure::ConfigFile { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// The error has every fault of the text, in the order of the text: what is not TOML, or else settings and values
    /// that cannot be used.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            text,
            path: path.into(),
            catalogs: RoleName::ALL.map(Catalog::of),
            roles: vec![],
            entries: vec![],
            problems: vec![],
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let what = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            reader.complain(error.span().map_or(0, |span| span.start), format!("this is not TOML: {what}"));
        }
        if errors.is_empty() {
            reader.top(table.get_ref());
        }
        reader.problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
        if reader.problems.is_empty() {
            Ok(Self { path: reader.path, roles: reader.roles, entries: reader.entries })
        } else {
            Err(reader.problems)
        }
    }

    /// The value of a setting for a role.
    pub fn find(&self, role: RoleName, name: &str) -> Option<&FileEntry> {
        let of = |role| self.entries.iter().find(|entry| entry.role == role && entry.name == name);
        of(Some(role)).or_else(|| of(None))
    }
}

struct Reader<'a> {
    text: &'a str,
    path: Arc<Path>,
    catalogs: [Catalog; RoleName::ALL.len()],
    roles: Vec<RoleName>,
    entries: Vec<FileEntry>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn top(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let role = RoleName::ALL.into_iter().find(|role| role.name() == name);
            match (role, value.get_ref()) {
                (Some(role), DeValue::Table(table)) => self.role(role, table),
                (Some(role), _) => {
                    let meant = if self.catalogs.iter().any(|catalog| catalog.find(name).is_some()) {
                        "; the setting of the same name stands in the table of its role, as gateway = \"192.0.2.1\" \
                         under [slave]"
                    } else {
                        ""
                    };
                    self.complain(
                        at,
                        format!("{role} is the table of a role: write [{role}] on a line of its own{meant}"),
                    );
                }
                (None, DeValue::Table(_)) => {
                    let tables = "there are [gateway], [slave], [master] and [disk]";
                    self.complain(at, format!("there is no table [{name}]: {tables}"));
                }
                (None, value_of) => self.entry(None, name, at, value.span().start, value_of),
            }
        }
    }

    fn role(&mut self, role: RoleName, table: &DeTable<'_>) {
        self.roles.push(role);
        for (key, value) in table {
            self.entry(Some(role), key.get_ref(), key.span().start, value.span().start, value.get_ref());
        }
    }

    fn entry(&mut self, role: Option<RoleName>, name: &str, at: usize, value_at: usize, value: &DeValue<'_>) {
        // What every role takes is the same in each catalog.
        let catalog = self.catalogs.iter().find(|catalog| role.is_none_or(|role| catalog.role == role));
        let Some(catalog) = catalog else { return };
        let Some(setting) = catalog.find(name).filter(|setting| role.is_some() || setting.common) else {
            let text = self.unknown(role, name);
            return self.complain(at, text);
        };
        match catalog.texts(setting, &given(value)) {
            Ok(texts) => {
                let place = self.place(at);
                self.entries.push(FileEntry { role, name: name.to_owned(), texts, place });
            }
            Err(text) => self.complain(value_at, text),
        }
    }

    /// What to say about a name that is not a setting in this place.
    fn unknown(&self, role: Option<RoleName>, name: &str) -> String {
        let owner = self.catalogs.iter().find(|catalog| Some(catalog.role) != role && catalog.find(name).is_some());
        match (role, owner) {
            (None, Some(owner)) => {
                format!("{name} is a setting of one role: move it under [{}]", owner.role)
            }
            (Some(role), Some(owner)) => {
                format!("a {role} has no {name}: it is a setting of [{}]", owner.role)
            }
            (_, None) => {
                let here = self.catalogs.iter().filter(|catalog| role.is_none_or(|role| catalog.role == role));
                let elsewhere = self.catalogs.iter();
                let nearest = here.chain(elsewhere).find_map(|catalog| catalog.nearest(name));
                match nearest {
                    Some(nearest) => format!("there is no setting {name}: did you mean {nearest}?"),
                    None => format!("there is no setting {name}: gvm-dp config example shows all there are"),
                }
            }
        }
    }

    fn complain(&mut self, at: usize, text: String) {
        let place = self.place(at);
        self.problems.push(Problem { place, text });
    }

    fn place(&self, at: usize) -> Place {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place { path: Arc::clone(&self.path), line, column }
    }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Given::Number(number.to_string()),
            Err(_) => Given::Other("so large a number"),
        },
        DeValue::Boolean(value) => Given::Bool(*value),
        DeValue::Array(values) => Given::List(values.iter().map(|value| given(value.get_ref())).collect()),
        DeValue::Float(_) => Given::Other("a fraction"),
        DeValue::Datetime(_) => Given::Other("a date"),
        DeValue::Table(_) => Given::Other("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, Vec<Problem>> {
        ConfigFile::parse(Path::new("f.toml"), text)
    }

    #[test]
    fn a_roles_table_wins_over_the_top() {
        let file = parse("mtu = 9000\nport = \"eth0\"\n[gateway]\nmtu = 1_400\n[slave]\nid = 0x11\n").unwrap();
        let find = |role, name| file.find(role, name).map(|entry| entry.texts.concat());
        assert_eq!(find(RoleName::Gateway, "mtu").as_deref(), Some("1400"));
        assert_eq!(find(RoleName::Slave, "mtu").as_deref(), Some("9000"));
        assert_eq!(find(RoleName::Slave, "id").as_deref(), Some("17"));
        assert_eq!(find(RoleName::Gateway, "hold"), None);
        let place = &file.find(RoleName::Gateway, "mtu").unwrap().place;
        assert_eq!(place.to_string(), "f.toml:4:1");
        assert!(parse("").unwrap().entries.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        for (text, complaint) in [
            ("mtu 9000", "f.toml:1:5: this is not TOML: "),
            ("mtu = 9000\nmtu = 1500", "f.toml:2:1: this is not TOML: duplicate key"),
            ("# \u{e9}\nrx_mode = \"polling\"", "f.toml:2:1: there is no setting rx_mode: did you mean rx-mode?"),
            ("colour = 1", "f.toml:1:1: there is no setting colour: gvm-dp config example"),
            ("hold = \"1us\"", "f.toml:1:1: hold is a setting of one role: move it under [gateway]"),
            ("[slave]\nhold = \"1us\"", "f.toml:2:1: a slave has no hold: it is a setting of [gateway]"),
            ("[gateway]\nhodl = \"1us\"", "f.toml:2:1: there is no setting hodl: did you mean hold?"),
            ("[gateway]\n  hold = \"1\"", "f.toml:2:10: \"1\" is not a duration"),
            ("gateway = \"192.0.2.1\"", "f.toml:1:1: gateway is the table of a role: write [gateway]"),
            ("[keeper]\nid = 1", "f.toml:1:2: there is no table [keeper]"),
            ("config = \"x\"", "f.toml:1:1: there is no setting config"),
            ("mtu = 1.5", "f.toml:1:7: mtu is not a fraction"),
            ("mtu = 2020-01-01", "f.toml:1:7: mtu is not a date"),
            ("mtu = -1", "f.toml:1:7: -1 is not a value of mtu"),
            ("mtu = 99999999999999999999999999999999999999999999", "f.toml:1:7: mtu is not so large a number"),
            ("port = [1, true]", "f.toml:1:8: port is not true or false"),
        ] {
            let problems = parse(text).unwrap_err();
            assert!(problems[0].to_string().starts_with(complaint), "{text}: {}", problems[0]);
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named_in_order() {
        let problems = parse("mtu = true\n[gateway]\nhold = 7\nearly = 3\n").unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.place.line).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
