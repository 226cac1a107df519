//! What nodes have said of their terms.

use std::collections::BTreeMap;

use harness::cluster::Cluster;
use queue_protocol::names::NodeId;
use queue_protocol::wire::response::Role;

#[derive(Default)]
pub(crate) struct Terms {
    seen: Vec<u64>,
    leaders: BTreeMap<u64, NodeId>,
}

impl Terms {
    /// Asks every node that answers.
    pub(crate) async fn look(&mut self, cluster: &Cluster) {
        self.seen.resize(cluster.count(), 0);
        for n in 0..cluster.count() {
            let Ok(status) = cluster.status(n).await else { continue };
            assert!(status.term >= self.seen[n], "{} was in term {}: {status:?}", status.name, self.seen[n]);
            self.seen[n] = status.term;
            if status.role == Role::Leader {
                let leader = *self.leaders.entry(status.term).or_insert(status.node);
                assert_eq!(leader, status.node, "two nodes lead in term {}", status.term);
            }
        }
    }

    /// Terms in which somebody was seen to lead.
    pub(crate) fn count(&self) -> usize {
        self.leaders.len()
    }
}
