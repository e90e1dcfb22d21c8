//! Where values of settings come from. Precedence: what was set at run time, the command line, the environment, the
//! file, the default.

use super::catalog::{Catalog, RoleName, Setting};
use super::file::{ConfigFile, default_path};
use super::given::plain;
use super::text;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use common::exit::Failure;
use common::place::{Place, Problem};
use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Settings that name a file that is read again.
const FILES: [&str; 4] = ["key-file", "cluster-key-file", "connect-key-file", "static-routes"];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No source gives it.
    Default,
    /// The configuration file.
    File(Place),
    /// An environment variable.
    Environment,
    /// A flag.
    CommandLine,
    /// `gvm-dp set`, while the process runs.
    Set,
}

/// A setting with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Its texts, each in its only form; empty if it has no value.
    pub texts: Vec<String>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// All sources of the settings of one role, except the file.
#[derive(Clone, Debug)]
pub struct Sources {
    catalog: Catalog,
    /// Flags, by the name of their setting.
    flags: BTreeMap<String, Vec<OsString>>,
    /// Settings that an environment variable gives.
    environment: Vec<String>,
    /// What was set while the process runs.
    set: BTreeMap<String, Vec<String>>,
    /// The file that was named.
    named: Option<PathBuf>,
}

/// The settings with their values, also in the types of the role's arguments.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The role.
    pub role: RoleName,
    /// The file that was read.
    pub path: Option<PathBuf>,
    /// Every setting, in the order of `--help`.
    pub values: Vec<Value>,
    pub(super) catalog: Catalog,
    pub(super) matches: ArgMatches,
}

impl Sources {
    /// Takes a role's settings from the command line.
    pub fn new(role: RoleName, matches: &ArgMatches) -> Self {
        let catalog = Catalog::of(role);
        let (mut flags, mut environment) = (BTreeMap::new(), Vec::new());
        for setting in &catalog.settings {
            match matches.value_source(&setting.id) {
                Some(ValueSource::CommandLine) => {
                    let raw = matches.get_raw(&setting.id).into_iter().flatten().map(ToOwned::to_owned).collect();
                    flags.insert(setting.name.clone(), raw);
                }
                Some(ValueSource::EnvVariable) => environment.push(setting.name.clone()),
                _ => {}
            }
        }
        let named = matches.get_one::<PathBuf>("config").cloned();
        Self { catalog, flags, environment, set: BTreeMap::new(), named }
    }

    /// The sources of a role with an empty command line.
    pub fn of_file(role: RoleName) -> Self {
        // No flag of a role is required: a test of the catalog checks that.
        let nothing = Catalog::of(role).command.get_matches_from([""; 0]);
        Self::new(role, &nothing)
    }

    /// The role's settings.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Reads the file that was named, or the default one if it is there.
    ///
    /// # Errors
    /// It fails as [`ConfigFile::read`] does. A default file that does not exist is not an error.
    pub fn read_file(&self) -> Result<Option<ConfigFile>, Failure> {
        match &self.named {
            Some(path) => ConfigFile::read(path).map(Some),
            None => ConfigFile::read_default(),
        }
    }

    /// The same sources, with a setting that was set at run time.
    pub fn with(mut self, name: &str, texts: Vec<String>) -> Self {
        self.set.insert(name.to_owned(), texts);
        self
    }

    /// The same sources, without the run-time value of one setting.
    pub fn forget(mut self, name: &str) -> Self {
        self.set.remove(name);
        self
    }

    /// The same sources, without anything that was set at run time.
    pub fn without_set(mut self) -> Self {
        self.set.clear();
        self
    }

    /// Combines all sources.
    ///
    /// # Errors
    /// The error is [`Failure::ConfigText`] when two settings of the file exclude each other. It is [`Failure::Usage`]
    /// when all sources together make no command line.
    pub fn resolve(&self, file: Option<&ConfigFile>) -> Result<Settings, Failure> {
        let entries = self.entries(file)?;
        let mut arguments: Vec<OsString> = Vec::new();
        for setting in &self.catalog.settings {
            let flag = |value: &std::ffi::OsStr| {
                let mut flag = OsString::from(format!("--{}", setting.name));
                if setting.kind != super::catalog::ValueKind::Flag {
                    flag.push("=");
                    flag.push(value);
                }
                flag
            };
            if let Some(texts) = self.set.get(&setting.name) {
                arguments.extend(texts.iter().map(|text| flag(text.as_ref())));
            } else if let Some(raw) = self.flags.get(&setting.name) {
                arguments.extend(raw.iter().map(|raw| flag(raw)));
            } else if let Some((texts, _)) = entries.get(&setting.name) {
                arguments.extend(texts.iter().map(|text| flag(text.as_ref())));
            }
        }
        let matches = self.catalog.command.clone().try_get_matches_from(arguments);
        let matches = matches.map_err(|error| Failure::Usage(plain(&error)))?;
        let value = |setting: &Setting| Value {
            name: setting.name.clone(),
            texts: text::texts(&matches, &setting.id).unwrap_or_default(),
            origin: self.origin(setting, &entries),
        };
        let values = self.catalog.settings.iter().map(value).collect();
        let path = file.map(|file| file.path.to_path_buf());
        Ok(Settings { role: self.catalog.role, path, values, catalog: self.catalog.clone(), matches })
    }

    fn is_given(&self, name: &str) -> bool {
        self.set.contains_key(name)
            || self.flags.contains_key(name)
            || self.environment.iter().any(|given| given == name)
    }

    /// The values of the file that take effect: no other source gives these settings, or settings that exclude them.
    fn entries(&self, file: Option<&ConfigFile>) -> Result<BTreeMap<String, (Vec<String>, Place)>, Failure> {
        let mut held: BTreeMap<String, (Vec<String>, Place)> = BTreeMap::new();
        let Some(file) = file else { return Ok(held) };
        let settings = &self.catalog.settings;
        for setting in settings {
            let excluded = |other: &Setting| self.is_given(&other.name) && self.catalog.conflict(setting, other);
            let Some(entry) = file.find(self.catalog.role, &setting.name) else { continue };
            if entry.texts.is_empty() || self.is_given(&setting.name) || settings.iter().any(excluded) {
                continue;
            }
            for other in settings {
                if let Some((_, place)) = held.get(&other.name)
                    && self.catalog.conflict(setting, other)
                {
                    let text = format!(
                        "{} and {} in line {} exclude each other: keep one",
                        setting.name, other.name, place.line
                    );
                    return Err(Failure::ConfigText(vec![Problem { place: entry.place.clone(), text }]));
                }
            }
            held.insert(setting.name.clone(), (entry.texts.clone(), entry.place.clone()));
        }
        Ok(held)
    }

    fn origin(&self, setting: &Setting, entries: &BTreeMap<String, (Vec<String>, Place)>) -> Origin {
        let name = &setting.name;
        if self.set.contains_key(name) {
            Origin::Set
        } else if self.flags.contains_key(name) {
            Origin::CommandLine
        } else if self.environment.contains(name) {
            Origin::Environment
        } else if let Some((_, place)) = entries.get(name) {
            Origin::File(place.clone())
        } else {
            Origin::Default
        }
    }
}

impl Settings {
    /// The settings as the role's arguments.
    ///
    /// # Errors
    /// The error is [`Failure::Usage`]: the settings are not those of `A`.
    pub fn arguments<A: FromArgMatches>(&self) -> Result<A, Failure> {
        A::from_arg_matches(&self.matches).map_err(|error| Failure::Usage(plain(&error)))
    }

    /// Logs every setting that has a value, and the origin of the value, for those who look for a fault.
    pub fn say(&self) {
        for Value { name, texts, origin } in self.values.iter().filter(|value| !value.texts.is_empty()) {
            let origin = match origin {
                Origin::Default => "by default".to_owned(),
                Origin::File(place) => format!("from {place}"),
                Origin::Environment => "from the environment".to_owned(),
                Origin::CommandLine => "from the command line".to_owned(),
                Origin::Set => "as it was set".to_owned(),
            };
            tracing::debug!("{name} = {} {origin}", texts.join(" "));
        }
    }

    /// The files from which these settings come: they are read again while the process runs.
    pub fn files(&self, sources: &Sources) -> Vec<PathBuf> {
        let named = FILES.iter().filter_map(|name| self.find(name)).flat_map(|value| &value.texts).map(PathBuf::from);
        std::iter::once(sources.named.clone().unwrap_or_else(default_path)).chain(named).collect()
    }

    /// One setting with its value.
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.name == name)
    }

    /// A setting's value in its own type; `None` if it has none, or is of another type.
    pub fn get<T: Any + Clone + Send + Sync>(&self, name: &str) -> Option<T> {
        let id = &self.catalog.find(name)?.id;
        self.matches.try_get_one::<T>(id).ok()?.cloned()
    }

    /// Adds the place in the file to a failure about a setting that stands there.
    pub fn locate(&self, failure: Failure) -> Failure {
        if let Failure::Several(failures) = failure {
            return Failure::Several(failures.into_iter().map(|failure| self.locate(failure)).collect());
        }
        let value = failure.setting().and_then(|name| self.find(name));
        match value.map(|value| &value.origin) {
            Some(Origin::File(place)) => Failure::At { place: place.clone(), failure: Box::new(failure) },
            _ => failure,
        }
    }
}
