//! Which node a peer is: shown by a key of its own, and believed by what the cluster has agreed on.
//!
//! ```text
//! peer: signature of the handshake by its key ── holds? ──► what the applied log says of its number
//!                                                            given to this store and key ──► let in
//!                                                            removed ──────────────────────► refused
//!                                                            unknown ──► certificate by the admission key? ──► let in
//! ```
//!
//! A node is not refused because it is no member here: Raft hears nodes that are not in its configuration, a fresh
//! learner and one that was away among them. What the log says counts where it says something, and the certificate only
//! where the entry that it names is not applied yet.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ed25519_dalek::{Signature as Signed, Signer as _, SigningKey, VerifyingKey};
use queue_protocol::error::{Error, ErrorCode};
use queue_protocol::names::{ClusterId, NodeId};
use queue_protocol::wire::handshake::Peer;
use queue_protocol::wire::hello::{JOINING, PeerId};
use queue_protocol::wire::proof::{Certificate, Identity, Signature, Transcript};

use super::dial::Credentials;
use super::floors::Floors;
use crate::mutants::{self, Mutant};
pub(crate) use crate::queue::Admission;
use crate::queue::command::{FoundCluster, Op};
use crate::queue::{FOUNDER, NodeStanding};
use crate::raft::Consensus;
use crate::raft::group::machine::Machine;

/// How often the node that made a cluster looks whether it can say so.
const FOUND_EVERY: Duration = Duration::from_millis(20);

/// A private key, Ed25519.
#[derive(Clone)]
pub(crate) struct Key(SigningKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Of its private half: any 32 random bytes.
    pub(crate) fn new(private: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&private))
    }

    pub(crate) fn private(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature::new(self.0.sign(bytes).to_bytes())
    }
}

/// Whether a signature of `bytes` is by the key of this public half.
fn holds(key: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool {
    let signed = Signed::from_bytes(&signature.bytes());
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(bytes, &signed).is_ok())
}

/// The keys of a member.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The key of this node.
    pub(crate) node: Key,
    /// The cluster's, with which members are certified.
    pub(crate) admission: Key,
    /// Which one that is.
    pub(crate) generation: u32,
    /// The entry that assigned this node's number; 0 of the node that made the cluster.
    pub(crate) index: u64,
}

impl Keys {
    /// The public half of the admission key.
    pub(crate) fn known(&self) -> Admission {
        Admission { generation: self.generation, key: self.admission.public() }
    }

    /// The cluster's word that `key` is that of `id`.
    fn certify(&self, cluster: ClusterId, id: PeerId, key: [u8; 32], index: u64) -> Certificate {
        let (generation, signature) = (self.generation, Signature::new([0; 64]));
        let unsigned = Certificate { key, index, generation, signature };
        Certificate { signature: self.admission.sign(&unsigned.signed(cluster, id)), ..unsigned }
    }

    /// Shows on one connection that this node is `id`.
    pub(crate) fn show(&self, cluster: ClusterId, id: PeerId, transcript: &Transcript) -> Identity {
        let certificate = self.certify(cluster, id, self.node.public(), self.index);
        Identity { signature: self.node.sign(transcript.bytes()), certificate }
    }
}

/// What a member judges others by.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) floors: Arc<Floors>,
    pub(crate) machine: Arc<Machine>,
}

impl Gate {
    /// Whether a peer that proved the secret is the node that it says it is.
    ///
    /// # Errors
    /// See [`judge`].
    pub(crate) fn check(&self, me: &Credentials, peer: &Peer) -> Result<(), Error> {
        let mut admissions = me.ring.admissions();
        let known = self.machine.read(|state, applied| {
            let next = state.rotation().map(|rotation| rotation.next);
            admissions.splice(0..0, state.admission().into_iter().chain(next));
            Known { standing: state.node(peer.hello.node), applied, admissions }
        });
        judge(me.cluster, peer, &known)
    }

    /// What to tell a node that was removed.
    ///
    /// # Errors
    /// It was, as the log applied here says.
    pub(crate) fn check_member(&self, node: NodeId) -> Result<(), Error> {
        match self.machine.read(|state, _| state.node(node)) {
            NodeStanding::Removed => Err(removed(node)),
            _ => Ok(()),
        }
    }
}

fn removed(node: NodeId) -> Error {
    Error::refused(ErrorCode::NodeRemoved, format!("node {node} was removed from the cluster"))
}

/// Ends the connections to nodes that were removed, whenever a membership is applied. Ends with the node; connections
/// that such a node has opened end in [`super::peer_server`].
pub(in crate::raft) async fn end_removed(consensus: Weak<Consensus>) {
    let Some(mut applied) = consensus.upgrade().map(|this| this.machine.memberships()) else { return };
    while applied.changed().await.is_ok() {
        let Some(this) = consensus.upgrade() else { return };
        this.network.end(|node| this.gate.check_member(node).is_err()).await;
    }
}

/// Says what the cluster begins with, once, when the node that made it leads it. Ends when that is known.
pub(in crate::raft) async fn found_cluster(consensus: Weak<Consensus>) {
    loop {
        let Some(this) = consensus.upgrade() else { return };
        if this.machine.read(|state, _| state.admission()).is_some() {
            return;
        }
        let me = &this.me.credentials;
        if let Some(keys) = me.ring.keys().filter(|_| me.node == FOUNDER && this.ready().is_some()) {
            let (store, key) = (me.store, keys.node.public());
            let found = FoundCluster { store, key, admission: keys.known() };
            // What came of it the state says.
            let _ = this.ask_state(Op::FoundCluster(Box::new(found))).await;
        }
        let pulse = this.pulse;
        drop(this);
        pulse.beat(FOUND_EVERY).await;
    }
}

/// What this node knows when it judges a peer.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Of the number that the peer says it has.
    pub(crate) standing: NodeStanding,
    /// Entries up to here are applied.
    pub(crate) applied: u64,
    /// Of the state, and of this node's data directory; two generations while the secret is rotated. The state's is first.
    pub(crate) admissions: Vec<Admission>,
}

/// Whether a peer that proved the secret is the node that it says it is, and may be heard. A node that is joining shows
/// nothing, and may only ask to join.
///
/// # Errors
/// `node_removed` or `not_permitted`.
pub(crate) fn judge(cluster: ClusterId, peer: &Peer, known: &Known) -> Result<(), Error> {
    let (id, node) = (peer.hello.id(), peer.hello.node);
    if node == JOINING {
        return Ok(());
    }
    let refused = |what: String| Err(Error::refused(ErrorCode::NotPermitted, what));
    let Some(Identity { signature, certificate }) = &peer.identity else {
        return refused(format!("number {node} is claimed, and nothing shows whose it is"));
    };
    if !holds(&certificate.key, peer.transcript.bytes(), signature) {
        return refused(format!("the key of node {node} is named, and was not proved on this connection"));
    }
    match known.standing {
        NodeStanding::Removed => Err(removed(node)),
        NodeStanding::Given(given) if (given.store, given.key) == (id.store, certificate.key) => Ok(()),
        NodeStanding::Given(_) => {
            refused(format!("number {node} was given to another node, with another key"))
        }
        // The node that made the cluster is known from the first entry on, or nobody is.
        NodeStanding::Unknown if certificate.index != 0 && certificate.index <= known.applied => {
            let index = certificate.index;
            refused(format!("no node was ever given the number {node}, not by entry {index} either"))
        }
        NodeStanding::Unknown if mutants::on(Mutant::UnknownNodeRefused) => {
            refused(format!("number {node} is not known here"))
        }
        NodeStanding::Unknown => {
            let theirs = certificate.generation;
            let mut named = known.admissions.iter().filter(|key| key.generation == theirs).peekable();
            if named.peek().is_none() {
                let ours = known.admissions.first().map_or(0, |known| known.generation);
                return refused(format!(
                    "node {node} is certified with admission key number {theirs}, and this cluster is at number {ours}"
                ));
            }
            let signed = certificate.signed(cluster, id);
            if named.any(|known| holds(&known.key, &signed, &certificate.signature))
                || mutants::on(Mutant::CertificateNotChecked)
            {
                return Ok(());
            }
            refused(format!("node {node} is not certified by this cluster"))
        }
    }
}

#[cfg(test)]
mod tests {
    use queue_protocol::names::StoreId;
    use queue_protocol::wire::frame::Frame;
    use queue_protocol::wire::hello::{Hello, HelloMessage, HelloRole};
    use queue_protocol::wire::proof::{PLAIN, PeerHello, Secret, Side};

    use super::*;
    use crate::queue::Assigned;

    const CLUSTER: ClusterId = ClusterId(9);
    const ID: PeerId = PeerId { node: NodeId(4), store: StoreId(44) };

    fn keys(index: u64) -> Keys {
        Keys { node: Key::new([4; 32]), admission: Key::new([1; 32]), generation: 1, index }
    }

    /// The transcript of a connection; another one of each number.
    fn transcript(number: u8) -> Transcript {
        let hello = Hello::new(Some(CLUSTER), HelloRole::Peer(ID), 0, [number; 32]);
        let frame = Frame::of(0, &HelloMessage::Hello(Box::new(hello)));
        Transcript::new(&frame, &frame, &PLAIN, Side::Dialer)
    }

    fn peer_of(id: PeerId, identity: Option<Identity>) -> Peer {
        let transcript = transcript(1);
        let hello = PeerHello::nobody(id.node, id.store);
        let secret = Secret([5; 32]);
        let seal = transcript.seal(&secret);
        Peer { hello, cluster: CLUSTER, identity, transcript, seal, secret }
    }

    fn peer(keys: &Keys) -> Peer {
        peer_of(ID, Some(keys.show(CLUSTER, ID, &transcript(1))))
    }

    fn known(standing: NodeStanding, applied: u64) -> Known {
        Known { standing, applied, admissions: vec![keys(0).known()] }
    }

    fn given(store: u128, key: &Key) -> NodeStanding {
        let (store, key) = (StoreId(store), key.public());
        NodeStanding::Given(Assigned { store, key, index: 40, is_member: false })
    }

    fn said(peer: &Peer, known: &Known) -> String {
        judge(CLUSTER, peer, known).expect_err("it is refused").message.to_string()
    }

    #[test]
    fn what_the_log_says_counts_and_where_it_says_nothing_the_certificate() {
        let (own, other) = (keys(40), Key::new([6; 32]));
        let unknown = |applied| known(NodeStanding::Unknown, applied);
        let member = given(44, &own.node);
        assert_eq!(judge(CLUSTER, &peer(&own), &known(member, 40)), Ok(()));
        assert_eq!(judge(CLUSTER, &peer(&own), &unknown(39)), Ok(()), "its entry is not applied yet");
        // A certificate of another admission key does not matter to who has applied the entry.
        let rotated = Keys { admission: other.clone(), generation: 2, ..own.clone() };
        assert_eq!(judge(CLUSTER, &peer(&rotated), &known(member, 40)), Ok(()));

        let removed = judge(CLUSTER, &peer(&own), &known(NodeStanding::Removed, 90)).unwrap_err();
        assert_eq!(removed.code, ErrorCode::NodeRemoved);
        assert!(said(&peer(&own), &known(given(44, &other), 40)).contains("another key"));
        assert!(said(&peer(&own), &known(given(45, &own.node), 40)).contains("another node"));
        assert!(said(&peer(&own), &unknown(40)).contains("ever given"));
        assert!(said(&peer(&rotated), &unknown(39)).contains("admission key number 2"));
        let forged = Keys { admission: other, ..own.clone() };
        assert!(said(&peer(&forged), &unknown(39)).contains("not certified"));
        let founder = judge(CLUSTER, &peer(&keys(0)), &unknown(0));
        assert_eq!(founder, Ok(()), "the first entries are not applied yet");
    }

    #[test]
    fn a_node_is_what_it_proves_on_this_connection_and_a_certificate_is_of_one_node() {
        let own = keys(40);
        let unknown = known(NodeStanding::Unknown, 0);
        assert!(said(&peer_of(ID, None), &unknown).contains("nothing shows"));
        let joining = PeerId { node: JOINING, ..ID };
        assert_eq!(judge(CLUSTER, &peer_of(joining, None), &unknown), Ok(()), "it may only ask to join");
        let elsewhere = own.show(CLUSTER, ID, &transcript(2));
        assert!(said(&peer_of(ID, Some(elsewhere)), &unknown).contains("on this connection"));
        let other_side = own.show(CLUSTER, ID, &transcript(1).of(Side::Acceptor));
        assert!(said(&peer_of(ID, Some(other_side)), &unknown).contains("on this connection"));
        let shown = own.show(CLUSTER, ID, &transcript(1));
        for id in [PeerId { node: NodeId(77), ..ID }, PeerId { store: StoreId(45), ..ID }] {
            assert!(said(&peer_of(id, Some(shown)), &unknown).contains("not certified"), "{id:?}");
        }
        let of_other_cluster = own.show(ClusterId(8), ID, &transcript(1));
        assert!(said(&peer_of(ID, Some(of_other_cluster)), &unknown).contains("not certified"));
        let mut later = shown;
        later.certificate.index = 41;
        assert!(said(&peer_of(ID, Some(later)), &unknown).contains("not certified"));
        assert_eq!(format!("{:?}", Key::new([4; 32])), "Key(..)");
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_certificate_that_is_not_checked_and_a_node_refused_for_being_unknown_are_noticed() {
        let test = |name| format!("raft::node::admission::tests::{name}");
        let states = test("what_the_log_says_counts_and_where_it_says_nothing_the_certificate");
        assert!(mutants::is_caught_by(&states, Mutant::UnknownNodeRefused));
        assert!(mutants::is_caught_by(&states, Mutant::CertificateNotChecked));
    }
}
