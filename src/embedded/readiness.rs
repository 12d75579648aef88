//! Checks whether Postgres accepts connections, by opening one.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::cluster::DATABASE;

/// Protocol 3.0, as the startup message writes it (PostgreSQL manual, "Message Formats").
const PROTOCOL: u32 = 3 << 16;
/// Messages before the first query are far smaller.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The SQLSTATE `cannot_connect_now`: starting up, recovering, or shutting down.
const CANNOT_CONNECT_NOW: &str = "57P03";
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of an attempt to connect.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// Postgres responded that it is not ready yet, as during recovery.
    NotYet(String),
    /// No session, for any other reason.
    Failed(String),
}

/// Whether Postgres at `socket` accepts a session, which is closed at once. A timeout counts as failed.
pub(super) async fn probe(socket: &Path) -> Readiness {
    match timeout(PROBE_TIMEOUT, open_session(socket)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Readiness::Failed(error.to_string()),
        Err(elapsed) => Readiness::Failed(elapsed.to_string()),
    }
}

/// Sends the startup message, and reads until Postgres accepts or refuses the session.
async fn open_session(socket: &Path) -> io::Result<Readiness> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&startup_message()?).await?;
    loop {
        let kind = stream.read_u8().await?;
        let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
        let body_length = length.saturating_sub(4);
        if body_length > MAX_MESSAGE_BYTES {
            return Err(io::Error::other("the response is not PostgreSQL's protocol"));
        }
        let mut body = vec![0; body_length];
        stream.read_exact(&mut body).await?;
        match kind {
            b'E' => return Ok(refusal(&body)),
            b'Z' => {
                stream.write_all(b"X\x00\x00\x00\x04").await?;
                return Ok(Readiness::Ready);
            }
            _ => {}
        }
    }
}

fn startup_message() -> io::Result<Vec<u8>> {
    let parameters = format!("user\0{DATABASE}\0database\0{DATABASE}\0\0");
    let length = u32::try_from(parameters.len() + 8).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend(PROTOCOL.to_be_bytes());
    message.extend(parameters.as_bytes());
    Ok(message)
}

/// Parses Postgres's error message, in which each field is one letter, a text, NUL.
fn refusal(body: &[u8]) -> Readiness {
    let text = String::from_utf8_lossy(body);
    let field =
        |letter| text.split('\0').find_map(|field| field.strip_prefix(letter)).unwrap_or("");
    let message = field('M').to_owned();
    if field('C') == CANNOT_CONNECT_NOW {
        Readiness::NotYet(message)
    } else {
        Readiness::Failed(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovering_server_is_not_ready_yet_and_a_refusal_is_a_failure() {
        let recovering = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        assert_eq!(
            refusal(recovering),
            Readiness::NotYet("the database system is starting up".to_owned())
        );
        let refusing = b"SFATAL\0C3D000\0Mdatabase \"hookhub\" does not exist\0\0";
        assert_eq!(
            refusal(refusing),
            Readiness::Failed("database \"hookhub\" does not exist".to_owned())
        );
    }
}
