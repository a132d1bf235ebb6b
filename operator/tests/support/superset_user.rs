//! What people do in Superset, and a server that is none.

#![allow(
    dead_code,
    reason = "every test binary compiles this, and none uses all of it"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::Method;
use operator::http_client;
use reqwest::header;
use serde_json::{Value, json};
use test_servers::TestSuperset;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Somebody with an account in Superset.
pub struct User {
    pub name: &'static str,
    http: reqwest::Client,
    url: String,
    headers: header::HeaderMap,
}

impl User {
    pub async fn log_in(superset: &TestSuperset, name: &'static str) -> Result<Self> {
        let http = http_client::build(None, Duration::from_secs(60))?;
        let mut user = Self {
            name,
            http,
            url: superset.url.clone(),
            headers: header::HeaderMap::new(),
        };
        let body = json!({"username": name, "password": superset.password, "provider": "db"});
        let token = user.post("security/login", &body).await?["access_token"].clone();
        let token = format!("Bearer {}", token.as_str().context("no token")?);
        user.headers.insert(header::AUTHORIZATION, token.parse()?);
        let request = user.http.get(format!("{}/api/v1/security/csrf_token/", user.url));
        let answer = request
            .headers(user.headers.clone())
            .send()
            .await?
            .error_for_status()?;
        let cookie = answer.headers().get(header::SET_COOKIE).context("no session")?;
        let cookie = cookie.to_str()?.split(';').next().unwrap_or_default().to_owned();
        let token: Value = answer.json().await?;
        user.headers.insert(header::COOKIE, cookie.parse()?);
        user.headers.insert(header::REFERER, user.url.parse()?);
        user.headers.insert(
            "x-csrftoken",
            token["result"].as_str().context("no token")?.parse()?,
        );
        Ok(user)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let request = self
            .http
            .request(method.clone(), format!("{}/api/v1/{path}", self.url));
        let mut request = request.headers(self.headers.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{} {method} {path}: {status} {text}", self.name);
        }
        Ok(serde_json::from_str(&text)?)
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    /// What SQL Lab answers.
    pub async fn query(&self, database: i64, sql: &str) -> Result<Value> {
        let body = json!({"database_id": database, "sql": sql, "runAsync": false});
        self.post("sqllab/execute/", &body).await
    }

    pub async fn list(&self, path: &str, query: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("{path}?q={query}")).await?;
        let result = answer["result"].as_array().cloned();
        result.context("no list")
    }

    pub async fn ids(&self, path: &str) -> Result<Vec<i64>> {
        let found = self.list(path, "(page_size:100)").await?;
        Ok(found.iter().filter_map(|entry| entry["id"].as_i64()).collect())
    }
}

/// A server that gives the same answer to everything. Returns its address.
pub async fn broken_server(answer: &'static str) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 65_536];
                while connection.read(&mut request).await.is_ok_and(|read| read > 0) {
                    if connection.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(format!("http://{address}"))
}
