//! A setting means the same in the file and on the command line: each one alone, and any set of them.

use super::catalog::{Catalog, Setting, ValueKind};
use super::file::ConfigFile;
use super::{Origin, RoleName, Settings, Sources, text};
use crate::MetricsAddress;
use crate::domain::Domain;
use crate::flags::{DiskArgs, GatewayArgs, MasterArgs, SlaveArgs, Switch};
use crate::id_range::IdRange;
use crate::listen::ListenAddress;
use crate::memory::{KeepFree, MemoryPages};
use crate::neighbor::NeighborSpec;
use crate::traffic::Traffic;
use common::exit::Failure;
use common::units::{Duration, Size};
use host::log::LogFilter;
use host::privilege::seccomp;
use lcore::{CoreList, RxMode};
use port::spec::PortSpec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::any::TypeId;
use std::path::{Path, PathBuf};

/// Texts that a flag of this type takes. A new type of setting needs a line here.
fn values(setting: &Setting, catalog: &Catalog) -> BoxedStrategy<String> {
    let arg = catalog.command.get_arguments().find(|arg| arg.get_id() == setting.id.as_str()).unwrap();
    let parsed = arg.get_value_parser().type_id();
    let is = |kind: TypeId| parsed == kind;
    let unit = |units: &'static [&'static str]| {
        (0u32..5000, prop::sample::select(units)).prop_map(|(n, unit)| format!("{n}{unit}")).boxed()
    };
    let one_of = |texts: &'static [&'static str]| prop::sample::select(texts).prop_map(str::to_owned).boxed();
    match () {
        () if is(TypeId::of::<bool>()) => one_of(&["true", "false"]),
        () if is(TypeId::of::<u8>()) => any::<u8>().prop_map(|n| n.to_string()).boxed(),
        // No setting takes less than these.
        () if is(TypeId::of::<u16>()) => (1..=1024u16).prop_map(|n| n.to_string()).boxed(),
        () if is(TypeId::of::<u32>()) => (0..=1_000_000u32).prop_map(|n| n.to_string()).boxed(),
        () if is(TypeId::of::<u64>()) => (0..u64::MAX / 2).prop_map(|n| n.to_string()).boxed(),
        () if is(TypeId::of::<String>()) => "[a-z0-9 ._\"\\\\#=-]{1,12}".boxed(),
        () if is(TypeId::of::<PathBuf>()) => "/?[a-z0-9 ._/\"\\\\#=-]{1,20}".boxed(),
        () if is(TypeId::of::<IdRange>()) => one_of(&["0", "7", "1-8", "65535"]),
        () if is(TypeId::of::<Domain>()) => one_of(&["auto", "0", "4294967295"]),
        () if is(TypeId::of::<CoreList>()) => one_of(&["3", "0-1", "0,2,4-6", "2-15"]),
        () if is(TypeId::of::<PortSpec>()) => one_of(&[
            "udp:127.0.0.1:9999",
            "udp:[::1]:0",
            "xdp:eth0",
            "xdp:eth0,queues=2,mode=copy",
            "udp:127.0.0.1:9999,rate=200M",
            "xdp:eth0,rate=10G",
            "eth1",
            "0000:01:00.0",
        ]),
        () if is(TypeId::of::<RxMode>()) => one_of(&["polling", "adaptive"]),
        () if is(TypeId::of::<Switch>()) => one_of(&["on", "off"]),
        () if is(TypeId::of::<Duration>()) => unit(&["ns", "us", "ms", "s"]),
        () if is(TypeId::of::<Size>()) => unit(&["", "K", "M", "G"]),
        () if is(TypeId::of::<NeighborSpec>()) => {
            (0u16..16).prop_map(|n| format!("{n}=eth1,ip=10.0.0.3,mac=02:00:00:00:00:03")).boxed()
        }
        () if is(TypeId::of::<Traffic>()) => {
            (any::<u16>(), 1u32..9).prop_map(|(master, burst)| format!("burst={burst},master={master}")).boxed()
        }
        () if is(TypeId::of::<seccomp::Mode>()) => one_of(&["on", "log", "off"]),
        () if is(TypeId::of::<MetricsAddress>()) => one_of(&["127.0.0.1", "192.0.2.1:9000", "[::1]:80"]),
        () if is(TypeId::of::<KeepFree>()) => one_of(&["auto", "0", "512M", "2G"]),
        () if is(TypeId::of::<MemoryPages>()) => one_of(&["auto", "huge", "ordinary"]),
        () if is(TypeId::of::<ListenAddress>()) => one_of(&["unix:/run/d.nbd", "tcp:127.0.0.1:10809"]),
        () if is(TypeId::of::<LogFilter>()) => one_of(&["debug", "warn,lcore=trace", "off"]),
        () => panic!("no values for --{}: its type is new here and in settings/text.rs", setting.name),
    }
}

/// A setting with texts for it, and whether it is written into the role's own table.
type Choice = (Setting, Vec<String>, bool);

/// Whether no environment variable gives the setting. The environment has precedence over the file.
fn is_free(setting: &Setting) -> bool {
    setting.name != "log" || std::env::var_os("RUST_LOG").is_none()
}

fn choice(setting: &Setting, catalog: &Catalog) -> impl Strategy<Value = Choice> + use<> {
    let most = if setting.many { 3 } else { 1 };
    let setting = setting.clone();
    (prop::collection::vec(values(&setting, catalog), 1..=most), any::<bool>())
        .prop_map(move |(texts, own)| (setting.clone(), texts, own || !setting.common))
}

fn choices(role: RoleName) -> impl Strategy<Value = Vec<Choice>> {
    let catalog = Catalog::of(role);
    let each: Vec<_> = catalog
        .settings
        .iter()
        .filter(|setting| is_free(setting))
        .map(|setting| prop::option::of(choice(setting, &catalog)))
        .collect();
    each.prop_map(move |chosen| {
        let mut kept: Vec<Choice> = Vec::new();
        for choice in chosen.into_iter().flatten() {
            if !kept.iter().any(|(other, ..)| catalog.conflict(other, &choice.0)) {
                kept.push(choice);
            }
        }
        kept
    })
}

fn flags(choices: &[Choice]) -> Vec<String> {
    let flag = |setting: &Setting, text: &String| match setting.kind {
        ValueKind::Flag => (text == "true").then(|| format!("--{}", setting.name)),
        _ => Some(format!("--{}={text}", setting.name)),
    };
    choices.iter().flat_map(|(setting, texts, _)| texts.iter().filter_map(|text| flag(setting, text))).collect()
}

fn toml(role: RoleName, choices: &[Choice]) -> String {
    let line = |(setting, texts, _): &Choice| {
        let value = |text: &String| match (setting.kind, text.as_str()) {
            (ValueKind::Number | ValueKind::Flag, text) => text.to_owned(),
            (ValueKind::Switch, "off") => "false".to_owned(),
            (_, text) => format!("{text:?}"),
        };
        match &texts[..] {
            [text] => format!("{} = {}\n", setting.name, value(text)),
            texts => format!("{} = [{}]\n", setting.name, texts.iter().map(value).collect::<Vec<_>>().join(", ")),
        }
    };
    let of = |own: bool| choices.iter().filter(move |(.., in_table)| *in_table == own).map(line).collect::<String>();
    format!("{}[{role}]\n{}", of(false), of(true))
}

pub(super) fn sources(role: RoleName, flags: &[String]) -> Sources {
    let matches = Catalog::of(role).command.try_get_matches_from(flags).unwrap_or_else(|error| panic!("{error}"));
    Sources::new(role, &matches)
}

fn parse(text: &str) -> ConfigFile {
    ConfigFile::parse(Path::new("f.toml"), text).unwrap_or_else(|wrong| panic!("{wrong:?} in\n{text}"))
}

/// The arguments of the role, as a text that shows each of them.
pub(super) fn arguments(settings: &Settings) -> String {
    match settings.role {
        RoleName::Gateway => format!("{:?}", settings.arguments::<GatewayArgs>().unwrap()),
        RoleName::Slave => format!("{:?}", settings.arguments::<SlaveArgs>().unwrap()),
        RoleName::Master => format!("{:?}", settings.arguments::<MasterArgs>().unwrap()),
        RoleName::Disk => format!("{:?}", settings.arguments::<DiskArgs>().unwrap()),
    }
}

fn texts(settings: &Settings) -> Vec<(&str, &[String])> {
    settings.values.iter().map(|value| (value.name.as_str(), &value.texts[..])).collect()
}

fn mean_the_same(role: RoleName, choices: &[Choice]) {
    let text = toml(role, choices);
    let from_file = sources(role, &[]).resolve(Some(&parse(&text))).unwrap();
    let from_flags = sources(role, &flags(choices)).resolve(None).unwrap();
    assert_eq!(arguments(&from_file), arguments(&from_flags), "{text}");
    assert_eq!(texts(&from_file), texts(&from_flags), "{text}");
    for (setting, texts, _) in
        choices.iter().filter(|(setting, texts, _)| setting.kind != ValueKind::Flag || texts[0] == "true")
    {
        let (in_file, flag) = (from_file.find(&setting.name).unwrap(), from_flags.find(&setting.name).unwrap());
        assert!(matches!(in_file.origin, Origin::File(_)), "{in_file:?}");
        assert_eq!((&flag.origin, flag.texts.len()), (&Origin::CommandLine, texts.len()));
    }
}

#[test]
fn every_flag_means_the_same_in_the_file() {
    let mut runner = TestRunner::deterministic();
    for role in RoleName::ALL {
        let catalog = Catalog::of(role);
        for setting in catalog.settings.iter().filter(|setting| is_free(setting)) {
            for _ in 0..8 {
                let choice = choice(setting, &catalog).new_tree(&mut runner).unwrap().current();
                mean_the_same(role, &[choice]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_settings_of_a_gateway_mean_the_same_in_the_file(choices in choices(RoleName::Gateway)) {
        mean_the_same(RoleName::Gateway, &choices);
    }

    #[test]
    fn any_settings_of_a_slave_mean_the_same_in_the_file(choices in choices(RoleName::Slave)) {
        mean_the_same(RoleName::Slave, &choices);
    }

    #[test]
    fn any_settings_of_a_disk_mean_the_same_in_the_file(choices in choices(RoleName::Disk)) {
        mean_the_same(RoleName::Disk, &choices);
    }

    #[test]
    fn any_settings_of_a_master_mean_the_same_in_the_file(choices in choices(RoleName::Master)) {
        mean_the_same(RoleName::Master, &choices);
    }
}

#[test]
fn every_setting_has_one_way_in_which_it_is_written() {
    for role in RoleName::ALL {
        let settings = sources(role, &[]).resolve(None).unwrap();
        for setting in &settings.catalog.settings {
            let written = text::texts(&settings.matches, &setting.id);
            let written = written.unwrap_or_else(|| panic!("--{}: its type is not in settings/text.rs", setting.name));
            // A flag that is not given is written, too.
            let is_written = setting.default.is_some() || setting.kind == ValueKind::Flag;
            assert_eq!(!written.is_empty(), is_written, "--{}", setting.name);
        }
    }
    let flags = ["--hold=1000us", "--lcores=0,1,2,5"].map(str::to_owned);
    let settings = sources(RoleName::Gateway, &flags).resolve(None).unwrap();
    assert_eq!(settings.find("hold").unwrap().texts, ["1ms"]);
    assert_eq!(settings.find("lcores").unwrap().texts, ["0-2,5"]);
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_defaults() {
    let file = parse("mtu = 9000\nrx-mode = \"polling\"\nport = [\"eth0\", \"eth1\"]\n[gateway]\nhold = \"1ms\"\n");
    let flags = ["--mtu=1400", "--port=eth2"].map(str::to_owned);
    let settings = sources(RoleName::Gateway, &flags).resolve(Some(&file)).unwrap();
    let is = |name: &str| {
        let value = settings.find(name).unwrap();
        (value.texts.join(" "), value.origin.clone())
    };
    assert_eq!(is("mtu"), ("1400".to_owned(), Origin::CommandLine));
    assert_eq!(is("port"), ("eth2".to_owned(), Origin::CommandLine), "a list is replaced, not made longer");
    assert!(matches!(is("hold"), (hold, Origin::File(place)) if hold == "1ms" && place.line == 5));
    assert_eq!(is("early"), ("on".to_owned(), Origin::Default));
    assert_eq!(settings.get::<RxMode>("rx-mode"), Some(RxMode::Polling));
    assert_eq!(settings.get::<u16>("rx-mode"), None);
}

#[test]
fn what_is_set_later_wins_until_it_is_forgotten() {
    let file = parse("[gateway]\nhold = \"1ms\"\n");
    let sources = sources(RoleName::Gateway, &["--early=off".to_owned()]);
    let set = sources.with("hold", vec!["2ms".to_owned()]).with("early", vec!["on".to_owned()]);
    let settings = set.resolve(Some(&file)).unwrap();
    for (name, text) in [("hold", "2ms"), ("early", "on")] {
        let value = settings.find(name).unwrap();
        assert_eq!((&value.texts[..], &value.origin), (&[text.to_owned()][..], &Origin::Set));
    }
    let settings = set.without_set().resolve(Some(&file)).unwrap();
    assert_eq!((&*settings.find("hold").unwrap().texts[0], &*settings.find("early").unwrap().texts[0]), ("1ms", "off"));
}

#[test]
fn what_excludes_each_other() {
    let file = parse("[slave]\ncluster-key-file = \"c\"\n");
    // The flag has precedence, so the other setting in the file is no contradiction.
    let settings = sources(RoleName::Slave, &["--key-file=k".to_owned()]).resolve(Some(&file)).unwrap();
    assert_eq!(settings.find("key-file").unwrap().texts, ["k"]);
    assert!(settings.find("cluster-key-file").unwrap().texts.is_empty());
    let file = parse("[slave]\nkey-file = \"k\"\ncluster-key-file = \"c\"\n");
    let failure = sources(RoleName::Slave, &[]).resolve(Some(&file)).unwrap_err();
    assert!(matches!(failure, Failure::ConfigText(_)));
    let text = failure.to_string();
    assert!(text.starts_with("f.toml:3:1: cluster-key-file and key-file in line 2 exclude each other"), "{text}");
}

#[test]
fn a_value_that_makes_no_sense_is_found_in_the_file() {
    let settings = |text: &str| sources(RoleName::Gateway, &[]).resolve(Some(&parse(text))).unwrap();
    let wrong = || Failure::Setting { name: "mtu", text: "100: choose 576 to 32000".to_owned() };
    let located = settings("\nmtu = 100\n").locate(wrong());
    assert_eq!(located.to_string(), "f.toml:2:1: --mtu 100: choose 576 to 32000");
    assert_eq!(located.code(), 2);
    assert_eq!(settings("").locate(wrong()).to_string(), "--mtu 100: choose 576 to 32000");
}
