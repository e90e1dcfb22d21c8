//! Settings that can change while a process runs, and how they reach the poll loops: by their mailboxes.

use super::role::RoleControl;
use api::error::{ApiError, Code};
use api::settings::{Changed, Reloaded, SettingsAnswer, Wanted};
use api::stats::{CONNECT_KEY_FINGERPRINT, KEY_FINGERPRINT};
use common::units::Duration;
use host::log::{self, LogFilter};
use lcore::RxMode;
use lcore::thread::LcoreHandle;
use serve::board::Board;
use serve::tuning::{answer, changes};
use settings::flags::Switch;
use settings::live::{LIVE, is_live};
use settings::memory::KeepFree;
use settings::running::{CONNECT_KEY_FILE, Fresh, KEY_FILES, Keys, RefusalReason, SettingChange, SettingRefused};
use settings::traffic::Traffic;
use settings::{RunningSettings, Settings, Sources};

/// What settings act on.
pub struct LiveTargets<'a> {
    /// The role's part of the control thread.
    pub role: &'a mut RoleControl,
    /// The poll loops.
    pub lcores: &'a [LcoreHandle],
    /// The board of the process.
    pub board: &'a Board,
}

/// Makes a setting take effect.
type Apply = fn(&mut LiveTargets<'_>, &Settings);

/// How each of the settings that change while a process runs takes effect.
const APPLY: [(&str, Apply); LIVE.len()] = [
    ("hold", hold),
    ("early", early),
    ("rx-mode", rx_mode),
    ("log", log_filter),
    ("traffic", traffic),
    ("keep-free", keep_free),
];

fn hold(targets: &mut LiveTargets<'_>, settings: &Settings) {
    if let (RoleControl::Gateway(desk), Some(Duration(hold))) = (&mut *targets.role, settings.get::<Duration>("hold")) {
        desk.set_hold(hold);
    }
}

fn early(targets: &mut LiveTargets<'_>, settings: &Settings) {
    if let (RoleControl::Gateway(desk), Some(early)) = (&mut *targets.role, settings.get::<Switch>("early")) {
        desk.set_early(early == Switch::On);
    }
}

fn rx_mode(targets: &mut LiveTargets<'_>, settings: &Settings) {
    if let Some(mode) = settings.get::<RxMode>("rx-mode") {
        targets.lcores.iter().for_each(|lcore| lcore.set_rx_mode(mode));
    }
}

fn log_filter(_: &mut LiveTargets<'_>, settings: &Settings) {
    if let Some(filter) = settings.get::<LogFilter>("log") {
        log::set(&filter);
    }
}

fn traffic(targets: &mut LiveTargets<'_>, settings: &Settings) {
    let command = || match settings.get::<Traffic>("traffic") {
        Some(Traffic(traffic)) => slave::FarmCommand::StartTraffic(traffic),
        None => slave::FarmCommand::StopTraffic,
    };
    if let RoleControl::Slave(farm) = &*targets.role {
        tracing::debug!(target: "slave", "the farm is told {:?}", settings.get::<Traffic>("traffic"));
        farm.tell(&command());
    }
}

fn keep_free(targets: &mut LiveTargets<'_>, settings: &Settings) {
    if let (RoleControl::Slave(farm), Some(keep)) = (&mut *targets.role, settings.get::<KeepFree>("keep-free")) {
        farm.set_keep_free(keep);
    }
}

impl LiveTargets<'_> {
    fn apply(&mut self, name: &str, settings: &Settings) {
        if let Some((_, apply)) = APPLY.iter().find(|(live, _)| *live == name) {
            apply(self, settings);
            let texts = settings.find(name).map(|value| value.texts.join(" ")).unwrap_or_default();
            tracing::info!("{name} is now {}", if texts.is_empty() { "off" } else { &texts });
            self.board.settings.insert(name, texts);
        }
    }

    /// Takes over other keys. Returns the old and new fingerprints, if they differ.
    fn keys(&mut self, keys: &Keys, name: &str) -> Option<SettingChange> {
        let (from, to) = (self.board.settings.get(KEY_FINGERPRINT), keys.fingerprints());
        if from == to {
            return None;
        }
        match (&mut *self.role, keys) {
            (RoleControl::Gateway(desk), Keys::Gateway(keys)) => desk.set_keys(keys.clone()),
            (RoleControl::Master(master), Keys::Node { credential, .. }) => {
                master.tell(|| master::MasterCommand::SetCredential(credential.clone()));
            }
            (RoleControl::Slave(farm), Keys::Node { credential, .. }) => {
                farm.tell(&slave::FarmCommand::SetCredential(credential.clone()));
            }
            // The configuration was read for the role that runs.
            _ => return None,
        }
        self.show_fingerprint(KEY_FINGERPRINT, "key", to.as_ref());
        Some(change(name, from, to))
    }

    /// Takes over other connect keys. Returns the old and new fingerprints, if they differ.
    fn connect_keys(&mut self, keys: &Keys, name: &str) -> Option<SettingChange> {
        let (from, to) = (self.board.settings.get(CONNECT_KEY_FINGERPRINT), keys.connect_fingerprints());
        if from == to {
            return None;
        }
        match (&mut *self.role, keys) {
            (RoleControl::Master(master), Keys::Node { connect, .. }) => {
                master.tell(|| master::MasterCommand::SetConnectKeys(connect.clone()));
            }
            (RoleControl::Slave(farm), Keys::Node { connect, .. }) => {
                farm.tell(&slave::FarmCommand::SetConnectKeys(connect.clone()));
            }
            _ => return None,
        }
        self.show_fingerprint(CONNECT_KEY_FINGERPRINT, "connect key", to.as_ref());
        Some(change(name, from, to))
    }

    fn show_fingerprint(&self, setting: &'static str, what: &str, fingerprints: Option<&String>) {
        match fingerprints {
            Some(fingerprints) => {
                tracing::info!("the {what} has now fingerprint {fingerprints}");
                self.board.settings.insert(setting, fingerprints.clone());
            }
            None => {
                tracing::warn!("NO {} any more", what.to_uppercase());
                self.board.settings.remove(setting);
            }
        }
    }
}

/// The settings of the process, on the control thread.
pub struct LiveSettings {
    running: RunningSettings,
}

impl LiveSettings {
    /// The settings with which the process was started.
    pub fn new(running: RunningSettings) -> Self {
        Self { running }
    }

    /// The sources of the settings.
    pub fn sources(&self) -> Sources {
        self.running.sources().clone()
    }

    /// The current settings.
    pub fn show(&self) -> SettingsAnswer {
        answer(&self.running)
    }

    /// Sets all of them, or none.
    ///
    /// # Errors
    /// The error has [`Code::UnknownSetting`], [`Code::NeedsRestart`] or [`Code::BadValue`]. Nothing has changed then.
    pub fn set(&mut self, mut targets: LiveTargets<'_>, wanted: &Wanted) -> Result<Changed, ApiError> {
        let changed = self.running.set(wanted, is_live, |name, settings| targets.apply(name, settings));
        let changed = changed.map_err(refusal)?;
        Ok(Changed { changed: changes(&self.running, changed) })
    }

    /// Takes over a configuration that was read again.
    pub fn reload(&mut self, mut targets: LiveTargets<'_>, fresh: Fresh) -> Reloaded {
        let keys = fresh.keys.clone();
        let (mut changed, waiting) =
            self.running.reload(fresh, is_live, |name, settings| targets.apply(name, settings));
        let values = || self.running.values().map(|(setting, value, _)| (&*setting.name, &value.texts));
        let is_given = |wanted: &&str| values().any(|(name, texts)| name == *wanted && !texts.is_empty());
        let given = KEY_FILES.into_iter().filter(|name| *name != CONNECT_KEY_FILE).find(is_given);
        changed.extend(targets.keys(&keys, given.unwrap_or(KEY_FILES[0])));
        // Without a file of its own the connect key is derived from the cluster key.
        let connect = if is_given(&CONNECT_KEY_FILE) { CONNECT_KEY_FILE } else { given.unwrap_or(CONNECT_KEY_FILE) };
        changed.extend(targets.connect_keys(&keys, connect));
        for SettingChange { name, to, .. } in &waiting {
            tracing::warn!("{name} = {} needs a restart", to.join(" "));
        }
        let file = self.running.file().map(|file| file.path.display().to_string());
        let (changed, needs_restart) = (changes(&self.running, changed), changes(&self.running, waiting));
        Reloaded { file, changed, needs_restart }
    }
}

fn change(name: &str, from: Option<String>, to: Option<String>) -> SettingChange {
    SettingChange { name: name.to_owned(), from: from.into_iter().collect(), to: to.into_iter().collect() }
}

/// A refusal to change a setting, in the form of the control API.
fn refusal(refused: SettingRefused) -> ApiError {
    let code = match refused.why {
        RefusalReason::Unknown => Code::UnknownSetting,
        RefusalReason::BadValue => Code::BadValue,
        RefusalReason::NeedsRestart => Code::NeedsRestart,
    };
    ApiError::new(code, refused.message, refused.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_setting_is_applied() {
        assert_eq!(APPLY.map(|(name, _)| name), LIVE);
    }
}
