//! Manual pages and shell completions, made from the command line's own definition.

use crate::cli::{self, CompletionArgs, ManArgs};
use common::exit::Failure;
use common::output::print_whole;

/// `gvm-dp man`: writes a page for the program and one for each command.
///
/// # Errors
/// The error is [`Failure::Machine`]: a page cannot be written into the directory.
pub fn pages(args: &ManArgs) -> Result<(), Failure> {
    shell::manual::pages(cli::command(), shell::release::date(), &args.out)
        .map_err(|error| Failure::Machine(format!("cannot write manual pages to {}: {error}", args.out.display())))
}

/// `gvm-dp completion`: prints the script of a shell.
///
/// # Errors
/// The error is [`Failure::Internal`] when the script cannot be made. It is [`Failure::Output`] when stdout does not
/// take all of it.
pub fn completion(args: &CompletionArgs) -> Result<(), Failure> {
    let failed = |error| Failure::Internal(format!("the script cannot be made: {error}"));
    print_whole(&shell::script(args.shell, "gvm-dp").map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;
    use std::path::Path;

    /// Visits every command that is shown, with its name as the shell sees it.
    fn each(command: &Command, name: &str, visit: &mut dyn FnMut(&Command, &str)) {
        visit(command, name);
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help") {
            each(inner, &format!("{name}-{}", inner.get_name()), visit);
        }
    }

    fn flags(command: &Command) -> Vec<String> {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        shown.filter_map(|argument| argument.get_long()).map(str::to_owned).collect()
    }

    #[test]
    fn every_command_has_a_page_with_every_flag() {
        let directory = std::env::temp_dir().join(format!("gvm-dp-man-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        pages(&ManArgs { out: directory.clone() }).unwrap();
        let mut command = cli::command();
        command.build();
        let mut pages = 0;
        each(&command, "gvm-dp", &mut |command, name| {
            let path = directory.join(format!("{name}.1"));
            let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for flag in flags(command) {
                let escaped = format!("\\-\\-{}", flag.replace('-', "\\-"));
                assert!(page.contains(&escaped), "{name}.1 does not mention --{flag}");
            }
            pages += 1;
        });
        assert!(pages > 8, "only {pages} pages");
        std::fs::remove_dir_all(&directory).unwrap();
        let complaint = super::pages(&ManArgs { out: Path::new("/no/such/directory").to_owned() }).unwrap_err();
        assert!(complaint.to_string().contains("/no/such/directory"), "{complaint}");
    }
}
