//! `hookhub serve`: runs the hub until a signal stops it.

use hookhub::config::{ServeArgs, Settings};
use hookhub::hub::{AdminKey, Hub};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::output::print_line;
use super::stop_signals::StopSignals;

/// Runs the hub until SIGINT or SIGTERM. A SIGINT during the stop ends it at once, as a failure.
pub(super) async fn run(args: ServeArgs) -> Result<(), String> {
    raise_open_file_limit();
    let settings = Settings::from_args(args).map_err(|error| error.to_string())?;
    let mut signals = StopSignals::listen()?;
    let hub = tokio::select! {
        hub = Hub::start(settings) => hub.map_err(|error| error.to_string())?,
        () = signals.recv() => return Err("stopped while starting".into()),
    };
    print_admin_key(hub.admin_key());
    print_line(&mut std::io::stdout(), &format!("listening on http://{}", hub.address()));
    signals.recv().await;
    let report = tokio::select! {
        report = hub.stop() => report,
        // A second Ctrl-C: the operator does not want to wait.
        _ = signals.interrupt.recv() => {
            return Err("stopped at once; running deliveries will be repeated after the next start".into());
        }
    };
    if report.deliveries_left > 0 {
        let left = report.deliveries_left;
        let line = format!(
            "{left} deliveries were still running at the stop deadline; they will be repeated after the next start"
        );
        print_line(&mut std::io::stdout(), &line);
    }
    Ok(())
}

/// Prints a new key with its file, only the file if it existed before, and nothing if the key is configured.
fn print_admin_key(admin_key: &AdminKey) {
    let Some(file) = admin_key.file() else { return };
    let line = if admin_key.is_new() {
        let key = admin_key.as_str();
        format!("new admin key, shown only this once and kept in {}: {key}", file.display())
    } else {
        format!("the admin key is in {}", file.display())
    };
    print_line(&mut std::io::stdout(), &line);
}

/// Raises the soft limit of open files to the hard limit, because each stream needs one.
fn raise_open_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
