//! Keeps an eye on the cluster while nobody asks: who leads, for the prompt and for a line when that changes;
//! names for completion.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use queue_protocol::client::Client;
use queue_protocol::wire::request::{Consistency, Queues};
use queue_protocol::wire::requests::ask;
use queue_protocol::wire::response::LeaderView;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::grammar::live::{Kind, Source};
use crate::nodes;
use crate::terminal::output::Talk;

/// How often to look while all is well, and while nobody leads.
const CALM: Duration = Duration::from_millis(400);
const WORRIED: Duration = Duration::from_millis(100);
/// How long a node may take before it counts as gone.
const NODE_TIMEOUT: Duration = Duration::from_millis(700);
/// How long nobody may lead before it is said.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The name of the leader, if there is one.
    pub(crate) leader: Option<String>,
    /// Nodes by name.
    pub(crate) nodes: Vec<String>,
    /// Members that answer, and all.
    pub(crate) reachable: (usize, usize),
    /// Somebody answered, or nobody did.
    pub(crate) looked: bool,
}

/// Looks for ever. News go to `talk`, what is known to `view`.
pub(crate) async fn watch(client: Client, servers: Vec<String>, talk: Talk, view: watch::Sender<View>) {
    let mut servers = servers;
    let mut known: BTreeSet<String> = servers.iter().cloned().collect();
    let mut news = News::default();
    loop {
        let gathered = nodes::gather(&client, &servers, NODE_TIMEOUT).await;
        let now = Instant::now();
        let leader = match gathered {
            Ok(nodes) => {
                for member in nodes.members() {
                    if known.insert(member.address.to_string()) {
                        servers.push(member.address.to_string());
                    }
                }
                let leader = nodes.judge().leader;
                view.send_replace(View {
                    leader: leader.as_ref().map(|leader| leader.name.to_string()),
                    nodes: nodes.members().iter().map(|member| member.name.to_string()).collect(),
                    reachable: nodes.reachable(),
                    looked: true,
                });
                leader
            }
            Err(_) => {
                view.send_modify(|view| {
                    view.leader = None;
                    view.looked = true;
                });
                None
            }
        };
        if let Some(text) = news.about(leader, now) {
            talk.line(&text);
        }
        sleep(if news.lost.is_some() { WORRIED } else { CALM }).await;
    }
}

/// Turns what is seen into what is said.
#[derive(Debug, Default)]
struct News {
    last: Option<LeaderView>,
    lost: Option<Instant>,
    said: bool,
}

impl News {
    fn about(&mut self, leader: Option<LeaderView>, now: Instant) -> Option<String> {
        let Some(leader) = leader else {
            let lost = *self.lost.get_or_insert(now);
            let say = !self.said && self.last.is_some() && now.duration_since(lost) >= SILENCE_MAX;
            self.said |= say;
            return say.then(|| "* nobody leads; what is asked now waits for a leader".to_owned());
        };
        let gap = self.lost.take().map(|lost| now.duration_since(lost));
        let said = std::mem::take(&mut self.said);
        let before = self.last.replace(leader.clone())?;
        let without =
            gap.map(|gap| format!(", {:.1} s without a leader", gap.as_secs_f64())).unwrap_or_default();
        if before.node != leader.node {
            Some(format!("* leader moved {} → {} (term {}){without}", before.name, leader.name, leader.term))
        } else if said {
            Some(format!("* {} leads again (term {}){without}", leader.name, leader.term))
        } else {
            None
        }
    }
}

/// How long completion may wait, and how long an answer stays fresh.
const BUDGET: Duration = Duration::from_millis(200);
const FRESH: Duration = Duration::from_secs(5);

type Cache = Arc<Mutex<Option<(Instant, Vec<String>)>>>;

/// Names for completion, asked for on the runtime of `handle` and waited for on the thread that calls.
pub(crate) fn source(
    handle: Handle,
    client: Client,
    view: watch::Receiver<View>,
    receipts: Arc<Mutex<Vec<String>>>,
) -> Source {
    let cache = Cache::default();
    Box::new(move |kind| match kind {
        Kind::Nodes => view.borrow().nodes.clone(),
        Kind::Receipts => receipts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        Kind::Queues => {
            let kept = cache.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((_, names)) = kept.filter(|(at, _)| at.elapsed() < FRESH) {
                return names;
            }
            let (sender, receiver) = channel();
            let (client, cache) = (client.clone(), Arc::clone(&cache));
            handle.spawn(async move {
                let names = queue_names(&client).await;
                if !names.is_empty() {
                    let kept = Some((Instant::now(), names.clone()));
                    *cache.lock().unwrap_or_else(PoisonError::into_inner) = kept;
                }
                let _ = sender.send(names);
            });
            receiver.recv_timeout(BUDGET).unwrap_or_default()
        }
    })
}

/// Names of queues as any node knows them; none if nobody answers.
pub(crate) async fn queue_names(client: &Client) -> Vec<String> {
    let request = Queues { only: None, after: None, consistency: Consistency::Stale };
    match client.ask(ask::Queues(request)).await {
        Ok(answered) => answered.answer.iter().map(|view| view.name.to_string()).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::NodeId;
    use queue_protocol::wire::bounded::Text;

    use super::*;

    fn leader(id: u64, term: u64) -> Option<LeaderView> {
        Some(LeaderView {
            node: NodeId(id),
            name: Text::cut(format!("n{id}")),
            address: Text::cut("a:1"),
            term,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_leader_is_said_once_with_its_gap() {
        let (mut news, start) = (News::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(news.about(leader(1, 1), at(0)), None, "the first is no news");
        assert_eq!(news.about(leader(1, 1), at(400)), None);
        assert_eq!(news.about(None, at(800)), None);
        assert_eq!(news.about(None, at(900)), None);
        let text = news.about(leader(3, 2), at(1_200)).unwrap();
        assert_eq!(text, "* leader moved n1 → n3 (term 2), 0.4 s without a leader");
        assert_eq!(news.about(leader(3, 2), at(1_600)), None);
        assert_eq!(news.about(leader(2, 3), at(2_000)).unwrap(), "* leader moved n3 → n2 (term 3)");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_silence_is_said_once() {
        let (mut news, start) = (News::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        news.about(leader(1, 1), at(0));
        assert_eq!(news.about(None, at(1)), None);
        assert!(news.about(None, at(4)).unwrap().starts_with("* nobody leads"));
        assert_eq!(news.about(None, at(9)), None);
        assert_eq!(
            news.about(leader(1, 2), at(11)).unwrap(),
            "* n1 leads again (term 2), 10.0 s without a leader"
        );
    }
}
