//! The source as the rules see it: code without comments and literals, as tokens, and as the paths it names.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

/// A text file of the tree, with `/` in its path whatever the system.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    code: OnceLock<String>,
    paths: OnceLock<Vec<(usize, String)>>,
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Self {
        Self { path, text, code: OnceLock::new(), paths: OnceLock::new() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// In `dir`, or the file itself.
    pub(crate) fn is_in(&self, place: &str) -> bool {
        let rest = self.path.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
    }

    /// The code without comments and literals, line for line.
    pub(crate) fn code(&self) -> &str {
        self.code.get_or_init(|| if self.is_rust() { blanked(&self.text) } else { String::new() })
    }

    /// Every path that the code names, with its offset.
    pub(crate) fn paths(&self) -> &[(usize, String)] {
        self.paths.get_or_init(|| paths(self.code()))
    }

    /// Where the unit tests begin, which end the file.
    pub(crate) fn product_end(&self) -> usize {
        let code = self.code();
        code.find("\n#[cfg(test)]\nmod tests {").unwrap_or(code.len())
    }

    pub(crate) fn at(&self, offset: usize, what: impl std::fmt::Display) -> String {
        let line = self.text[..offset.min(self.text.len())].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

/// Rust with comments and the insides of literals replaced by blanks; offsets stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut blank = |range: Range<usize>| {
        for byte in &mut out[range] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let before = text[..at].trim_end_matches('b').as_bytes().last();
        let in_word = before.is_some_and(|byte| is_word(*byte));
        let hashes = rest.iter().skip(1).take_while(|byte| **byte == b'#').count();
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + block_comment(rest)
        } else if rest[0] == b'r' && !in_word && rest.get(1 + hashes) == Some(&b'"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = at + hashes + 2;
            text[start..].find(&close).map_or(bytes.len(), |size| start + size + close.len())
        } else if rest[0] == b'"' {
            at + quoted(rest, b'"')
        } else if rest[0] == b'\'' && is_character(&text[at + 1..]) {
            at + quoted(rest, b'\'')
        } else {
            at += 1;
            continue;
        };
        blank(at..end);
        at = end;
    }
    String::from_utf8(out).expect("whole characters were replaced")
}

/// What follows a quote is a character and the closing quote, no lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next().is_some_and(|c| c == '\\' || chars.next() == Some('\''))
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Size of the literal that `rest` begins with.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Words and `::`, braces, commas and other signs, with their offsets.
pub(crate) fn tokens(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let size = if is_word(bytes[at]) {
            bytes[at..].iter().take_while(|byte| is_word(**byte)).count()
        } else if bytes[at..].starts_with(b"::") {
            2
        } else {
            code[at..].chars().next().map_or(1, char::len_utf8)
        };
        if !bytes[at].is_ascii_whitespace() {
            found.push((at, &code[at..at + size]));
        }
        at += size;
    }
    found
}

/// Every path that the code names, `use` trees multiplied out: `std::{fs, io::Read}` is `std::fs` and `std::io::Read`.
/// A single word counts as a path.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut path = String::new();
    let mut start = 0;
    let mut joined = false;
    for (at, token) in tokens(code) {
        let continues = joined || path.is_empty();
        joined = token == "::";
        if joined {
            continue;
        }
        let word = is_word(token.as_bytes()[0]);
        if word && continues {
            if path.is_empty() {
                start = at;
                path = prefixes.last().cloned().unwrap_or_default();
            }
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(token);
            continue;
        }
        if token == "{" {
            // Behind `::` this is a `use` tree, else a block: an empty prefix keeps the two apart.
            let tree = continues && !path.is_empty();
            prefixes.push(if tree { std::mem::take(&mut path) } else { String::new() });
        }
        if !path.is_empty() {
            found.push((start, std::mem::take(&mut path)));
        }
        if token == "}" {
            prefixes.pop();
        }
        if word {
            (start, path) = (at, prefixes.last().cloned().unwrap_or_default());
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(token);
        }
    }
    if !path.is_empty() {
        found.push((start, path));
    }
    found
}

/// Whether `path` is `name` or below it; a name that ends in `*` is a beginning.
pub(crate) fn is_below(path: &str, name: &str) -> bool {
    match name.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")),
    }
}

/// The texts of the repository, build output and hidden folders but `.ci` and `.cargo` left out.
pub(crate) fn tree() -> &'static [Source] {
    static TREE: OnceLock<Vec<Source>> = OnceLock::new();
    TREE.get_or_init(read_tree)
}

fn read_tree() -> Vec<Source> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<Source>) {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.collect::<BTreeSet<_>>() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let hidden = name.starts_with('.') && ![".ci", ".cargo"].contains(&name);
            if path.is_dir() && !hidden && name != "target" {
                walk(root, &path, found);
            } else if path.is_file() && name != "LICENSE" {
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source::new(path, text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for place in ["protocol", "broker", "cli", "tests", "benches", ".ci", ".cargo"] {
        walk(root, &root.join(place), &mut found);
    }
    for name in ["Cargo.toml", "Cargo.lock", "README.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        found.push(Source::new(name.to_owned(), text));
    }
    assert!(found.len() > 100, "the tree is not where it was looked for");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_comments_and_literals() {
        let code = |text: &str| blanked(text).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(code(r##"a "b \" c" d r#"e " f"# g b"h" i br#"""# j"##), "a d g b i b j");
        assert_eq!(code(r"f('a', '\'', b'\\', &'a str, '…') 'b: loop"), "f( , , b , &'a str, ) 'b: loop");
        assert_eq!(blanked("\"a\nb\"").len(), 5);
    }

    #[test]
    fn use_trees_are_multiplied_out() {
        let paths = |text: &str| paths(text).into_iter().map(|(_, path)| path).collect::<Vec<_>>();
        assert_eq!(
            paths("use std::{fs, io::{self, Read}};"),
            ["use", "std::fs", "std::io::self", "std::io::Read"]
        );
        assert_eq!(paths("fn f(x: a::B) { c::d(); e }"), ["fn", "f", "x", "a::B", "c::d", "e"]);
        assert_eq!(
            paths("use {a::b, c};\nmod d { use e::f; }"),
            ["use", "a::b", "c", "mod", "d", "use", "e::f"]
        );
    }
}
