//! The API and its description, judged by programs that know nothing of ours: a validator of OpenAPI documents, and
//! schemathesis, which makes requests of a description, right ones and wrong ones, and compares the answers with it.
//!
//! They are Python programs; `cargo xtask test` installs them (`requirements.txt`) and says where they are.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../broker/support.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod support;

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use serde_json::json;
use support::{Feed, Running};
use tempfile::TempDir;
use tokio::process::Command;

const TOKEN: &str = "a-token-of-this-test";
/// The same requests each time.
const SEED: &str = "20261125";
/// Requests of each kind that are made of each operation, at most.
const EXAMPLES: &str = "30";
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi");

/// A producer that asks for a token, and a folder for a test's files.
struct Guarded {
    running: Running,
    folder: TempDir,
    _feed: Feed,
}

impl Guarded {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        let mut feed = Feed::new(&[]).await;
        feed.config.token_directory = Some(folder.path().to_owned());
        // What is fetched is what the test orders.
        feed.config.interval = Duration::from_hours(1);
        let running = feed.start().await;
        running
            .until("/health", |_, body| body["status"] == "healthy")
            .await;
        Self {
            running,
            folder,
            _feed: feed,
        }
    }

    /// Runs a program of the Python environment; returns what it printed.
    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(programs().join(program))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let printed = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            output.status.success(),
            "{program} {arguments:?} ended with {}:\n{printed}",
            output.status
        );
        printed
    }
}

/// The folder of the Python environment's programs.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where programs are"
)]
fn programs() -> PathBuf {
    std::env::var("STOCKFEED_TEST_PYTHON")
        .expect("STOCKFEED_TEST_PYTHON should name the bin folder of a Python environment: run `cargo xtask test --only component`")
        .into()
}

#[tokio::test]
async fn the_description_is_valid_and_so_are_its_examples() {
    let guarded = Guarded::start().await;
    let (status, description) = guarded.running.get("/openapi.json").await;
    assert_eq!((status, &description["openapi"]), (200, &json!("3.1.0")));
    let file = guarded.folder.path().join("openapi.json");
    fs::write(&file, description.to_string()).unwrap();
    let file = file.to_str().unwrap();
    guarded
        .run("openapi-spec-validator", &["--schema", "3.1", file])
        .await;
    let script = format!("{HERE}/examples.py");
    let printed = guarded.run("python", &[&script, file]).await;
    println!("{printed}");
    guarded.running.stop().await.unwrap();
}

#[tokio::test]
async fn the_api_does_what_its_description_says() {
    let guarded = Guarded::start().await;
    let url = format!("{}/openapi.json", guarded.running.url);
    let config = format!("{HERE}/schemathesis.toml");
    let token = format!("Authorization: Bearer {TOKEN}");
    println!("the seed is {SEED}");
    #[rustfmt::skip]
    let arguments = [
        "--config-file", &config, "--no-color", "run", &url, "--checks", "all", "--header", &token,
        "--max-examples", EXAMPLES, "--seed", SEED,
    ];
    let printed = guarded.run("schemathesis", &arguments).await;
    println!("{printed}");
    let (_, description) = guarded.running.get("/openapi.json").await;
    // All operations, one at each path, but the description itself, which it has read before.
    let operations = description["paths"].as_object().unwrap().len() - 1;
    assert!(
        printed.contains(&format!("Tested: {operations}")),
        "not every operation was tested"
    );
    guarded.running.stop().await.unwrap();
}
