//! A process's memory over time.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::Outcome;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Bytes that are resident, one look after the other.
pub(super) async fn look(process: u32, began: Instant, until: Duration) -> Outcome<Vec<u64>> {
    let path = format!("/proc/{process}/status");
    let mut looks = Vec::new();
    while began.elapsed() < until {
        let status = fs::read_to_string(&path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        looks.push(1024 * kilobytes.ok_or_else(|| format!("{path} has no VmRSS"))?);
        sleep_until((Instant::now() + EVERY).min(began + until)).await;
    }
    Ok(looks)
}
