//! The tables of PROTOCOL.md that the code knows: the rows of requests, ranges and defaults.
//!
//! `UPDATE_BOOK=1 cargo test --workspace --lib book` writes them anew.

use std::path::PathBuf;

use serde_json::Value;

use crate::error::ErrorCode;
use crate::limits as max;
use crate::settings::Settings;
use crate::wire::requests::{ANSWERS, At, Class, ROWS, Row, Tail};

fn book_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")
}

/// `CreateQueue` as `create queue`.
fn words(name: &str) -> String {
    let spaced = |at: usize, letter: char| {
        let space = if at > 0 && letter.is_ascii_uppercase() { " " } else { "" };
        format!("{space}{}", letter.to_ascii_lowercase())
    };
    name.char_indices().map(|(at, letter)| spaced(at, letter)).collect()
}

/// The rows of requests: which answer belongs to which, of which class it is, what the tails carry, who is asked.
fn answers_table() -> String {
    let mut table = "| request | answer | class | tail | asked of |\n|---|---|---|---|---|\n".to_owned();
    for (number, Row { name, answer, class, tail, at, .. }) in ROWS.iter().enumerate() {
        let number_of = |answer: &str| ANSWERS.iter().position(|other| *other == answer).expect("it is one");
        let answer = answer.map_or_else(
            || "none, only an error".to_owned(),
            |answer| format!("{} {}", number_of(answer), words(answer)),
        );
        let class = match class {
            Class::Change => "change",
            Class::Read => "read",
            Class::Wait => "wait",
            Class::Act => "act",
        };
        let tail = match tail {
            Tail::None => "none",
            Tail::ContentsIn => "contents, of the request",
            Tail::ContentsOut => "contents, of the answer",
        };
        let asked = match (at, class) {
            (At::Leader, _) => "the leader",
            (At::ByConsistency, _) => "the leader; `Stale`: any node",
            (At::Asked, "act") => "the node that it is about",
            (At::Asked, _) => "any node",
        };
        table += &format!("| {number} {} | {answer} | {class} | {tail} | {asked} |\n", words(name));
    }
    table
}

/// A number with commas.
fn shown(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

/// Ranges and defaults of the values in requests.
fn ranges_table() -> String {
    const REFUSED: &str = "`bad_request`";
    const UNREAD: &str = "`bad_frame`: it does not decode";
    let days = |ms: u64| format!("{} ({} d)", shown(ms), ms / 86_400_000);
    let to = |least: u64, most: u64| format!("{} to {}", shown(least), shown(most));
    let future = days(max::FUTURE_MS_MAX);
    let wait = format!("0 to the call's timeout_ms, at most {}", shown(max::WAIT_MS_MAX));
    let lease = format!("{} to {}", shown(max::LEASE_MS_MIN), shown(max::LEASE_MS_MAX));
    let grace = format!("{} to {}", shown(max::GRACE_MS_MIN), shown(max::GRACE_MS_MAX));
    let tail = max::TAIL_SIZE_MAX as u64;
    let rows: Vec<(&str, String, String, &str)> = vec![
        (
            "queue",
            format!("{} of A-Z a-z 0-9 . _ -", to(1, max::QUEUE_NAME_SIZE_MAX as u64)),
            "".into(),
            UNREAD,
        ),
        (
            "key, group, name of a schedule",
            format!("{} bytes of UTF-8", to(1, max::KEY_SIZE_MAX as u64)),
            "".into(),
            UNREAD,
        ),
        ("priority", to(0, max::PRIORITY_MAX.into()), max::PRIORITY_DEFAULT.to_string(), REFUSED),
        ("Due::AfterMs, delay_ms", format!("0 to {future}"), "Now; 0".into(), REFUSED),
        ("Due::AtMs", "any; a time that has passed is now".into(), "Now".into(), ""),
        ("ttl_ms of a message", format!("1 to {future}"), "the queue's".into(), REFUSED),
        (
            "messages of a push",
            to(1, max::PUSH_COUNT_MAX as u64),
            "".into(),
            "0: `bad_request`; more does not decode",
        ),
        ("contents of one request", to(0, tail), "".into(), "`bad_frame`"),
        (
            "body of a message",
            format!(
                "{} bytes; a node may allow up to {}",
                to(0, max::BODY_SIZE_MAX as u64),
                shown(max::BODY_SIZE_CEILING as u64)
            ),
            "".into(),
            "`message_too_big`",
        ),
        (
            "headers of a message",
            format!(
                "{}, {} bytes encoded",
                to(0, max::HEADERS_COUNT_MAX as u64),
                shown(max::HEADERS_SIZE_MAX as u64)
            ),
            "none".into(),
            "`content_corrupt`",
        ),
        (
            "queues of a lease",
            format!("{}, none twice", to(1, max::LEASE_QUEUES_MAX as u64)),
            "".into(),
            "0: `bad_request`; more does not decode",
        ),
        ("max_messages of a lease or pop", to(1, max::LEASE_COUNT_MAX as u64), "".into(), REFUSED),
        ("max_messages of a peek", to(1, max::LEASE_COUNT_MAX as u64), "".into(), "cut to this range"),
        (
            "max_bytes of a lease, pop or peek",
            to(1, tail),
            "".into(),
            "cut to this range; one message is given however large",
        ),
        ("lease_ms", lease, "a lease: the queue's; an extend has none".into(), REFUSED),
        ("wait_ms, linger_ms", wait, "0: answered at once".into(), "cut to this range, silently"),
        ("grace_ms", grace, "none: unbound".into(), REFUSED),
        ("receipts, ids", to(0, max::RECEIPTS_COUNT_MAX as u64), "".into(), UNREAD),
        ("error, reason", to(0, max::ERROR_TEXT_SIZE_MAX as u64) + " bytes", "".into(), UNREAD),
        ("checkpoint", to(0, max::CHECKPOINT_SIZE_MAX as u64) + " bytes", "".into(), UNREAD),
        ("limit of a sweep", "1 or more".into(), "".into(), REFUSED),
        ("weight of a group", to(1, max::GROUP_WEIGHT_MAX.into()), "none: the queue's".into(), REFUSED),
        ("Every", format!("{} to {future}", shown(max::EVERY_MS_MIN)), "".into(), REFUSED),
        ("CatchUp", to(1, max::CATCH_UP_MAX.into()), "".into(), REFUSED),
        ("conditions, steps of a txn", to(0, max::TXN_COUNT_MAX as u64), "".into(), UNREAD),
        ("messages, receipts and ids of a txn", to(0, max::TXN_ITEMS_MAX as u64), "".into(), REFUSED),
        (
            "number − done_below of a stamp",
            to(0, max::SESSION_NUMBERS_MAX - 1),
            "".into(),
            "`session_full`; below 0: `bad_request`",
        ),
    ];
    let mut table = "| value | range | default | beyond it |\n|---|---|---|---|\n".to_owned();
    for (value, range, default, beyond) in rows {
        table += &format!("| {value} | {range} | {default} | {beyond} |\n").replace("|  |", "| |");
    }
    table
}

/// Every code of an error.
fn codes_table() -> String {
    let row = |code: &ErrorCode| {
        format!("| {} | {} | {} | {} |\n", code.number(), code.as_str(), code.retry(), code.meaning())
    };
    let rows: String = ErrorCode::ALL.iter().map(row).collect();
    format!("| code | text | retry | meaning |\n|---|---|---|---|\n{rows}")
}

/// What a cluster holds at most.
fn cluster_table() -> String {
    let minutes = max::SESSION_IDLE_MS / 60_000;
    let rows = [
        ("queues", shown(max::QUEUES_MAX as u64), "`queue_limit`"),
        ("schedules", shown(max::SCHEDULES_MAX as u64), "`schedule_limit`"),
        (
            "sessions",
            shown(max::SESSIONS_MAX as u64),
            "the one unused for longest gives way, else `session_limit`",
        ),
        ("minutes that an unused session without leases is kept", shown(minutes), "it is forgotten"),
        ("dedup keys that one queue remembers", shown(max::DEDUP_KEYS_MAX as u64), "`dedup_full`"),
        (
            "groups of one queue with a weight of their own",
            shown(max::GROUP_WEIGHTS_MAX as u64),
            "`group_limit`",
        ),
        (
            "queues that a dead message can go through by `dead_to`",
            max::DEAD_HOPS_MAX.to_string(),
            "`dead_to_cycle`",
        ),
        ("events kept of a message", max::HISTORY_COUNT_MAX.to_string(), "the oldest goes"),
        (
            "bytes of answers kept for a session",
            shown(max::SESSION_ANSWERS_SIZE_MAX as u64),
            "`session_full`",
        ),
        ("bytes of contents that these answers name", shown(max::SESSION_BODIES_SIZE_MAX), "`session_full`"),
    ];
    let mut table = "| what | at most | beyond it |\n|---|---|---|\n".to_owned();
    for (what, most, beyond) in rows {
        table += &format!("| {what} | {most} | {beyond} |\n");
    }
    table
}

#[test]
fn the_tables_of_the_book_are_those_of_the_code() {
    let mut book = std::fs::read_to_string(book_path()).expect("there is a book");
    let update = std::env::var_os("UPDATE_BOOK").is_some();
    for (name, table) in [
        ("answers", answers_table()),
        ("ranges", ranges_table()),
        ("codes", codes_table()),
        ("cluster", cluster_table()),
    ] {
        let (begin, end) = (format!("<!-- table: {name} -->\n"), "\n<!-- end -->");
        let at = book.find(&begin).unwrap_or_else(|| panic!("no place for the table {name}")) + begin.len();
        let size = book[at..].find(end).expect("the table ends");
        if update {
            book.replace_range(at..at + size, &format!("\n{table}"));
        } else {
            assert_eq!(book[at..at + size].trim(), table.trim(), "{name}: UPDATE_BOOK=1 writes it anew");
        }
    }
    if update {
        std::fs::write(book_path(), book).expect("it is ours");
    }
}

#[test]
fn the_book_has_every_setting_of_a_queue_in_its_order_with_its_default() {
    let book = std::fs::read_to_string(book_path()).expect("there is a book");
    let (_, table) = book.split_once("| field | type | default | meaning |").expect("the table of settings");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    let defaults = serde_json::to_string(&Settings::default()).expect("it encodes");
    let of: Value = serde_json::from_str(&defaults).expect("it is JSON");
    let mut fields: Vec<&String> = of.as_object().expect("an object").keys().collect();
    fields.sort_by_key(|field| defaults.find(&format!("\"{field}\":")));
    assert_eq!(names, fields);
    for row in &rows {
        let default = match &of[row[1]] {
            Value::Number(zero) if zero.as_u64() == Some(0) => "none".to_owned(),
            Value::Null => "none".to_owned(),
            Value::Number(number) => shown(number.as_u64().expect("they are whole")),
            Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        assert_eq!(row[3], default, "default of {}", row[1]);
    }
}

#[test]
fn a_varint_may_be_longer_than_it_must_but_not_longer_than_its_type() {
    assert_eq!(postcard::from_bytes::<u64>(&[0x80, 0x80, 0x00]), Ok(0));
    assert_eq!(postcard::from_bytes::<u16>(&[0x81, 0x80, 0x00]), Ok(1));
    assert!(postcard::from_bytes::<u16>(&[0x81, 0x80, 0x80, 0x00]).is_err(), "a u16 has at most 3 bytes");
    assert!(postcard::from_bytes::<u16>(&[0xff, 0xff, 0x07]).is_err(), "it does not fit");
    let mut longest = [0x80; 10];
    longest[9] = 0x01;
    assert_eq!(postcard::from_bytes::<u64>(&longest), Ok(1 << 63));
    longest[9] = 0x02;
    assert!(postcard::from_bytes::<u64>(&longest).is_err());
}
