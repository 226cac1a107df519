//! `queued completions`: the script that makes a shell complete `queued`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::failure::Failure;
use super::{Cli, print};

/// `completions`
#[derive(Args, Debug)]
#[command(after_help = "Example: source <(queued completions bash)")]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints it.
pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    print(&script(args.shell))
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "queued", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_knows_commands_and_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for word in ["healthcheck", "listen-http", "secret-file"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
