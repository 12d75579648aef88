//! The embedded Postgres with real binaries: first start, restart, crashes of either side, and refusals.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use hookhub::embedded::{EmbeddedError, EmbeddedPostgres, EmbeddedSettings};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::runtime;
use tokio::time::{sleep, timeout};

/// Time limit of each test.
const TEST_DEADLINE: Duration = Duration::from_mins(2);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A data directory of the test, in a place that every user can enter.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let open = Permissions::from_mode(0o755);
        let dir =
            tempfile::Builder::new().prefix("hookhub-test-").permissions(open).tempdir_in("/tmp");
        Self { dir: dir.expect("a temporary directory") }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn pid_file(&self) -> PathBuf {
        self.data_dir().join("postgres/postmaster.pid")
    }

    fn postmaster(&self) -> String {
        let text = fs::read_to_string(self.pid_file()).expect("Postgres has a pid file");
        text.lines().next().expect("the pid file has a pid").to_owned()
    }

    fn settings(&self) -> EmbeddedSettings {
        settings(&self.data_dir())
    }

    async fn start(&self) -> EmbeddedPostgres {
        EmbeddedPostgres::start(&self.settings()).await.expect("the embedded Postgres starts")
    }

    async fn refusal(&self) -> EmbeddedError {
        EmbeddedPostgres::start(&self.settings()).await.expect_err("the start is refused")
    }

    /// Starts Postgres under a hub that then vanishes, as after `kill -9`: its runtime is dropped with all tasks,
    /// nothing is stopped, and the lock of the data directory is released.
    fn start_and_kill_the_hub(&self) {
        let settings = self.settings();
        let hub = thread::spawn(move || {
            let runtime =
                runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let embedded =
                runtime.block_on(EmbeddedPostgres::start(&settings)).expect("Postgres starts");
            drop(runtime);
            drop(embedded);
        });
        hub.join().expect("the hub ran");
    }
}

fn settings(data_dir: &Path) -> EmbeddedSettings {
    EmbeddedSettings {
        data_dir: data_dir.to_owned(),
        binaries: None,
        path: std::env::var_os("PATH"),
    }
}

/// Runs the body of a test with a time limit.
async fn bounded(test: impl Future<Output = ()>) {
    timeout(TEST_DEADLINE, test).await.expect("the test ends in time");
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(WAIT_TIMEOUT, wait).await.expect(what);
}

async fn try_sql(embedded: &EmbeddedPostgres, statement: &str) -> Result<String, String> {
    let mut psql = Command::new("psql");
    psql.args([
        "-X",
        "-A",
        "-t",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        embedded.database_url(),
        "-c",
        statement,
    ]);
    let output =
        psql.current_dir("/").kill_on_drop(true).output().await.expect("psql is installed");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

async fn sql(embedded: &EmbeddedPostgres, statement: &str) -> String {
    try_sql(embedded, statement).await.expect("the statement succeeds")
}

async fn kill(signal: &str, pid: &str) {
    let status =
        Command::new("kill").args([signal, pid]).status().await.expect("kill is installed");
    assert!(status.success(), "kill {signal} {pid}");
}

fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn is_one_line(error: &EmbeddedError) -> bool {
    !error.to_string().contains('\n')
}

#[tokio::test]
async fn the_first_start_creates_a_cluster_and_the_next_start_reuses_its_data() {
    bounded(async {
        let place = Place::new();
        let embedded = place.start().await;
        sql(&embedded, "create table note (text text); insert into note values ('kept')").await;
        assert_eq!(sql(&embedded, "show data_checksums").await, "on");
        assert_eq!(sql(&embedded, "show server_encoding").await, "UTF8");
        assert_eq!(sql(&embedded, "show listen_addresses").await, "");
        embedded.stop(STOP_DEADLINE).await;
        assert!(!place.pid_file().exists(), "stop waits for an orderly shutdown of Postgres");

        let embedded = place.start().await;
        assert_eq!(sql(&embedded, "select text from note").await, "kept");
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn a_second_hub_on_the_same_data_directory_is_refused_and_the_first_keeps_running() {
    bounded(async {
        let place = Place::new();
        let first = place.start().await;
        let refusal = place.refusal().await;
        assert!(matches!(refusal, EmbeddedError::InUse { .. }), "{refusal}");
        let text = refusal.to_string();
        assert!(text.contains(place.data_dir().to_str().expect("UTF-8")), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains("HOOKHUB_DATA_DIR") && is_one_line(&refusal), "{text}");
        assert_eq!(sql(&first, "select 1").await, "1");
        first.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn a_killed_postgres_is_restarted_with_all_committed_data() {
    bounded(async {
        let place = Place::new();
        let embedded = place.start().await;
        sql(&embedded, "create table note (text text); insert into note values ('kept')").await;
        let killed = place.postmaster();
        kill("-KILL", &killed).await;

        let back = async {
            loop {
                match try_sql(&embedded, "select text from note").await {
                    Ok(text) if place.postmaster() != killed => return text,
                    Ok(_) | Err(_) => sleep(POLL_INTERVAL).await,
                }
            }
        };
        let text = timeout(WAIT_TIMEOUT, back).await.expect("Postgres is restarted");
        assert_eq!(text, "kept");
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn the_orphaned_postgres_of_a_killed_hub_is_stopped_and_replaced() {
    bounded(async {
        let place = Place::new();
        place.start_and_kill_the_hub();
        let orphan = place.postmaster();
        assert!(runs(&orphan), "a killed hub leaves its Postgres running");

        let embedded = place.start().await;
        assert!(!runs(&orphan), "the orphan was stopped");
        assert_ne!(place.postmaster(), orphan);
        assert_eq!(sql(&embedded, "select 1").await, "1");
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn startup_waits_for_a_session_that_outlives_its_killed_server() {
    bounded(async {
        let place = Place::new();
        place.start_and_kill_the_hub();
        let postmaster = place.postmaster();
        let socket_dir = place.data_dir().join("run");
        let busy_for_a_while = "do $$ declare until timestamptz := clock_timestamp() + '5 s'; \
             begin while clock_timestamp() < until loop null; end loop; end $$";
        let mut session = Command::new("psql")
            .args(["-X", "-q", "-U", "hookhub", "-d", "hookhub", "-c", busy_for_a_while, "-h"])
            .arg(&socket_dir)
            .current_dir("/")
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("psql is installed");
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        let busy = || {
            let children = fs::read_to_string(&children).unwrap_or_default();
            children.split_whitespace().map(str::to_owned).find(|pid| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.contains("[local] DO")
            })
        };
        until("the session is busy", || busy().is_some()).await;
        let backend = busy().expect("the session's process");
        kill("-KILL", &postmaster).await;
        until("the server is gone", || !runs(&postmaster)).await;
        assert!(runs(&backend), "the session outlives its server");

        let embedded = place.start().await;
        assert!(!runs(&backend), "two generations never share the cluster");
        assert_eq!(sql(&embedded, "select 1").await, "1");
        embedded.stop(STOP_DEADLINE).await;
        session.kill().await.expect("psql ends");
    })
    .await;
}

#[tokio::test]
async fn an_unrelated_process_with_the_pid_of_a_dead_postgres_is_not_signalled() {
    bounded(async {
        let place = Place::new();
        place.start().await.stop(STOP_DEADLINE).await;
        let mut stranger =
            Command::new("sleep").arg("600").kill_on_drop(true).spawn().expect("sleep");
        let pid = stranger.id().expect("a running process");
        let cluster = place.data_dir().join("postgres");
        fs::write(place.pid_file(), format!("{pid}\n{}\n", cluster.display()))
            .expect("a written file");

        let embedded = place.start().await;
        assert_eq!(sql(&embedded, "select 1").await, "1");
        assert!(
            stranger.try_wait().expect("the state of the process").is_none(),
            "the other process still runs"
        );
        embedded.stop(STOP_DEADLINE).await;
        stranger.kill().await.expect("the process exits");
    })
    .await;
}

#[tokio::test]
async fn dropping_the_handle_stops_postgres() {
    bounded(async {
        let place = Place::new();
        let embedded = place.start().await;
        let postmaster = place.postmaster();
        drop(embedded);
        until("Postgres ends", || !runs(&postmaster)).await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_overrides_durability_settings_weakened_by_alter_system() {
    bounded(async {
        let place = Place::new();
        let embedded = place.start().await;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            sql(&embedded, &format!("alter system set {setting} = off")).await;
        }
        embedded.stop(STOP_DEADLINE).await;
        let embedded = place.start().await;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert_eq!(sql(&embedded, &format!("show {setting}")).await, "on", "{setting}");
        }
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn a_signal_to_the_hubs_process_group_does_not_reach_postgres() {
    bounded(async {
        let place = Place::new();
        let embedded = place.start().await;
        let postmaster = place.postmaster();
        let stat =
            fs::read_to_string(format!("/proc/{postmaster}/stat")).expect("a running process");
        let group =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2)).expect("a group");
        assert_eq!(group, postmaster, "Postgres leads a group of its own");
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn a_data_directory_too_long_for_a_socket_path_works() {
    bounded(async {
        let place = Place::new();
        let data_dir = place.dir.path().join("long ".repeat(12)).join("x".repeat(120));
        let embedded =
            EmbeddedPostgres::start(&settings(&data_dir)).await.expect("Postgres starts");
        assert_eq!(sql(&embedded, "select 1").await, "1");
        let (_, socket_dir) =
            embedded.database_url().split_once("host=").expect("a socket directory");
        let socket_dir = PathBuf::from(socket_dir);
        let mode = fs::metadata(&socket_dir).expect("the directory exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "only the hub and Postgres have access");
        embedded.stop(STOP_DEADLINE).await;
        assert!(!socket_dir.exists(), "nothing stays outside the data directory");
    })
    .await;
}

#[tokio::test]
async fn a_data_directory_with_special_characters_works() {
    bounded(async {
        let place = Place::new();
        let data_dir = place.dir.path().join("a b+c%&'é");
        let embedded =
            EmbeddedPostgres::start(&settings(&data_dir)).await.expect("Postgres starts");
        assert_eq!(sql(&embedded, "select 1").await, "1");
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn an_existing_private_data_directory_is_used_and_stays_private() {
    bounded(async {
        let place = Place::new();
        fs::create_dir(place.data_dir()).expect("created");
        fs::set_permissions(place.data_dir(), Permissions::from_mode(0o700)).expect("closed");
        fs::create_dir(place.data_dir().join("postgres")).expect("created");
        let embedded = place.start().await;
        assert_eq!(sql(&embedded, "select 1").await, "1");
        let mode =
            fs::metadata(place.data_dir()).expect("the directory exists").permissions().mode();
        assert_eq!(mode & 0o067, 0, "the user of Postgres may only pass through it");
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn an_incomplete_cluster_is_removed_and_recreated() {
    bounded(async {
        let place = Place::new();
        let draft = place.data_dir().join("postgres.new-1");
        fs::create_dir_all(draft.join("base")).expect("created");
        fs::write(draft.join("PG_VERSION"), "15\n").expect("a written file");
        let embedded = place.start().await;
        assert!(!draft.exists(), "the incomplete cluster is removed");
        assert_eq!(sql(&embedded, "select 1").await, "1");
        embedded.stop(STOP_DEADLINE).await;
    })
    .await;
}

#[tokio::test]
async fn a_directory_with_foreign_files_is_left_untouched() {
    bounded(async {
        let place = Place::new();
        let file = place.data_dir().join("postgres/thesis.txt");
        fs::create_dir_all(file.parent().expect("a parent")).expect("created");
        fs::write(&file, "ten years of work").expect("a written file");
        let refusal = place.refusal().await;
        assert!(
            refusal.to_string().contains("data/postgres") && is_one_line(&refusal),
            "{refusal}"
        );
        assert!(file.exists());
    })
    .await;
}

#[tokio::test]
async fn without_postgres_binaries_the_error_names_the_package_and_the_setting() {
    bounded(async {
        let place = Place::new();
        let settings =
            EmbeddedSettings { binaries: Some(place.dir.path().to_owned()), ..place.settings() };
        let refusal = EmbeddedPostgres::start(&settings).await.expect_err("there are none");
        let text = refusal.to_string();
        assert!(matches!(refusal, EmbeddedError::NoBinaries { .. }), "{text}");
        assert!(
            text.contains("apt-get install postgresql") && text.contains("HOOKHUB_POSTGRES_BIN"),
            "{text}"
        );
        assert!(is_one_line(&refusal), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_with_both_remedies() {
    bounded(async {
        let place = Place::new();
        place.start().await.stop(STOP_DEADLINE).await;
        fs::write(place.data_dir().join("postgres/PG_VERSION"), "99\n").expect("a written file");
        let refusal = place.refusal().await;
        let text = refusal.to_string();
        assert!(
            matches!(refusal, EmbeddedError::MajorMismatch { cluster_major: 99, .. }),
            "{text}"
        );
        assert!(text.contains("pg_upgrade") && text.contains("install Postgres 99"), "{text}");
    })
    .await;
}

/// As root, the closed directory keeps out the user that Postgres runs as; as another user, it keeps out the hub
/// itself.
#[tokio::test]
async fn an_inaccessible_parent_directory_is_named_with_the_remedy() {
    bounded(async {
        let place = Place::new();
        let closed = place.dir.path().join("closed");
        fs::create_dir(&closed).expect("created");
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("closed");

        let refusal =
            EmbeddedPostgres::start(&settings(&closed.join("in/data"))).await.expect_err("closed");
        fs::set_permissions(&closed, Permissions::from_mode(0o700))
            .expect("the permissions are restored");

        let text = refusal.to_string();
        match &refusal {
            EmbeddedError::Unreachable { closed: named, .. } => assert_eq!(named, &closed),
            EmbeddedError::Io { path, .. } => assert!(path.starts_with(&closed), "{text}"),
            _ => panic!("another refusal: {text}"),
        }
        assert!(text.contains("--data-dir (HOOKHUB_DATA_DIR)") && is_one_line(&refusal), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_fails_to_start_is_reported_with_its_last_log_lines() {
    bounded(async {
        let place = Place::new();
        place.start().await.stop(STOP_DEADLINE).await;
        fs::write(place.data_dir().join("postgres/postgresql.conf"), "no_such_setting = 1\n")
            .expect("a written file");
        let refusal = place.refusal().await;
        let text = refusal.to_string();
        assert!(text.contains("no_such_setting") && text.contains("postgres.log"), "{text}");
        assert!(is_one_line(&refusal), "{text}");
    })
    .await;
}
