//! What happened, line by line: hashed, so that two runs of a seed can be compared; `SIMULATION_TRACE=1` prints it.

use std::time::Duration;

/// FNV-1a, 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The lines so far, as a number.
pub(crate) struct Trace {
    hash: u64,
    print: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: OFFSET, print: std::env::var_os("SIMULATION_TRACE").is_some() }
    }
}

impl Trace {
    /// One more.
    #[expect(clippy::print_stdout, reason = "for whoever asks for it")]
    pub(crate) fn line(&mut self, now: Duration, what: &str) {
        let line = format!("{:9.3} {what}", now.as_secs_f64());
        if self.print {
            println!("{line}");
        }
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }

    /// The same for the same lines.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
