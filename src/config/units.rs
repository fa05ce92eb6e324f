//! Durations and sizes as people write them: `5m`, `1s`, `128MiB`.

use std::time::Duration;

/// `500ms`, `1s`, `5m`, `2h`, `7d`.
///
/// # Errors
/// What a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let ms: f64 = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        _ => return Err(format!("\"{text}\" is not a duration; write 500ms, 1s, 5m, 2h or 7d")),
    };
    match number.parse::<f64>() {
        Ok(number) if (0.0..1e12).contains(&(number * ms)) => Ok(Duration::from_millis((number * ms) as u64)),
        _ => Err(format!("\"{text}\" is not a duration; write 500ms, 1s, 5m, 2h or 7d")),
    }
}

/// `100`, `64KiB`, `128MiB`, `1GiB`, `10MB`: bytes.
///
/// # Errors
/// What a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let bytes: f64 = match unit {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return Err(format!("\"{text}\" is not a size; write 64KiB, 128MiB or 1GiB")),
    };
    match number.parse::<f64>() {
        Ok(number) if (0.0..1e18).contains(&(number * bytes)) => Ok((number * bytes) as u64),
        _ => Err(format!("\"{text}\" is not a size; write 64KiB, 128MiB or 1GiB")),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..at].trim(), &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(size("128MiB"), Ok(128 << 20));
        assert_eq!(size("10 MB"), Ok(10_000_000));
        assert!(duration("5").is_err() && duration("-1s").is_err() && size("many").is_err());
    }
}
