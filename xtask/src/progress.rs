//! Steps that a person can follow: what runs, for how long, where its log lies, and why it failed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const HEARTBEAT: Duration = Duration::from_secs(15);
const TAIL_LINES: usize = 25;

/// Where steps write their logs.
#[derive(Clone, Debug)]
pub struct Progress {
    logs: PathBuf,
}

/// The log of one step; commands run through it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Progress {
    /// Logs go to this folder, one file a step.
    pub fn new(logs: PathBuf) -> Result<Self> {
        fs::create_dir_all(&logs).with_context(|| format!("failed to create {}", logs.display()))?;
        Ok(Self { logs })
    }

    /// A new log, for something that is no step: it says nothing of itself.
    pub fn log(&self, name: &str) -> Result<Log> {
        let path = self.logs.join(format!("{name}.log"));
        File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Log { path })
    }

    /// Runs one step. It says what it does at the start, every 15 seconds, and at the end.
    pub fn step<T>(&self, title: &str, name: &str, work: impl FnOnce(&Log) -> Result<T>) -> Result<T> {
        let log = self.log(name)?;
        println!("==> {title} (log: {})", log.path.display());
        let started = Instant::now();
        let (finished, ticks) = mpsc::channel::<()>();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                // Owned here, so that the heartbeat ends when the step does, by a panic too.
                let ticks = ticks;
                while ticks.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                    println!(
                        "    … {title}: {}{}",
                        elapsed(started.elapsed()),
                        last_line(&log.path)
                    );
                }
            });
            let finished = finished;
            let result = work(&log);
            drop(finished);
            result
        });
        match result {
            Ok(value) => {
                println!("    done: {title} ({})", elapsed(started.elapsed()));
                Ok(value)
            }
            Err(error) => {
                let tail = tail(&log.path, TAIL_LINES);
                Err(error.context(format!(
                    "step failed after {}: {title}\n  log: {}\n  its last lines:\n{tail}",
                    elapsed(started.elapsed()),
                    log.path.display()
                )))
            }
        }
    }
}

impl Log {
    /// The log file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line to the log.
    pub fn note(&self, line: &str) -> Result<()> {
        writeln!(self.open()?, "{line}").context("failed to write a log")
    }

    /// Runs a command to its end; what it prints goes to the log. An exit code other than 0 is an error.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let file = self.start(command)?;
        let status = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("failed to start {}", name_of(command)))?;
        if !status.success() {
            bail!("{} ended with {status}", name_of(command));
        }
        Ok(())
    }

    /// Runs a command to its end and returns what it printed on standard output; standard error goes to the log.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        let file = self.start(command)?;
        let output = command
            .stdout(Stdio::piped())
            .stderr(file)
            .output()
            .with_context(|| format!("failed to start {}", name_of(command)))?;
        if !output.status.success() {
            bail!("{} ended with {}", name_of(command), output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("{} printed no UTF-8", name_of(command)))
    }

    /// As [`Self::output`], for a program that ends with another code when it has found something.
    pub fn output_of_any_status(&self, command: &mut Command) -> Result<String> {
        let file = self.start(command)?;
        let output = command
            .stdout(Stdio::piped())
            .stderr(file)
            .output()
            .with_context(|| format!("failed to start {}", name_of(command)))?;
        String::from_utf8(output.stdout).with_context(|| format!("{} printed no UTF-8", name_of(command)))
    }

    /// The log, opened to append to it: for a process that goes on in the background.
    pub fn open(&self) -> Result<File> {
        OpenOptions::new()
            .append(true)
            .open(&self.path)
            .with_context(|| format!("failed to open {}", self.path.display()))
    }

    fn start(&self, command: &mut Command) -> Result<File> {
        let mut file = self.open()?;
        let words = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        writeln!(file, "$ {} {words}", name_of(command))?;
        command.stdin(Stdio::null());
        Ok(file)
    }
}

fn name_of(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .unwrap_or_else(|| command.get_program())
        .to_string_lossy()
        .into_owned()
}

/// A duration as a person says it.
pub fn elapsed(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// The last lines of a file, indented.
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| format!("    | {line}\n"))
        .collect()
}

fn last_line(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // Progress bars overwrite one line with carriage returns and colour it.
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let line = line
        .rsplit('\r')
        .find(|part| !part.trim().is_empty())
        .unwrap_or(line)
        .trim();
    let line: String = line
        .chars()
        .filter(|character| !character.is_control())
        .take(90)
        .collect();
    if line.is_empty() {
        line
    } else {
        format!(": {line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        assert_eq!(elapsed(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(elapsed(Duration::from_secs(59)), "59 s");
        assert_eq!(elapsed(Duration::from_secs(61)), "1 min 01 s");
    }

    #[test]
    fn a_failed_step_names_its_log_and_shows_its_last_lines() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("stockfeed-progress-{}", std::process::id()));
        let progress = Progress::new(folder.clone())?;
        let failed = progress.step("Doing it", "doing", |log| {
            log.run(Command::new("sh").args(["-c", "echo this is why; exit 3"]))
        });
        let message = format!("{:#}", failed.err().context("the step did not fail")?);
        assert!(
            message.contains("Doing it") && message.contains("doing.log"),
            "{message}"
        );
        assert!(
            message.contains("| this is why") && message.contains("exit status: 3"),
            "{message}"
        );
        Ok(fs::remove_dir_all(folder)?)
    }
}
