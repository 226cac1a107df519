//! Whom to trust: TLS and its authorities. Nothing here ever falls back to plain.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use queue_protocol::client::{Dial, TcpDial};

use super::environment::{Variables, bad, text};
use crate::failure::Failure;
use crate::failure::exit::Exit;

const TLS: &str = "QUEUECTL_TLS";
const TLS_CA: &str = "QUEUECTL_TLS_CA";
const TLS_PIN: &str = "QUEUECTL_TLS_PIN";

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
        Ok(Self { tls, tls_ca, tls_pin: tls_pin.map(pin).transpose()? })
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
        if !self.is_on() {
            let OfContext { secure, is_named } = context;
            *self = if is_named && secure.is_on() {
                secure
            } else {
                Self::of_variables(variables)?.unwrap_or(secure)
            };
        }
        self.usable()
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
        let secure = Self { tls, tls_ca, tls_pin };
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

        /// How nodes are dialed.
        pub(crate) fn dial(&self) -> Arc<dyn Dial> {
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

        /// How nodes are dialed.
        pub(crate) fn dial(&self) -> Arc<dyn Dial> {
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
