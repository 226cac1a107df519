//! What people see of a dev cluster.

use std::time::Duration;

use queue_protocol::wire::response::{Role, StatusView};

use super::place::Place;

/// A node in a table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// `n1`
    pub(super) name: String,
    /// Where it listens.
    pub(super) address: String,
    /// Its process.
    pub(super) state: State,
    /// What it says, if it answers.
    pub(super) status: Option<StatusView>,
}

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Runs under this number.
    Running(u32),
    /// Is stopped under this number.
    Paused(u32),
    /// Has ended, and how.
    Ended(String),
    /// Was not started.
    Absent,
}

impl Row {
    fn pid(&self) -> String {
        match self.state {
            State::Running(pid) | State::Paused(pid) => pid.to_string(),
            State::Ended(_) | State::Absent => "-".to_owned(),
        }
    }

    /// `leader`, `follower`, or why it is neither.
    pub(super) fn role(&self) -> String {
        match (&self.state, &self.status) {
            (State::Paused(_), _) => "paused".to_owned(),
            (State::Ended(how), _) => how.clone(),
            (State::Absent, _) => "not started".to_owned(),
            (State::Running(_), None) => "does not answer".to_owned(),
            (State::Running(_), Some(status)) => role(status.role).to_owned(),
        }
    }
}

/// A word for a role.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
    }
}

/// The screen after a start.
pub(super) fn start(
    rows: &[Row],
    place: &Place,
    temporary: bool,
    took: Duration,
    term: u64,
    checked: &str,
) -> String {
    let nodes = if rows.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", rows.len()) };
    let (data, fate) = match (temporary, place.kept) {
        (true, false) => {
            ("data in a temporary directory (--keep keeps it)".to_owned(), "data is thrown away")
        }
        _ => (format!("data in {} (kept)", place.dir.display()), "on this machine only"),
    };
    let table: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let leads = row.status.as_ref().is_some_and(|status| status.role == Role::Leader);
            let role = if leads { "leader".to_owned() } else { String::new() };
            [row.name.clone(), row.address.clone(), row.pid(), role]
        })
        .collect();
    let table = columns(&["node", "address", "pid", ""], &table);
    let took = took.as_secs_f64();
    let http = place.http_addresses();
    let http = match http.first() {
        Some(first) if cfg!(feature = "http") => {
            let curl = match &place.authority() {
                Some(authority) => format!("curl --cacert {} https://{first}/stats", authority.display()),
                None => format!("curl http://{first}/stats"),
            };
            format!("  HTTP at {}\n  try it: {curl}\n", http.join(" "))
        }
        _ => String::new(),
    };
    let token = super::access::token_file(place);
    let token = token.map_or_else(String::new, |file| format!("    --token-file {}\n", file.display()));
    let (elsewhere, tls) = match place.authority() {
        Some(authority) => (
            format!(
                "  from elsewhere: queuectl -s {}\n    --tls-ca {}\n{token}",
                rows[0].address,
                authority.display()
            ),
            "TLS",
        ),
        None => (token, "no TLS"),
    };
    let login = if place.auth { "login as dev" } else { "no login" };
    format!(
        "queued {version} dev cluster \u{2014} {nodes}\n  {data}\n\n{table}\n  \
         ready in {took:.1} s, term {term}\n  self-check: {checked}\n\
         {http}{elsewhere}  \
         {tls}, {login}, {fate}: not for production\n  \
         Tab completes, `help` lists, `dev` drives the cluster\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// `dev status`
pub(super) fn status(rows: &[Row]) -> String {
    let table: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            let said = |field: fn(&StatusView) -> u64| {
                row.status.as_ref().map_or("-".to_owned(), |status| field(status).to_string())
            };
            let (term, applied) = (said(|status| status.term), said(|status| status.applied_index));
            [row.name.clone(), row.address.clone(), row.pid(), term, applied, row.role()]
        })
        .collect();
    columns(&["node", "address", "pid", "term", "applied", "state"], &table)
}

/// Left-aligned columns, indented by two, two spaces apart.
fn columns<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned() + "\n"
    };
    let rows = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(line(*head)).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::{ClusterId, NodeId};
    use queue_protocol::wire::bounded::{Bounded, Text};

    use super::*;

    fn row(number: u64, state: State, role: Option<Role>) -> Row {
        let status = role.map(|role| StatusView {
            cluster: ClusterId(1),
            node: NodeId(number),
            name: Text::cut("n"),
            role,
            term: 1,
            leader: None,
            last_index: 9,
            commit_index: 9,
            applied_index: 9,
            snapshot_index: 0,
            purged_index: 0,
            disk_free_bytes: 0,
            uptime_ms: 0,
            version: Text::cut("0"),
            drained: false,
            level: queue_protocol::wire::level::Level::FIRST,
            levels: queue_protocol::wire::level::Levels::OURS,
            members: Bounded::default(),
            changing: false,
            clock_off_ms: 0,
            connections_max: 10_000,
            connections_asked: 10_000,
            tls: queue_protocol::wire::security::TlsView::default(),
            secret: queue_protocol::wire::security::SecretView::default(),
            log: queue_protocol::wire::logs::LogView::default(),
            health: queue_protocol::health::HealthView::default(),
        });
        Row { name: format!("n{number}"), address: format!("127.0.0.1:74{number}0"), state, status }
    }

    #[tokio::test]
    async fn the_screen_after_a_start_is_that_of_the_manual() {
        let dir = tempfile::tempdir().unwrap();
        let ports = super::super::place::Ports::Any;
        let place = Place::take(None, false, Some(1), ports).await.unwrap();
        let rows = [
            row(1, State::Running(41230), Some(Role::Leader)),
            row(2, State::Running(41231), Some(Role::Follower)),
            row(3, State::Running(41232), Some(Role::Follower)),
        ];
        let took = Duration::from_millis(600);
        let checked = "pushed at n2, sent on to n1, popped: 2.9 ms";
        let version = env!("CARGO_PKG_VERSION");
        let http = place.http_address(1);
        let expected = format!(
            "\
queued {version} dev cluster \u{2014} 3 nodes
  data in a temporary directory (--keep keeps it)

  node  address         pid
  n1    127.0.0.1:7410  41230  leader
  n2    127.0.0.1:7420  41231
  n3    127.0.0.1:7430  41232

  ready in 0.6 s, term 1
  self-check: pushed at n2, sent on to n1, popped: 2.9 ms
  HTTP at {http}
  try it: curl http://{http}/stats
  no TLS, no login, data is thrown away: not for production
  Tab completes, `help` lists, `dev` drives the cluster
"
        );
        assert_eq!(start(&rows, &place, true, took, 1, checked), expected);
        assert!(expected.lines().all(|line| line.chars().count() <= 80));

        let kept = Place::take(Some(dir.path()), false, Some(1), ports).await.unwrap();
        let screen = start(&rows[..1], &kept, false, took, 1, checked);
        assert!(screen.contains(" 1 node\n  data in /") && screen.contains("(kept)"), "{screen}");
        assert!(!screen.contains("thrown away"), "{screen}");
    }

    #[test]
    fn every_state_of_a_node_is_told() {
        let rows = [
            row(1, State::Running(7), Some(Role::Leader)),
            row(2, State::Running(8), None),
            row(3, State::Paused(9), None),
            row(4, State::Ended("signal 9".into()), None),
            row(5, State::Absent, None),
        ];
        let expected = "  \
  node  address         pid  term  applied  state
  n1    127.0.0.1:7410  7    1     9        leader
  n2    127.0.0.1:7420  8    -     -        does not answer
  n3    127.0.0.1:7430  9    -     -        paused
  n4    127.0.0.1:7440  -    -     -        signal 9
  n5    127.0.0.1:7450  -    -     -        not started
";
        assert_eq!(status(&rows), expected);
    }
}
