//! What an operator should look after: nodes that have less than they ask for, and certificates.

use std::time::Duration;

use queue_protocol::response::StatusView;
use queue_protocol::security::Secured;

use super::Nodes;
use crate::clock;
use crate::render;

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
        self.answers().filter_map(few).chain(tls).collect()
    }

    /// Nodes whose clocks are not believed.
    pub(crate) fn clocks(&self) -> Vec<String> {
        let off = self.answers().filter_map(|status| {
            Some(format!("{}: {}", &*status.name, render::clock_off(status.clock_off_ms)?))
        });
        off.collect()
    }
}
