//! A wrong command line, told as every other error is: what is wrong, the usage, and where help is.

use clap::error::ErrorKind;

use crate::failure::Failure;

/// What clap has to say, as a failure; `None` if it is the help of a command that lacks its subcommand.
pub(crate) fn failure(error: &clap::Error) -> Option<Failure> {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    let text = error.render().to_string();
    let mut lines = text.lines().peekable();
    let first = lines.next().unwrap_or_default();
    let mut message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    // What is missing stands below, a line each.
    if message.ends_with(':') {
        let mut missing = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
            missing.push(line.trim().to_owned());
        }
        message = format!("{message} {}", missing.join(", "));
    }
    let mut failure = Failure::usage(message);
    let mut usage = None;
    for line in lines {
        let bare = line.trim();
        if let Some(tip) = bare.strip_prefix("tip: ") {
            failure = failure.hint(tip);
        } else if let Some(found) = line.strip_prefix("Usage: ") {
            usage = Some(found.trim().to_owned());
        } else if let Some(usage) = usage.as_mut().filter(|_| line.starts_with("       ")) {
            usage.push_str(&format!("\n         {bare}"));
        } else if !bare.is_empty() && !bare.starts_with("For more information") {
            failure = failure.fact(bare);
        }
    }
    if let Some(usage) = usage {
        let words: Vec<&str> = usage
            .split_whitespace()
            .skip_while(|word| *word == "queuectl")
            .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
            .collect();
        let help = format!("`queuectl help {}`", words.join(" "));
        failure = failure.fact(format!("usage: {usage}")).hint(help.replace(" `", "`"));
    } else {
        failure = failure.hint("`--help` behind the command says what it takes");
    }
    Some(failure)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::grammar::{Cli, Line};

    fn told(words: &[&str]) -> String {
        let error = Cli::try_parse_from([&["queuectl"], words].concat()).expect_err("it is wrong");
        failure(&error).expect("it is no help").text(false, false)
    }

    #[test]
    fn what_is_wrong_comes_first_then_the_usage_and_where_help_is() {
        let text = told(&["pop", "jobs", "--fast"]);
        assert!(
            text.starts_with("error[usage]: unexpected argument '--fast' found\n  usage: queuectl pop "),
            "{text}"
        );
        assert!(text.ends_with("  hint: `queuectl help pop`"), "{text}");
        let text = told(&["psuh", "x"]);
        assert!(text.contains("'psuh'") && text.contains("'push'\n  hint: `queuectl help`"), "{text}");
        let text = told(&["message", "move", "jobs", "1"]);
        assert!(
            text.contains("not provided: --to <QUEUE>") && text.contains("`queuectl help message move`"),
            "{text}"
        );
        let text = told(&["top", "--sort", "colour"]);
        assert!(text.contains("possible values: ready, in,") && text.contains("colour"), "{text}");
        assert!(text.ends_with("hint: `--help` behind the command says what it takes"), "{text}");
    }

    #[test]
    fn in_the_shell_hints_are_words_of_the_shell() {
        let error = Line::try_parse_from(["pop", "jobs", "--fast"]).expect_err("it is wrong");
        let text = failure(&error).expect("it is no help").text(false, true);
        assert!(text.contains("'--fast'") && text.ends_with("hint: `help pop`"), "{text}");
        assert!(!text.contains("queuectl"), "{text}");
    }
}
