//! What the environment says where the command line says nothing. A flag counts more, a variable that is empty is not set, and
//! whatever is wrong with one names it. clap is not asked: it would look at the variable of a global option beside the flag.

use std::ffi::OsString;
use std::time::Duration;

use super::secure::OfContext;
use super::{Reach, SERVERS_DEFAULT, Settings};
use crate::failure::Failure;
use crate::grammar::contexts::Contexts;
use crate::grammar::values::{duration, server};

const SERVERS: &str = "QUEUECTL_SERVERS";
const CONTEXT: &str = "QUEUECTL_CONTEXT";
const TIMEOUT: &str = "QUEUECTL_TIMEOUT";
const OUTPUT: &str = "QUEUECTL_OUTPUT";

/// A variable by its name.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The variables of this process.
pub(crate) fn of_process(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

pub(super) fn text(variables: Variables<'_>, name: &str) -> Result<Option<String>, Failure> {
    match variables(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => match value.into_string() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Failure::usage(format!("{name} is not UTF-8"))),
        },
    }
}

pub(super) fn bad(name: &str, text: &str, why: &str) -> Failure {
    Failure::usage(format!("invalid value {text:?} of the variable {name}: {why}"))
}

impl Reach {
    /// Fills in what no flag named.
    ///
    /// # Errors
    /// A variable that is needed makes no sense.
    pub(crate) fn complete(&mut self, variables: Variables<'_>) -> Result<(), Failure> {
        let context = self.find_servers(variables)?;
        self.secure.complete(variables, context)
    }

    /// The servers: those of a context that a flag names, the environment's, those of the context that is in use, or those of
    /// `queued dev`. Returns what a context says of TLS if the servers are its own.
    fn find_servers(&mut self, variables: Variables<'_>) -> Result<OfContext, Failure> {
        if !self.servers.is_empty() {
            self.origin = "--servers".to_owned();
            return match &self.context {
                Some(_) => Err(Failure::usage("--servers and --context name two clusters: use one of them")),
                None => Ok(OfContext::default()),
            };
        }
        let by_flag = self.context.clone().map(|name| ("--context", name));
        let is_named = by_flag.is_some();
        if let Some(list) = text(variables, SERVERS)?.filter(|_| by_flag.is_none()) {
            let servers: Result<_, String> = list.split(',').map(server).collect();
            self.servers = servers.map_err(|why| bad(SERVERS, &list, &why))?;
            self.origin = SERVERS.to_owned();
            return Ok(OfContext::default());
        }
        let by_variable = text(variables, CONTEXT)?.map(|name| (CONTEXT, name));
        let contexts = Contexts::load(variables)?;
        let in_use = contexts.current().map(|name| ("in use", name.to_owned()));
        let Some((by, name)) = by_flag.or(by_variable).or(in_use) else {
            self.servers = SERVERS_DEFAULT.split(',').map(str::to_owned).collect();
            self.origin = "the default".to_owned();
            return Ok(OfContext::default());
        };
        let context = contexts.get(&name)?;
        self.servers = context.servers;
        self.origin = format!("context {name}, {by}");
        Ok(OfContext { secure: context.secure, is_named })
    }
}

impl Settings {
    /// Fills in what no flag said.
    ///
    /// # Errors
    /// A variable that is needed makes no sense.
    pub(crate) fn complete(&mut self, variables: Variables<'_>) -> Result<(), Failure> {
        if self.timeout.is_none() {
            let limit = |text: String| duration(&text).map_err(|why| bad(TIMEOUT, &text, &why));
            self.timeout = text(variables, TIMEOUT)?.map(limit).transpose()?;
        }
        if !self.json {
            self.json = match text(variables, OUTPUT)?.as_deref() {
                None | Some("text") => false,
                Some("json") => true,
                Some(other) => return Err(bad(OUTPUT, other, "json or text")),
            };
        }
        Ok(())
    }
}

/// Whether errors are to be told in JSON, before it is known what else the variable may say.
pub(crate) fn json_by_environment() -> bool {
    of_process(OUTPUT).is_some_and(|output| output == "json")
}

/// The variable's limit of time for a command, if it makes sense.
pub(crate) fn timeout_by_environment() -> Option<Duration> {
    text(&of_process, TIMEOUT).ok().flatten().and_then(|text| duration(&text).ok())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::grammar::Cli;
    use crate::grammar::secure::Secure;

    fn completed(words: &[&str], variables: &[(&str, &str)]) -> Result<Cli, Failure> {
        let mut cli = Cli::try_parse_from([&["queuectl"], words].concat()).expect("words make sense");
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        cli.reach.complete(&lookup)?;
        cli.settings.complete(&lookup)?;
        Ok(cli)
    }

    #[test]
    fn a_flag_counts_more_than_a_variable_whatever_the_variable_says() {
        let useless = [(SERVERS, "http://x"), (TIMEOUT, "soon"), (OUTPUT, "JSON")];
        let cli = completed(&["-s", "a,b:1", "--timeout", "1s", "--json", "ping"], &useless).unwrap();
        assert_eq!(cli.reach.servers, ["a:7410", "b:1"]);
        assert_eq!((cli.settings.timeout, cli.settings.json), (Some(Duration::from_secs(1)), true));
        let cli = completed(&["ping", "-s", "a", "--timeout", "1s", "--json"], &useless).unwrap();
        assert_eq!(cli.reach.servers, ["a:7410"]);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let cli = completed(&["ping"], &[(SERVERS, ""), (TIMEOUT, ""), (OUTPUT, "")]).unwrap();
        assert_eq!(cli.reach.servers.join(","), SERVERS_DEFAULT);
        assert_eq!((cli.settings.timeout, cli.settings.json), (None, false));
        let cli =
            completed(&["ping"], &[(SERVERS, "mq1, mq2:7411"), (TIMEOUT, "2s"), (OUTPUT, "json")]).unwrap();
        assert_eq!(cli.reach.servers, ["mq1:7410", "mq2:7411"]);
        assert_eq!((cli.settings.timeout, cli.settings.json), (Some(Duration::from_secs(2)), true));
    }

    #[test]
    fn servers_come_from_the_flag_the_variable_the_context_in_use_or_the_default_in_this_order() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join(".config/queuectl/config.toml");
        std::fs::create_dir_all(file.parent().expect("it has one")).expect("made");
        let text = "current = \"a\"\n[contexts.a]\nservers = [\"a\"]\n[contexts.b]\nservers = [\"b:1\", \"c\"]\n\
                    [contexts.later]\nservers = [\"x\"]\ntoken_helper = \"/token\"\n";
        std::fs::write(&file, text).expect("written");
        let home = home.path().to_str().expect("a name");
        let of = |words: &[&str], more: &[(&str, &str)]| {
            let cli = completed(words, &[&[("HOME", home)], more].concat());
            cli.map(|cli| (cli.reach.servers.join(","), cli.reach.origin)).map_err(|failure| failure.message)
        };
        let is = |servers: &str, from: &str| Ok((servers.to_owned(), from.to_owned()));
        assert_eq!(of(&["ping"], &[]), is("a:7410", "context a, in use"));
        assert_eq!(of(&["ping"], &[(CONTEXT, "b")]), is("b:1,c:7410", "context b, QUEUECTL_CONTEXT"));
        assert_eq!(of(&["ping"], &[(CONTEXT, "b"), (SERVERS, "d")]), is("d:7410", SERVERS));
        let flag = of(&["--context", "b", "ping"], &[(CONTEXT, "a"), (SERVERS, "d")]);
        assert_eq!(flag, is("b:1,c:7410", "context b, --context"));
        assert_eq!(of(&["-s", "e", "ping"], &[(CONTEXT, "nobody")]), is("e:7410", "--servers"));
        assert!(of(&["-s", "e", "-c", "a", "ping"], &[]).is_err(), "two clusters");
        assert!(of(&["-c", "nobody", "ping"], &[]).is_err_and(|text| text.contains("nobody")));
        assert!(of(&["-c", "later", "ping"], &[]).is_err_and(|text| text.contains("token_helper")));
        let elsewhere = [("XDG_CONFIG_HOME", "/nowhere")];
        assert_eq!(of(&["ping"], &elsewhere), is(SERVERS_DEFAULT, "the default"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn whom_to_trust_is_said_by_the_flag_the_context_of_a_flag_the_variable_or_the_context_in_this_order() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join(".config/queuectl");
        std::fs::create_dir_all(&dir).expect("made");
        let [pin, other] = ["ab", "cd"].map(|hex| format!("sha256:{}", hex.repeat(32)));
        let text = format!(
            "current = \"pinned\"\n[contexts.pinned]\nservers = [\"a\"]\ntls_pin = \"{pin}\"\n\
             [contexts.file]\nservers = [\"b\"]\ntls_ca = \"ca.pem\"\n[contexts.plain]\nservers = [\"c\"]\n\
             [contexts.system]\nservers = [\"d\"]\ntls = true\n[contexts.odd]\nservers = [\"e\"]\ntls_pin = \"x\"\n\
             [contexts.both]\nservers = [\"f\"]\ntls_pin = \"{pin}\"\ntls_ca = \"ca.pem\"\n\
             [contexts.wrong]\nservers = [\"g\"]\ntls = \"on\"\n"
        );
        std::fs::write(dir.join("config.toml"), text).expect("written");
        let home = home.path().to_str().expect("a name");
        let of = |words: &[&str], more: &[(&str, &str)]| {
            let cli = completed(&[words, &["ping"]].concat(), &[&[("HOME", home)], more].concat());
            let says = |secure: Secure| {
                secure.tls_pin.unwrap_or_else(|| if secure.tls { "system" } else { "plain" }.to_owned())
            };
            cli.map(|cli| says(cli.reach.secure)).map_err(|failure| failure.message)
        };
        let is = |text: &str| Ok(text.to_owned());
        let variable = [("QUEUECTL_TLS_PIN", &*other)];
        assert_eq!(of(&[], &[]), is(&pin));
        assert_eq!(of(&[], &variable), is(&other));
        assert_eq!(of(&[], &[("QUEUECTL_TLS", "off")]), is("plain"), "that is said, not left out");
        assert_eq!(of(&["-c", "pinned"], &variable), is(&pin));
        assert_eq!(of(&["-c", "plain"], &variable), is(&other), "it says nothing of TLS");
        assert_eq!(of(&["-c", "pinned", "--tls"], &variable), is("system"));
        assert_eq!(of(&["-c", "system"], &[]), is("system"));
        assert_eq!(of(&[], &[(CONTEXT, "system")]), is("system"));
        // The servers of another cluster have nothing to do with what the context trusts.
        assert_eq!(of(&["-s", "x"], &[]), is("plain"));
        assert_eq!(of(&[], &[(SERVERS, "x")]), is("plain"));
        let missing = of(&["-c", "file"], &[]).expect_err("there is none");
        assert!(missing.contains(dir.join("ca.pem").to_str().expect("a name")), "beside the file: {missing}");
        for (name, why) in [("odd", "sha256:"), ("both", "use one of them"), ("wrong", "true or false")] {
            let text = of(&["-c", name], &[]).expect_err(name);
            assert!(text.contains(name) && text.contains(why), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_variable_names_it() {
        for (name, value) in [
            (SERVERS, "http://mq1:7410"),
            (SERVERS, "mq1:7410,"),
            (SERVERS, "mq1:70000"),
            (TIMEOUT, "5"),
            (OUTPUT, "JSON"),
        ] {
            let failure = completed(&["ping"], &[(name, value)]).unwrap_err();
            assert!(failure.message.contains(name) && failure.message.contains(value), "{}", failure.message);
            assert_eq!(failure.exit.code(), 2);
        }
    }
}
