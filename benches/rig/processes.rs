//! CPU time and memory of the processes of a run.

use std::fs;
use std::ops::Sub;

use super::BoxError;

/// CPU time in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) hub_us: f64,
    /// Postgres: the postmaster and all its children, including ended ones.
    pub(crate) postgres_us: f64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            hub_us: self.hub_us - before.hub_us,
            postgres_us: self.postgres_us - before.postgres_us,
        }
    }
}

struct Stat {
    pid: u32,
    parent: u32,
    own_us: f64,
    ended_children_us: f64,
}

/// CPU time of the hub with this pid and of its Postgres.
pub(crate) fn cpu_of(hub: u32) -> Result<Cpu, BoxError> {
    let all: Vec<Stat> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let own = all.iter().find(|one| one.pid == hub).ok_or("the hub is gone")?;
    let mut postgres_us = 0.0;
    for postmaster in all.iter().filter(|one| one.parent == hub) {
        postgres_us += postmaster.own_us + postmaster.ended_children_us;
        postgres_us += all
            .iter()
            .filter(|one| one.parent == postmaster.pid)
            .map(|one| one.own_us)
            .sum::<f64>();
    }
    Ok(Cpu { hub_us: own.own_us, postgres_us })
}

/// Resident memory of a process in KiB, without the kernel's socket buffers.
pub(crate) fn resident_kib(pid: u32) -> Result<f64, BoxError> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// CPU time of this process in microseconds.
pub(crate) fn own_cpu_us() -> f64 {
    stat(std::process::id()).map_or(0.0, |stat| stat.own_us)
}

/// Reads `/proc/<pid>/stat`; times are in ticks of 10 ms.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        own_us: (ticks(11)? + ticks(12)?) * 10_000.0,
        ended_children_us: (ticks(13)? + ticks(14)?) * 10_000.0,
    })
}
