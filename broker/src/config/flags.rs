//! Settings as flags: made from the table, so that they cannot differ from it.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, Error};

use super::{Config, SETTINGS, Scope, Setting};

/// The settings of a command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file that was named by flag.
    pub config: Option<PathBuf>,
    /// Neither environment nor file is looked at.
    pub only_flags: bool,
    /// What was given, as it was written.
    pub values: Vec<(&'static Setting, String)>,
}

/// [`Flags`] with only those settings that are the same on every node of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterFlags(pub Flags);

const CONFIG: &str = "config";
const ONLY_FLAGS: &str = "only-flags";
const HEADING: &str =
    "Settings (also in the file as in `queued config default`, and as QUEUED_… in the environment)";

fn augment(command: Command, scopes: &[Scope]) -> Command {
    let command = command
        .next_help_heading(HEADING)
        .arg(
            Arg::new(CONFIG)
                .long(CONFIG)
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The configuration file, also as QUEUED_CONFIG [default: ./queued.toml or /etc/queued/config.toml, if there is one]"),
        )
        .arg(
            Arg::new(ONLY_FLAGS)
                .long(ONLY_FLAGS)
                .action(ArgAction::SetTrue)
                .hide(true)
                .help("Look neither at the environment nor at a file"),
        );
    SETTINGS.iter().filter(|setting| scopes.contains(&setting.scope)).fold(command, |command, setting| {
        let parser = clap::builder::StringValueParser::new().try_map(move |text| {
            (setting.set)(&mut Config::default(), &text)?;
            Ok::<_, String>(text)
        });
        let default = if setting.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", setting.default)
        };
        let mut arg = Arg::new(setting.key)
            .long(setting.flag())
            .value_name(setting.value)
            .value_parser(parser)
            .help(format!("{}{default}", setting.doc.replace('\n', " ")));
        if let Some(alias) = setting.alias {
            arg = arg.visible_alias(alias);
        }
        if setting.value == table_boolean() {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        }
        command.arg(arg)
    })
}

const fn table_boolean() -> &'static str {
    super::table::BOOLEAN
}

fn collect(matches: &ArgMatches, scopes: &[Scope]) -> Flags {
    let values = SETTINGS.iter().filter(|setting| scopes.contains(&setting.scope)).filter_map(|setting| {
        let text = matches.get_one::<String>(setting.key)?;
        Some((setting, text.clone()))
    });
    Flags {
        config: matches.get_one::<PathBuf>(CONFIG).cloned(),
        only_flags: matches.get_flag(ONLY_FLAGS),
        values: values.collect(),
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(collect(matches, &[Scope::Node, Scope::Cluster]))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        augment(command, &[Scope::Node, Scope::Cluster])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ClusterFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(collect(matches, &[Scope::Cluster])))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for ClusterFlags {
    fn augment_args(command: Command) -> Command {
        augment(command, &[Scope::Cluster])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
