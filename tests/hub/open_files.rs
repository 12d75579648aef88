//! A hub that has used up its file descriptors: new clients wait, and the accept loop does not spin.

use std::fs;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use crate::support::client::try_send_request;
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::process::{Environment, HubProcess};

/// CPU time of a process in hundredths of a second: user and kernel time (proc(5)).
fn spent(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, after_name) = stat.rsplit_once(')').expect("a name");
    let times = after_name.split_whitespace().skip(11).take(2);
    times.map(|time| time.parse::<u64>().expect("a number")).sum()
}

#[tokio::test]
async fn a_hub_without_free_file_descriptors_waits_without_busy_looping_and_then_serves() {
    let (data_dir, database) = (tempfile::tempdir().unwrap(), Database::create().await);
    let environment = Environment::for_hub(data_dir.path()).with("DATABASE_URL", database.url());
    let hub = HubProcess::start(&environment).await;
    hub.client.publish("n", json!(1)).await;
    let pid = hub.program.pid();
    let limit = [format!("--pid={pid}"), "--nofile=120:120".to_owned()];
    assert!(Command::new("prlimit").args(limit).status().await.unwrap().success());
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(hub.address).await.unwrap());
    }
    hub.program.wait_for_line("accepting connection").await;
    let before = spent(pid);
    sleep(Duration::from_secs(2)).await;
    let spent = spent(pid) - before;
    assert!(spent < 100, "{spent} hundredths of a second on CPUs within two seconds");
    assert!(hub.program.output().lines().count() < 50, "{}", hub.program.output());

    drop(idle);
    let served = async || {
        let request = hub.client.request(Method::GET, "/readyz").timeout(Duration::from_secs(2));
        try_send_request(request).await.ok().filter(|response| response.status == 200)
    };
    eventually("the hub serves again", served).await;
    hub.client.publish("n", json!(2)).await;
}
