//! x
/// x
pub fn main(_: impl IntoIterator<Item = std::ffi::OsString>) -> i32 { 0 }
