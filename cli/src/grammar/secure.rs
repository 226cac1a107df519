//! Whom to trust: TLS and its authorities; and as whom to log in. Nothing here ever falls back to plain.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use queue_protocol::client::{Dial, LoginDial, TcpDial, TokenSource};
use queue_protocol::wire::auth::Token;

use super::environment::{Variables, bad, text};
use super::token_command::CommandDial;
use crate::failure::Failure;
use crate::failure::exit::Exit;

const TLS: &str = "QUEUECTL_TLS";
const TLS_CA: &str = "QUEUECTL_TLS_CA";
const TLS_PIN: &str = "QUEUECTL_TLS_PIN";
const TOKEN_FILE: &str = "QUEUECTL_TOKEN_FILE";
const TOKEN: &str = "QUEUECTL_TOKEN";

/// How the way to the nodes is secured.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Secure {
    /// Speak TLS, and trust the authorities of this system [env: QUEUECTL_TLS=on]
    #[arg(long, global = true)]
    pub(crate) tls: bool,
    /// Speak TLS, and trust the authorities of this file (PEM) [env: QUEUECTL_TLS_CA]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "tls_pin")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Speak TLS, and trust whoever has this key; `queued cert show FILE` prints it [env: QUEUECTL_TLS_PIN]
    #[arg(long, global = true, value_name = "sha256:…", value_parser = pin)]
    pub(crate) tls_pin: Option<String>,
    /// Log in with the token in this file; over TLS or loopback only [env: QUEUECTL_TOKEN_FILE, or QUEUECTL_TOKEN]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "secret_file")]
    pub(crate) token_file: Option<PathBuf>,
    /// Log in with the cluster's secret in this file, which opens everything: SECRET of a node's data directory
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// The token of the environment.
    #[arg(skip)]
    pub(crate) token: Option<Token>,
    /// What prints the token, as the context has it.
    #[arg(skip)]
    pub(crate) token_command: Option<String>,
}

/// What the context says that the servers are of.
#[derive(Debug, Default)]
pub(crate) struct OfContext {
    pub(crate) secure: Secure,
    /// A flag named the context, so it counts more than variables.
    pub(crate) is_named: bool,
}

impl Secure {
    /// As a file has it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of(tls: bool, tls_ca: Option<PathBuf>, tls_pin: Option<&str>) -> Result<Self, String> {
        if tls_ca.is_some() && tls_pin.is_some() {
            return Err("a file of authorities and a pin: use one of them".to_owned());
        }
        Ok(Self { tls, tls_ca, tls_pin: tls_pin.map(pin).transpose()?, ..Self::default() })
    }

    /// TLS is spoken.
    pub(crate) fn is_on(&self) -> bool {
        self.tls || self.tls_ca.is_some() || self.tls_pin.is_some()
    }

    /// Fills in what no flag said: a flag about TLS counts more than all variables about it, and these more than the context,
    /// unless a flag named that.
    ///
    /// # Errors
    /// A variable makes no sense, or the file of authorities cannot be used.
    pub(crate) fn complete(&mut self, variables: Variables<'_>, context: OfContext) -> Result<(), Failure> {
        let OfContext { secure, is_named } = context;
        self.complete_login(variables, &secure, is_named)?;
        if !self.is_on() {
            let trust = if is_named && secure.is_on() {
                secure
            } else {
                Self::of_variables(variables)?.unwrap_or(secure)
            };
            let Self { tls, tls_ca, tls_pin, .. } = trust;
            (self.tls, self.tls_ca, self.tls_pin) = (tls, tls_ca, tls_pin);
        }
        self.usable()
    }

    /// As whom to log in, by the same order: a flag, the context that a flag names, the environment, any other context.
    fn complete_login(
        &mut self,
        variables: Variables<'_>,
        context: &Self,
        is_named: bool,
    ) -> Result<(), Failure> {
        if self.token_file.is_some() || self.secret_file.is_some() {
            return Ok(());
        }
        if is_named && (context.token_file.is_some() || context.token_command.is_some()) {
            self.token_file.clone_from(&context.token_file);
            self.token_command.clone_from(&context.token_command);
            return Ok(());
        }
        self.token_file = text(variables, TOKEN_FILE)?.map(PathBuf::from);
        if self.token_file.is_some() {
            return Ok(());
        }
        // What it says is not repeated: it is a secret.
        let read =
            |text: String| text.trim().parse().map_err(|error| Failure::usage(format!("{TOKEN}: {error}")));
        self.token = text(variables, TOKEN)?.map(read).transpose()?;
        if self.token.is_none() {
            self.token_file.clone_from(&context.token_file);
            self.token_command.clone_from(&context.token_command);
        }
        Ok(())
    }

    fn source(&self) -> Option<TokenSource> {
        let secret = self.secret_file.clone().map(TokenSource::Secret);
        let file = || self.token_file.clone().map(TokenSource::File);
        secret.or_else(file).or_else(|| self.token.clone().map(TokenSource::Given))
    }

    /// How nodes are dialed, and as whom.
    pub(crate) fn dial(&self) -> Arc<dyn Dial> {
        match (self.source(), &self.token_command) {
            (Some(source), _) => Arc::new(LoginDial::over(self.dial_below(), source)),
            (None, Some(command)) => Arc::new(CommandDial::over(self.dial_below(), command.clone())),
            (None, None) => self.dial_below(),
        }
    }

    /// Whether what was named can be used.
    ///
    /// # Errors
    /// `tls`, with the file.
    pub(crate) fn usable(&self) -> Result<(), Failure> {
        self.check().map_err(|what| Failure::new("tls", Exit::Config, what))
    }

    /// What the variables say, if any is set.
    fn of_variables(variables: Variables<'_>) -> Result<Option<Self>, Failure> {
        let said = text(variables, TLS)?;
        let tls = match said.as_deref() {
            None | Some("off") => false,
            Some("on") => true,
            Some(other) => return Err(bad(TLS, other, "on or off")),
        };
        let tls_ca = text(variables, TLS_CA)?.map(PathBuf::from);
        let read = |text: String| pin(&text).map_err(|why| bad(TLS_PIN, &text, &why));
        let tls_pin = text(variables, TLS_PIN)?.map(read).transpose()?;
        if tls_ca.is_some() && tls_pin.is_some() {
            return Err(Failure::usage(format!("{TLS_CA} and {TLS_PIN} are both set")));
        }
        let secure = Self { tls, tls_ca, tls_pin, ..Self::default() };
        Ok((said.is_some() || secure.is_on()).then_some(secure))
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use queue_protocol::client::tls::{Pin, TlsDial, Trust, certificates};

    use super::*;

    pub(super) fn pin(text: &str) -> Result<String, String> {
        text.parse::<Pin>().map(|pin| pin.to_string())
    }

    impl Secure {
        fn trust(&self) -> Option<Trust> {
            match (&self.tls_pin, &self.tls_ca) {
                (Some(pin), _) => Some(Trust::Pin(pin.parse().expect("it was parsed before"))),
                (None, Some(file)) => Some(Trust::Authorities(file.clone())),
                (None, None) => self.tls.then_some(Trust::System),
            }
        }

        /// Whether what was named can be used.
        pub(super) fn check(&self) -> Result<(), String> {
            match self.trust() {
                Some(Trust::Authorities(file)) => {
                    certificates(&file).map(drop).map_err(|error| error.to_string())
                }
                _ => Ok(()),
            }
        }

        pub(super) fn dial_below(&self) -> Arc<dyn Dial> {
            match self.trust() {
                Some(trust) => Arc::new(TlsDial::new(trust)),
                None => Arc::new(TcpDial::default()),
            }
        }
    }
}

#[cfg(not(feature = "tls"))]
mod without_tls {
    use super::*;

    pub(super) fn pin(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    impl Secure {
        /// Whether what was named can be used.
        pub(super) fn check(&self) -> Result<(), String> {
            if self.is_on() { Err("this queuectl was built without TLS".to_owned()) } else { Ok(()) }
        }

        pub(super) fn dial_below(&self) -> Arc<dyn Dial> {
            Arc::new(TcpDial::default())
        }
    }
}

#[cfg(feature = "tls")]
use self::with_tls::pin;
#[cfg(not(feature = "tls"))]
use self::without_tls::pin;

#[cfg(all(test, feature = "tls"))]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::*;
    use crate::grammar::Cli;

    fn completed(words: &[&str], variables: &[(&str, &str)]) -> Result<Secure, Failure> {
        let mut cli = Cli::try_parse_from([&["queuectl"], words].concat()).expect("words make sense");
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        cli.reach.secure.complete(&lookup, OfContext::default())?;
        Ok(cli.reach.secure)
    }

    #[test]
    fn one_flag_about_tls_outweighs_all_variables_about_it() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let useless = [(TLS, "perhaps"), (TLS_CA, "/nowhere"), (TLS_PIN, "x")];
        let secure = completed(&["ping", "--tls"], &useless).unwrap();
        assert!(secure.tls && secure.tls_ca.is_none() && secure.tls_pin.is_none());
        assert_eq!(completed(&["--tls-pin", &pin, "ping"], &useless).unwrap().tls_pin, Some(pin.clone()));
        assert!(completed(&["ping"], &[(TLS, "on")]).unwrap().tls);
        assert!(!completed(&["ping"], &[(TLS, ""), (TLS_CA, "")]).unwrap().tls);
        assert_eq!(completed(&["ping"], &[(TLS_PIN, &pin)]).unwrap().tls_pin, Some(pin));
    }

    #[test]
    fn a_token_is_that_of_the_flag_then_of_the_file_of_the_environment_then_its_own() {
        let token = Token::new([1; 10], [2; 32]);
        let (text, file) = (token.reveal(), [(TOKEN_FILE, "/env.token")]);
        let secure = completed(&["ping", "--token-file", "/flag.token"], &file).unwrap();
        assert_eq!(secure.token_file.as_deref(), Some(std::path::Path::new("/flag.token")));
        let both = [file[0], (TOKEN, text.as_str())];
        let secure = completed(&["ping"], &both).unwrap();
        assert_eq!((secure.token_file.is_some(), secure.token), (true, None));
        assert_eq!(completed(&["ping"], &[(TOKEN, &text)]).unwrap().token, Some(token));
        let failure = completed(&["ping"], &[(TOKEN, "qk1_secret")]).unwrap_err();
        assert!(!failure.message.contains("qk1_secret"), "{}", failure.message);
        assert!(failure.message.contains(TOKEN));
    }

    #[test]
    fn what_cannot_be_used_is_named_before_anything_is_dialed() {
        for (name, value, exit) in [(TLS, "yes", 2), (TLS_PIN, "sha256:00", 2), (TLS_CA, "/nowhere.pem", 78)]
        {
            let failure = completed(&["ping"], &[(name, value)]).unwrap_err();
            assert!(failure.message.contains(value), "{}", failure.message);
            assert_eq!(failure.exit.code(), exit, "{name}");
        }
        let words = ["queuectl", "ping", "--tls-ca", "f", "--tls-pin", &format!("sha256:{}", "0".repeat(64))];
        assert!(Cli::try_parse_from(words).is_err());
        assert!(Cli::try_parse_from(["queuectl", "ping", "--tls-pin", "sha256:0"]).is_err());
    }
}
