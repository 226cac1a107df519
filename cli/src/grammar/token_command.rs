//! A token that a program prints, as the password store of this user. It runs once, when the first node is dialed.

use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use queue_protocol::client::{Dial, Dialing};
use queue_protocol::wire::auth::{BadToken, Token};

/// Dials as another does, and logs in with what a command prints.
pub(crate) struct CommandDial {
    below: Arc<dyn Dial>,
    command: String,
    printed: OnceLock<Result<Token, String>>,
}

impl CommandDial {
    /// With what this line of sh prints.
    pub(crate) fn over(below: Arc<dyn Dial>, command: String) -> Self {
        Self { below, command, printed: OnceLock::new() }
    }
}

impl Dial for CommandDial {
    fn dial(&self, address: &str) -> Dialing {
        self.below.dial(address)
    }

    fn token(&self) -> Result<Option<Token>, String> {
        self.printed.get_or_init(|| run(&self.command)).clone().map(Some)
    }
}

/// What it says beside the token is the user's to see; what it prints is a secret, and not repeated.
fn run(command: &str) -> Result<Token, String> {
    let mut sh = Command::new("sh");
    sh.args(["-c", command]).stdin(Stdio::inherit()).stderr(Stdio::inherit());
    let ran = sh.output().map_err(|error| format!("token_command: sh: {error}"))?;
    if !ran.status.success() {
        return Err(format!("token_command failed: {}", ran.status));
    }
    let printed = String::from_utf8(ran.stdout).map_err(|_| format!("token_command: {BadToken}"))?;
    printed.trim().parse().map_err(|error: BadToken| format!("token_command: {error}"))
}

#[cfg(test)]
mod tests {
    use queue_protocol::client::TcpDial;

    use super::*;

    fn dial(command: &str) -> CommandDial {
        CommandDial::over(Arc::new(TcpDial::default()), command.to_owned())
    }

    #[test]
    fn a_token_is_what_the_command_prints_and_nothing_else_is_repeated() {
        let token = Token::new([1; 10], [2; 32]);
        let said = dial(&format!("echo {}", token.reveal())).token();
        assert_eq!(said, Ok(Some(token)));
        let said = dial("echo qk1_secret").token().unwrap_err();
        assert!(said.starts_with("token_command: ") && !said.contains("qk1_secret"), "{said}");
        let said = dial("exit 3").token().unwrap_err();
        assert!(said.contains("exit status: 3"), "{said}");
    }

    #[test]
    fn the_command_runs_once() {
        let dir = std::env::temp_dir().join(format!("token_command.{}", std::process::id()));
        let token = Token::new([1; 10], [2; 32]).reveal();
        let dial = dial(&format!("echo x >> {}; echo {token}", dir.display()));
        let both = [dial.token(), dial.token()];
        let runs = std::fs::read_to_string(&dir).expect("it ran");
        std::fs::remove_file(&dir).expect("it is there");
        assert!(both.iter().all(Result::is_ok));
        assert_eq!(runs, "x\n");
    }
}
