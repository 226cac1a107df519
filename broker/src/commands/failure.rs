//! Why a command did not do its work, as people read it.

use std::fmt;

use crate::config::ConfigError;
use crate::node::NodeError;
use crate::outside::ExitStatus;
use crate::tls::TlsError;

/// `error[code]: what`, facts below it, and a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) status: ExitStatus,
    /// Text code.
    pub(crate) code: &'static str,
    /// What happened, in one line.
    pub(crate) what: String,
    /// A line each.
    pub(crate) facts: Vec<String>,
    /// What to type next.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// Without facts and hint. Further lines of `what` become facts.
    pub(crate) fn new(status: ExitStatus, code: &'static str, what: impl AsRef<str>) -> Self {
        let mut lines = what.as_ref().lines().map(|line| line.trim().to_owned());
        Self { status, code, what: lines.next().unwrap_or_default(), facts: lines.collect(), hint: None }
    }

    /// A file or something else of this machine did not do.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(ExitStatus::Disk, "io", format!("{what}: {error}"))
    }

    /// Adds a fact.
    pub(crate) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    /// Sets the hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.what)?;
        for fact in &self.facts {
            write!(f, "\n  {fact}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self { hint: error.hint, ..Self::new(error.status, error.code, error.what) }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        let failure = Self::new(ExitStatus::Config, "tls", error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        const STATUS: ExitStatus = ExitStatus::Config;
        const CODE: &str = "config";
        match &error.problems[..] {
            [one] => Self { hint: one.hint.clone(), ..Self::new(STATUS, CODE, &one.what) },
            all => {
                let facts = all.iter().map(|problem| match &problem.hint {
                    Some(hint) => format!("{}: {hint}", problem.what),
                    None => problem.what.clone(),
                });
                let failure = Self::new(STATUS, CODE, format!("{} settings cannot be used", all.len()));
                Self { facts: facts.collect(), ..failure }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problem;

    #[test]
    fn facts_are_indented_and_the_hint_comes_last() {
        let error = NodeError {
            status: ExitStatus::Directory,
            code: "locked",
            what: "d is in use\nby process 7".into(),
            hint: Some("--node-data-dir".into()),
        };
        let failure = Failure::from(error);
        assert_eq!(
            failure.to_string(),
            "error[locked]: d is in use\n  by process 7\n  hint: --node-data-dir"
        );
    }

    #[test]
    fn all_problems_of_a_configuration_are_told() {
        let problem =
            |what: &str, hint: Option<&str>| Problem { what: what.into(), hint: hint.map(Into::into) };
        let one = ConfigError { problems: vec![problem("a is b", Some("c"))] };
        assert_eq!(Failure::from(one).to_string(), "error[config]: a is b\n  hint: c");
        let two = ConfigError { problems: vec![problem("a is b", Some("c")), problem("d", None)] };
        assert_eq!(
            Failure::from(two).to_string(),
            "error[config]: 2 settings cannot be used\n  a is b: c\n  d"
        );
    }
}
