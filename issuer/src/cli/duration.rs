//! Durations as operators write them: `30s`, `15m`, `24h`, `7d`.

/// Reads a duration, in seconds.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a whole number and s, m, h or d, like 24h");
    let (unit_at, unit) = text.char_indices().next_back().ok_or_else(wrong)?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.get(..unit_at).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|number| number.parse::<u64>().ok()?.checked_mul(unit_s)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_number_and_a_unit() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
    }

    /// One that is taken for another is a credential that never ends, or that
    /// has ended.
    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "24",
            "h",
            "24 h",
            " 24h",
            "24H",
            "+24h",
            "-1h",
            "1.5h",
            "1h30m",
            "1w",
            "24hä",
            "9999999999999999999d",
        ] {
            assert!(parse(text).unwrap_err().contains("like 24h"), "{text}");
        }
    }
}
