//! The commands that ask a running process, over its control socket.
//!
//! | module | what |
//! |---|---|
//! | [`args`] | their flags |
//! | [`stats`], [`routes`], [`top`] | the work of a process, and who is registered |
//! | [`capture`], [`trace`] | the datagrams and records of its ports |
//! | [`lending`] | what a slave lends |
//! | [`applications`] | what a master serves |
//! | [`disk`] | what a disk has |
//! | [`set`], [`drain`] | commands for it |
//! | [`rates`], [`table`], [`mod@format`] | numbers in the form that people read |
#![forbid(unsafe_code)]

pub mod applications;
pub mod args;
pub mod capture;
pub mod disk;
pub mod drain;
pub mod format;
pub mod lending;
mod printer;
pub mod rates;
pub mod routes;
pub mod set;
mod sink;
pub mod stats;
pub mod table;
pub mod top;
pub mod trace;
mod values;

use crate::args::NameArgs;
use api::error::ApiError;
use common::exit::Failure;
use common::plain;
use common::runtime::runtime;
use common::sockets::{self, path_of};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long an answer may take. A healthy process answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connection of an answer; closed when dropped.
struct Talking(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Talking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A running process.
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its control socket.
    pub socket: PathBuf,
}

impl Target {
    /// Finds the process: the one with the name, or the only one that runs.
    ///
    /// # Errors
    /// The error is [`Failure::Client`]: no process has the name, none runs or several do, or this user does not trust
    /// who answers. It is [`Failure::ExposedDirectory`] when other users can write into the directory of the sockets.
    pub fn find(args: &NameArgs) -> Result<Self, Failure> {
        if let Some(name) = &args.name {
            let socket = path_of(name);
            let directory = sockets::trusted_directory()?;
            if let Ok(stream) = std::os::unix::net::UnixStream::connect(&socket) {
                sockets::check_peer(&stream, &socket)?;
                return Ok(Self { name: name.clone(), socket });
            }
            let others: Vec<String> = sockets::running(directory).into_iter().map(|(name, _)| name).collect();
            let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
            return Err(Failure::Client(format!(
                "no gvm-dp named \"{name}\" answers at {}; running: {others}",
                socket.display()
            )));
        }
        let mut running = sockets::running(sockets::trusted_directory()?);
        match (running.pop(), running.is_empty()) {
            (Some((name, socket)), true) => Ok(Self { name, socket }),
            (None, _) => Err(Failure::Client(format!(
                "no gvm-dp of this user runs (looked in {}): start one, or ask as the user that runs it",
                sockets::directory().display()
            ))),
            (Some((last, _)), false) => {
                let names: Vec<String> = running.into_iter().map(|(name, _)| name).chain([last]).collect();
                Err(Failure::Client(format!("several processes run: choose one with --name ({})", names.join(", "))))
            }
        }
    }

    /// Sends one request without a body and returns the body of its answer.
    ///
    /// # Errors
    /// The error is [`Failure::Usage`] when the process calls the request wrong. It is [`Failure::Client`] when the
    /// process refuses it for another reason, does not answer within 10 seconds, or is not to be trusted.
    pub fn request(&self, method: Method, path: &str) -> Result<Bytes, Failure> {
        self.send(method, path, Bytes::new())
    }

    /// Sends one request with a JSON body and returns the body of its answer.
    ///
    /// # Errors
    /// It fails as [`Target::request`] does. The error is [`Failure::Internal`] when `body` cannot be written as JSON.
    pub fn request_with(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Bytes, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Internal(error.to_string()))?;
        self.send(method, path, body.into())
    }

    /// Reads an answer. All its texts are made safe for a terminal.
    ///
    /// # Errors
    /// The error is [`Failure::Client`]: the body is not JSON, or not that of a `T`.
    pub fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        let value = serde_json::from_slice(body).map(plain::value).and_then(serde_json::from_value);
        value.map_err(|error| self.failed(&format!("answers something else: {error}")))
    }

    fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        runtime()?.block_on(self.fetch(method, path, body))
    }

    /// Sends one request and returns the body of its answer.
    async fn fetch(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.no_answer()),
        }
    }

    fn no_answer(&self) -> Failure {
        self.failed(&"no answer for 10 seconds: is the process stopped?")
    }

    /// Sends one request. When the answer begins, returns it with its connection. An answer that is not a success is an
    /// error.
    async fn open(&self, method: Method, path: &str, body: Bytes) -> Result<(Response<Incoming>, Talking), Failure> {
        match tokio::time::timeout(PATIENCE, self.ask(method, path, body)).await {
            Ok(Ok((answer, talking))) if answer.status() == StatusCode::OK => Ok((answer, talking)),
            Ok(Ok((answer, _))) => {
                let status = answer.status();
                let body = answer.into_body().collect().await.map_err(|error| self.failed(&error))?.to_bytes();
                Err(self.refused(status, &body))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.no_answer()),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(Response<Incoming>, Talking), Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.failed(&error))?;
        // Checked for each connection: another process may have taken the socket.
        sockets::check_peer(&stream, &self.socket)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(&error))?;
        let talking = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "gvm-dp");
        let request = request.header("content-type", "application/json").body(Full::new(body));
        let request = request.map_err(|error| Failure::Internal(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| self.failed(&error))?;
        Ok((answer, Talking(talking)))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let (answer, _talking) = self.ask(method, path, body).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| self.failed(&error))?.to_bytes();
        if status == StatusCode::OK { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    /// The failure that an unsuccessful answer describes.
    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        match self.read::<ApiError>(body) {
            Ok(ApiError { code, message, remedy }) if code.is_usage() => Failure::Usage(format!("{message}: {remedy}")),
            Ok(ApiError { message, remedy, .. }) => self.failed(&format!("{message}: {remedy}")),
            Err(_) => self.failed(&format!("{status}: {}", plain::lines(&String::from_utf8_lossy(body)))),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Client(format!("\"{}\" at {}: {error}", self.name, self.socket.display()))
    }
}
