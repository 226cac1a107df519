//! What the source must look like where no compiler and no lint sees to it: who may name whom, what the pure core
//! may not touch, what is written once. Every rule is tried on a text that breaks it before it is tried on the tree.

use std::collections::BTreeSet;

#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/proofs.rs"]
mod proofs;
#[path = "tidy/recipes.rs"]
mod recipes;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, is_below, tokens, tree};

/// Lines of a file; a longer one has a second noun in it.
const LINES_MAX: usize = 500;
/// Files that may be longer, and why.
const LONG: &[(&str, usize, &str)] = &[
    ("broker/src/fs/sim/tests.rs", 600, "one story per fault of the simulated disk"),
    ("protocol/tests/client/requests.rs", 750, "one story per way a request can go, on one scripted server"),
    ("protocol/tests/vectors/samples.rs", 760, "a sample of every message"),
    ("tests/harness/cluster.rs", 540, "what a test may do to a cluster, in one place"),
];

/// Files that are read or written for the user, not for the store: they need no simulated disk.
const USER_FILES: &[&str] = &[
    "broker/src/main.rs",
    "broker/src/config",
    "broker/src/commands",
    "broker/src/dev",
    "broker/src/logging",
    "broker/src/tls",
    // What the system says of the process: it is under /proc.
    "broker/src/http/machine.rs",
];

/// The parts of the protocol that are sans I/O.
const WIRE: &[&str] = &[
    "bounded",
    "checkpoint",
    "clients",
    "codec",
    "content",
    "credentials",
    "cursor",
    "error",
    "frame",
    "gather",
    "group",
    "health",
    "hello",
    "history",
    "level",
    "limits",
    "membership",
    "names",
    "opening",
    "peer",
    "request",
    "requests",
    "response",
    "schedule",
    "security",
    "stages",
    "txn",
];

/// Which part of a file is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Product,
}

/// Where a part of `source` names one of `names`, `except` some.
fn named(source: &Source, part: Part, names: &[&str], except: &[&str]) -> Vec<String> {
    let end = if part == Part::Product { source.product_end() } else { usize::MAX };
    let forbidden = |path: &str| {
        names.iter().any(|name| is_below(path, name)) && !except.iter().any(|name| is_below(path, name))
    };
    // `crate` alone is a visibility.
    let found = source.paths().iter().filter(|(at, path)| *at < end && path != "crate" && forbidden(path));
    found.map(|(at, path)| source.at(*at, format!("names `{path}`"))).collect()
}

/// Files that only tests see: those of test packages, and modules declared under `#[cfg(test)]`.
fn test_places(sources: &[Source]) -> BTreeSet<String> {
    let mut places: BTreeSet<String> =
        ["tests", "benches", "cli/tests", "protocol/tests", "broker/tests"].map(str::to_owned).into();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let dir = source.path.trim_end_matches(".rs");
        let dir = ["/mod", "/lib", "/main"].iter().find_map(|end| dir.strip_suffix(end)).unwrap_or(dir);
        for declared in source.code().split("#[cfg(test)]\nmod ").skip(1) {
            let name: String =
                declared.chars().take_while(|c| *c == '_' || c.is_ascii_alphanumeric()).collect();
            if declared[name.len()..].starts_with(';') {
                places.insert(format!("{dir}/{name}"));
            }
        }
    }
    places
}

/// Files in one place that are not for tests alone.
fn product<'a>(sources: &'a [Source], place: &str) -> impl Iterator<Item = &'a Source> {
    let tests = test_places(sources);
    let is_product = move |source: &&Source| !tests.iter().any(|test| source.is_in(test));
    sources.iter().filter(move |source| source.is_in(place)).filter(is_product)
}

/// Where product code in one place names one of `names`, `except` some.
fn product_in(sources: &[Source], place: &str, names: &[&str], except: &[&str]) -> Vec<String> {
    product(sources, place).flat_map(|source| named(source, Part::Product, names, except)).collect()
}

type Rule = fn(&[Source]) -> Vec<String>;

/// Tries `rule` on texts that break it, on texts that do not, then on the tree.
fn holds(rule: Rule, broken: &[(&str, &str)], kept: &[(&str, &str)]) {
    let try_on = |(path, text): &(&str, &str)| rule(&[Source::new((*path).to_owned(), (*text).to_owned())]);
    for plant in broken {
        assert!(!try_on(plant).is_empty(), "the rule does not see {plant:?}");
    }
    for plant in kept {
        assert_eq!(try_on(plant), Vec::<String>::new(), "the rule sees too much in {plant:?}");
    }
    let found = rule(tree());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn only_raft_names_openraft() {
    let rule: Rule = |sources| {
        let elsewhere = sources.iter().filter(|source| !source.is_in("broker/src/raft"));
        elsewhere.flat_map(|source| named(source, Part::All, &["openraft*"], &[])).collect()
    };
    let broken = [
        ("broker/src/log/x.rs", "use openraft::Raft;"),
        ("tests/x.rs", "fn f() { openraft_rt::g() }"),
        ("broker/src/main.rs", "use {openraft as o, std::io};"),
    ];
    let kept = [
        ("broker/src/raft/x.rs", "use openraft::Raft;"),
        ("broker/src/log/x.rs", "// for openraft\nconst X: &str = \"openraft\";"),
    ];
    holds(rule, &broken, &kept);
}

#[test]
fn only_the_rooms_of_tls_name_rustls() {
    const ROOMS: [&str; 4] =
        ["broker/src/tls", "protocol/src/client/tls", "protocol/tests", "tests/processes"];
    let rule: Rule = |sources| {
        let elsewhere = sources.iter().filter(|source| !ROOMS.iter().any(|room| source.is_in(room)));
        let tls = ["rustls*", "tokio_rustls*", "webpki*", "rcgen*"];
        elsewhere.flat_map(|source| named(source, Part::All, &tls, &[])).collect()
    };
    let broken = [("broker/src/raft/x.rs", "use rustls::X;"), ("cli/src/x.rs", "fn f() { rcgen::g() }")];
    holds(rule, &broken, &[("broker/src/tls/x.rs", "use rustls::ServerConfig;")]);
}

#[test]
fn the_queue_core_is_pure() {
    const OUTSIDE: &[&str] = &[
        "std::fs",
        "std::net",
        "std::thread",
        "std::time",
        "std::env",
        "std::process",
        "std::io",
        "std::sync::mpsc",
        "std::collections::HashMap",
        "std::collections::HashSet",
        "std::collections::hash_map",
        "std::hash::RandomState",
        "tokio*",
        "futures*",
        "rand*",
        "fastrand",
        "getrandom",
        "rustix",
        "libc",
        "async",
        "await",
        "crate",
        "tracing",
        "std::rc",
        "std::cell",
    ];
    let rule: Rule = |sources| product_in(sources, "broker/src/queue", OUTSIDE, &["crate::queue"]);
    let broken = [
        ("broker/src/queue/x.rs", "use std::{fmt, fs::File};"),
        ("broker/src/queue/x.rs", "use std::collections::{BTreeMap, HashMap};"),
        ("broker/src/queue/x.rs", "fn f() -> std::time::Duration { g() }"),
        ("broker/src/queue.rs", "async fn f() {}"),
        ("broker/src/queue/x.rs", "use crate::log::Log;"),
        ("broker/src/queue/deep/x.rs", "fn f() { rand::random() }"),
    ];
    let kept = [
        ("broker/src/queue/x.rs", "use std::collections::BTreeMap;\nuse super::state::State;"),
        ("broker/src/queue/x.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}\n"),
        ("broker/src/queues/x.rs", "use std::time::Duration;"),
    ];
    holds(rule, &broken, &kept);
}

#[test]
fn the_wire_is_sans_io() {
    const OUTSIDE: &[&str] =
        &["tokio", "futures*", "std::net", "std::fs", "std::thread", "std::time", "rand*", "async", "await"];
    let rule: Rule = |sources| {
        let outer = ["content", "error", "health", "limits", "names", "settings", "values"];
        let place = |name: &&str| {
            let room = if outer.contains(name) { "" } else { "wire/" };
            format!("protocol/src/{room}{name}")
        };
        let wire = WIRE.iter().map(place);
        wire.flat_map(|place| product_in(sources, &place, OUTSIDE, &[])).collect()
    };
    let broken = [
        ("protocol/src/wire/frame.rs", "use tokio::io::AsyncRead;"),
        ("protocol/src/wire/codec.rs", "async fn next() {}"),
        ("protocol/src/wire/peer.rs", "use std::net::SocketAddr;"),
    ];
    let kept = [
        ("protocol/src/wire/codec.rs", "use tokio_util::codec::Decoder;"),
        ("protocol/src/client/client.rs", "use std::time::Duration;"),
    ];
    holds(rule, &broken, &kept);
}

/// The floors of the broker and of the shell, as the top of each `lib.rs` lists them: where each is, and what it may name
/// of its crate.
fn floors() -> Vec<(String, Vec<String>)> {
    ["broker/src", "cli/src"].into_iter().flat_map(floors_of).collect()
}

fn floors_of(src: &str) -> Vec<(String, Vec<String>)> {
    let map = format!("{src}/lib.rs");
    let map = tree().iter().find(|source| source.path == map).expect("the map is there");
    let list = map.text.split_once("//! # Floors\n").and_then(|(_, rest)| rest.split_once("//! ```text\n"));
    let (list, _) = list.and_then(|(_, rest)| rest.split_once("//! ```\n")).expect("it lists the floors");
    let floor = |line: &str| {
        let mut names = line.trim_start_matches("//!").split_whitespace();
        let floor = names.next().expect("a line names a floor");
        let may = names.filter(|name| *name != "nothing");
        let may = std::iter::once(floor).chain(may).map(|name| format!("crate::{name}")).collect();
        (format!("{src}/{floor}"), may)
    };
    list.lines().map(floor).collect()
}

#[test]
fn every_floor_is_there() {
    let floors = floors();
    assert!(floors.len() >= 20, "{floors:?}");
    for (place, _) in floors {
        assert!(product(tree(), &place).next().is_some(), "{place} is no floor");
    }
}

#[test]
fn layers_do_not_call_upwards() {
    const LAYERS: &[(&str, &[&str], &[&str])] = &[
        ("protocol/src", &["queue_broker", "queuectl"], &[]),
        ("cli/src", &["queue_broker"], &[]),
        ("broker/src/node", &["queuectl"], &[]),
    ];
    let rule: Rule = |sources| {
        let layers = LAYERS.iter();
        let outside = layers.flat_map(|(place, names, except)| product_in(sources, place, names, except));
        let inside = floors().into_iter().flat_map(|(place, may)| {
            let may: Vec<&str> = may.iter().map(String::as_str).collect();
            product_in(sources, &place, &["crate"], &may)
        });
        outside.chain(inside).collect()
    };
    let broken = [
        ("broker/src/log/x.rs", "use crate::queue::State;"),
        ("broker/src/queue/x.rs", "use crate::log::Log;"),
        ("broker/src/server/x.rs", "use crate::log::{Log, LogError};"),
        ("broker/src/raft/x.rs", "fn f(_: crate::server::Server) {}"),
        ("broker/src/fs/os.rs", "use crate::outside::Fatal;"),
        ("cli/src/send/push.rs", "use queue_broker::node;"),
        ("cli/src/show/x.rs", "use crate::shell::Shell;"),
        ("cli/src/queues/x.rs", "use crate::messages::peek;"),
    ];
    let kept =
        [("broker/src/server/x.rs", "use crate::log::LogError;\nuse crate::{queue, raft::Consensus};")];
    holds(rule, &broken, &kept);
}

#[test]
fn the_disk_has_one_seam() {
    const OF_DISKS: &[&str] = &["std::fs", "rustix::fs", "rustix::io", "tokio::fs"];
    let rule: Rule = |sources| {
        let elsewhere = |source: &&Source| {
            let free = USER_FILES.iter().any(|place| source.is_in(place));
            !free && !source.is_in("broker/src/fs") && !source.is_in("broker/src/clock")
        };
        let broker = product(sources, "broker/src").filter(elsewhere);
        broker.flat_map(|s| named(s, Part::Product, OF_DISKS, &[])).collect()
    };
    let broken = [
        ("broker/src/log/x.rs", "use std::fs::File;"),
        ("broker/src/node/x.rs", "fn f() { rustix::fs::fsync(x) }"),
        ("broker/src/node/x.rs", "use rustix::{io::pwrite, net};"),
        ("broker/src/snapshots/x.rs", "use std::{fs, io};"),
    ];
    let kept = [
        ("broker/src/fs/os.rs", "use std::fs::File;"),
        ("broker/src/config/file.rs", "use std::fs::File;"),
        ("broker/src/log/x.rs", "use crate::fs::File;"),
    ];
    holds(rule, &broken, &kept);
}

#[test]
fn files_say_what_they_are() {
    let rule: Rule = |sources| {
        let opens =
            |source: &&Source| source.text.strip_prefix("//! ").is_none_or(|line| line.trim().is_empty());
        sources
            .iter()
            .filter(|s| s.is_rust())
            .filter(opens)
            .map(|s| s.at(0, "opens without `//! `"))
            .collect()
    };
    let broken = [("x.rs", "use std::io;\n//! late\n"), ("x.rs", ""), ("x.rs", "//! ")];
    holds(rule, &broken, &[("x.rs", "//! What it is.\n"), ("x.toml", "")]);
}

#[test]
fn files_are_short() {
    let rule: Rule = |sources| {
        let max =
            |path: &str| LONG.iter().find(|(long, ..)| *long == path).map_or(LINES_MAX, |(_, max, _)| *max);
        let count = |source: &Source| source.text.lines().count();
        let long = sources.iter().filter(|s| s.is_rust() && count(s) > max(&s.path));
        long.map(|s| s.at(0, format!("{} lines, {} at most", count(s), max(&s.path)))).collect()
    };
    let tree = tree();
    for (path, max, why) in LONG {
        let source =
            tree.iter().find(|source| source.path == *path).unwrap_or_else(|| panic!("{path} is gone"));
        let count = source.text.lines().count();
        assert!(count > LINES_MAX, "{path} is as short as any other ({count} of {max} lines, for {why})");
    }
    let (long, fine) = ("//!\n".repeat(LINES_MAX + 1), "//!\n".repeat(LINES_MAX));
    holds(rule, &[("x.rs", &long)], &[("x.rs", &fine), ("x.md", &long), (LONG[0].0, &long)]);
}

#[test]
fn nothing_is_left_undone() {
    const SIGNS: &[&str] = &[
        "todo!",
        "unimplemented!",
        "dbg!",
        "#[ignore",
        "thread::sleep(",
        "std::thread::sleep",
        "#![feature",
    ];
    let rule: Rule = |sources| {
        let look = |source: &Source| {
            let code = source.code();
            let found = SIGNS.iter().flat_map(|sign| code.match_indices(sign).collect::<Vec<_>>());
            found.map(|(at, sign)| source.at(at, format!("`{sign}`"))).collect::<Vec<_>>()
        };
        sources.iter().flat_map(look).collect()
    };
    let broken = [
        ("x.rs", "fn f() { todo!() }"),
        ("x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"),
        ("x.rs", "use std::thread;\nfn f() { thread::sleep(D) }"),
    ];
    holds(rule, &broken, &[("x.rs", "// todo!\nconst X: &str = r#\"dbg!\"#;")]);
}

#[test]
fn a_limit_is_written_once() {
    let rule: Rule = |sources| {
        fn constants(code: &str) -> Vec<(usize, &str)> {
            let tokens = tokens(code);
            let pairs = tokens.windows(2).filter(|pair| pair[0].1 == "const" && pair[1].1 != "_");
            pairs.map(|pair| pair[1]).filter(|(_, name)| name.len() > 1 && *name != "fn").collect()
        }
        let is_limits = |source: &&Source| source.path.ends_with("/limits.rs");
        let limits = sources.iter().filter(is_limits);
        let limits = limits.flat_map(|source| constants(source.code())).map(|(_, name)| name);
        // One by name, so that the rule can be tried on one file.
        let limits: BTreeSet<&str> = limits.chain(["QUEUE_NAME_SIZE_MAX"]).collect();
        let look = |source: &Source| {
            let code = source.code();
            let again = constants(code).into_iter().filter(|(_, name)| limits.contains(name));
            again.map(|(at, name)| source.at(at, format!("`{name}` is in limits.rs"))).collect::<Vec<_>>()
        };
        sources.iter().filter(|source| !is_limits(source)).flat_map(look).collect()
    };
    let broken = [("broker/src/x.rs", "const QUEUE_NAME_SIZE_MAX: usize = 128;")];
    let kept = [
        (
            "broker/src/x.rs",
            "use queue_protocol::limits::QUEUE_NAME_SIZE_MAX;\nconst _: () = ();\nconst fn f() {}",
        ),
        ("protocol/src/limits.rs", "const QUEUE_NAME_SIZE_MAX: usize = 128;"),
    ];
    holds(rule, &broken, &kept);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Put together here, so that this file does not name them.
    let rule: Rule = |sources| {
        let homes = ["root", "home", "Users", "work"].map(|home| format!("/{home}/"));
        let hosts = ["index", "static"].map(|host| format!("{host}.crates.io"));
        let signs: Vec<String> = homes.into_iter().chain(hosts).collect();
        let look = |source: &Source| {
            let found = signs.iter().flat_map(|sign| source.text.match_indices(sign.as_str()));
            found.map(|(at, sign)| source.at(at, format!("`{sign}`"))).collect::<Vec<_>>()
        };
        sources.iter().flat_map(look).collect()
    };
    let home = ["see /ho", "me/ann/x"].concat();
    let host = ["https://index.cra", "tes.io"].concat();
    holds(rule, &[("x.rs", &home), ("x.toml", &host)], &[("x.md", "cd network/x")]);
}

#[test]
fn every_path_of_the_readme_exists() {
    let rule: Rule = |sources| {
        let places = ["protocol/", "broker/", "cli/", "tests/", "benches/", ".ci/"];
        let exists = |path: &str| {
            tree()
                .iter()
                .any(|source| source.path == path || (path.ends_with('/') && source.path.starts_with(path)))
        };
        let look = |source: &Source| {
            let quoted =
                source.text.split('`').enumerate().filter(|(at, _)| at % 2 == 1).map(|(_, text)| text);
            let paths = quoted.filter(|text| {
                places.iter().any(|place| text.starts_with(place)) && !text.contains(char::is_whitespace)
            });
            paths
                .filter(|path| !exists(path))
                .map(|path| format!("{}: no `{path}`", source.path))
                .collect::<Vec<_>>()
        };
        sources.iter().filter(|source| source.path == "README.md").flat_map(look).collect()
    };
    holds(
        rule,
        &[("README.md", "see `tests/none.rs`"), ("README.md", "see `broker/none/`")],
        &[("README.md", "see `tests/tidy.rs`, `broker/src/`, `tests of it`")],
    );
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let rule: Rule = |sources| {
        let lock = sources.iter().filter(|source| source.path == "Cargo.lock");
        let look = |source: &Source| {
            let lines = source.text.lines().filter(|line| line.starts_with("source = "));
            let foreign =
                lines.filter(|line| !line.contains("registry+https://github.com/rust-lang/crates.io-index"));
            foreign.map(|line| source.at(0, line)).collect::<Vec<_>>()
        };
        lock.flat_map(look).collect()
    };
    let git = "[[package]]\nname = \"x\"\nsource = \"git+https://example.org/x\"\n";
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    holds(rule, &[("Cargo.lock", git)], &[("Cargo.lock", registry), ("x.md", git)]);
}

#[test]
fn every_package_keeps_the_lints() {
    let rule: Rule = |sources| {
        let manifests = sources.iter().filter(|source| source.path.ends_with("/Cargo.toml"));
        let without = manifests.filter(|source| !source.text.contains("[lints]\nworkspace = true\n"));
        without.map(|source| source.at(0, "has no `[lints] workspace = true`")).collect()
    };
    let kept = [("cli/Cargo.toml", "[lints]\nworkspace = true\n"), ("Cargo.toml", "[workspace]\n")];
    holds(rule, &[("cli/Cargo.toml", "[package]\nname = \"x\"\n")], &kept);
}
