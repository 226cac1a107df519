//! `queued config`: the settings, checked and shown.

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::{print, settings};
use crate::config::file::{default_file, in_toml};
use crate::config::{Flags, Loaded, Origin};

/// `config …`
#[derive(Subcommand, Debug)]
pub(super) enum ConfigCommand {
    /// Say whether a node would start with these settings
    Check(CheckArgs),
    /// Print every setting as it counts
    Show(ShowArgs),
    /// Print a file with every setting at its default, commented
    Default,
}

/// `config check`
#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    flags: Flags,
}

/// `config show`
#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// Say where each value came from
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Runs it.
pub(super) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => {
            let loaded = settings(&args.flags)?;
            let given = loaded.values.iter().filter(|value| value.origin != Origin::Default).count();
            let file = loaded.file.map_or("no file".to_owned(), |file| file.display().to_string());
            print(&format!("ok: {file}, {given} settings differ from the default or repeat it\n"))
        }
        ConfigCommand::Show(args) => print(&show(&settings(&args.flags)?, args.origin)),
        ConfigCommand::Default => print(&default_file()),
    }
}

fn show(loaded: &Loaded, origin: bool) -> String {
    let rows: Vec<(String, &Origin)> = loaded
        .values
        .iter()
        .map(|value| {
            (format!("{} = {}", value.setting.key, in_toml(value.setting, &value.text)), &value.origin)
        })
        .collect();
    let width = rows.iter().map(|(row, _)| row.len()).max().unwrap_or(0);
    let line = |(row, from): &(String, &Origin)| {
        if origin { format!("{row:width$}  # {from}\n") } else { format!("{row}\n") }
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SETTINGS, Sources, load};

    #[test]
    fn what_is_shown_can_be_read_again_and_names_origins() {
        let heartbeat = SETTINGS.iter().find(|setting| setting.key == "raft.heartbeat").unwrap();
        let sources = Sources { flags: vec![(heartbeat, "10ms".into())], ..Sources::default() };
        let loaded = load(&sources).unwrap();
        let text = show(&loaded, true);
        let line = text.lines().find(|line| line.starts_with("raft.heartbeat")).unwrap();
        assert!(
            line.starts_with("raft.heartbeat = \"10ms\" ") && line.ends_with("# --raft-heartbeat"),
            "{line}"
        );
        assert_eq!(text.lines().filter(|line| line.ends_with("# default")).count(), SETTINGS.len() - 1);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.toml");
        std::fs::write(&path, show(&loaded, false)).unwrap();
        let again = load(&Sources { file: Some(path), ..Sources::default() }).unwrap();
        let texts =
            |loaded: &Loaded| loaded.values.iter().map(|value| value.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&again), texts(&loaded));
    }
}
