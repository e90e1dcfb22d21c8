//! Whether commands of a document can be typed. The programs' own parsers and the project's files decide.

use crate::words::{commands, ours};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};
use gvm_dp::cli::{self, Cli, Command as Dp};
use netns::shell::project;
use settings::config;
use std::path::PathBuf;

/// The faults of the commands of a block; empty if all can be typed.
pub fn wrong(text: &str) -> Vec<String> {
    let complain = |words: Vec<String>| {
        let fault = match ours(&words) {
            Some(ours) => program(&ours),
            None => file(&words),
        };
        fault.err().map(|fault| format!("`{}`: {fault}", words.join(" ")))
    };
    commands(text).into_iter().filter_map(complain).collect()
}

/// Whether one of our programs accepts this command line, and whether a role can start from it.
fn program(words: &[String]) -> Result<(), String> {
    if let Some(word) = words.iter().find(|word| word.starts_with(['[', '<'])) {
        return Err(format!("{word} stands for something: the block is of class usage, or say what it is"));
    }
    if words[0] == "gvm-pktgen" {
        return accepted(pktgen::cli::Cli::command().try_get_matches_from(words)).map(drop);
    }
    let Some(matches) = accepted(cli::command().try_get_matches_from(words))? else { return Ok(()) };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    let checked = match cli.command {
        // Without arguments it lists what there is.
        None if words.len() == 1 => return Ok(()),
        None => config::GatewaySettings::new(cli.gateway).map(drop),
        Some(Dp::Gateway(arguments)) => config::GatewaySettings::new(*arguments).map(drop),
        Some(Dp::Slave(arguments)) => config::SlaveSettings::new(*arguments).map(drop),
        Some(_) => Ok(()),
    };
    // This machine may lack devices, cores or key files that the reader's machine has.
    checked.or_else(|failure| if failure.code() == 2 { Err(failure.to_string()) } else { Ok(()) })
}

fn accepted(parsed: Result<clap::ArgMatches, clap::Error>) -> Result<Option<clap::ArgMatches>, String> {
    match parsed {
        Ok(matches) => Ok(Some(matches)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether scripts of the project are there and know their options, and cargo's packages and tests exist.
fn file(words: &[String]) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| *word == "sudo").collect();
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let path = program.trim_start_matches("./");
    if ["scripts/", "perf/", ".ci/"].iter().any(|directory| path.starts_with(directory)) {
        let text = std::fs::read_to_string(project().join(path)).map_err(|error| error.to_string())?;
        let known = arguments.iter().filter(|word| word.starts_with("--")).all(|flag| text.contains(flag));
        let named = !path.ends_with("run.sh") || arguments.first().is_none_or(|name| text.contains(name));
        return if known && named { Ok(()) } else { Err("the script does not know that".to_owned()) };
    }
    if *program != "cargo" {
        return Ok(());
    }
    let mut place: Option<PathBuf> = None;
    for pair in arguments.windows(2).take_while(|pair| pair[0] != "--") {
        match pair {
            ["-p", name] => place = Some(package(name).ok_or_else(|| format!("there is no package {name}"))?),
            ["--test", name] => {
                let tests = place.as_ref().ok_or("--test without -p")?.join("tests");
                if !tests.join(format!("{name}.rs")).exists() && !tests.join(name).join("main.rs").exists() {
                    return Err(format!("there is no test {name}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The directory of a package of the workspace.
fn package(name: &str) -> Option<PathBuf> {
    let manifest = std::fs::read_to_string(project().join("Cargo.toml")).ok()?;
    let members = manifest.split("members = [").nth(1)?.split(']').next()?;
    let mut places = members.split('"').skip(1).step_by(2).map(|place| project().join(place));
    places.find(|place| {
        let text = std::fs::read_to_string(place.join("Cargo.toml")).unwrap_or_default();
        text.contains(&format!("name = \"{name}\""))
    })
}

/// The faults of a line that shows how a command is used, with brackets and capitals as placeholders: flags that the
/// command does not have, and commands that do not exist.
pub fn wrong_usage(line: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut inside: Option<Command> = None;
    for part in line.split(" | ") {
        let plain: String = part.chars().map(|letter| if "[]'\"".contains(letter) { ' ' } else { letter }).collect();
        let mut words = plain.split_whitespace().peekable();
        match words.peek() {
            Some(&program @ ("gvm-dp" | "gvm-pktgen")) => {
                words.next();
                let mut command = if program == "gvm-dp" { cli::command() } else { pktgen::cli::Cli::command() };
                command.build();
                while let Some(inner) = words.peek().and_then(|word| command.find_subcommand(word)).cloned() {
                    command = inner;
                    words.next();
                }
                let is_name = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase()) && !word.is_empty();
                if command.has_subcommands() && words.peek().filter(is_name).is_some_and(|word| *word != "help") {
                    wrong.push(format!("`{line}`: there is no command {}", words.peek().unwrap_or(&"")));
                }
                inside = Some(command);
            }
            Some(word) if word.starts_with('-') => {}
            // This is another program of a pipe.
            _ => continue,
        }
        let Some(command) = &inside else { continue };
        for word in words.filter(|word| word.starts_with('-') && word.len() > 1) {
            let flag: String = word.split('=').next().unwrap_or(word).trim_end_matches([',', '.', ';', ':']).to_owned();
            let known = |argument: &clap::Arg| {
                let long = argument.get_long().is_some_and(|long| flag == format!("--{long}"));
                long || argument.get_short().is_some_and(|short| flag == format!("-{short}"))
            };
            if !command.get_arguments().any(known) && flag != "--" && flag != "--help" {
                wrong.push(format!("`{line}`: {} has no {flag}", command.get_bin_name().unwrap_or("the program")));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_typed_is_found() {
        for line in [
            "gvm-dp stats --no-such-flag",
            "gvm-dp confg check",
            "sudo gvm-dp set hold 20us extra",
            "gvm-dp config check [FILE]",
            "gvm-dp --hold 50",
            // These are parsed, but no role can start from them.
            "gvm-dp --port udp:127.0.0.1:1 --port udp:127.0.0.1:1",
            "gvm-dp slave --id 17 --gateway 192.0.2.1",
            "gvm-pktgen --count 64",
            "gvm-pktgen --gateway 192.0.2.1 --count 0 --quiet &",
            "scripts/no-such.sh",
            "scripts/install.sh --no-such-flag",
            "perf/run.sh no-such-benchmark",
            "cargo test -p no-such-package",
            "cargo test -p gvm-sim --test no-such-test",
        ] {
            assert_eq!(wrong(line).len(), 1, "{line}: {:?}", wrong(line));
        }
        for line in [
            "gvm-dp --lcores 2-15 --port 0000:01:00.0 --port 0000:01:00.1 --key-file cluster.key   # as it is",
            "gvm-dp slave --gateway 192.0.2.1 --id 17 --port udp:0.0.0.0:0 && gvm-dp stats --json | jq .devices",
            "sudo scripts/install.sh --uninstall --purge; perf/run.sh aggregate",
            "cargo test -p gvm-sim --test sim qp",
            "apt-get install dpdk --no-such-flag",
        ] {
            assert_eq!(wrong(line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn flags_that_do_not_exist_are_found_in_lines_with_brackets() {
        assert_eq!(wrong_usage("gvm-dp stats [--name NAME] [--watch] | --json").len(), 0);
        assert_eq!(wrong_usage("gvm-dp capture -w - --filter 'slave 17' | wireshark -k -i -").len(), 0);
        for line in
            ["gvm-dp stats [--nme NAME]", "gvm-dp stats | --no-such", "gvm-dp nosuch", "gvm-dp capture -w FILE -z"]
        {
            assert_eq!(wrong_usage(line).len(), 1, "{line}: {:?}", wrong_usage(line));
        }
    }
}
