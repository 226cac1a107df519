//! Help for the person who types: contexts, codes, schemas, what is wrong here.

pub(crate) mod catalogue;
pub(crate) mod context;
pub(crate) mod doctor;
pub(crate) mod schema;
