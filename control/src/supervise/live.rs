//! What can change while a process runs, and how it reaches the poll loops: by their mailboxes.

use super::Office;
use crate::cli::Switch;
use crate::serve::board::{Board, KEY_FINGERPRINT};
use crate::serve::error::ApiError;
use crate::serve::settings::{Changed, Reloaded, SettingsAnswer, Wanted, changes};
use crate::settings::log::{self, LogFilter};
use crate::settings::running::{Change, Fresh, KEY_FILES, Keys};
use crate::settings::{Running, Settings, Sources};
use crate::traffic::Traffic;
use crate::units::Duration;
use lcore::RxMode;
use lcore::thread::Running as Lcore;

/// What settings act on.
pub struct Knobs<'a> {
    /// The role's office.
    pub office: &'a mut Office,
    /// The poll loops.
    pub lcores: &'a [Lcore],
    /// What others see of the process.
    pub board: &'a Board,
}

/// Makes a setting hold as the settings say.
type Apply = fn(&mut Knobs<'_>, &Settings);

/// The settings that can change while a process runs. A role has those of them that are its flags.
const LIVE: [(&str, Apply); 5] =
    [("hold", hold), ("early", early), ("rx-mode", rx_mode), ("log", log_filter), ("traffic", traffic)];

/// Whether a setting can be changed while the process runs.
pub fn is_live(name: &str) -> bool {
    LIVE.iter().any(|(live, _)| *live == name)
}

fn hold(knobs: &mut Knobs<'_>, settings: &Settings) {
    if let (Office::Gateway(desk), Some(Duration(hold))) = (&mut *knobs.office, settings.get::<Duration>("hold")) {
        desk.set_hold(hold);
    }
}

fn early(knobs: &mut Knobs<'_>, settings: &Settings) {
    if let (Office::Gateway(desk), Some(early)) = (&mut *knobs.office, settings.get::<Switch>("early")) {
        desk.set_early(early == Switch::On);
    }
}

fn rx_mode(knobs: &mut Knobs<'_>, settings: &Settings) {
    if let Some(mode) = settings.get::<RxMode>("rx-mode") {
        knobs.lcores.iter().for_each(|lcore| lcore.set_rx_mode(mode));
    }
}

fn log_filter(_: &mut Knobs<'_>, settings: &Settings) {
    if let Some(filter) = settings.get::<LogFilter>("log") {
        log::set(&filter);
    }
}

fn traffic(knobs: &mut Knobs<'_>, settings: &Settings) {
    let command = || match settings.get::<Traffic>("traffic") {
        Some(Traffic(traffic)) => slave::Command::StartTraffic(traffic),
        None => slave::Command::StopTraffic,
    };
    if let Office::Slave(lcores) = &*knobs.office {
        tracing::debug!(target: "slave", "the farm is told {:?}", settings.get::<Traffic>("traffic"));
        // A farm gets few commands: there is always room for this one.
        lcores.iter().for_each(|lcore| drop(lcore.try_send(command())));
    }
}

impl Knobs<'_> {
    fn apply(&mut self, name: &str, settings: &Settings) {
        if let Some((_, apply)) = LIVE.iter().find(|(live, _)| *live == name) {
            apply(self, settings);
            let texts = settings.find(name).map(|value| value.texts.join(" ")).unwrap_or_default();
            tracing::info!("{name} is now {}", if texts.is_empty() { "off" } else { &texts });
            self.board.settings.insert(name, texts);
        }
    }

    /// Takes over other keys. Returns what they were and are, if they are others.
    fn keys(&mut self, keys: Keys, name: &str) -> Option<Change> {
        let (from, to) = (self.board.settings.get(KEY_FINGERPRINT), keys.fingerprints());
        if from == to {
            return None;
        }
        match (&mut *self.office, keys) {
            (Office::Gateway(desk), Keys::Gateway(keys)) => desk.set_keys(keys),
            (Office::Slave(lcores), Keys::Slave(credential)) => {
                lcores.iter().for_each(|lcore| drop(lcore.try_send(slave::Command::SetCredential(credential.clone()))));
            }
            // The configuration was read for the role that runs.
            _ => return None,
        }
        match &to {
            Some(fingerprints) => {
                tracing::info!("the key has now fingerprint {fingerprints}");
                self.board.settings.insert(KEY_FINGERPRINT, fingerprints.clone());
            }
            None => {
                tracing::warn!("NO KEY any more");
                self.board.settings.remove(KEY_FINGERPRINT);
            }
        }
        Some(Change { name: name.to_owned(), from: from.into_iter().collect(), to: to.into_iter().collect() })
    }
}

/// The settings of the process, on the control thread.
pub struct Tuner {
    running: Running,
}

impl Tuner {
    /// What the process was started with.
    pub fn new(running: Running) -> Self {
        Self { running }
    }

    /// Where the settings come from.
    pub fn sources(&self) -> Sources {
        self.running.sources().clone()
    }

    /// What holds.
    pub fn show(&self) -> SettingsAnswer {
        SettingsAnswer::of(&self.running)
    }

    /// Sets all of it, or nothing.
    pub fn set(&mut self, mut knobs: Knobs<'_>, wanted: &Wanted) -> Result<Changed, ApiError> {
        let changed = self.running.set(wanted, is_live, |name, settings| knobs.apply(name, settings))?;
        Ok(Changed { changed: changes(&self.running, changed) })
    }

    /// Takes over what was read again.
    pub fn reload(&mut self, mut knobs: Knobs<'_>, fresh: Fresh) -> Reloaded {
        let keys = fresh.keys.clone();
        let (mut changed, waiting) = self.running.reload(fresh, is_live, |name, settings| knobs.apply(name, settings));
        let values = || self.running.values().map(|(setting, value, _)| (&*setting.name, &value.texts));
        let given = values().find(|(name, texts)| KEY_FILES.contains(name) && !texts.is_empty());
        changed.extend(knobs.keys(keys, given.map_or(KEY_FILES[0], |(name, _)| name)));
        for Change { name, to, .. } in &waiting {
            tracing::warn!("{name} = {} needs a restart", to.join(" "));
        }
        let file = self.running.file().map(|file| file.path.display().to_string());
        let (changed, needs_restart) = (changes(&self.running, changed), changes(&self.running, waiting));
        Reloaded { file, changed, needs_restart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RoleName;
    use crate::settings::catalog::Catalog;

    #[test]
    fn what_is_live_is_a_setting_of_some_role() {
        for (name, _) in LIVE {
            assert!(RoleName::ALL.iter().any(|role| Catalog::of(*role).find(name).is_some()), "{name}");
        }
        for name in KEY_FILES {
            assert!(Catalog::of(RoleName::Slave).find(name).is_some() && !is_live(name), "{name}");
        }
    }
}
