//! The release of this source, taken from CHANGELOG.md.

/// The date of the newest release, as YYYY-MM-DD: the first heading of the change log that ends with a date.
pub fn date() -> &'static str {
    const CHANGES: &str = include_str!("../../../CHANGELOG.md");
    let headings = CHANGES.lines().filter(|line| line.starts_with("## "));
    let dates = headings.filter_map(|heading| heading.rsplit_once(' ')).map(|(_, date)| date);
    dates.into_iter().find(|date| is_date(date)).unwrap_or("1970-01-01")
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = |part: &str, len| part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_log_names_this_version_first_with_its_date() {
        assert!(is_date(date()) && date() > "2026-01-01", "{}", date());
        assert!(!is_date("2026-1-01") && !is_date("unreleased"));
        let changes = include_str!("../../../CHANGELOG.md");
        // Changes after the last release have no version yet.
        let mut headings = changes.lines().filter(|line| line.starts_with("## ") && *line != "## Unreleased");
        let heading = headings.next().unwrap();
        assert_eq!(heading, format!("## {}, {}", env!("CARGO_PKG_VERSION"), date()));
    }
}
