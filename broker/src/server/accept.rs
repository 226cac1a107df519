//! The port: connections get a place, are greeted within their deadline, and are handed to those who serve their role.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use queue_protocol::bounded::Text;
use queue_protocol::client::Stream;
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::handshake::{Greeted as Handshaken, HandshakeError, Peer, accept};
use queue_protocol::hello::{Accepted, Hello, HelloRole};
use queue_protocol::io::FrameReader;
use queue_protocol::limits::HELLO_MS_MAX;
use queue_protocol::proof::Told;
use tokio::time::Instant;

use super::caller::Caller;
use super::connection::serve_client;
use super::greetings::Greeted;
use super::places::Place;
use super::quiet::Kind;
use super::server::Server;
use super::source::Source;
use super::watched::watched;
use crate::outside::Listener;
use crate::raft::{seeded, serve_peer, spawn};
use crate::tls::opening::{Opened, open};

/// Pause after a failed accept (no descriptors left, say), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is asked anew where members are.
const LOCATE_EVERY: Duration = Duration::from_secs(15);

impl Server {
    /// Accepts for ever.
    pub(super) async fn accept(self: &Arc<Self>, listener: &dyn Listener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let source = Source::of(from);
                    match self.greetings.enter(source).await {
                        Some((place, gave_way)) => {
                            if let Some(source) = gave_way {
                                self.dispatch.quiet.say(Kind::GaveWay, Some(source), &"it said no hello");
                            }
                            spawn(Arc::clone(self).greet(stream, from, place));
                        }
                        None => {
                            self.dispatch.quiet.say(Kind::GaveWay, Some(source), &"too many say no hello");
                        }
                    }
                }
                Err(error) => {
                    self.dispatch.quiet.say(Kind::NotAccepted, None, &error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Learns where members are, again and again. Never ends.
    pub(super) async fn locate_members(&self) {
        loop {
            let addresses = self.consensus.member_addresses();
            let mut members = BTreeSet::new();
            for address in addresses {
                // A name that is not known now may be known later.
                let ips = self.consensus.outside().net.resolve(&address).await.unwrap_or_default();
                members.extend(ips.into_iter().map(Source::of_ip));
            }
            self.greetings.set_members(members);
            tokio::time::sleep(LOCATE_EVERY).await;
        }
    }

    /// When nobody is to be spoken to in the clear any more, ends the connections of those that are: after a goodbye, in the
    /// order in which they came, and not all at once. Never ends.
    pub(super) async fn end_plain(&self) {
        /// Of all connections that there ever were, at most this part is looked at at a time.
        const PARTS: u64 = 500;
        const PAUSE: Duration = Duration::from_millis(10);
        let tls = self.consensus.outside().net.tls();
        let mut upto = 0;
        loop {
            tls.required().await;
            let last = self.next_id.load(Ordering::Relaxed);
            let step = ((last - upto) / PARTS).max(1);
            while upto < last {
                upto = last.min(upto + step);
                self.stop.send_modify(|stop| stop.plain_upto = upto);
                tokio::time::sleep(PAUSE).await;
            }
            // Whoever is on the way in still got in before.
            tokio::time::sleep(LOCATE_EVERY).await;
        }
    }

    async fn greet(self: Arc<Self>, stream: Box<dyn Stream>, from: SocketAddr, mut greeted: Greeted) {
        let source = Source::of(from);
        // For everything up to the hello, and the hello.
        let until = Instant::now() + Duration::from_millis(HELLO_MS_MAX);
        let opening = open(stream, self.consensus.outside(), self.http.get().copied());
        let opened = tokio::select! {
            biased;
            opened = tokio::time::timeout_at(until, opening) => opened.unwrap_or(Err(HandshakeError::Deadline)),
            () = greeted.gives_way() => return,
        };
        let Opened { stream, ahead, is_secured } = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return,
            Err(error) => return self.dispatch.quiet.say(Kind::NotGreeted, Some(source), &error),
        };
        let (stream, watch) = watched(stream);
        let channel = stream.channel();
        let (read, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::after(&ahead, read);
        let secrets = self.consensus.me().credentials.ring.accepts();
        // Taken as soon as it is known what the connection is, so that no more are promised than there are.
        let place = OnceLock::new();
        let handshake = accept(
            &mut reader,
            &mut writer,
            &channel,
            &secrets,
            |hello| self.answer(hello, &place),
            |peer| self.admit(peer, source, &place),
        );
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout_at(until, handshake) => outcome.unwrap_or(Err(HandshakeError::Deadline)),
            () = greeted.gives_way() => return,
        };
        drop(greeted);
        let Handshaken { hello, peer } = match outcome {
            Ok(greeted) => greeted,
            Err(error) => return self.dispatch.quiet.say(Kind::NotGreeted, Some(source), &error),
        };
        let place = place.into_inner();
        match (&hello.role, peer) {
            (HelloRole::Peer(_), peer) => {
                let peer = peer.expect("a peer has proved itself");
                let tls = self.consensus.outside().net.tls();
                tokio::select! {
                    () = serve_peer(Arc::clone(&self.consensus), peer, reader, writer) => {}
                    () = tls.required(), if !is_secured => {}
                }
                drop(place);
            }
            (HelloRole::Client { session }, _) => {
                let session = *session;
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                // Read when it was greeted; what is not understood was refused.
                let client = hello.client().unwrap_or_default().client;
                let caller = Caller::new(session, from, client, is_secured);
                let stop = self.stop.subscribe();
                let this = Arc::clone(&self);
                let seed = u64::from_le_bytes(self.consensus.outside().random_bytes());
                self.consensus.outside().tasks.serving(Box::pin(seeded(seed, async move {
                    let dispatch = Arc::clone(&this.dispatch);
                    dispatch.connections.fetch_add(1, Ordering::Relaxed);
                    serve_client(Arc::clone(&dispatch), id, caller, reader, writer, watch, stop).await;
                    dispatch.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                })));
            }
        }
    }

    fn answer(&self, hello: &Hello, place: &OnceLock<Place>) -> Result<Accepted, Error> {
        let me = self.consensus.me();
        let version = hello.check(me.credentials.cluster, me.credentials.node)?;
        if let HelloRole::Client { .. } = hello.role {
            hello.client()?;
            if self.stop.borrow().all {
                return Err(Error::again(ErrorCode::ShuttingDown, "the node is stopping, try another one"));
            }
            let what = || format!("this node serves {} connections already", self.clients.max());
            let Some(taken) = self.clients.take() else {
                self.crowded.fetch_add(1, Ordering::Relaxed);
                return Err(overloaded(what()));
            };
            place.get_or_init(|| taken);
        }
        // A peer is told what it may know once it has proved who it is.
        let is_client = matches!(hello.role, HelloRole::Client { .. });
        // Not the index of its log: what is not committed may go again.
        let leads = is_client && self.consensus.ready().is_some();
        let index = leads.then(|| self.consensus.read(|_, index| index));
        Ok(Accepted {
            version,
            cluster: me.credentials.cluster,
            name: Text::cut(if is_client { me.name.clone() } else { String::new() }),
            node: me.credentials.hello().id(),
            leader: self.consensus.view().leader.filter(|_| is_client),
            features: 0,
            wall_ms: self.consensus.outside().clock.wall_ms(),
            nonce: self.consensus.outside().random_bytes(),
            index,
        })
    }

    /// Whether a peer that proved the secret may in, and what it is told then.
    fn admit(&self, peer: &Peer, from: Source, place: &OnceLock<Place>) -> Result<Told, Error> {
        self.greetings.add_proven(from);
        let what = || format!("this node has {} connections of peers already", self.peers.max());
        let taken = self.peers.take().ok_or_else(|| overloaded(what()))?;
        place.get_or_init(|| taken);
        self.consensus.admit_peer(peer)
    }
}

fn overloaded(what: String) -> Error {
    Error { retry: Retry::AfterMs(1_000), ..Error::again(ErrorCode::Overloaded, what) }
}
