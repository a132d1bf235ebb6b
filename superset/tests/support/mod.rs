//! A Superset, over REST, as the operator speaks with it.

#![allow(
    dead_code,
    reason = "every test binary compiles this, and none uses all of it"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method, RequestBuilder, header};
use serde_json::{Value, json};
use superset::Bundle;

/// What separates the parts of a form. No archive of ours has it.
const BOUNDARY: &str = "stockfeed-0f1de0c3a5";

/// A session of an administrator.
pub struct Superset {
    http: Client,
    url: String,
    token: String,
    /// Superset wants a token of the session against forged requests, and the session's cookie with it.
    csrf: String,
    cookie: String,
}

impl Superset {
    pub async fn login(url: &str, username: &str, password: &str) -> Result<Self> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = Client::new();
        let url = url.trim_end_matches('/').to_owned();
        let body = json!({"username": username, "password": password, "provider": "db", "refresh": false});
        let login = http
            .post(format!("{url}/api/v1/security/login"))
            .json(&body)
            .send()
            .await?;
        let login: Value = login.error_for_status()?.json().await?;
        let token = login["access_token"]
            .as_str()
            .context("no access_token")?
            .to_owned();
        let answer = http
            .get(format!("{url}/api/v1/security/csrf_token/"))
            .bearer_auth(&token)
            .send()
            .await?
            .error_for_status()?;
        let cookie = answer
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
            .collect::<Vec<_>>()
            .join("; ");
        let csrf: Value = answer.json().await?;
        let csrf = csrf["result"].as_str().context("no token")?.to_owned();
        Ok(Self {
            http,
            url,
            token,
            csrf,
            cookie,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header("X-CSRFToken", &self.csrf)
            .header(header::COOKIE, &self.cookie)
            .header(header::REFERER, &self.url)
    }

    async fn answer(request: RequestBuilder) -> Result<Value> {
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        Self::answer(self.request(Method::GET, path)).await
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        Self::answer(self.request(method, path).json(body)).await
    }

    pub async fn import(&self, bundle: &Bundle, password: &str) -> Result<()> {
        let mut form = Vec::new();
        form.extend_from_slice(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"bundle\"; filename=\"bundle.zip\"\r\n\
                     Content-Type: application/zip\r\n\r\n"
            )
            .as_bytes(),
        );
        form.extend_from_slice(&bundle.zip()?);
        form.extend_from_slice(
            format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"passwords\"\r\n\r\n{}\r\n--{BOUNDARY}--\r\n",
                bundle.passwords(password))
            .as_bytes(),
        );
        let send = || {
            self.request(Method::POST, "/api/v1/assets/import/")
                .header(
                    header::CONTENT_TYPE,
                    format!("multipart/form-data; boundary={BOUNDARY}"),
                )
                .body(form.clone())
        };
        // The first imports into a new Superset make permissions that they share. Of two at once one fails, and has changed nothing.
        for _ in 0..4 {
            if Self::answer(send()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Self::answer(send()).await?;
        Ok(())
    }

    /// What the dashboard is now, as an archive.
    pub async fn export(&self, bundle: &Bundle) -> Result<Vec<u8>> {
        let dashboard = self.get(&format!("/api/v1/dashboard/{}", bundle.slug())).await?;
        let path = format!("/api/v1/dashboard/export/?q=!({})", dashboard["result"]["id"]);
        let answer = self
            .request(Method::GET, &path)
            .send()
            .await?
            .error_for_status()?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// The charts of the dashboard, each with `id`, `slice_name` and its query context.
    pub async fn charts(&self, bundle: &Bundle) -> Result<Vec<(i64, String, Value)>> {
        let charts = self
            .get(&format!("/api/v1/dashboard/{}/charts", bundle.slug()))
            .await?;
        let mut found = Vec::new();
        for chart in charts["result"].as_array().context("result")? {
            let id = chart["id"].as_i64().context("id")?;
            let chart = self.get(&format!("/api/v1/chart/{id}")).await?;
            let context = chart["result"]["query_context"]
                .as_str()
                .context("query_context")?;
            let name = chart["result"]["slice_name"].as_str().context("slice_name")?;
            found.push((id, name.to_owned(), serde_json::from_str(context)?));
        }
        Ok(found)
    }

    /// What a chart's own endpoint answers: the rows of each of its queries.
    pub async fn rows(&self, chart: i64) -> Result<Vec<Vec<Value>>> {
        let answer = self
            .get(&format!("/api/v1/chart/{chart}/data/?force=true"))
            .await?;
        rows(&answer)
    }

    /// What a chart answers with one symbol chosen on its dashboard.
    pub async fn rows_of(&self, context: &Value, symbol: &str) -> Result<Vec<Vec<Value>>> {
        let mut context = context.clone();
        context["force"] = json!(true);
        for query in context["queries"].as_array_mut().into_iter().flatten() {
            if let Some(filters) = query["filters"].as_array_mut() {
                filters.push(json!({"col": "symbol", "op": "IN", "val": [symbol]}));
            }
        }
        rows(&self.send(Method::POST, "/api/v1/chart/data", &context).await?)
    }

    /// Takes a dashboard away, with all that is its own.
    pub async fn remove(&self, bundle: &Bundle) -> Result<()> {
        let dashboard = self.get(&format!("/api/v1/dashboard/{}", bundle.slug())).await?;
        let charts = self.charts(bundle).await?;
        let datasets = self
            .get(&format!("/api/v1/dashboard/{}/datasets", bundle.slug()))
            .await?;
        let datasets: Vec<&Value> = datasets["result"].as_array().into_iter().flatten().collect();
        let mut paths = vec![format!("dashboard/{}", dashboard["result"]["id"])];
        paths.extend(charts.iter().map(|(id, ..)| format!("chart/{id}")));
        paths.extend(
            datasets
                .iter()
                .map(|dataset| format!("dataset/{}", dataset["id"])),
        );
        paths.extend(
            datasets
                .first()
                .map(|dataset| format!("database/{}", dataset["database"]["id"])),
        );
        for path in paths {
            Self::answer(self.request(Method::DELETE, &format!("/api/v1/{path}")))
                .await
                .context(path)?;
        }
        Ok(())
    }

    /// The SQL of each of a chart's queries, for a range of time.
    pub async fn sql(&self, context: &Value, range: &str) -> Result<Vec<String>> {
        let mut context = with_range(context, range);
        context["result_type"] = json!("query");
        let answer = self.send(Method::POST, "/api/v1/chart/data", &context).await?;
        let results = answer["result"].as_array().context("result")?;
        results
            .iter()
            .map(|result| Ok(result["query"].as_str().context("query")?.to_owned()))
            .collect()
    }
}

/// A chart's query for a range of time, as a dashboard's filter asks for it.
pub fn with_range(context: &Value, range: &str) -> Value {
    let mut context = context.clone();
    for query in context["queries"].as_array_mut().into_iter().flatten() {
        for filter in query["filters"].as_array_mut().into_iter().flatten() {
            if filter["op"] == "TEMPORAL_RANGE" {
                filter["val"] = json!(range);
            }
        }
    }
    context
}

fn rows(answer: &Value) -> Result<Vec<Vec<Value>>> {
    let results = answer["result"].as_array().context("result")?;
    results
        .iter()
        .map(|result| {
            ensure!(result["error"].is_null(), "{}", result["error"]);
            Ok(result["data"].as_array().context("data")?.clone())
        })
        .collect()
}
