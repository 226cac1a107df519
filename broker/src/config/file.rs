//! The configuration file: TOML in, and the one with all defaults out.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Origin, Problem, SETTINGS, Setting, Value, similar};

/// Larger is no configuration file.
const SIZE_MAX: u64 = 1 << 20;

/// Reads a file; what it gives and what is wrong with it is added.
pub(super) fn read(path: &Path, given: &mut Vec<Value>, problems: &mut Vec<Problem>) {
    let size = std::fs::metadata(path).map(|metadata| metadata.len());
    let text = match size {
        Ok(size) if size > SIZE_MAX => Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge)),
        Ok(_) => std::fs::read_to_string(path),
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => parse(&text, path, given, problems),
        Err(error) => problems.push(Problem::new(format!("{}: {error}", path.display()))),
    }
}

fn parse(text: &str, path: &Path, given: &mut Vec<Value>, problems: &mut Vec<Problem>) {
    let line = |offset: usize| text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
    match DeTable::parse(text) {
        Ok(table) => {
            let mut leaves = Vec::new();
            flatten("", table.get_ref(), &mut leaves);
            leaves.sort_by_key(|leaf| leaf.1.span().start);
            for (key, value) in leaves {
                let origin = Origin::File(path.to_owned(), line(value.span().start));
                take(&key, value.get_ref(), origin, given, problems);
            }
        }
        Err(error) => {
            let line = error.span().map(|span| format!(" line {}", line(span.start))).unwrap_or_default();
            problems.push(Problem::new(format!("{}{line}: {}", path.display(), error.message())));
        }
    }
}

fn flatten<'a>(prefix: &str, table: &'a DeTable<'_>, leaves: &mut Vec<(String, &'a Spanned<DeValue<'a>>)>) {
    for (name, value) in table.iter() {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        match value.get_ref() {
            DeValue::Table(table) => flatten(&key, table, leaves),
            _ => leaves.push((key, value)),
        }
    }
}

fn take(key: &str, value: &DeValue<'_>, origin: Origin, given: &mut Vec<Value>, problems: &mut Vec<Problem>) {
    let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
        let problem = Problem::new(format!("{key:?} ({origin}) is no setting"));
        let similar = similar(key, SETTINGS.iter().map(|setting| setting.key.to_owned()));
        problems.push(match similar {
            Some(similar) => problem.hint(format!("did you mean {similar}?")),
            None => problem.hint("queued config default lists them"),
        });
        return;
    };
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        _ => {
            problems.push(Problem::new(format!("{key} ({origin}) must be {}", setting.shape())));
            return;
        }
    };
    given.push(Value { setting, text, origin });
}

/// A file with every setting, commented out at its default.
pub fn default_file() -> String {
    let mut text = String::from("# Settings of queued. What begins with # is the default.\n");
    let mut section = "";
    for setting in SETTINGS {
        let (of, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if of != section {
            text.push_str(&format!("\n[{of}]\n"));
            section = of;
        }
        for line in setting.doc.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("#{name} = {}\n", in_toml(setting, setting.default)));
    }
    text
}

/// A value as the file has it.
pub fn in_toml(setting: &Setting, text: &str) -> String {
    if setting.is_bare() { text.to_owned() } else { format!("\"{}\"", text.escape_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let (mut given, mut problems) = (Vec::new(), Vec::new());
        parse(text, Path::new("q.toml"), &mut given, &mut problems);
        let given = given.into_iter().map(|value| (value.setting.key.to_owned(), value.text)).collect();
        let show = |problem: Problem| format!("{} | {}", problem.what, problem.hint.unwrap_or_default());
        (given, problems.into_iter().map(show).collect())
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_line_and_the_similar_key() {
        let (given, problems) =
            parsed("[listen]\nadress = \"127.0.0.1:1\"\n[raft]\nheartbeat = \"1s\"\n\n[zzz]\nq = 1\n");
        assert_eq!(given, [("raft.heartbeat".to_owned(), "1s".to_owned())]);
        assert_eq!(
            problems,
            [
                "\"listen.adress\" (q.toml line 2) is no setting | did you mean listen.address?",
                "\"zzz.q\" (q.toml line 7) is no setting | queued config default lists them",
            ]
        );
    }

    #[test]
    fn what_is_no_toml_or_no_value_is_told_with_its_line() {
        let (_, problems) = parsed("insecure = true\n[raft\n");
        assert!(problems[0].starts_with("q.toml line 2: "), "{problems:?}");
        let (_, problems) = parsed("insecure = [true]\nraft.snapshot_every = 1.5\n");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("insecure (q.toml line 1) must be "), "{problems:?}");
        let (_, problems) = parsed("insecure = true\ninsecure = true\n");
        assert!(problems[0].starts_with("q.toml line 2: duplicate key"), "{problems:?}");
    }

    #[test]
    fn the_file_of_defaults_is_valid_as_it_is_and_with_every_comment_taken_off() {
        let text = default_file();
        let (given, problems) = parsed(&text);
        assert!(given.is_empty() && problems.is_empty());
        let all: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(value) if !value.starts_with(' ') => format!("{value}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let (given, problems) = parsed(&all);
        assert_eq!(problems, Vec::<String>::new());
        let expected: Vec<_> =
            SETTINGS.iter().map(|setting| (setting.key.to_owned(), setting.default.to_owned())).collect();
        assert_eq!(given, expected);
    }
}
