//! Collections with a bound in their type: a peer's claimed length is checked before anything is kept,
//! and nothing is allocated on its word.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Values that room is reserved for before they arrive.
const RESERVED_COUNT_MAX: usize = 1_024;

/// At most `N` values. Decoding refuses more, and reserves room for no more than a few before they arrive.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Bounded<T, const N: usize>(Vec<T>);

/// A value did not fit its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} exceed the limit of {max}")]
pub struct TooMany {
    /// How many there are.
    pub len: usize,
    /// How many may be.
    pub max: usize,
}

impl<T, const N: usize> Bounded<T, N> {
    /// Takes `values` over.
    ///
    /// # Errors
    /// [`TooMany`] if there are more than `N`.
    pub fn new(values: Vec<T>) -> Result<Self, TooMany> {
        if values.len() > N { Err(TooMany { len: values.len(), max: N }) } else { Ok(Self(values)) }
    }

    /// The values.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const N: usize> Default for Bounded<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> Deref for Bounded<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for Bounded<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T, const N: usize> TryFrom<Vec<T>> for Bounded<T, N> {
    type Error = TooMany;
    fn try_from(values: Vec<T>) -> Result<Self, TooMany> {
        Self::new(values)
    }
}

impl<T, const N: usize> IntoIterator for Bounded<T, N> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Values<T, N> {
            type Value = Bounded<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} values")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                const { assert!(size_of::<T>() > 0, "a list of zero-sized values decodes from nothing") };
                if seq.size_hint().is_some_and(|len| len > N) {
                    return Err(A::Error::custom("too many values"));
                }
                let mut values = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(RESERVED_COUNT_MAX));
                while let Some(value) = seq.next_element()? {
                    if values.len() == N {
                        return Err(A::Error::custom("too many values"));
                    }
                    values.push(value);
                }
                Ok(Bounded(values))
            }
        }
        deserializer.deserialize_seq(Values(PhantomData))
    }
}

/// A string of at most `N` bytes.
#[derive(Clone, PartialEq, Eq, Default, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text<const N: usize>(String);

impl<const N: usize> Text<N> {
    /// Takes `text` over.
    ///
    /// # Errors
    /// [`TooMany`] if it is longer than `N` bytes.
    pub fn new(text: impl Into<String>) -> Result<Self, TooMany> {
        let text = text.into();
        if text.len() > N { Err(TooMany { len: text.len(), max: N }) } else { Ok(Self(text)) }
    }

    /// As much of `text` as fits, cut at a character.
    pub fn cut(text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(N));
        Self(text)
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Chars<const N: usize>;
        impl<const N: usize> Visitor<'_> for Chars<N> {
            type Value = Text<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string of at most {N} bytes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<N>, E> {
                Text::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Chars::<N>)
    }
}
