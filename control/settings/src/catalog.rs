//! Which settings exist: the flags of the roles, as clap knows them. There is no second list.

use crate::flags::{CommonArgs, DiskArgs, GatewayArgs, MasterArgs, SlaveArgs};
use clap::{Arg, ArgAction, Args, Command};
use std::any::TypeId;
use std::fmt;

/// A role that has settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleName {
    /// Merges records between masters and slaves.
    Gateway,
    /// Lends memory.
    Slave,
    /// Reads and writes the memory of slaves for applications.
    Master,
    /// Serves memory of slaves as a block device.
    Disk,
}

impl RoleName {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Slave, Self::Master, Self::Disk];

    /// The name of its table in the file, and of its command.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Slave => "slave",
            Self::Master => "master",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a value is written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A number, without quotes.
    Number,
    /// A text in quotes.
    Text,
    /// `"on"` or `"off"`, or true or false.
    Switch,
    /// true or false; on the command line a flag without a value.
    Flag,
}

/// One setting of a role.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The flag without its dashes, and the key in the file.
    pub name: String,
    /// How its value is written.
    pub kind: ValueKind,
    /// Whether it takes a list.
    pub many: bool,
    /// Whether every role has it.
    pub common: bool,
    /// Its value by default; `None` if it has none.
    pub default: Option<String>,
    /// What it does, as `--help` says it.
    pub help: String,
    /// The placeholder for the value in `--help`.
    pub value_name: String,
    /// Its id in clap.
    pub(super) id: String,
}

/// The settings of one role.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The role.
    pub role: RoleName,
    /// Its settings, in the order of `--help`.
    pub settings: Vec<Setting>,
    /// Parses the role's flags.
    pub(super) command: Command,
}

/// Settings that say where the file is. They cannot stand in the file.
const NOT_IN_FILE: [&str; 1] = ["config"];

impl Catalog {
    /// The settings of a role.
    pub fn of(role: RoleName) -> Self {
        let empty = Command::new(role.name()).no_binary_name(true).disable_help_flag(true);
        let command = match role {
            RoleName::Gateway => GatewayArgs::augment_args(empty),
            RoleName::Slave => SlaveArgs::augment_args(empty),
            RoleName::Master => MasterArgs::augment_args(empty),
            RoleName::Disk => DiskArgs::augment_args(empty),
        };
        let common = CommonArgs::augment_args(Command::new("common"));
        let is_common = |arg: &Arg| common.get_arguments().any(|other| other.get_id() == arg.get_id());
        let settings = command
            .get_arguments()
            .filter_map(|arg| Setting::of(arg, is_common(arg)))
            .filter(|setting| !NOT_IN_FILE.contains(&setting.name.as_str()))
            .collect();
        Self { role, settings, command }
    }

    /// The setting with this name.
    pub fn find(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// Whether two settings exclude each other.
    pub(super) fn conflict(&self, a: &Setting, b: &Setting) -> bool {
        let arg = |id: &str| self.command.get_arguments().find(|arg| arg.get_id() == id);
        let excludes = |one: &Setting, other: &Setting| {
            let conflicts = arg(&one.id).map(|arg| self.command.get_arg_conflicts_with(arg)).unwrap_or_default();
            conflicts.iter().any(|arg| arg.get_id() == other.id.as_str())
        };
        excludes(a, b) || excludes(b, a)
    }

    /// The existing name that is most similar to a wrong one.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let name = name.to_lowercase().replace('_', "-");
        let distance = |setting: &&Setting| strsim::damerau_levenshtein(&name, &setting.name);
        let nearest = self.settings.iter().min_by_key(distance)?;
        let at_most = 1 + nearest.name.len() / 4;
        (distance(&nearest) <= at_most).then_some(nearest.name.as_str())
    }
}

impl Setting {
    fn of(arg: &Arg, common: bool) -> Option<Self> {
        let name = arg.get_long()?;
        let numbers = [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>()];
        let parsed = arg.get_value_parser().type_id();
        let kind = match arg.get_action() {
            ArgAction::SetTrue => ValueKind::Flag,
            ArgAction::Set | ArgAction::Append if parsed == TypeId::of::<crate::flags::Switch>() => ValueKind::Switch,
            ArgAction::Set | ArgAction::Append if numbers.iter().any(|number| parsed == *number) => ValueKind::Number,
            ArgAction::Set | ArgAction::Append => ValueKind::Text,
            // --help and --version ask something, and set nothing.
            _ => return None,
        };
        let defaults = arg.get_default_values();
        Some(Self {
            name: name.to_owned(),
            kind,
            many: matches!(arg.get_action(), ArgAction::Append),
            common,
            default: defaults.first().map(|default| default.to_string_lossy().into_owned()),
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            value_name: arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default(),
            id: arg.get_id().to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_a_role_is_a_setting() {
        for role in RoleName::ALL {
            let catalog = Catalog::of(role);
            for arg in catalog.command.get_arguments() {
                let long = arg.get_long().unwrap_or_else(|| panic!("{role}: {} has no long name", arg.get_id()));
                assert!(
                    catalog.find(long).is_some() || NOT_IN_FILE.contains(&long),
                    "{role}: --{long} cannot stand in the file"
                );
                assert!(!arg.is_required_set(), "{role}: --{long} may stand in the file; check it in config.rs");
                assert_eq!(arg.get_default_values().len().min(1), arg.get_default_values().len(), "{role}: --{long}");
            }
        }
    }

    #[test]
    fn what_every_role_takes_means_the_same_to_each() {
        let (gateway, slave) = (Catalog::of(RoleName::Gateway), Catalog::of(RoleName::Slave));
        for setting in gateway.settings.iter().filter(|setting| setting.common) {
            let other = slave.find(&setting.name).unwrap();
            assert_eq!((setting.kind, &setting.default, other.common), (other.kind, &other.default, true));
        }
        assert!(gateway.find("port").unwrap().many && !gateway.find("hold").unwrap().common);
        assert_eq!(gateway.find("early").unwrap().kind, ValueKind::Switch);
        assert_eq!(gateway.find("frames").unwrap().kind, ValueKind::Number);
    }

    #[test]
    fn what_was_meant_is_guessed_when_it_is_near() {
        let catalog = Catalog::of(RoleName::Gateway);
        for (typed, meant) in [
            ("rx_mode", Some("rx-mode")),
            ("ports", Some("port")),
            ("lcore", Some("lcores")),
            ("hodl", Some("hold")),
            ("HOLD", Some("hold")),
            ("colour", None),
        ] {
            assert_eq!(catalog.nearest(typed), meant, "{typed}");
        }
    }
}
