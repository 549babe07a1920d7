//! Durations as people write them: `30s`, `15m`, `24h`, `7d`.

/// A text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole number with a unit, like 30s, 15m, 24h or 7d")]
pub(super) struct InvalidDuration;

/// Reads a duration, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, InvalidDuration> {
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(InvalidDuration)?;
    let unit_s: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(InvalidDuration),
    };
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidDuration);
    }
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    number.checked_mul(unit_s).ok_or(InvalidDuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        for (text, expected) in
            [("30s", 30), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("0s", 0), ("007d", 604_800)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "5 s",
            " 5s",
            "+5s",
            "-5s",
            "1.5h",
            "5S",
            "5w",
            "5ms",
            "5ß",
            "ß",
            "999999999999999999d",
        ] {
            assert_eq!(seconds(text), Err(InvalidDuration), "{text}");
        }
    }
}
