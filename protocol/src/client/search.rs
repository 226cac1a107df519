//! Finding the leader. One caller of a session looks, the others wait for what it finds; nothing but hellos and
//! statuses is sent to nodes that do not lead.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::links::Linked;
use super::pursuit::{Pursuit, Stop};
use super::session::{Session, Target};
use crate::wire::request::{Call, Request};
use crate::wire::response::{Answer, LeaderView};

/// A node is asked who leads for so long, in milliseconds.
const STATUS_MS_MAX: u64 = 1_000;

impl Pursuit<'_> {
    /// The leader, once one is found.
    ///
    /// # Errors
    /// The end of the pursuit: nobody leads, or nobody can be reached, within the client's timeout.
    pub(super) async fn find_leader(&mut self, session: &Session) -> Result<Arc<Target>, Stop> {
        let until = self.deadline.min(Instant::now() + self.shared.config.timeout);
        let Ok(_searching) = timeout_at(until, session.search.lock()).await else {
            return Err(self.out_of_time().into());
        };
        let mut tries = 0;
        loop {
            if let Some(leader) = self.known_leader(session) {
                if let Some(trouble) = &mut self.trouble {
                    trouble.unreachable = None;
                }
                return Ok(leader);
            }
            if tries > self.shared.config.servers.len() {
                tries = 0;
                self.pause(Duration::ZERO, until).await?;
            }
            tries += 1;
            self.look(session, until).await;
        }
    }

    /// Asks one node who leads: the one that was named last, else the next server.
    async fn look(&mut self, session: &Session, until: Instant) {
        let hint = self.trouble().hint.take();
        let address = match &hint {
            Some(view) => view.address.to_string(),
            None => self.shared.server().unwrap_or_default().to_owned(),
        };
        let linked = match session.links.connect(&address, until).await {
            Ok(linked) => linked,
            Err(error) => {
                self.note_unreachable(&address, error);
                if hint.is_some() {
                    self.trouble().unreachable = hint;
                }
                return;
            }
        };
        self.trouble().reached = true;
        match who_leads(&linked, until).await {
            Some(view) if view.node == linked.connection.accepted().node.node => {
                if self.lacks_index(session) {
                    // It did not lead yet when it said hello.
                    session.links.forget(&address);
                    let trouble = self.trouble();
                    trouble.answering.insert(address.clone());
                    trouble.tried.insert(address, "is about to lead".to_owned());
                    trouble.hint = Some(view);
                    return;
                }
                self.shared.leads(&view);
                let target = Target { address, connection: linked.connection, leader: Some(Arc::new(view)) };
                session.set_leader(Arc::new(target));
            }
            Some(view) => {
                self.redirected(&address, &view);
                session.links.forget(&address);
                self.shared.pass_over(&address);
                self.trouble().hint = Some(view);
            }
            None => {
                let trouble = self.trouble();
                trouble.answering.insert(address.clone());
                trouble.tried.insert(address.clone(), "knows no leader".to_owned());
                session.links.forget(&address);
                self.shared.pass_over(&address);
            }
        }
    }
}

/// The leader in the words of a node: its hello if that is new, else its status.
async fn who_leads(linked: &Linked, until: Instant) -> Option<LeaderView> {
    let said = &linked.connection.accepted().leader;
    if linked.fresh && said.is_some() {
        return said.clone();
    }
    let until = until.min(Instant::now() + Duration::from_millis(STATUS_MS_MAX));
    let timeout_ms = u32::try_from(STATUS_MS_MAX).expect("a second");
    let status = Call::new(None, timeout_ms, Request::Status);
    match linked.connection.call(&status, &[], until).await.ok()?.0.result {
        Ok(Answer::Status(view)) => view.leader,
        _ => None,
    }
}
