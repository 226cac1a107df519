//! Exit codes: grep's 0, 1 and 2 for the everyday cases, sysexits for the rest, one of our own for "unknown".

/// How a command ended, as a script sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Asked, and the answer is no.
    No = 1,
    /// Called wrongly, or confirmation is missing.
    Usage = 2,
    /// Several things asked, some done.
    Part = 3,
    /// Bad input.
    BadData = 65,
    /// No such queue, message or node; the receipt is no longer valid.
    NotFound = 66,
    /// No node could be reached.
    Unreachable = 69,
    /// A bug.
    Bug = 70,
    /// Exists already with other settings, or another conflict.
    Conflict = 73,
    /// Local input or output failed.
    Io = 74,
    /// Nothing was changed: retry as it is.
    Retry = 75,
    /// The other side speaks something else.
    Protocol = 76,
    /// Not permitted.
    Denied = 77,
    /// Bad configuration.
    Config = 78,
    /// Sent and not confirmed: it may have been done.
    Unknown = 79,
    /// Ctrl-C.
    Interrupted = 130,
    /// The reader of standard output went away.
    ReaderGone = 141,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// The number given to the system.
    pub(crate) fn code(self) -> i32 {
        i32::from(self as u8)
    }
}
