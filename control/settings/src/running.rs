//! The settings of a running process: their values, what was set at run time, and what a restart would change.

use super::catalog::{RoleName, Setting};
use super::file::ConfigFile;
use super::given::Given;
use super::sources::{Settings, Sources, Value};
use crate::config;
use crate::disk::DiskSettings;
use crate::flags::{DiskArgs, GatewayArgs, MasterArgs, SlaveArgs};
use crate::keyfile;
use crate::master::MasterSettings;
use common::exit::Failure;
use lease::ConnectKeys;
use link::{ClusterKey, Credential, KeyRing};
use std::collections::BTreeMap;

/// What a setting was, and what it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// The setting.
    pub name: String,
    /// What it was.
    pub from: Vec<String>,
    /// What it is now, or would be after a restart.
    pub to: Vec<String>,
}

/// Why a setting does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// There is no such setting.
    Unknown,
    /// It does not take this value.
    BadValue,
    /// It does not change while the process runs.
    NeedsRestart,
}

/// A refusal to change a setting, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRefused {
    /// For programs.
    pub why: RefusalReason,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl SettingRefused {
    fn new(why: RefusalReason, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why, message: message.into(), remedy: remedy.into() }
    }
}

/// The content of key files.
#[derive(Clone)]
pub enum Keys {
    /// The keys of a gateway.
    Gateway(KeyRing<ClusterKey>),
    /// The keys of a slave, a farm or a master.
    Node {
        /// Those with which it signs link control.
        credential: Credential,
        /// Those by which masters and slaves that lend know each other.
        connect: ConnectKeys,
    },
    /// A disk has none.
    None,
}

impl Keys {
    /// Their fingerprints for people; `None` without a key.
    pub fn fingerprints(&self) -> Option<String> {
        match self {
            Self::Gateway(keys) => keyfile::fingerprints(&keys.fingerprints()),
            Self::Node { credential, .. } => keyfile::fingerprints(&credential.fingerprints()),
            Self::None => None,
        }
    }

    /// The fingerprints of the connect keys; `None` without one.
    pub fn connect_fingerprints(&self) -> Option<String> {
        match self {
            Self::Node { connect, .. } => keyfile::fingerprints(&connect.fingerprints()),
            Self::Gateway(_) | Self::None => None,
        }
    }
}

/// The configuration after it was read again and checked.
pub struct Fresh {
    sources: Sources,
    file: Option<ConfigFile>,
    settings: Settings,
    /// The content of its key files.
    pub keys: Keys,
}

impl Fresh {
    /// Reads the file of these sources and checks everything. It reads files, and does nothing else that a confined
    /// process may not do.
    ///
    /// # Errors
    /// It fails as [`Sources::read_file`] and [`Sources::resolve`] do. The error is [`Failure::Usage`] when no port is
    /// left. Else it is what a start with these settings would say, with the place in the file.
    pub fn read(sources: Sources) -> Result<Self, Failure> {
        let sources = sources.without_set();
        let file = sources.read_file()?;
        let settings = sources.resolve(file.as_ref())?;
        if settings.find("port").is_some_and(|port| port.texts.is_empty()) {
            return Err(Failure::Usage("no port: keep the one that the process was started with".to_owned()));
        }
        let keys = match settings.role {
            RoleName::Gateway => {
                config::GatewaySettings::new(settings.arguments::<GatewayArgs>()?).map(|c| Keys::Gateway(c.keys))
            }
            RoleName::Slave => {
                // Host names are not looked up: that takes sockets, and a changed gateway needs a restart anyway.
                config::SlaveSettings::again(settings.arguments::<SlaveArgs>()?).map(|c| Keys::Node {
                    credential: c.credential,
                    connect: c.lending.map(|lending| lending.keys).unwrap_or_default(),
                })
            }
            RoleName::Master => {
                let again = MasterSettings::again(settings.arguments::<MasterArgs>()?);
                again.map(|c| Keys::Node { credential: c.credential, connect: c.connect_keys })
            }
            RoleName::Disk => DiskSettings::new(settings.arguments::<DiskArgs>()?).map(|_| Keys::None),
        };
        let keys = keys.map_err(|failure| settings.locate(failure))?;
        Ok(Self { sources, file, settings, keys })
    }
}

/// Settings whose files a reload reads again.
pub const KEY_FILES: [&str; 3] = ["key-file", "cluster-key-file", CONNECT_KEY_FILE];

/// The one of them that has the connect key.
pub const CONNECT_KEY_FILE: &str = "connect-key-file";

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct RunningSettings {
    sources: Sources,
    file: Option<ConfigFile>,
    values: Vec<Value>,
    /// Settings that were changed in the configuration since the start and need a restart.
    pending: BTreeMap<String, Vec<String>>,
}

impl RunningSettings {
    /// The settings with which a process starts.
    pub fn new(sources: Sources, file: Option<ConfigFile>, settings: &Settings) -> Self {
        Self { sources, file, values: settings.values.clone(), pending: BTreeMap::new() }
    }

    /// Where the settings come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The file that was read last.
    pub fn file(&self) -> Option<&ConfigFile> {
        self.file.as_ref()
    }

    /// Every setting, with its value after a restart if that differs.
    pub fn values(&self) -> impl Iterator<Item = (&Setting, &Value, Option<&Vec<String>>)> {
        let settings = self.sources.catalog().settings.iter();
        settings.zip(&self.values).map(|(setting, value)| (setting, value, self.pending.get(&setting.name)))
    }

    /// Sets some settings, all or none of them; `null` restores the value of the configuration. `apply` makes a setting
    /// take effect for which `is_live` is true.
    ///
    /// # Errors
    /// [`SettingRefused::why`] says why: the role has no such setting, the setting needs a restart, or it does not take
    /// the value. Nothing has changed then.
    pub fn set(
        &mut self,
        wanted: &BTreeMap<String, serde_json::Value>,
        is_live: impl Fn(&str) -> bool,
        mut apply: impl FnMut(&str, &Settings),
    ) -> Result<Vec<SettingChange>, SettingRefused> {
        let mut sources = self.sources.clone();
        for (name, value) in wanted {
            let setting = self.settable(name, &is_live)?;
            sources = match value {
                serde_json::Value::Null => sources.forget(name),
                value => {
                    let texts = self.sources.catalog().texts(setting, &Given::from(value));
                    let texts = texts.map_err(|text| bad_value(setting, text))?;
                    sources.with(name, texts)
                }
            };
        }
        let settings = sources.resolve(self.file.as_ref());
        let settings = settings.map_err(|failure| {
            SettingRefused::new(RefusalReason::BadValue, failure.to_string(), "choose another value")
        })?;
        let changes = self.adopt(&settings, |name| wanted.contains_key(name), &mut apply);
        self.sources = sources;
        Ok(changes)
    }

    fn settable(&self, name: &str, is_live: impl Fn(&str) -> bool) -> Result<&Setting, SettingRefused> {
        let catalog = self.sources.catalog();
        let Some(setting) = catalog.find(name) else {
            let message = format!("a {} has no setting {name}", catalog.role);
            let remedy = catalog.nearest(name).map(|near| format!("did you mean {near}?"));
            return Err(SettingRefused::new(
                RefusalReason::Unknown,
                message,
                remedy.unwrap_or_else(|| "gvm-dp set alone lists what can be set".to_owned()),
            ));
        };
        if is_live(name) {
            return Ok(setting);
        }
        let message = format!("{name} does not change while the process runs");
        let remedy = if KEY_FILES.contains(&name) {
            "change the file, or its name in the configuration file, and gvm-dp reload"
        } else {
            "change it in the configuration file or on the command line, and restart"
        };
        Err(SettingRefused::new(RefusalReason::NeedsRestart, message, remedy))
    }

    /// Takes over a configuration that was read again. Returns the settings that changed, and those that need a
    /// restart.
    pub fn reload(
        &mut self,
        fresh: Fresh,
        is_live: impl Fn(&str) -> bool,
        mut apply: impl FnMut(&str, &Settings),
    ) -> (Vec<SettingChange>, Vec<SettingChange>) {
        let changes = self.adopt(&fresh.settings, |name| is_live(name), &mut apply);
        let mut waiting = Vec::new();
        self.pending.clear();
        for (value, new) in self.values.iter_mut().zip(fresh.settings.values) {
            if value.texts == new.texts || KEY_FILES.contains(&&*value.name) {
                *value = new;
            } else if !is_live(&value.name) {
                self.pending.insert(value.name.clone(), new.texts.clone());
                waiting.push(SettingChange { name: value.name.clone(), from: value.texts.clone(), to: new.texts });
            }
        }
        (self.sources, self.file) = (fresh.sources, fresh.file);
        (changes, waiting)
    }

    /// Makes the settings take effect that `take` selects and that differ.
    fn adopt(
        &mut self,
        settings: &Settings,
        take: impl Fn(&str) -> bool,
        apply: &mut impl FnMut(&str, &Settings),
    ) -> Vec<SettingChange> {
        let mut changes = Vec::new();
        for (value, new) in self.values.iter_mut().zip(&settings.values).filter(|(value, _)| take(&value.name)) {
            if value.texts != new.texts {
                apply(&new.name, settings);
                changes.push(SettingChange {
                    name: new.name.clone(),
                    from: value.texts.clone(),
                    to: new.texts.clone(),
                });
            }
            *value = new.clone();
        }
        changes
    }
}

fn bad_value(setting: &Setting, text: String) -> SettingRefused {
    SettingRefused::new(
        RefusalReason::BadValue,
        format!("{}: {text}", setting.name),
        format!("gvm-dp set {} {}", setting.name, setting.value_name),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sources;
    use super::*;
    use serde_json::json;
    use std::path::Path;

    const LIVE: [&str; 2] = ["hold", "rx-mode"];

    fn running(role: RoleName, flags: &[&str], file: &str) -> RunningSettings {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (sources, file) = (sources(role, &flags), ConfigFile::parse(Path::new("f.toml"), file).unwrap());
        let settings = sources.resolve(Some(&file)).unwrap();
        RunningSettings::new(sources, Some(file), &settings)
    }

    /// Sets, and returns what was applied.
    fn set(running: &mut RunningSettings, wanted: serde_json::Value) -> Result<Vec<String>, SettingRefused> {
        let wanted = serde_json::from_value(wanted).unwrap();
        let mut applied = Vec::new();
        let changes = running.set(
            &wanted,
            |name| LIVE.contains(&name),
            |name, settings| {
                applied.push(format!("{name} {}", settings.find(name).unwrap().texts.join(" ")));
            },
        )?;
        assert_eq!(changes.len(), applied.len());
        Ok(applied)
    }

    fn text(running: &RunningSettings, name: &str) -> String {
        running.values().find(|(setting, ..)| setting.name == name).unwrap().1.texts.join(" ")
    }

    fn fresh(role: RoleName, flags: &[&str], file: &str) -> Fresh {
        let again = running(role, flags, file);
        let settings = again.sources.resolve(again.file()).unwrap();
        Fresh { sources: again.sources, file: again.file, settings, keys: Keys::Gateway(KeyRing::none()) }
    }

    #[test]
    fn all_is_set_or_nothing() {
        let mut gateway = running(RoleName::Gateway, &[], "[gateway]\nhold = \"1ms\"\n");
        assert_eq!(
            set(&mut gateway, json!({"hold": "2ms", "rx-mode": "polling"})).unwrap(),
            ["rx-mode polling", "hold 2ms"]
        );
        assert_eq!(set(&mut gateway, json!({"hold": "2000us"})).unwrap(), [""; 0], "it is the same");
        for (wanted, code, part) in [
            (json!({"hold": "3ms", "rx-mode": "x"}), RefusalReason::BadValue, "choose polling"),
            (json!({"hold": 3}), RefusalReason::BadValue, "hold: \"3\" is not a duration"),
            (json!({"hold": "3ms", "mtu": 9000}), RefusalReason::NeedsRestart, "mtu does not change"),
            (json!({"hold": "3ms", "hodl": "1ms"}), RefusalReason::Unknown, "no setting hodl"),
            (json!({"id": 1}), RefusalReason::Unknown, "a gateway has no setting id"),
            (json!({"key-file": "k"}), RefusalReason::NeedsRestart, "key-file does not change"),
        ] {
            let error = set(&mut gateway, wanted.clone()).unwrap_err();
            assert_eq!(error.why, code, "{wanted}");
            assert!(error.message.contains(part) && !error.remedy.is_empty(), "{error:?}");
            assert_eq!(text(&gateway, "hold"), "2ms");
        }
        assert_eq!(set(&mut gateway, json!({"hold": null})).unwrap(), ["hold 1ms"], "what the file says");
    }

    #[test]
    fn a_reload_forgets_what_was_set_and_says_what_needs_a_restart() {
        let before = "mtu = 1500\nrx-mode = \"polling\"\n[gateway]\nhold = \"1ms\"\n";
        let mut gateway = running(RoleName::Gateway, &["--frames=4096"], before);
        set(&mut gateway, json!({"hold": "2ms"})).unwrap();
        let after = "mtu = 9000\nframes = 1024\nrx-mode = \"polling\"\n";
        let mut applied = Vec::new();
        let live = |name: &str| LIVE.contains(&name);
        let again = fresh(RoleName::Gateway, &["--frames=4096"], after);
        let (changed, waiting) = gateway.reload(again, live, |name, _| applied.push(name.to_owned()));
        let change = |name: &str, from: &str, to: &str| SettingChange {
            name: name.into(),
            from: vec![from.into()],
            to: vec![to.into()],
        };
        assert_eq!((changed, applied), (vec![change("hold", "2ms", "50us")], vec!["hold".to_owned()]));
        assert_eq!(waiting, [change("mtu", "1500", "9000")], "frames come from the command line");
        assert_eq!(text(&gateway, "mtu"), "1500", "it holds until the restart");
        let pending: Vec<_> =
            gateway.values().filter_map(|(setting, _, pending)| pending.map(|_| &*setting.name)).collect();
        assert_eq!(pending, ["mtu"]);
        // The same after another read, and no longer pending when the file restores the old value.
        let again = fresh(RoleName::Gateway, &["--frames=4096"], after);
        assert_eq!(gateway.reload(again, live, |_, _| ()), (vec![], vec![change("mtu", "1500", "9000")]));
        let again = fresh(RoleName::Gateway, &["--frames=4096"], before);
        assert_eq!(gateway.reload(again, live, |_, _| ()), (vec![change("hold", "50us", "1ms")], vec![]));
    }
}
