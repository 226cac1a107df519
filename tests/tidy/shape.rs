//! How large a function may be, which fields are seen from elsewhere, and what the replicated machine offers.

use super::source::{Source, tree};
use super::{Rule, holds, product};

/// Lines of a function of the product.
const FUNCTION_LINES_MAX: usize = 60;
/// Functions that are longer, and may not grow in number.
const LONG_FUNCTIONS: &[(&str, &str)] = &[
    // One arm for each error code.
    ("broker/src/http/answers.rs", "status_of"),
    ("broker/src/server/accept.rs", "greet"),
    // One arm for each error code.
    ("broker/src/server/answer.rs", "error"),
    ("broker/src/server/connection.rs", "run"),
    ("cli/src/failure/mod.rs", "of_error"),
    ("cli/src/messages/dead.rs", "each"),
    ("cli/src/send/tally.rs", "failure"),
    // In two pieces, as no path may look like one of the machine.
    (concat!("cli/src/take/wo", "rk/mod.rs"), "run"),
    ("cli/src/watch/bench/mod.rs", "measure"),
    ("cli/src/watch/top/mod.rs", "live"),
    ("protocol/src/client/book.rs", "ranges_table"),
];

/// Fields of the queue core that are seen outside of the file that declares them: the file, how many, and why.
const VISIBLE_FIELDS: &[(&str, usize, &str)] = &[
    ("broker/src/queue/apply.rs", 6, "the entry on its way into the state, which every command reads"),
    ("broker/src/queue/catalog.rs", 4, "what a change of a queue came to, handed on at once"),
    ("broker/src/queue/clients/answers.rs", 2, "where an answer stands, and to what"),
    ("broker/src/queue/clients/sessions.rs", 5, "plain data of a session, as it is written"),
    ("broker/src/queue/due/schedules.rs", 1, "the body of a schedule, which keeps its entry alive"),
    ("broker/src/queue/messages/dead.rs", 7, "a message on its way to another queue"),
    ("broker/src/queue/messages/gone.rs", 1, "what the history tells of a message"),
    ("broker/src/queue/messages/message.rs", 23, "plain data of a message, as it is written"),
    ("broker/src/queue/messages/piece.rs", 6, "plain data of a run, as it is written"),
    ("broker/src/queue/nodes.rs", 3, "shared with the rotation of the secret"),
    (
        "broker/src/queue/queue.rs",
        26,
        "the parts of a queue, each with functions of its own, and plain counts",
    ),
    ("broker/src/queue/read/turnover.rs", 5, "plain counts"),
    ("broker/src/queue/waiting/groups.rs", 5, "plain counts of a group"),
    ("broker/src/queue/waiting/ready.rs", 1, "the groups, which have functions of their own"),
];

/// Lines of the product code, with their numbers from 0.
fn lines(source: &Source) -> Vec<&str> {
    source.code()[..source.product_end()].lines().collect()
}

/// Functions of a file: name, first line, lines.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let lines = lines(source);
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let mut words = line.split_whitespace().skip_while(|word| {
            word.starts_with("pub")
                || ["async", "const", "unsafe", "in", "crate::queue)", "crate::raft)"].contains(word)
        });
        if words.next() != Some("fn") {
            continue;
        }
        let name: String = words
            .next()
            .unwrap_or_default()
            .chars()
            .take_while(|c| *c == '_' || c.is_alphanumeric())
            .collect();
        let close = format!("{}}}", " ".repeat(indent));
        let ends = |line: &&str| **line == close;
        let is_open = |line: &str| {
            line.len() > indent && line[indent..].trim_end().ends_with(['{', '(', '[', ',', '<'])
        };
        if !is_open(line) {
            continue;
        }
        if let Some(size) = lines[first..].iter().position(ends) {
            found.push((name, first, size + 1));
        }
    }
    found
}

/// Fields of structs that are seen outside of their file.
fn visible_fields(source: &Source) -> usize {
    let is_field = |line: &&str| {
        let rest = line.trim_start();
        let rest = rest.strip_prefix("pub(super) ").or_else(|| rest.strip_prefix("pub(in crate::queue) "));
        let name = rest.and_then(|rest| rest.split_once(": ")).map(|(name, _)| name);
        line.starts_with("    ")
            && name.is_some_and(|name| {
                name.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
            })
    };
    lines(source).iter().filter(|line| is_field(line)).count()
}

#[test]
fn functions_are_short() {
    let rule: Rule = |sources| {
        let all = ["broker/src", "protocol/src", "protocol/json/src", "cli/src"];
        let sources = all.iter().flat_map(|place| product(sources, place)).filter(|source| source.is_rust());
        // The model is for tests, and is read against the rules one by one.
        let sources = sources.filter(|source| !source.is_in("broker/src/queue/model"));
        let long = |source: &Source| {
            let is_long = |(name, _, size): &(String, usize, usize)| {
                let is_listed = LONG_FUNCTIONS.contains(&(source.path.as_str(), name.as_str()));
                *size > FUNCTION_LINES_MAX && !is_listed
            };
            let what =
                |(name, first, size)| format!("{}:{}: `{name}` has {size} lines", source.path, first + 1);
            functions(source).into_iter().filter(is_long).map(what).collect::<Vec<_>>()
        };
        sources.flat_map(long).collect()
    };
    for (path, name) in LONG_FUNCTIONS {
        let source = tree().iter().find(|source| source.path == *path);
        let found = functions(source.unwrap_or_else(|| panic!("{path} is gone")));
        let is_long = found.iter().any(|(found, _, size)| found == name && *size > FUNCTION_LINES_MAX);
        assert!(is_long, "{path}: `{name}` is as short as any other");
    }
    let body = |lines: usize| {
        format!("//! X.\n\npub(super) async fn f(\n    a: u8,\n) {{\n{}}}\n", "    g();\n".repeat(lines))
    };
    let (long, fine) = (body(57), body(56));
    holds(rule, &[("broker/src/x.rs", &long)], &[("broker/src/x.rs", &fine), ("tests/x.rs", &long)]);
}

#[test]
fn parts_of_the_state_are_changed_through_their_functions() {
    let rule: Rule = |sources| {
        let counted =
            product(sources, "broker/src/queue").filter(|source| !source.is_in("broker/src/queue/model"));
        let wrong = |source: &Source| {
            let listed = VISIBLE_FIELDS
                .iter()
                .find(|(path, ..)| *path == source.path)
                .map_or(0, |(_, count, _)| *count);
            let count = visible_fields(source);
            (count != listed)
                .then(|| source.at(0, format!("{count} fields are visible outside, {listed} are listed")))
        };
        counted.filter_map(wrong).collect()
    };
    let fields =
        |visibility: &str| format!("//! X.\n\npub struct State {{\n    {visibility}level: u32,\n}}\n");
    let (seen, wide, own) = (fields("pub(super) "), fields("pub(in crate::queue) "), fields(""));
    let path = "broker/src/queue/state.rs";
    holds(rule, &[(path, &seen), (path, &wide)], &[(path, &own)]);
}

#[test]
fn the_replicated_machine_offers_what_is_asked_of_it() {
    let rule: Rule = |sources| {
        let is_inside = |source: &&Source| source.is_in("broker/src/raft");
        let asked: Vec<&Source> =
            product(sources, "broker/src").filter(|source| !is_inside(source)).collect();
        let offered = |source: &Source| {
            let code = lines(source).join("\n");
            let blocks = code.split("\nimpl Consensus {\n").skip(1);
            let blocks = blocks.map(|block| block.split("\n}\n").next().unwrap_or_default().to_owned());
            let names = |block: String| {
                let found = block.split("\n    pub(crate) ").skip(1).filter_map(|rest| {
                    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
                    Some(rest.chars().take_while(|c| *c == '_' || c.is_alphanumeric()).collect::<String>())
                });
                found.collect::<Vec<_>>()
            };
            blocks.map(|block| format!("\n{block}")).flat_map(names).collect::<Vec<_>>()
        };
        let is_asked = |name: &String| {
            let calls = [format!(".{name}("), format!("::{name}(")];
            asked.iter().any(|source| calls.iter().any(|call| source.code().contains(call)))
        };
        let raft = product(sources, "broker/src/raft");
        let idle = |source: &Source| {
            let unasked = offered(source).into_iter().filter(|name| !is_asked(name));
            unasked
                .map(|name| source.at(0, format!("nobody asks the machine for `{name}`")))
                .collect::<Vec<_>>()
        };
        raft.flat_map(idle).collect()
    };
    let offer = "//! X.\n\nimpl Consensus {\n    pub(crate) fn floors(&self) -> u8 {\n        1\n    }\n}\n";
    let inside = offer.replace("pub(crate)", "pub(in crate::raft)");
    holds(rule, &[("broker/src/raft/x.rs", offer)], &[("broker/src/raft/x.rs", &inside)]);
}
