//! Text that fits: a word is shown completely or not at all, so that no number is ever cut.

/// Stands for words that were left out.
const MORE: &str = "…";

fn len(text: &str) -> usize {
    text.chars().count()
}

/// As many whole words of a text as fit into this width; `…` stands for the others.
pub fn words(text: &str, width: usize) -> String {
    if len(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(len(MORE) + 1);
    let mut last_ended = None;
    let mut chars = text.chars().take(room + 1).enumerate().peekable();
    while let Some((at, c)) = chars.next() {
        let ends = !c.is_whitespace() && chars.peek().is_some_and(|(_, next)| next.is_whitespace());
        if ends {
            last_ended = Some(at + 1);
        }
    }
    match last_ended {
        Some(chars) => text.chars().take(chars).chain(" ".chars()).chain(MORE.chars()).collect(),
        None => MORE.chars().take(width).collect(),
    }
}

/// As many parts as fit into this width, separated by two blanks. The last parts are left out first; of the first part
/// as many words as fit are shown.
pub fn parts<T: AsRef<str>>(parts: &[T], width: usize) -> String {
    let mut line = String::new();
    for (number, part) in parts.iter().map(AsRef::as_ref).enumerate() {
        if number == 0 {
            line = words(part, width);
        } else if len(&line) + 2 + len(part) <= width {
            line.push_str("  ");
            line.push_str(part);
        } else {
            break;
        }
    }
    line
}

/// Parts in lines of this width, with `gap` between them; a part is never divided. What does not fit into `most` lines
/// is left out.
pub fn wrap<T: AsRef<str>>(parts: &[T], gap: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts.iter().map(AsRef::as_ref) {
        let has_room = lines.len() < most;
        match lines.last_mut() {
            Some(line) if len(line) + len(gap) + len(part) <= width => {
                line.push_str(gap);
                line.push_str(part);
            }
            _ if has_room => lines.push(words(part, width)),
            _ => break,
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        let text = "lcore 1 has 500 of 16384 frames";
        assert_eq!(words(text, 31), text);
        assert_eq!(words(text, 30), "lcore 1 has 500 of 16384 …");
        assert_eq!(words(text, 26), "lcore 1 has 500 of 16384 …");
        assert_eq!(words(text, 25), "lcore 1 has 500 of …");
        assert_eq!(words(text, 7), "lcore …");
        assert_eq!((words(text, 6), words(text, 1), words(text, 0)), ("…".into(), "…".into(), String::new()));
        assert_eq!(words("16384", 4), "…");
        assert_eq!(words("  16384 frames", 12), "  16384 …");
    }

    #[test]
    fn parts_vanish_from_the_end() {
        let all = ["down 1.00k", "up 5", "x"];
        assert_eq!(parts(&all, 19), "down 1.00k  up 5  x");
        assert_eq!(parts(&all, 18), "down 1.00k  up 5");
        assert_eq!(parts(&all, 15), "down 1.00k", "what is behind a part that has no room vanishes, too");
        assert_eq!((parts(&all, 8), parts::<&str>(&[], 8)), ("down …".to_owned(), String::new()));
    }

    #[test]
    fn parts_are_not_divided_between_lines() {
        let causes = ["left by", "full 80.0 %", "hold 20.0 %"];
        assert_eq!(wrap(&causes, "  ", 40, 2), ["left by  full 80.0 %  hold 20.0 %"]);
        assert_eq!(wrap(&causes, "  ", 25, 2), ["left by  full 80.0 %", "hold 20.0 %"]);
        assert_eq!(wrap(&causes, "  ", 25, 1), ["left by  full 80.0 %"]);
        assert_eq!(wrap(&causes, "  ", 11, 9), ["left by", "full 80.0 %", "hold 20.0 %"]);
    }
}
