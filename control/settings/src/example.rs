//! A commented configuration file with every setting. It is made from the flags, so that it is always right.

use super::catalog::{Catalog, RoleName, Setting, ValueKind};
use std::fmt::Write as _;

/// Values for settings that have no default. A test fails when one is missing or superfluous.
const SAMPLES: &[(&str, &str)] = &[
    ("lcores", "2-5"),
    ("port", "0000:01:00.0"),
    ("name", "gateway-1"),
    ("mtu", "9000"),
    ("metrics", "127.0.0.1:9998"),
    ("neighbor", "3=eth1,ip=10.0.0.3,mac=02:00:00:00:00:03"),
    ("key-file", "/etc/gvm-dp/cluster.key"),
    ("static-routes", "/etc/gvm-dp/routes"),
    ("gateway", "192.0.2.1"),
    ("socket", "/run/gvm-dp/master.pages"),
    ("socket-group", "gvm-pages"),
    ("lease-secrets", "/var/lib/gvm-dp/master.leases"),
    ("id", "17"),
    ("quota", "4G"),
    ("size", "8G"),
    ("listen", "unix:/run/gvm-dp/disk.nbd"),
    ("listen-group", "kvm"),
    ("area", "disk-1"),
    ("connect-key-file", "/etc/gvm-dp/connect.key"),
    ("cluster-key-file", "/etc/gvm-dp/cluster.key"),
    ("traffic", "master=1,payload=64,rate=1000"),
];

const HEAD: &str = "\
# Configuration of gvm-dp: /etc/gvm-dp/gvm-dp.toml
#
# Every flag of gvm-dp may stand here under its name; the command line wins. What is commented out is the default, or an
# example where there is none. What every role takes stands at the top, what one role takes in its table.
#
#   gvm-dp config check     is this file good?
#   gvm-dp config show      what would hold, and where it comes from
#   gvm-dp reload           take it over; says what needs a restart

# The one line that every gateway needs: the device that faces its nodes. Twice, as in [\"eth0\", \"eth1\"]: the first \
    faces the
# masters. With \"0000:01:00.0,rate=10G\" it sends at most 10 Gbit/s.
#port = [\"0000:01:00.0\"]
";

/// The file.
pub fn text() -> String {
    let mut out = HEAD.to_owned();
    let mut known: Vec<String> = vec!["port".to_owned()];
    for role in RoleName::ALL {
        let catalog = Catalog::of(role);
        for setting in catalog.settings.iter().filter(|setting| setting.common) {
            if !known.contains(&setting.name) {
                known.push(setting.name.clone());
                describe(&mut out, setting);
            }
        }
    }
    for role in RoleName::ALL {
        let _ = write!(out, "\n[{role}]\n");
        for setting in Catalog::of(role).settings.iter().filter(|setting| !setting.common) {
            describe(&mut out, setting);
        }
    }
    out
}

fn describe(out: &mut String, setting: &Setting) {
    out.push('\n');
    for line in wrap(&setting.help) {
        let _ = writeln!(out, "# {line}");
    }
    let sample = SAMPLES.iter().find(|(name, _)| *name == setting.name).map(|(_, value)| *value);
    let value = setting.default.as_deref().or(sample).unwrap_or_default();
    let value = match setting.kind {
        ValueKind::Number => value.to_owned(),
        ValueKind::Text | ValueKind::Switch => format!("{value:?}"),
        ValueKind::Flag => "false".to_owned(),
    };
    let _ = if setting.many && setting.default.is_none() {
        writeln!(out, "#{} = [{value}]", setting.name)
    } else {
        writeln!(out, "#{} = {value}", setting.name)
    };
}

/// Lines of at most 116 characters.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= 116 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::super::file::ConfigFile;
    use super::super::tests::{arguments, sources};
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("gvm-dp.toml"), text).unwrap_or_else(|wrong| panic!("{wrong:?} in\n{text}"))
    }

    #[test]
    fn the_file_that_is_installed_is_this_one() {
        let installed = include_str!("../../gvm-dp.toml");
        assert!(installed == text(), "make it anew: gvm-dp config example > control/gvm-dp.toml");
    }

    #[test]
    fn as_it_is_it_changes_nothing() {
        let file = parse(&text());
        for role in RoleName::ALL {
            let plain = sources(role, &[]);
            let (with, without) = (plain.resolve(Some(&file)).unwrap(), plain.resolve(None).unwrap());
            assert_eq!(arguments(&with), arguments(&without));
        }
    }

    #[test]
    fn every_line_of_it_is_good_and_says_the_default() {
        let is_setting =
            |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        let all: Vec<&str> = HEAD.lines().chain(["[gateway]", "[slave]"]).collect();
        assert!(all.iter().all(|line| text().contains(line)));
        for role in RoleName::ALL {
            let catalog = Catalog::of(role);
            for setting in &catalog.settings {
                // One at a time, since some exclude each other.
                let mut seen_in = None;
                let mut table = None;
                let with: Vec<String> = text()
                    .lines()
                    .map(|line| {
                        if line.starts_with('[') {
                            table = Some(line.to_owned());
                        }
                        let own = table.as_deref().is_none_or(|table| table == format!("[{role}]"));
                        let name = line.trim_start_matches('#').split(" = ").next().unwrap_or_default();
                        if is_setting(line) && own && name == setting.name {
                            seen_in = Some(line.to_owned());
                            return line.trim_start_matches('#').to_owned();
                        }
                        line.to_owned()
                    })
                    .collect();
                let line = seen_in.unwrap_or_else(|| panic!("[{role}] has no line for {}", setting.name));
                let plain = sources(role, &[]);
                let (with, without) =
                    (plain.resolve(Some(&parse(&with.join("\n")))).unwrap(), plain.resolve(None).unwrap());
                let value = with.find(&setting.name).unwrap();
                match (&setting.default, setting.kind) {
                    (Some(_), _) | (None, ValueKind::Flag) => {
                        assert_eq!(arguments(&with), arguments(&without), "{line}")
                    }
                    (None, _) => assert!(matches!(value.origin, Origin::File(_)) && !value.texts.is_empty(), "{line}"),
                }
            }
        }
        for (name, _) in SAMPLES {
            let of = |role| Catalog::of(role).find(name).is_some_and(|setting| setting.default.is_none());
            assert!(RoleName::ALL.into_iter().any(of), "{name} needs no sample");
        }
    }

    /// The example in the documentation is the same.
    #[test]
    fn the_file_in_the_documentation_is_good() {
        let document = include_str!("../../../docs/operating.md");
        let (_, section) = document.split_once("## The configuration file").unwrap();
        let (_, block) = section.split_once("```toml config\n").unwrap();
        let (text, _) = block.split_once("```").unwrap();
        let file = parse(text);
        assert!(file.entries.len() >= 8 && text.contains("[slave]"), "{text}");
    }
}
