//! Splits lines of a shell into words as the shell does, as far as documents need it.

/// The commands of a block, each as its words, without comments, redirections and separators.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut letters = text.chars().peekable();
    let end_word = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>| {
        if let (Some(word), Some(command)) = (word.take(), commands.last_mut()) {
            command.push(word);
        }
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                for inner in letters.by_ref().take_while(|inner| *inner != letter) {
                    word.push(inner);
                }
            }
            '#' if word.is_none() => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '\n' | ';' | '|' | '&' => {
                end_word(&mut word, &mut commands);
                commands.push(Vec::new());
            }
            '>' | '<' => {
                // The next word is the target of the redirection, and not an argument.
                end_word(&mut word, &mut commands);
                while letters.next_if(|letter| matches!(letter, ' ' | '>' | '&')).is_some() {}
                while letters.next_if(|letter| !letter.is_whitespace() && *letter != ';').is_some() {}
            }
            blank if blank.is_whitespace() => end_word(&mut word, &mut commands),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    end_word(&mut word, &mut commands);
    commands.retain(|command| !command.is_empty());
    commands
}

/// Programs that run the rest of their line as another program.
const WRAPPERS: [&str; 5] = ["sudo", "setpriv", "env", "timeout", "numactl"];

/// The command line of one of our programs in a command, the program first, if the command runs one.
pub fn ours(command: &[String]) -> Option<Vec<String>> {
    let is_assignment = |word: &&String| {
        word.split_once('=').is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
    };
    let command = &command[command.iter().take_while(is_assignment).count()..];
    let name = |word: &str| word.rsplit('/').next().map(str::to_owned);
    let is_ours = |word: &String| matches!(name(word).as_deref(), Some("gvm-dp" | "gvm-pktgen"));
    let first = command.first()?;
    let at = if is_ours(first) {
        0
    } else if WRAPPERS.contains(&first.as_str()) {
        command.iter().rposition(is_ours).filter(|at| command.get(1) != Some(&"setcap".to_owned()) && *at > 0)?
    } else {
        return None;
    };
    let mut words = command[at..].to_vec();
    words[0] = name(&words[0])?;
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_as_by_a_shell() {
        let words = |text: &str| commands(text).into_iter().map(|words| words.join("|")).collect::<Vec<_>>();
        assert_eq!(words("a b  # c\nd 'e f' \\\n  \"g h\"; i && j | k &\n"), ["a|b", "d|e f|g h", "i", "j", "k"]);
        assert_eq!(words("a >out 2>&1 b\n"), ["a|2|b"]);
        assert_eq!(words("a x#y it\\'s\n"), ["a|x#y|it's"]);
    }

    #[test]
    fn our_programs_are_found_behind_what_runs_them() {
        let ours = |line: &str| ours(&commands(line)[0]).map(|words| words.join(" "));
        assert_eq!(ours("gvm-dp stats").as_deref(), Some("gvm-dp stats"));
        assert_eq!(ours("RUST_LOG=debug ./target/debug/gvm-dp stats").as_deref(), Some("gvm-dp stats"));
        assert_eq!(ours("sudo setpriv --reuid gvm-dp gvm-dp --port eth1").as_deref(), Some("gvm-dp --port eth1"));
        assert_eq!(ours("sudo systemctl start gvm-dp").as_deref(), Some("gvm-dp"));
        assert_eq!(ours("systemctl start gvm-dp"), None);
        assert_eq!(ours("sudo setcap x /usr/local/bin/gvm-dp"), None);
    }
}
