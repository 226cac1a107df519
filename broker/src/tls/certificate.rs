//! What an operator wants to know of a certificate: for whom, until when, which key.

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use queue_protocol::client::tls::pki_types::{CertificateDer, ServerName};
use queue_protocol::client::tls::{Pin, certificates};
use webpki::EndEntityCert;

use super::TlsError;

/// A certificate, as far as it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Names and addresses that it is for.
    pub(crate) names: Vec<String>,
    /// It is an authority's.
    pub(crate) is_authority: bool,
    /// Nobody else signed it.
    pub(crate) is_self_signed: bool,
    /// Begin.
    pub(crate) from: Timestamp,
    /// End.
    pub(crate) until: Timestamp,
    /// The fingerprint of its key.
    pub(crate) pin: Pin,
}

impl Certificate {
    /// The first certificate of a file.
    ///
    /// # Errors
    /// There is none that can be read.
    pub(crate) fn read(path: &Path) -> Result<Self, TlsError> {
        let all = certificates(path).map_err(|error| TlsError::File { what: error.to_string() })?;
        Self::of(&all[0]).ok_or_else(|| TlsError::file(path, "the certificate cannot be read"))
    }

    /// Of the bytes of it; `None` if they are something else.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let parsed = EndEntityCert::try_from(der).ok()?;
        let (from, until) = validity(der)?;
        Some(Self {
            names: names(&parsed),
            is_authority: is_authority(der),
            is_self_signed: parsed.issuer() == parsed.subject(),
            from,
            until,
            pin: Pin::of(der).ok()?,
        })
    }

    /// Whether it is valid at this Unix time in milliseconds.
    pub(crate) fn is_valid_at(&self, wall_ms: u64) -> bool {
        let now = i64::try_from(wall_ms / 1_000).unwrap_or(i64::MAX);
        (self.from.as_second()..=self.until.as_second()).contains(&now)
    }
}

/// Names and addresses, told by the refusal of one that it surely does not have.
fn names(parsed: &EndEntityCert<'_>) -> Vec<String> {
    let nobody = ServerName::try_from("nobody.invalid").expect("it is a name");
    match parsed.verify_is_valid_for_subject_name(&nobody) {
        Err(webpki::Error::CertNotValidForName(context)) => {
            let bare = |name: &String| {
                let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner);
                let inner = inner.trim_end_matches(')').trim_matches('"');
                // As everybody writes addresses.
                inner.parse::<IpAddr>().map_or_else(|_| inner.to_owned(), |address| address.to_string())
            };
            context.presented.iter().map(bare).collect()
        }
        _ => Vec::new(),
    }
}

/// A value of DER: tag, length, content (X.690 §8.1). Lengths of up to four bytes.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The tag of the version, which may be left out.
const VERSION: u8 = 0xa0;

/// Begin and end of a certificate (RFC 5280 §4.1): the fourth value behind the version.
fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate, _) = value(der)?;
    let (_, signed, _) = value(certificate)?;
    let mut rest = match value(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    for _before in ["serial number", "signature", "issuer"] {
        rest = value(rest)?.2;
    }
    let (SEQUENCE, validity, _) = value(rest)? else { return None };
    let (from_tag, from, rest) = value(validity)?;
    let (until_tag, until, _) = value(rest)?;
    Some((time(from_tag, from)?, time(until_tag, until)?))
}

/// `YYMMDDhhmmssZ`, or with four digits of the year.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // RFC 5280 §4.1.2.5.1: below 50 it is this century's.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The extension that says that its subject may sign others: id-ce-basicConstraints with cA TRUE, as DER always has it.
fn is_authority(der: &[u8]) -> bool {
    const EXTENSION: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x13];
    const TRUE: &[u8] = &[0x01, 0x01, 0xff];
    let Some(at) = der.windows(EXTENSION.len()).position(|window| window == EXTENSION) else { return false };
    // Its criticality stands before the value, which is an octet string with a sequence inside.
    let rest = &der[at + EXTENSION.len()..];
    let rest = rest.strip_prefix(TRUE).unwrap_or(rest);
    let inner = value(rest).and_then(|(_, octets, _)| value(octets)).map(|(_, constraints, _)| constraints);
    inner.is_some_and(|constraints| constraints.starts_with(TRUE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_kinds_are_read() {
        let time = |tag, text: &[u8]| time(tag, text).map(|time| time.to_string());
        assert_eq!(time(UTC_TIME, b"261130150000Z").as_deref(), Some("2026-11-30T15:00:00Z"));
        assert_eq!(time(UTC_TIME, b"991231235959Z").as_deref(), Some("1999-12-31T23:59:59Z"));
        assert_eq!(time(GENERALIZED_TIME, b"20991231235959Z").as_deref(), Some("2099-12-31T23:59:59Z"));
        for bad in [&b"261130150000"[..], b"2611301500Z", b"\xff", b""] {
            assert_eq!(time(UTC_TIME, bad), None);
        }
    }

    #[test]
    fn der_that_is_cut_or_claims_too_much_is_refused() {
        let whole = [0x30, 0x82, 0x00, 0x03, 1, 2, 3, 4];
        assert_eq!(value(&whole), Some((0x30, &[1, 2, 3][..], &[4][..])));
        for cut in 0..7 {
            assert_eq!(value(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(value(&[0x30, 0x80, 0, 0]), None);
        assert_eq!(value(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]), None);
    }
}
