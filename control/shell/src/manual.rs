//! Manual pages. The library writes them; this module corrects what `mandoc -T lint` finds in them.

use clap::Command;
use clap_mangen::Man;
use std::fs;
use std::io;
use std::path::Path;

/// The longest line of a page's source, in bytes.
const LINE: usize = 79;

/// Writes a page for the program and one for each command into an existing directory: `gvm-dp.1`, `gvm-dp-slave.1`, ...
/// The pages bear the date of the program's release, as YYYY-MM-DD.
///
/// # Errors
/// A file cannot be written.
pub fn pages(program: Command, released: &str, directory: &Path) -> io::Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    page(&program, &source, released, directory)
}

fn page(command: &Command, source: &str, released: &str, directory: &Path) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        page(inner, source, released, directory)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man =
        Man::new(command.clone()).title(name.to_uppercase()).date(released).source(source).manual("User Commands");
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    fs::write(directory.join(man.get_filename()), tidy(&text))
}

/// The same page without the things that linters report: blanks at the end of lines, long lines, breaks around an empty
/// line.
fn tidy(page: &str) -> String {
    let mut tidy = String::with_capacity(page.len());
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    for (number, &line) in lines.iter().enumerate() {
        let beside = |line: Option<&&str>| line.is_some_and(|line| line.is_empty());
        let before = number.checked_sub(1).and_then(|before| lines.get(before));
        match line {
            // An empty line is a break by itself, so it is written as an empty line.
            ".br" if beside(before) || beside(lines.get(number + 1)) => {}
            "" => tidy.push_str(".sp\n"),
            // The line after .TP is the head of a paragraph: it must stay one line.
            _ if line.starts_with('.') || before == Some(&".TP") => push(&mut tidy, line),
            _ => wrap(&mut tidy, line),
        }
    }
    tidy
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Adds a line of text as several lines. The place of a cut does not matter: roff fills lines again.
fn wrap(text: &mut String, line: &str) {
    let mut rest = line;
    while rest.len() > LINE {
        let fits = (0..=LINE).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(0);
        // A line must not begin with a dot or a quote, which would make it a command, and must not end with a blank.
        let may_begin = |at: &usize| !rest[at + 1..].starts_with(['.', '\'', ' ']);
        let blanks = rest.match_indices(' ').map(|(at, _)| at).filter(|at| *at > 0 && may_begin(at));
        let Some(cut) = blanks.clone().take_while(|at| *at <= fits).last().or_else(|| blanks.clone().next()) else {
            break;
        };
        push(text, rest[..cut].trim_end());
        rest = &rest[cut + 1..];
    }
    push(text, rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_and_commands_are_not() {
        let words = "word ".repeat(40);
        let page = format!(".TH A 1 \"{words}\"\n.SH OPTIONS\n.TP\n{words}\n{words}\n");
        let tidy = tidy(&page);
        let long: Vec<&str> = tidy.lines().filter(|line| line.len() > LINE).collect();
        assert_eq!(long, [page.lines().next().unwrap(), words.trim_end()], "{tidy}");
        let again: Vec<&str> = tidy.split_whitespace().collect();
        assert_eq!(again, page.split_whitespace().collect::<Vec<_>>(), "nothing is lost");
    }

    #[test]
    fn no_line_begins_as_a_command_that_was_text() {
        let page = format!("{} .ini 'quoted' and so on\n", "a".repeat(74));
        assert!(tidy(&page).lines().all(|line| !line.starts_with(['.', '\''])), "{}", tidy(&page));
        let endless = "x".repeat(200);
        assert_eq!(tidy(&endless).trim_end(), endless);
    }

    #[test]
    fn an_empty_line_is_one_space() {
        assert_eq!(tidy("help\n.br\n\n.br\nvalues\n"), "help\n.sp\nvalues\n");
    }
}
