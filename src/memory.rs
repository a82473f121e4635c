//! How much memory there is to use.

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// Bytes that the system can give without taking them from anybody, and that the control group of this process allows;
/// 0 where the system does not say.
pub(crate) fn free_bytes() -> usize {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let Ok(mut system) = System::new_with_specifics(memory) else { return 0 };
    let available = system.available_memory();
    let allowed = sysinfo::get_current_pid().ok().and_then(|pid| {
        let wanted = ProcessRefreshKind::nothing().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
        system.process(pid)?.cgroup_limits()
    });
    // What a group holds of files that were read counts as its own, though the system takes it back at need.
    let free = allowed.map_or(available, |group| available.min(group.total_memory.saturating_sub(group.rss)));
    usize::try_from(free).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_memory_is_free_and_not_more_than_there_is() {
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
        let all = System::new_with_specifics(memory).map_or(0, |system| system.total_memory());
        assert!((1 << 20..=all).contains(&(free_bytes() as u64)), "{} of {all}", free_bytes());
    }
}
