//! `hookhub receive`: a receiver for trying out deliveries.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use hookhub::domain::signing::secret::Secret;
use hookhub::tools::receive::{Receiver, ReceiverSettings};

use super::output::print_line;
use super::stop_signals::StopSignals;

#[derive(Args)]
pub(super) struct ReceiveArgs {
    /// Address and port to receive on
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Signing secret of a subscription, whsec_…; may be repeated. Without it no signature is verified
    #[arg(
        long,
        env = "HOOKHUB_RECEIVE_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        value_delimiter = ','
    )]
    secret: Vec<Secret>,

    /// Status codes to answer with, one per delivery; the last repeats
    #[arg(long, default_value = "204", value_name = "STATUS,…", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(200..=599))]
    answer: Vec<u16>,

    /// Time to wait before each answer
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    delay_ms: u64,

    /// Send Retry-After with status 429 and 503
    #[arg(long, value_name = "SECONDS")]
    retry_after_s: Option<u64>,
}

/// Prints each delivery until SIGINT or SIGTERM. Fails if it cannot listen.
pub(super) async fn run(args: ReceiveArgs) -> Result<(), String> {
    let mut signals = StopSignals::listen()?;
    let settings = ReceiverSettings {
        listen: args.listen,
        secrets: args.secret,
        answers: args.answer,
        delay: Duration::from_millis(args.delay_ms),
        retry_after_s: args.retry_after_s,
    };
    let (receiver, mut deliveries) = Receiver::start(settings)
        .await
        .map_err(|error| format!("--listen: cannot receive on {}: {error}", args.listen))?;
    let mut out = std::io::stdout();
    print_line(&mut out, &format!("receiving on http://{}", receiver.address()));
    loop {
        tokio::select! {
            delivery = deliveries.recv() => match delivery {
                Some(delivery) => print_line(&mut out, &delivery.to_string()),
                None => return Ok(()),
            },
            () = signals.recv() => break,
        }
    }
    receiver.stop().await;
    Ok(())
}
