//! What is promised has a test by name: features and promises of the README, and each error code.

use queue_protocol::error::ErrorCode;

use crate::source::tree;

/// Whether `code` has a test of that name.
fn is_test(name: &str, code: &str) -> bool {
    let mut lines = code.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let function = lines.peek().and_then(|line| line.trim_start_matches("async ").strip_prefix("fn "));
        let is_named = function.and_then(|rest| rest.strip_prefix(name)).is_some_and(|r| r.starts_with('('));
        if line.starts_with("#[") && line.contains("test") && is_named {
            return true;
        }
    }
    false
}

fn proofs(csv: &str) -> Vec<(String, String)> {
    let split = |line: &str| {
        line.rsplit_once(',').map(|(what, test)| (what.trim_matches('"').to_owned(), test.to_owned()))
    };
    csv.lines().skip(1).filter_map(split).collect()
}

/// What is promised and what the table of proofs at `path` names are the same, in the same order, and its tests exist.
fn is_proved(promised: &[String], path: &str) {
    let csv = tree().iter().find(|source| source.is_in(path)).expect("it is there");
    let proofs = proofs(&csv.text);
    let proved: Vec<&str> = proofs.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(promised, proved, "{path} names what is promised, in the same order");
    let missing: Vec<_> = proofs
        .iter()
        .filter(|(_, name)| !tree().iter().any(|source| source.is_rust() && is_test(name, &source.text)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn proofs_are_told_from_what_looks_like_them() {
    let named = proofs("feature,test\n\"a\",one\n\"b, c\",two\n");
    assert_eq!(named, [("a", "one"), ("b, c", "two")].map(|(f, t)| (f.to_owned(), t.to_owned())));
    assert!(is_test("one", "    #[tokio::test(x)]\n    async fn one() {"));
    assert!(!is_test("one", "#[test]\nfn one_more() {") && !is_test("one", "fn one() {"));
}

#[test]
fn every_feature_of_the_readme_has_a_test_that_exists() {
    let features = |readme: &str| -> Vec<String> {
        let rows = readme.lines().skip_while(|line| *line != "| feature | command |").skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.split('|').nth(1).unwrap_or("").trim().to_owned()).collect()
    };
    assert_eq!(features("| feature | command |\n|---|---|\n| a | |\n| b, c | `c` |\n\n| d |"), ["a", "b, c"]);
    let readme = tree().iter().find(|source| source.is_in("README.md")).expect("it is there");
    let shown = features(&readme.text);
    assert!(shown.len() >= 20, "the table is not where it was looked for");
    is_proved(&shown, "tests/features.csv");
}

#[test]
fn every_promise_of_the_readme_has_a_test_that_exists() {
    let promises = |readme: &str| -> Vec<String> {
        let chapter = readme.lines().skip_while(|line| *line != "## Guarantees").skip(1);
        let chapter = chapter.take_while(|line| !line.starts_with("## "));
        let numbered = chapter.filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
        let bold = |line: &str| line.split("**").nth(1).map(|bold| bold.trim_end_matches('.').to_owned());
        numbered.filter_map(bold).collect()
    };
    assert_eq!(
        promises("1. **x**\n## Guarantees\n\n1. **A b**: c\n   d\n2. **E.** f\n\n## G\n3. **h**"),
        ["A b", "E"]
    );
    let readme = tree().iter().find(|source| source.is_in("README.md")).expect("it is there");
    let promised = promises(&readme.text);
    assert!(promised.len() >= 8, "the promises are not where they were looked for");
    is_proved(&promised, "tests/promises.csv");
}

#[test]
fn every_error_code_has_a_test_that_exists() {
    let codes: Vec<String> = ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    is_proved(&codes, "tests/errors.csv");
}
