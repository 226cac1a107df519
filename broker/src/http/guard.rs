//! Who may ask: requests that name a host that is not this one's, and those that a foreign page lets a browser make, are
//! refused. So no page that somebody looks at pushes, pops or reads here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use queue_protocol::error::ErrorCode;

use super::HttpOptions;
use super::answers::Failed;
use super::bearer::{self, Said};
use super::serve::{App, Site};
use crate::mutants::{self, Mutant};

/// Names under which requests may come. An address is always one of them: to rebind a name takes a name.
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// Those of this node, and those that are set.
    pub(super) fn new(site: &Site, options: &HttpOptions, address: SocketAddr) -> Self {
        let me = site.consensus.me();
        let own = [host_of(&me.address), me.name.as_str(), "localhost"];
        let listens = options.listen.as_deref().map(host_of);
        let own = own.into_iter().chain(listens).chain(options.hosts.iter().map(String::as_str));
        let mut names: Vec<String> = own.map(str::to_ascii_lowercase).collect();
        names.push(address.ip().to_string());
        Self(names)
    }

    fn allow(&self, host: &str) -> bool {
        let host = host_of(host);
        let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        is_address
            || self.0.iter().any(|name| name.eq_ignore_ascii_case(host))
            || mutants::on(Mutant::AnyHostAnswered)
    }

    /// Why a request with these headers is not answered, if it is not.
    fn check(&self, headers: &HeaderMap, version: Version) -> Result<(), (StatusCode, String)> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = text(header::HOST);
        match host {
            // As old as HTTP/1.0 is no browser.
            None if version == Version::HTTP_10 => {}
            None => return Err((StatusCode::BAD_REQUEST, "the request names no host".into())),
            Some(host) if !self.allow(host) => {
                let what = format!("{host:?} is no name of this node: add it to http.hosts if it is");
                return Err((StatusCode::MISDIRECTED_REQUEST, what));
            }
            Some(_) => {}
        }
        let own = |origin: &str| {
            let place = origin.split_once("://").map_or(origin, |(_, place)| place);
            host.is_some_and(|host| host.eq_ignore_ascii_case(place))
        };
        let foreign = text(header::ORIGIN).is_some_and(|origin| !own(origin))
            || headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
        if foreign && !mutants::on(Mutant::AnyHostAnswered) {
            return Err((StatusCode::FORBIDDEN, "a page of another site asks".into()));
        }
        Ok(())
    }
}

/// `host` of `host:port`.
fn host_of(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => address,
    }
}

/// Refuses what must not be asked, and counts what is.
pub(super) async fn guard(
    State(app): State<Arc<App>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.as_ref().map_or("other", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let response = match app.hosts.check(request.headers(), request.version()) {
        Err((status, what)) => {
            app.figures.refused("host");
            Failed::of(status, ErrorCode::NotPermitted, what).into_response()
        }
        Ok(()) => match Said::of(&request) {
            Err(failed) => failed.into_response(),
            Ok(said) => match bearer::of(&app, &route, said).await {
                Ok(token) => bearer::on_behalf(token, next.run(request)).await,
                Err(failed) => failed.into_response(),
            },
        },
    };
    app.figures.answered(&method, &route, response.status());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&'static str, &str)], version: Version) -> u16 {
        let hosts = Hosts(vec!["localhost".into(), "n1".into(), "mq.example.net".into()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header's value"));
        }
        hosts.check(&map, version).err().map_or(200, |(status, _)| status.as_u16())
    }

    #[test]
    fn only_names_of_this_node_and_addresses_are_answered() {
        let host = |host| checked(&[("host", host)], Version::HTTP_11);
        for own in
            ["localhost:7411", "LOCALHOST", "127.0.0.1:7411", "[::1]:7411", "10.1.2.3", "mq.example.net"]
        {
            assert_eq!(host(own), 200, "{own}");
        }
        for foreign in ["evil.example:7411", "localhost.evil.example", "", "127.0.0.1.evil.example:80"] {
            assert_eq!(host(foreign), 421, "{foreign}");
        }
        assert_eq!(checked(&[], Version::HTTP_11), 400);
        assert_eq!(checked(&[], Version::HTTP_10), 200);
    }

    #[test]
    fn pages_of_other_sites_are_not_answered() {
        let with = |name, value| checked(&[("host", "localhost:7411"), (name, value)], Version::HTTP_11);
        assert_eq!(with("origin", "http://localhost:7411"), 200);
        assert_eq!(with("origin", "http://evil.example"), 403);
        assert_eq!(with("origin", "null"), 403);
        assert_eq!(with("sec-fetch-site", "cross-site"), 403);
        assert_eq!(with("sec-fetch-site", "none"), 200);
        assert_eq!(with("sec-fetch-site", "same-origin"), 200);
    }
}
