//! Cuts a line into words as a shell does: quotes, backslashes, and what follows a bare `|`.

/// A line that was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// The command.
    pub(crate) words: Vec<String>,
    /// What its output is piped into, for a shell to read.
    pub(crate) pipe: Option<String>,
}

/// The line goes on: a quote is open or it ends with a backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished;

/// Cuts `line`. Single quotes keep everything; in double quotes a backslash keeps `"`, `\`, `$` and the grave
/// accent; outside it keeps anything, and joins lines. `#` begins a comment only where a word could begin and a
/// space follows or the line begins with it, so that `ack #1` needs no quotes.
///
/// # Errors
/// [`Unfinished`] if more input is needed.
pub(crate) fn split(line: &str) -> Result<Words, Unfinished> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(Unfinished)?.1 {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(Unfinished)?.1 {
                        '"' => break,
                        '\\' => match chars.next().ok_or(Unfinished)?.1 {
                            '\n' => {}
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match chars.next().ok_or(Unfinished)?.1 {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            '|' => {
                words.extend(word);
                let pipe = line[at + 1..].trim().to_owned();
                return Ok(Words { words, pipe: Some(pipe) });
            }
            '#' if word.is_none()
                && (words.is_empty() || chars.peek().is_none_or(|(_, next)| next.is_whitespace())) =>
            {
                // The comment ends with its line.
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(Words { words, pipe: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap().words
    }

    #[test]
    fn quotes_and_backslashes_are_those_of_a_shell() {
        assert_eq!(words(r#"push jobs "resize 31.png""#), ["push", "jobs", "resize 31.png"]);
        assert_eq!(words(r"push jobs 'a\b' c\ d"), ["push", "jobs", r"a\b", "c d"]);
        assert_eq!(words(r#"push jobs "a\"b\n" "" ''"#), ["push", "jobs", r#"a"b\n"#, "", ""]);
        assert_eq!(words(r#"a"b"'c'd"#), ["abcd"]);
        assert_eq!(words("  "), [""; 0]);
        assert_eq!(words("push \\\n jobs"), ["push", "jobs"]);
        assert_eq!(words("push 'two\nlines'"), ["push", "two\nlines"]);
    }

    #[test]
    fn what_is_open_asks_for_more() {
        for line in ["push 'a", "push \"a", "push a\\", "push \"a\\"] {
            assert_eq!(split(line), Err(Unfinished), "{line}");
        }
    }

    #[test]
    fn comments_are_not_taken_for_short_receipts() {
        assert_eq!(words("# a comment"), [""; 0]);
        assert_eq!(words("#comment"), [""; 0]);
        assert_eq!(words("ack #1 #2"), ["ack", "#1", "#2"]);
        assert_eq!(words("push jobs x # why"), ["push", "jobs", "x"]);
        assert_eq!(words("push jobs a#b '#'"), ["push", "jobs", "a#b", "#"]);
    }

    #[test]
    fn a_bare_bar_begins_a_pipe() {
        let piped = split("peek jobs -n 100 | jq -r '.type | x'").unwrap();
        assert_eq!(piped.words, ["peek", "jobs", "-n", "100"]);
        assert_eq!(piped.pipe.as_deref(), Some("jq -r '.type | x'"));
        assert_eq!(split("push jobs 'a|b' c\\|d").unwrap().pipe, None);
    }
}
