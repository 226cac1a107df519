//! How many files of the product a request or a setting is spelled out in, and that README's recipes name them.

use std::collections::BTreeSet;

use super::product;
use super::source::{Source, tree};

/// One of its kind, by which the others are made.
struct Example {
    /// What the recipe in README begins with.
    recipe: &'static str,
    /// Code that names it.
    names: &'static [&'static str],
    /// Files that may.
    files_max: usize,
}

const EXAMPLES: &[Example] = &[
    Example {
        recipe: "**A replicated command**",
        names: &["WeighGroup", "Weighed", "weigh_group"],
        files_max: 8,
    },
    Example {
        recipe: "**A read**",
        names: &[
            "struct History",
            "history::History",
            "ask::History",
            "Request::History",
            "ReadRequest::History",
            "Answer::History",
        ],
        files_max: 6,
    },
    Example { recipe: "**A setting of queues**", names: &["dedup_window_ms"], files_max: 4 },
];

/// Product files whose code has one of these, as whole words.
fn naming(sources: &[Source], names: &[&str]) -> BTreeSet<String> {
    let is_word = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
    let has = |code: &str, name: &str| {
        code.match_indices(name).any(|(at, _)| {
            let (before, after) = (code.as_bytes()[..at].last(), code.as_bytes().get(at + name.len()));
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    let places = ["protocol/src", "protocol/json/src", "broker/src", "cli/src"];
    let files = places.iter().flat_map(|place| product(sources, place));
    // What the state is compared with, by tests of this package and of others.
    let files = files.filter(|file| !file.is_in("broker/src/queue/model"));
    let named = files.filter(|file| {
        let code = &file.code()[..file.product_end().min(file.code().len())];
        names.iter().any(|name| has(code, name))
    });
    named.map(|file| file.path.clone()).collect()
}

/// The files that a paragraph of README names.
fn listed(readme: &str, recipe: &str) -> BTreeSet<String> {
    let at = readme.find(recipe).unwrap_or_else(|| panic!("README has no recipe {recipe}"));
    let paragraph = readme[at..].split("\n\n").next().expect("it ends");
    let words = paragraph.split('`').skip(1).step_by(2);
    words.filter(|word| word.ends_with(".rs") && word.contains("/src/")).map(str::to_owned).collect()
}

#[test]
fn a_request_is_one_row_and_few_files_name_it() {
    let plant = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
    let planted = [
        plant("broker/src/a.rs", "fn f() { WeighGroup }"),
        plant("broker/src/b.rs", "// WeighGroup\nfn f() { NoWeighGroup; WeighGroups; \"WeighGroup\" }"),
        plant("broker/src/c.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    WeighGroup\n}"),
        plant("cli/tests/d.rs", "fn f() { WeighGroup }"),
    ];
    assert_eq!(naming(&planted, &["WeighGroup"]), BTreeSet::from(["broker/src/a.rs".to_owned()]));

    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("README");
    for Example { recipe, names, files_max } in EXAMPLES {
        let naming = naming(tree(), names);
        assert!(naming.len() <= *files_max, "{recipe}: {} files name it: {naming:#?}", naming.len());
        let listed = listed(&readme, recipe);
        let unsaid: Vec<_> = naming.difference(&listed).collect();
        assert!(unsaid.is_empty(), "{recipe} does not say {unsaid:?}");
    }
}
