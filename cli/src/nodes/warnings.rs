//! What an operator should look after: nodes that have less than they ask for, and certificates.

use std::time::Duration;

use queue_protocol::names::NodeId;
use queue_protocol::wire::response::StatusView;
use queue_protocol::wire::security::{SecretView, Secured};

use super::Nodes;
use crate::nodes::logs;
use crate::nodes::secret::shown;
use crate::show::clock;
use crate::show::render;

/// A certificate that ends within this time is told.
const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

impl Nodes {
    /// Some node speaks TLS.
    pub(crate) fn speak_tls(&self) -> bool {
        self.answers().any(|status| status.tls.mode != Secured::Off)
    }

    /// What a node has less of than its settings ask for, and what is wrong with its TLS.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let alarm = |status: &StatusView| {
            let alarm = status.tls.alarm.as_ref()?;
            Some(format!("TLS of {}: {alarm}", status.name))
        };
        let ends = |status: &StatusView| {
            let until_ms = status.tls.until_ms.filter(|_| status.tls.alarm.is_none())?;
            let ends_soon = until_ms < clock::unix_ms_in(ENDS_SOON);
            ends_soon
                .then(|| format!("the certificate of {} ends at {}", status.name, clock::rfc3339(until_ms)))
        };
        let few = |status: &StatusView| {
            let (max, asked) = (status.connections_max, status.connections_asked);
            let what =
                format!("{} takes {max} clients, not {asked}: it has too few file descriptors", status.name);
            (max < asked).then_some(what)
        };
        let tls = self.answers().filter_map(|status| alarm(status).or_else(|| ends(status)));
        self.answers().filter_map(few).chain(tls).chain(self.old_secrets()).collect()
    }

    /// All that is not as it should be, a line each, the worst first: voters that do not count, what nodes have too little of,
    /// clocks, a rotation that is under way, and log lines that are others than the settings say.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let (troubles, logs) = (self.judge().troubles(), self.log_choices());
        let all = troubles.into_iter().chain(self.warnings()).chain(self.clocks());
        all.chain(self.rotation()).chain(logs).collect()
    }

    /// What the node that leads says of the secret.
    pub(crate) fn leaders_secret(&self) -> Option<&SecretView> {
        let leader = self.judge().leader?.node;
        self.answers().find(|status| status.node == leader).map(|status| &status.secret)
    }

    /// Names of members, or their numbers where nobody knows them.
    pub(crate) fn names(&self, nodes: &[NodeId]) -> Vec<String> {
        let members = self.members();
        let name =
            |node: &NodeId| members.iter().find(|member| member.node == *node).map(|it| it.name.to_string());
        nodes.iter().map(|node| name(node).unwrap_or_else(|| node.to_string())).collect()
    }

    /// The rotation of the secret that is under way, in a line.
    pub(crate) fn rotation(&self) -> Option<String> {
        let newest = self.answers().max_by_key(|status| status.applied_index)?;
        let rotation = newest.secret.rotation.as_ref()?;
        let named = |what: &str, nodes: &[NodeId]| match nodes {
            [] => String::new(),
            nodes => format!("; {what} {}", self.names(nodes).join(", ")),
        };
        Some(format!(
            "the secret is being rotated to number {}, fingerprint {}: {}{}{}",
            rotation.generation,
            shown(&rotation.fingerprint),
            rotation.phase.as_str(),
            named("waits for", &rotation.waits_for),
            named("left out", &rotation.left_out),
        ))
    }

    /// Nodes that were left out of a rotation.
    fn old_secrets(&self) -> Vec<String> {
        let newest = self.answers().map(|status| status.secret.generation).max().unwrap_or_default();
        let rotating = self.answers().any(|status| status.secret.rotation.is_some());
        let old = self.answers().filter(|status| status.secret.generation < newest && !rotating);
        let told = |status: &StatusView| {
            format!(
                "{} has secret number {}, and the cluster is at number {newest}: stop it, copy the SECRET file of another \
                 member into its data directory, and start it",
                status.name, status.secret.generation
            )
        };
        old.map(told).collect()
    }

    /// Nodes that write other log lines than their settings say.
    pub(crate) fn log_choices(&self) -> Vec<String> {
        let chosen = self.answers().filter(|status| status.log.left_ms.is_some());
        chosen.map(|status| format!("{} logs {}", status.name, logs::said(&status.log))).collect()
    }

    /// Nodes whose clocks are not believed.
    pub(crate) fn clocks(&self) -> Vec<String> {
        let off = self.answers().filter_map(|status| {
            Some(format!("{}: {}", &*status.name, render::clock_off(status.clock_off_ms)?))
        });
        off.collect()
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::wire::logs::{LogLevel, LogView};

    use crate::nodes::tests::one_down;

    #[test]
    fn an_alarm_is_a_line_and_what_is_chosen_for_a_while_stands_last() {
        let mut nodes = one_down();
        let chosen = LogView { level: LogLevel::Debug, settings: LogLevel::Info, left_ms: Some(65_000) };
        for node in &mut nodes.0 {
            let Ok((status, _)) = &mut node.status else { continue };
            if &*status.name == "n2" {
                (status.log, status.connections_max) = (chosen, 7);
                status.connections_asked = 4_096;
            }
        }
        let alarms = nodes.alarms();
        assert_eq!(alarms[0], "n3 does not count: the leader has not heard it yet");
        assert!(alarms[1].starts_with("n2 takes 7 clients, not 4096"), "{alarms:?}");
        assert_eq!(alarms[2..], ["n2 logs debug for another 1m 5s, then info"]);
    }
}
