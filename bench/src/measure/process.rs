//! Processor time and memory, as the kernel counts them for each process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc/<pid>/stat`: a constant of the kernel's interface (`USER_HZ`), whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process, from `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Clock ticks of the process itself and of its children that have ended and were waited for: what a process used is
    /// never lost when it ends, it only moves to its parent.
    ticks: u64,
}

/// Seconds of processor time that a process and all below it have used, those that have ended included.
pub fn tree_seconds(root: u32) -> Result<f64> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("failed to read /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and the reading.
        if let Some(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|text| parse_stat(&text))
        {
            all.insert(pid, stat);
        }
    }
    all.get(&root)
        .with_context(|| format!("there is no process {root}"))?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "processor time in ticks is far below 2^52"
    )]
    Ok(below(&all, root)
        .iter()
        .filter_map(|pid| all.get(pid))
        .map(|stat| stat.ticks as f64)
        .sum::<f64>()
        / TICKS_PER_SECOND)
}

/// The most memory that a process has held at once, in MiB.
pub fn peak_memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("there is no process {pid}"))?;
    parse_peak_memory(&status).context("/proc/<pid>/status has no VmHWM")
}

/// A process and everything below it.
fn below(all: &BTreeMap<u32, Stat>, root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, stat)| found.contains(&stat.parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The program's name is in parentheses and may hold anything, so the fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime; the state is field 3.
    let ticks = fields
        .get(11..15)?
        .iter()
        .map(|field| field.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

fn parse_peak_memory(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "4242 (a) b (c) S 17 4242 4242 0 -1 4194304 5000 600 0 0 150 50 30 20 20 0 9 0 12345 1000000 500";

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(
            parse_stat(STAT),
            Some(Stat {
                parent: 17,
                ticks: 250
            })
        );
        assert_eq!(parse_stat("4242 (short) S 17"), None);
    }

    #[test]
    fn peak_memory_is_in_mib() {
        let status = "Name:\tprocessor\nVmPeak:\t  400000 kB\nVmHWM:\t   25600 kB\nVmRSS:\t 20000 kB\n";
        assert_eq!(parse_peak_memory(status), Some(25.0));
        assert_eq!(parse_peak_memory("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_no_strangers() {
        let stat = |parent| Stat { parent, ticks: 1 };
        let all = BTreeMap::from([
            (1, stat(0)),
            (2, stat(1)),
            (9, stat(2)),
            (5, stat(9)),
            (7, stat(1)),
        ]);
        assert_eq!(below(&all, 2), BTreeSet::from([2, 5, 9]));
    }

    #[test]
    fn this_process_has_used_some_memory() -> Result<()> {
        let own = std::process::id();
        assert!(peak_memory(own)? > 0.1 && tree_seconds(own)? >= 0.0);
        Ok(())
    }
}
