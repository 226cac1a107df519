//! How values look: numbers, sizes, durations, tables, bodies. No output of its own.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use queue_protocol::limits::CLOCK_OFF_MS_MAX;

/// `1204` as `1,204`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `2 messages`.
pub(crate) fn messages(value: u64) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} message{plural}", count(value))
}

/// Bytes in binary units with at most one digit behind the point: `1.4 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, so that no rounding of floats shows up in tests or tables.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1_024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    if tenths >= 100 || tenths % 10 == 0 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// How long something took: `2.2 ms`, `12.1 s`.
pub(crate) fn took(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(1) {
        format!("{:.1} ms", elapsed.as_secs_f64() * 1_000.0)
    } else {
        format!("{:.1} s", elapsed.as_secs_f64())
    }
}

/// Milliseconds with one digit behind the point, for JSON.
pub(crate) fn elapsed_ms(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 10_000.0).round() / 10.0
}

/// An age in its two largest units: `0.4s`, `41s`, `3m 12s`, `3d 4h`.
pub(crate) fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match seconds {
        0..10 => format!("{}.{}s", seconds, milliseconds / 100 % 10),
        10..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

/// What is to be said of a node's clock that is so many milliseconds ahead of the cluster's; `None` if it is right.
pub(crate) fn clock_off(off_ms: i64) -> Option<String> {
    let side = if off_ms > 0 { "ahead of" } else { "behind" };
    let off_ms = off_ms.unsigned_abs();
    (off_ms > CLOCK_OFF_MS_MAX)
        .then(|| format!("its clock is {} {side} the cluster's time and is not believed", age(off_ms)))
}

/// Names and values under each other, the values aligned.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// The beginning of a body on one line, control characters escaped, at most `width` characters.
pub(crate) fn preview(body: &[u8], width: usize) -> String {
    // Four bytes are the longest character, so more are never needed.
    let head = &body[..body.len().min(width.saturating_mul(4) + 4)];
    let mut text = String::new();
    for (shown, character) in String::from_utf8_lossy(head).chars().enumerate() {
        if shown == width {
            text.push('…');
            break;
        }
        match character {
            '\t' | ' ' => text.push(' '),
            c if steers(c) => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

/// Whether a terminal would take a character for a command, or turn the direction of the text around it.
fn steers(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a terminal shows and does not obey: control characters as `\u{1b}`, bytes that are not UTF-8 as `\x9b`; line feeds and
/// tabs stay.
pub(crate) fn for_terminal(data: &[u8]) -> Vec<u8> {
    let mut shown = String::with_capacity(data.len());
    for chunk in data.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' | '\t' => shown.push(character),
                c if steers(c) => shown.extend(c.escape_unicode()),
                c => shown.push(c),
            }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown.into_bytes()
}

/// The same of a JSON document, which stays one.
pub(crate) fn json_for_terminal(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for character in document.chars() {
        if steers(character) {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The bytes of a text in base64; `None` if it is none.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use queue_json::base64;

    use serde_json::Value;

    use super::*;

    #[test]
    fn numbers_have_thousands_separators() {
        let shown: Vec<_> = [0, 7, 999, 1_000, 1_204, 48_211, 1_000_000].into_iter().map(count).collect();
        assert_eq!(shown, ["0", "7", "999", "1,000", "1,204", "48,211", "1,000,000"]);
        assert_eq!((messages(1), messages(1_204)), ("1 message".into(), "1,204 messages".into()));
    }

    #[test]
    fn sizes_use_binary_units() {
        let shown: Vec<_> =
            [0, 1_023, 1_024, 1_500, 1_468_006, 86_973_087_744, u64::MAX].into_iter().map(size).collect();
        assert_eq!(shown, ["0 B", "1023 B", "1 KiB", "1.4 KiB", "1.3 MiB", "81 GiB", "15 EiB"]);
    }

    #[test]
    fn ages_show_their_two_largest_units() {
        let shown: Vec<_> =
            [0, 400, 3_100, 41_000, 192_000, 3_600_000, 273_600_000].into_iter().map(age).collect();
        assert_eq!(shown, ["0.0s", "0.4s", "3.1s", "41s", "3m 12s", "1h", "3d 4h"]);
        assert_eq!(took(Duration::from_micros(2_210)), "2.2 ms");
        assert_eq!(took(Duration::from_millis(12_120)), "12.1 s");
    }

    #[test]
    fn a_preview_is_one_line_without_control_characters() {
        assert_eq!(preview(b"resize 31.png", 40), "resize 31.png");
        assert_eq!(preview(b"a\nb\x1b[31m", 40), "a\\nb\\u{1b}[31m");
        assert_eq!(preview("ÄÖÜäöü".as_bytes(), 3), "ÄÖÜ…");
    }

    #[test]
    fn nothing_steers_a_terminal() {
        let shown = |data: &[u8]| String::from_utf8(for_terminal(data)).unwrap();
        assert_eq!(shown("grün\t✓\n".as_bytes()), "grün\t✓\n");
        assert_eq!(shown(b"\x1b[31mred\r\x07\x9b2J\x7f"), r"\u{1b}[31mred\u{d}\u{7}\x9b2J\u{7f}");
        assert_eq!(shown("\u{9b}2J\u{202e}abc".as_bytes()), r"\u{9b}2J\u{202e}abc");
        let json = serde_json::json!({"body": "\u{9b}2J\u{1b}[2J\u{202e}"});
        let text = json_for_terminal(&json.to_string());
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json, "it is still the same document");
    }

    #[test]
    fn base64_is_read_back_and_nothing_else_is() {
        for bytes in (0..40_u8).map(|size| (0..size).map(|k| k.wrapping_mul(83) ^ size).collect::<Vec<u8>>())
        {
            assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
        }
        for text in ["Z", "Zg", "Zg=", "Zh==", "Zm9v=", "Zm9vYg", "Zm9 ", "====", "Zg==Zg=="] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }

    #[test]
    fn base64_matches_the_vectors_of_the_rfc() {
        let shown: Vec<_> =
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes())).into();
        assert_eq!(shown, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
