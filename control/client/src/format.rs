//! Numbers in the form that people read.

/// A rate in three or four digits: `0`, `0.5`, `12.3`, `123`, `1.23k`, `12.3M`.
pub fn si(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 999.5e6 => (v / 1e9, "G"),
        v if v >= 999.5e3 => (v / 1e6, "M"),
        v if v >= 999.5 => (v / 1e3, "k"),
        v => (v, ""),
    };
    match value {
        v if v <= 0.0 => "0".to_owned(),
        v if unit.is_empty() && v < 99.95 => format!("{v:.1}"),
        v if v < 9.995 => format!("{v:.2}{unit}"),
        v if v < 99.95 => format!("{v:.1}{unit}"),
        v => format!("{v:.0}{unit}"),
    }
}

/// Bits per second of this many bytes per second: `0`, `12.3 kbit/s`, `1.23 Gbit/s`.
pub fn bits(bytes_per_second: f64) -> String {
    let text = si(bytes_per_second * 8.0);
    match text.char_indices().next_back() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => format!("{} {unit}bit/s", &text[..at]),
        _ => format!("{text} bit/s"),
    }
}

/// A whole number with commas: `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent: `0 %`, `0.4 %`, `45 %`, `93.3 %`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    match value {
        v if v.abs() < 0.05 => "0 %".to_owned(),
        v if v.abs() >= 99.95 => format!("{v:.0} %"),
        v => format!("{v:.1} %"),
    }
}

/// A time span: `3.2 s`, `4m 05s`, `2h 14m`, `3d 04h`.
pub fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// A number with its noun: `1 master`, `2 masters`.
pub fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Nanoseconds: `850 ns`, `12.3 us`, `4.5 ms`, `1.20 s`.
pub fn nanoseconds(ns: f64) -> String {
    match ns {
        v if v < 999.5 => format!("{v:.0} ns"),
        v if v < 999.5e3 => format!("{:.1} us", v / 1e3),
        v if v < 999.5e6 => format!("{:.1} ms", v / 1e6),
        v => format!("{:.2} s", v / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let rates = [0.0, 0.04, 0.5, 99.9, 123.4, 999.6, 1234.0, 12_345.0, 999_499.0, 999_600.0, 5e7, 3.2e9];
        let texts = ["0", "0.0", "0.5", "99.9", "123", "1.00k", "1.23k", "12.3k", "999k", "1.00M", "50.0M", "3.20G"];
        assert_eq!(rates.map(si), texts);
        assert_eq!([0.0, 10.0, 125e6].map(bits), ["0 bit/s", "80.0 bit/s", "1.00 Gbit/s"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.004, 0.5, 0.9333, 1.0].map(percent), ["0 %", "0.4 %", "50.0 %", "93.3 %", "100 %"]);
        assert_eq!([3.21, 245.0, 8040.0, 273_600.0].map(span), ["3.2 s", "4m 05s", "2h 14m", "3d 04h"]);
        assert_eq!([0, 1, 2000].map(|n| count(n, "slave")), ["0 slaves", "1 slave", "2,000 slaves"]);
        assert_eq!([12.0, 12_300.0, 4.5e6, 1.2e9].map(nanoseconds), ["12 ns", "12.3 us", "4.5 ms", "1.20 s"]);
    }
}
