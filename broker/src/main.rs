//! The binary `queued`.

fn main() {}
