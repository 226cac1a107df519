//! The port: connections get a place, are greeted within their deadline, and are handed to those who serve their role.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use queue_protocol::client::{Channel, Stream};
use queue_protocol::error::{Error, ErrorCode, Retry};
use queue_protocol::limits::HELLO_MS_MAX;
use queue_protocol::wire::bounded::Text;
use queue_protocol::wire::handshake::{Greeted as Handshaken, Greeting, HandshakeError, Peer, accept};
use queue_protocol::wire::hello::{Accepted, Hello, HelloRole};
use queue_protocol::wire::io::FrameReader;
use queue_protocol::wire::proof::Told;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::caller::Caller;
use super::connection::serve_client;
use super::greetings::Greeted;
use super::login;
use super::places::Place;
use super::quiet::Kind;
use super::server::Server;
use super::source::Source;
use super::watched::watched;
use crate::outside::Listener;
use crate::queue::KeyNumber;
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
        let (channel, end_point) = (stream.channel(), stream.end_point());
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
        let entered = match outcome {
            Ok(Handshaken { hello, peer, login: None }) => Ok((hello, peer, None)),
            Ok(Handshaken { hello, login: Some(login), .. }) => {
                let key = self.log_in(&hello, login, from, &end_point, &mut reader, &mut writer);
                let key = tokio::time::timeout_at(until, key).await;
                key.unwrap_or(Err(HandshakeError::Deadline)).map(|key| (hello, None, Some(key)))
            }
            Err(error) => Err(error),
        };
        drop(greeted);
        let (hello, peer, login) = match entered {
            Ok(entered) => entered,
            Err(error) => return self.dispatch.quiet.say(Kind::NotGreeted, Some(source), &error),
        };
        let place = place.into_inner();
        reader.lend_by(Arc::clone(&self.lender));
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
                let caller = Caller::new(session, from, client, is_secured, login);
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
            let client = hello.client()?;
            if client.login.is_none()
                && let Some(why) = self.dispatch.shut_out(None)
            {
                return Err(why);
            }
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

    /// Lets a client in that shows that it has a key; the key.
    async fn log_in(
        &self,
        hello: &Hello,
        greeting: Greeting,
        from: SocketAddr,
        end_point: &Channel,
        reader: &mut FrameReader<ReadHalf<Box<dyn Stream>>>,
        writer: &mut WriteHalf<Box<dyn Stream>>,
    ) -> Result<KeyNumber, HandshakeError> {
        let proven = greeting.proven(reader).await?;
        let key = hello.client().ok().and_then(|client| client.login).map(|login| login.key);
        let shown = match (login::may_try(from, end_point), key) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(key)) => {
                let source = Source::of(from);
                self.guesses.pause(source).await;
                let shown =
                    login::check(&self.consensus, key, &greeting.transcript(end_point), &proven).await;
                if shown.as_ref().is_err_and(|error| error.code == ErrorCode::AuthFailed) {
                    self.guesses.failed(source);
                }
                shown
            }
            (Ok(()), None) => unreachable!("its hello has a login"),
        };
        let key = shown.as_ref().map_or(0, |(key, _)| *key);
        greeting.answer(reader, writer, shown.map(|(_, shown)| shown)).await?;
        Ok(key)
    }

    /// When rights change, or a key ends, ends the connections of those that may not stay. Never ends.
    pub(super) async fn end_shut_out(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(250);
        let mut seen = (self.consensus.rights(), self.consensus.read(|state, _| state.wall_ms()));
        loop {
            tokio::time::sleep_until(self.consensus.pulse().next(LOOK_EVERY)).await;
            let mark = self.consensus.rights();
            let (wall_ms, ended) =
                self.consensus.read(|state, _| (state.wall_ms(), state.has_key_ended_since(seen.1)));
            if mark != seen.0 || ended {
                self.stop.send_modify(|stop| stop.rights += 1);
            }
            seen = (mark, wall_ms);
        }
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
