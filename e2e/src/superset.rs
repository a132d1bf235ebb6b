//! Superset's REST API, as a user of it, through a port-forward.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    forward::Forward,
    workload::system_selector,
};

/// The port of its pods.
const PORT: u16 = 8080;
/// A chart's query on a busy machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user who is logged in. The port-forward ends with it.
#[derive(Debug)]
pub struct Superset {
    http: reqwest::Client,
    forward: Forward,
    token: String,
    forgery: String,
    cookie: String,
}

impl Superset {
    /// Logs in as the administrator of the chart.
    ///
    /// # Errors
    /// When there is no Superset, or it does not answer.
    pub async fn admin(cluster: &Cluster) -> Result<Self> {
        let texts = cluster.secret(SYSTEM, &format!("{RELEASE}-superset")).await?;
        Self::login(
            cluster,
            value(&texts, "adminUsername")?,
            value(&texts, "adminPassword")?,
        )
        .await
    }

    /// Logs in.
    ///
    /// # Errors
    /// When Superset does not answer or refuses.
    pub async fn login(cluster: &Cluster, username: &str, password: &str) -> Result<Self> {
        let forward = Forward::open(cluster, SYSTEM, &system_selector("superset"), PORT).await?;
        let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
        let url = forward.url();
        let body = json!({"username": username, "password": password, "provider": "db", "refresh": false});
        let answer = http
            .post(format!("{url}/api/v1/security/login"))
            .json(&body)
            .send()
            .await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        let token = answer["access_token"].as_str().context("no token")?.to_owned();
        let answer = http
            .get(format!("{url}/api/v1/security/csrf_token/"))
            .bearer_auth(&token)
            .send()
            .await?
            .error_for_status()?;
        // What is written is accepted in the session that the token against forged requests belongs to.
        let cookie = answer
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
            .collect::<Vec<_>>()
            .join("; ");
        let answer: Value = answer.json().await?;
        let forgery = answer["result"]
            .as_str()
            .context("no token against forged requests")?;
        Ok(Self {
            forgery: forgery.to_owned(),
            http,
            forward,
            token,
            cookie,
        })
    }

    /// Where it is reached from here.
    #[must_use]
    pub fn url(&self) -> String {
        self.forward.url()
    }

    /// What it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let url = format!("{}/api/v1/{path}", self.forward.url());
        let mut request = self
            .http
            .request(method, &url)
            .bearer_auth(&self.token)
            .header("X-CSRFToken", &self.forgery)
            .header(header::COOKIE, &self.cookie)
            .header(header::REFERER, self.forward.url());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{path} is not answered"))?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// What it answers, which must be a success.
    ///
    /// # Errors
    /// When it is none.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, answer) = self.ask(Method::GET, path, None).await?;
        ensure!(status.is_success(), "{path}: {status}: {answer}");
        Ok(answer)
    }

    /// Changes something, as far as it is let.
    ///
    /// # Errors
    /// When Superset does not answer.
    pub async fn put(&self, path: &str, body: &Value) -> Result<StatusCode> {
        Ok(self.ask(Method::PUT, path, Some(body)).await?.0)
    }

    /// The dashboard of a slug; `None`: there is none that this user may see.
    ///
    /// # Errors
    /// When Superset does not answer.
    pub async fn dashboard(&self, slug: &str) -> Result<Option<Value>> {
        let (status, answer) = self.ask(Method::GET, &format!("dashboard/{slug}"), None).await?;
        match status {
            StatusCode::OK => Ok(Some(answer["result"].clone())),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
            other => anyhow::bail!("dashboard {slug}: {other}: {answer}"),
        }
    }

    /// Charts of a dashboard: numbers and names.
    ///
    /// # Errors
    /// When there is no such dashboard.
    pub async fn charts(&self, slug: &str) -> Result<Vec<(i64, String)>> {
        let answer = self.get(&format!("dashboard/{slug}/charts")).await?;
        let charts = answer["result"].as_array().context("no charts")?;
        charts
            .iter()
            .map(|chart| {
                let id = chart["id"].as_i64().context("a chart without a number")?;
                let name = chart["slice_name"].as_str().context("a chart without a name")?;
                Ok((id, name.to_owned()))
            })
            .collect()
    }

    /// What the query saved with a chart answers: its rows.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn rows(&self, chart: i64) -> Result<Vec<Value>> {
        let answer = self.get(&format!("chart/{chart}/data/?force=true")).await?;
        let results = answer["result"].as_array().context("no result")?;
        Ok(results
            .iter()
            .filter_map(|result| result["data"].as_array())
            .flatten()
            .cloned()
            .collect())
    }
}
