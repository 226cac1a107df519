//! What comes as bytes: the commands of an entry and the state of a snapshot. Another build may have written them.

use std::io;

use crate::queue::command::Batch as Commands;
use crate::queue::{BadSection, BadState, State};
use crate::raft::cluster::levels::NotSpoken;
use crate::raft::group::machine::Machine;
use crate::raft::group::mutated;

impl Machine {
    /// The commands of an entry. Their section was checked when it was read: if it does not decode, or not here, another
    /// build wrote it, and this node must not go on.
    pub(in crate::raft) fn commands(&self, index: u64, section: &[u8]) -> io::Result<Commands> {
        let unspoken = |error: NotSpoken| self.cause.level(error);
        match Commands::decode(section) {
            Ok((level, commands)) => {
                self.spoken.check_batch(level, &commands).map_err(unspoken)?;
                Ok(commands)
            }
            Err(BadSection::Level(level)) => Err(unspoken(self.spoken.unknown(level))),
            Err(bad) => Err(io::Error::other(format!("commands of entry {index}: {bad}"))),
        }
    }

    /// A state that came as bytes.
    pub(in crate::raft) fn decode(&self, bytes: &[u8]) -> io::Result<State> {
        let state = match State::decode(bytes) {
            Err(BadState::Level(level)) => return Err(self.cause.level(self.spoken.unknown(level))),
            state => state.map_err(|e| io::Error::other(format!("the snapshot does not decode: {e}")))?,
        };
        self.spoken.reach(state.level()).map_err(|error| self.cause.level(error))?;
        Ok(mutated::taken(state))
    }
}
