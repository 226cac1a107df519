//! How values look, and where time for people comes from. Knows no command.

pub(crate) mod clock;
pub(crate) mod render;
pub(crate) mod table;
