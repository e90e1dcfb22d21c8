//! Makes text from outside safe for a terminal: from a process that answers, a peer, or the name of a foreign process.
//!
//! Some characters are orders to a terminal (colours, titles, the cursor, answers on its own input) or change the
//! direction of writing. They are shown as their numbers, as in `\u{1b}`. Nothing else is changed.

use serde_json::Value;
use std::borrow::Cow;

/// Members of a JSON object whose text may have several lines.
const PROSE: [&str; 3] = ["help", "message", "remedy"];

/// Whether a terminal may do something else with the character than show it.
fn is_order(c: char) -> bool {
    // Control characters of ASCII and of Latin-1; line separators; marks, embeddings, overrides and isolates of
    // direction.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_bad = |c: char| is_order(c) && !keep(c);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if is_bad(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// The text on one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The text on several lines, if it has several.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n')
}

/// JSON with the same meaning, safe for a terminal.
pub fn json(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    // Inside a string of JSON, an escape with the number means the same. Outside of strings neither form is valid JSON.
    // All numbers have at most four digits.
    let shown = |c: char| match c {
        '\n' => c.to_string(),
        c if is_order(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Makes every text in a value safe.
pub fn value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(line(&text).into_owned()),
        Value::Array(values) => Value::Array(values.into_iter().map(self::value).collect()),
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| match value {
                Value::String(text) if PROSE.contains(&&*name) => (name, Value::String(lines(&text).into_owned())),
                value => (line(&name).into_owned(), self::value(value)),
            };
            Value::Object(members.into_iter().map(member).collect())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn orders_are_shown_and_text_stays() {
        assert_eq!(line("edge-1 \u{1b}[31mred\u{7}\u{9b}2J\r\n"), "edge-1 \\u{1b}[31mred\\u{7}\\u{9b}2J\\u{d}\\u{a}");
        assert_eq!(line("Zürich, 東京 ✓"), "Zürich, 東京 ✓");
        assert_eq!(line("a\u{202e}b\u{2066}"), "a\\u{202e}b\\u{2066}");
        assert_eq!(lines("one\ntwo\u{1b}]0;x\u{7}"), "one\ntwo\\u{1b}]0;x\\u{7}");
    }

    #[test]
    fn every_text_of_an_answer_is_made_plain() {
        let hostile = json!({"name": "\u{1b}c", "\u{9b}k": [1, "\u{7f}", {"help": "a\nb\u{8}", "x": null}]});
        let plain = json!({"name": "\\u{1b}c", "\\u{9b}k": [1, "\\u{7f}", {"help": "a\nb\\u{8}", "x": null}]});
        assert_eq!(value(hostile), plain);
    }

    proptest! {
        #[test]
        fn json_that_is_printed_means_the_same_and_orders_nothing(texts in proptest::collection::vec(any::<String>(),
            0..4)) {
            let value = json!(texts);
            let shown = json(value.to_string().as_bytes());
            prop_assert!(!shown.contains(is_order));
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }

        #[test]
        fn no_order_is_left(text in any::<String>()) {
            prop_assert!(!line(&text).contains(is_order));
            prop_assert!(!lines(&text).contains(|c| is_order(c) && c != '\n'));
        }
    }
}
