//! HTTP/1.1 by hand: a request is written, an answer is read to its end. Small on purpose, and not ours to be lenient with.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::schema::conforms;

/// No answer takes longer, or there is none.
const LIMIT: Duration = Duration::from_secs(90);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// `200`
    pub status: u16,
    /// Names are lower case.
    pub headers: Vec<(String, String)>,
    /// The body, whatever way it was framed.
    pub body: String,
}

impl Answered {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The same, checked to have this status.
    ///
    /// # Panics
    /// If it has not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The body as a document.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Holds an answer against the document of the node, `/v1/openapi.json`: each that a test sees.
///
/// # Panics
/// If the document says something else of it.
fn documented(method: &str, path: &str, answered: &Answered) {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(queue_broker::http::openapi);
    // What answers for the HTTP library, and the port of the protocol, which is none of HTTP.
    if answered.header("x-content-type-options").is_none() {
        return assert!(answered.status >= 400, "{method} {path}: who answers so? {answered:?}");
    }
    let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let asked = parts(path.split('?').next().unwrap_or(path));
    let is = |template: &str| {
        let template = parts(template);
        let same =
            |(part, asked): (&String, &String)| part == asked || part.starts_with('{') && !asked.is_empty();
        template.len() == asked.len() && template.iter().zip(&asked).all(same)
    };
    let paths = DOCUMENT["paths"].as_object().expect("it has paths");
    let Some((_, operations)) = paths.iter().find(|(template, _)| is(template)) else { return };
    let Some(operation) = operations.get(method.to_ascii_lowercase()) else { return };
    let mut said = operation["responses"].get(answered.status.to_string());
    if said.is_none() {
        assert!(answered.status >= 400, "{method} {path}: no document of {answered:?}");
        said = Some(&DOCUMENT["components"]["responses"]["error"]);
    }
    let kind = answered.header("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let schema = said.and_then(|said| said["content"].get(kind)).map(|content| &content["schema"]);
    let schema = schema.unwrap_or_else(|| panic!("{method} {path}: no document of {kind:?} in {answered:?}"));
    if kind == "application/json"
        && let Err(what) = conforms(&answered.json(), schema, path)
    {
        panic!("{method} {path}: {what} in {answered:?}");
    }
}

/// A connection over which one request follows the other.
pub struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(address: &str) -> std::io::Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(address)).await.map_err(std::io::Error::other)??;
        Ok(Self { stream: BufReader::new(stream), host: address.to_owned() })
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Writes a request and does not wait for its answer.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.host));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method != "GET" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.write(&[head.as_bytes(), body].concat()).await
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// The connection is gone, or what came is no answer.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answered> {
        self.ask(method, path, headers, body).await?;
        let answered = self.answer().await?;
        documented(method, path, &answered);
        Ok(answered)
    }

    /// The next answer.
    ///
    /// # Errors
    /// As [`Http::call`].
    pub async fn answer(&mut self) -> std::io::Result<Answered> {
        timeout(LIMIT, self.read()).await.map_err(std::io::Error::other)?
    }

    /// Status and headers of the next answer; its body is for [`Http::chunk`].
    ///
    /// # Errors
    /// As [`Http::call`].
    pub async fn head(&mut self) -> std::io::Result<(u16, Vec<(String, String)>)> {
        timeout(LIMIT, self.read_head()).await.map_err(std::io::Error::other)?
    }

    /// The next chunk of a body, as the node wrote it; empty at the end.
    ///
    /// # Errors
    /// As [`Http::call`].
    pub async fn chunk(&mut self) -> std::io::Result<String> {
        let bytes = timeout(LIMIT, self.read_chunk()).await.map_err(std::io::Error::other)??;
        String::from_utf8(bytes).map_err(std::io::Error::other)
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    async fn exactly(&mut self, size: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_chunk(&mut self) -> std::io::Result<Vec<u8>> {
        let line = self.line().await?;
        let size = usize::from_str_radix(&line, 16).map_err(std::io::Error::other)?;
        let bytes = self.exactly(size).await?;
        self.line().await?;
        Ok(bytes)
    }

    async fn read_head(&mut self) -> std::io::Result<(u16, Vec<(String, String)>)> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no status in {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok((status, headers))
    }

    async fn read(&mut self) -> std::io::Result<Answered> {
        let (status, headers) = self.read_head().await?;
        let header =
            |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let mut body = Vec::new();
        if header("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
            loop {
                let chunk = self.read_chunk().await?;
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
        } else if let Some(size) = header("content-length") {
            body = self.exactly(size.parse().map_err(std::io::Error::other)?).await?;
        } else if status != 204 {
            self.stream.read_to_end(&mut body).await?;
        }
        let body = String::from_utf8(body).map_err(std::io::Error::other)?;
        Ok(Answered { status, headers, body })
    }
}

/// One request over a connection of its own.
///
/// # Panics
/// If there is no answer.
pub async fn http(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
    let mut http = Http::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    let answered = http.call(method, path, headers, body.as_bytes()).await;
    answered.unwrap_or_else(|error| panic!("{method} {path} at {address}: {error}"))
}
