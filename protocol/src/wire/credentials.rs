//! What a client says of itself in its hello: the name of its program, and its login.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::wire::auth::KeyId;
use crate::wire::bounded::{Bounded, Text};

/// Longest that a client may call itself.
pub const CLIENT_NAME_SIZE_MAX: usize = 64;

/// What a program built on this crate is called that does not say its own name.
pub const CLIENT_NAME_DEFAULT: &str = concat!("queue-protocol/", env!("CARGO_PKG_VERSION"));

/// What stands in [`Hello::credentials`](crate::wire::hello::Hello::credentials) of a client, in postcard; an empty list is the
/// same as an empty name and no login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Program and version, as `queuectl/0.1.0`; shown to operators, believed by nobody.
    pub client: Text<CLIENT_NAME_SIZE_MAX>,
    /// As whom it logs in; it is refused if it does not prove that.
    pub login: Option<Login>,
}

/// Who a client says that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Which key proves it; [`KeyId::SECRET`] is the cluster's secret.
    pub key: KeyId,
    /// On whose behalf it acts, if not its own; refused at present.
    pub r#as: Option<Text<64>>,
}

impl Credentials {
    /// Of a program that logs in nowhere; a longer name is cut.
    pub fn of(client: &str) -> Self {
        Self { client: Text::cut(client), login: None }
    }

    /// The same with a login by this key.
    #[must_use]
    pub fn with(self, key: KeyId) -> Self {
        Self { login: Some(Login { key, r#as: None }), ..self }
    }

    /// As a hello carries them.
    ///
    /// # Panics
    /// Never: the bounds of the fields are far below that of the list.
    pub fn to_bytes(&self) -> Bounded<u8, 1024> {
        if *self == Self::default() {
            return Bounded::default();
        }
        let bytes = postcard::to_allocvec(self).expect("plain values always encode");
        Bounded::new(bytes).expect("the bounds of the fields are far below")
    }

    /// What a hello carries.
    ///
    /// # Errors
    /// `not_permitted`: it acts on behalf of others, or the bytes have a layout that this version does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((Self { login: Some(Login { r#as: Some(_), .. }), .. }, [])) => {
                Err(Error::refused(ErrorCode::NotPermitted, "nobody acts on behalf of others in a hello"))
            }
            Ok((credentials, [])) => Ok(credentials),
            _ => Err(Error::refused(ErrorCode::NotPermitted, "the credentials have an unknown layout")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_no_name_is_no_bytes() {
        let named = Credentials::of("queuectl/0.1.0");
        assert_eq!(Credentials::from_bytes(&named.to_bytes()), Ok(named));
        assert!(Credentials::default().to_bytes().is_empty());
        assert_eq!(Credentials::from_bytes(&[]), Ok(Credentials::default()));
        assert_eq!(Credentials::of(&"ä".repeat(40)).client.len(), 64, "cut at a character");
    }

    #[test]
    fn who_acts_on_behalf_of_others_and_what_is_not_understood_are_refused() {
        let key = KeyId(*b"0123456789");
        let own = Credentials::of("x").with(key);
        assert_eq!(Credentials::from_bytes(&own.to_bytes()), Ok(own));
        let login = Some(Login { key, r#as: Some(Text::cut("ann")) });
        let bytes = Credentials { login, ..Credentials::of("x") }.to_bytes();
        for cut in 1..bytes.len() {
            let refused = Credentials::from_bytes(&bytes[..cut]).map_err(|error| error.code);
            assert_eq!(refused, Err(ErrorCode::NotPermitted), "{cut} bytes");
        }
        let refused = Credentials::from_bytes(&bytes).expect_err("that is for later");
        assert!(refused.message.contains("behalf"), "{refused}");
        let longer = [&Credentials::of("x").to_bytes()[..], &[0]].concat();
        assert!(Credentials::from_bytes(&longer).is_err(), "something follows");
    }
}
