//! Receipts as they are typed.

use std::str::FromStr;

use queue_protocol::names::{BadReceipt, Receipt};

/// A receipt as typed: in full, or `#1` for one of this shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReceiptWord {
    /// `#1`
    Short(u32),
    /// `jobs/4812/9071`
    Full(Receipt),
}

impl FromStr for ReceiptWord {
    type Err = BadReceipt;
    fn from_str(text: &str) -> Result<Self, BadReceipt> {
        match text.strip_prefix('#').map(str::parse) {
            Some(Ok(short)) => Ok(Self::Short(short)),
            Some(Err(_)) => Err(BadReceipt { text: text.to_owned() }),
            None => text.parse().map(Self::Full),
        }
    }
}
