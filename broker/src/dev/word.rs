//! The word `dev` of the shell: it drives the cluster below.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;

use super::cluster::Cluster;
use super::{logs, screen};
use crate::commands::failure::Failure;
use crate::outside::ExitStatus;

/// Lines of a log that are shown.
const LOG_LINES: usize = 20;

/// `dev …`
pub(super) struct DevWord {
    cluster: Cluster,
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Kill,
    Pause,
    Resume,
    Restart,
    Logs,
    Status,
}

const DEEDS: [(Deed, &str, &str, &str); 6] = [
    (Deed::Kill, "kill", "NODE", "Kill a node, or the leader, with SIGKILL: a crash"),
    (Deed::Pause, "pause", "NODE", "Stop a node's process where it is"),
    (Deed::Resume, "resume", "[NODE]", "Let a paused node go on, or all of them"),
    (
        Deed::Restart,
        "restart",
        "[NODE]",
        "Start a node again and wait until it has caught up; without NODE those that do not run",
    ),
    (Deed::Logs, "logs", "[NODE]", "Show the last lines that a node logged"),
    (Deed::Status, "status", "", "Show the nodes and their processes"),
];

/// A node, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Number(usize),
    Leader,
}

impl DevWord {
    /// Drives this cluster.
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    async fn do_it(&self, words: &[String]) -> Result<String, Failure> {
        let (deed, which) = parse(words, self.cluster.numbers().count())?;
        let number = match which {
            None => None,
            Some(Which::Number(number)) => Some(number),
            Some(Which::Leader) => {
                let leader = self.cluster.leader().await;
                Some(leader.ok_or_else(|| {
                    Failure::new(ExitStatus::Later, "no_leader", "there is no leader at the moment")
                })?)
            }
        };
        match (deed, number) {
            (Deed::Status, _) => Ok(screen::status(&self.cluster.rows().await)),
            (Deed::Logs, number) => Ok(self.logs(number)),
            (Deed::Kill, Some(number)) => told("killed", number, self.cluster.kill(number).await?),
            (Deed::Pause, Some(number)) => told("paused", number, self.cluster.pause(number)?),
            (Deed::Resume, Some(number)) => told("resumed", number, self.cluster.resume(number)?),
            (Deed::Restart, Some(number)) => self.restart(&[number]).await,
            (Deed::Restart, None) => self.restart(&self.cluster.absent().0).await,
            (Deed::Resume, None) => {
                let paused = self.cluster.absent().1;
                if paused.is_empty() {
                    return Err(Failure::new(ExitStatus::Directory, "not_paused", "no node is paused"));
                }
                let lines =
                    paused.into_iter().map(|number| told("resumed", number, self.cluster.resume(number)?));
                lines.collect()
            }
            (Deed::Kill | Deed::Pause, None) => Err(usage("which node?")),
        }
    }

    async fn restart(&self, numbers: &[usize]) -> Result<String, Failure> {
        if numbers.is_empty() {
            return Err(Failure::new(ExitStatus::Directory, "running", "all nodes run")
                .hint("dev restart NODE restarts one of them"));
        }
        // All at once: a majority may be needed for one to be back.
        let backs =
            futures_util::future::join_all(numbers.iter().map(|number| self.cluster.restart(*number))).await;
        let mut text = String::new();
        for (number, back) in numbers.iter().zip(backs) {
            writeln!(text, "n{number} is back: {}", back?).expect("a string takes all text");
        }
        Ok(text)
    }

    fn logs(&self, number: Option<usize>) -> String {
        let numbers = self.cluster.numbers().filter(|any| number.is_none_or(|number| number == *any));
        let lines = numbers.flat_map(|number| {
            let lines = logs::last_lines(&self.cluster.place().log_file(number), LOG_LINES);
            lines.into_iter().map(move |line| format!("n{number} | {line}\n"))
        });
        lines.collect()
    }
}

fn told(done: &str, number: usize, pid: Option<u32>) -> Result<String, Failure> {
    match pid {
        Some(pid) => Ok(format!("{done} n{number} (pid {pid})\n")),
        None => Err(Failure::new(ExitStatus::Directory, "not_so", format!("n{number} cannot be {done}"))
            .hint("dev status")),
    }
}

fn usage(what: impl Into<String>) -> Failure {
    let failure = Failure::new(ExitStatus::Usage, "usage", what.into());
    DEEDS.iter().fold(failure, |failure, (_, word, operand, help)| {
        let line = format!("dev {word} {operand}");
        failure.fact(format!("{line:20} {help}"))
    })
}

fn parse(words: &[String], nodes: usize) -> Result<(Deed, Option<Which>), Failure> {
    let (word, rest) = words.split_first().ok_or_else(|| usage("what?"))?;
    let deed = DEEDS.iter().find(|(_, name, ..)| name == word);
    let (deed, _, operand, _) = deed.ok_or_else(|| usage(format!("{word:?} is nothing that dev does")))?;
    let which = match rest {
        [] => None,
        [node] if !operand.is_empty() => Some(node_of(node, nodes)?),
        [extra, ..] => return Err(usage(format!("what is {extra:?}?"))),
    };
    Ok((*deed, which))
}

fn node_of(word: &str, nodes: usize) -> Result<Which, Failure> {
    if word == "leader" {
        return Ok(Which::Leader);
    }
    let number = word.strip_prefix('n').unwrap_or(word).parse().ok();
    match number.filter(|number| (1..=nodes).contains(number)) {
        Some(number) => Ok(Which::Number(number)),
        None => Err(Failure::new(ExitStatus::Directory, "node_not_found", format!("no node {word:?}"))
            .hint("dev status")),
    }
}

impl queuectl::Extra for DevWord {
    fn word(&self) -> &str {
        "dev"
    }

    fn help(&self) -> Vec<(String, String)> {
        DEEDS
            .iter()
            .map(|(_, word, operand, help)| {
                (format!("dev {word} {operand}").trim_end().to_owned(), (*help).to_owned())
            })
            .collect()
    }

    fn complete(&self, words: &[&str]) -> Vec<String> {
        let (candidates, begun): (Vec<String>, &str) = match words {
            [] => (DEEDS.iter().map(|(_, word, ..)| (*word).to_owned()).collect(), ""),
            [begun] => (DEEDS.iter().map(|(_, word, ..)| (*word).to_owned()).collect(), begun),
            [deed, begun]
                if DEEDS.iter().any(|(_, word, operand, _)| word == deed && !operand.is_empty()) =>
            {
                let nodes = self.cluster.numbers().map(|number| format!("n{number}"));
                (nodes.chain(["leader".to_owned()]).collect(), begun)
            }
            _ => return Vec::new(),
        };
        candidates.into_iter().filter(|candidate| candidate.starts_with(begun)).collect()
    }

    fn run(&self, words: Vec<String>) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
        Box::pin(async move { self.do_it(&words).await.map_err(|failure| failure.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use queuectl::Extra as _;

    use super::super::place::{Place, Ports};
    use super::*;

    fn parsed(line: &str) -> Result<(Deed, Option<Which>), i32> {
        let words: Vec<String> = line.split_whitespace().map(ToOwned::to_owned).collect();
        parse(&words, 3).map_err(|failure| failure.status.code())
    }

    #[test]
    fn deeds_and_nodes_are_understood_and_all_else_is_refused() {
        assert_eq!(parsed("kill leader"), Ok((Deed::Kill, Some(Which::Leader))));
        assert_eq!(parsed("pause n3"), Ok((Deed::Pause, Some(Which::Number(3)))));
        assert_eq!(parsed("restart 2"), Ok((Deed::Restart, Some(Which::Number(2)))));
        assert_eq!(parsed("restart"), Ok((Deed::Restart, None)));
        assert_eq!(parsed("logs n1"), Ok((Deed::Logs, Some(Which::Number(1)))));
        for line in ["", "frobnicate", "status n1", "kill n1 n2"] {
            assert_eq!(parsed(line), Err(2), "{line}");
        }
        for line in ["kill n4", "kill n0", "kill x"] {
            assert_eq!(parsed(line), Err(66), "{line}");
        }
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_run_is_told_so() {
        let place = Place::take(None, false, Some(3), Ports::Any).await.unwrap();
        let word = DevWord::new(Cluster::new(place, PathBuf::from("/bin/true"), Vec::new(), false));
        let said = |line: &str| word.run(line.split_whitespace().map(ToOwned::to_owned).collect());
        assert!(said("status").await.unwrap().contains("not started"));
        assert!(said("kill n1").await.unwrap_err().contains("n1 cannot be killed"));
        assert!(said("kill").await.unwrap_err().starts_with("error[usage]: which node?"));
        assert!(said("kill leader").await.unwrap_err().starts_with("error[no_leader]"));
        assert!(said("resume").await.unwrap_err().contains("no node is paused"));
        assert_eq!(said("logs").await.unwrap(), "");

        assert_eq!(word.complete(&["re"]), ["resume", "restart"]);
        assert_eq!(word.complete(&["kill", ""]), ["n1", "n2", "n3", "leader"]);
        assert_eq!(word.complete(&["status", ""]), Vec::<String>::new());
        assert_eq!(word.help().len(), DEEDS.len());
    }
}
