//! What `superset/server/start.py` made of an empty database: accounts that may do what their roles say, and no more.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use test_servers::TestSuperset;

struct Session {
    superset: TestSuperset,
    client: Client,
    token: String,
    csrf: String,
}

impl Session {
    async fn of(username: &str) -> anyhow::Result<Self> {
        // Another test of this process may have been first; either way there is a provider.
        rustls::crypto::ring::default_provider().install_default().ok();
        let superset = TestSuperset::ready().await?;
        let client = Client::new();
        let login = client
            .post(format!("{}/api/v1/security/login", superset.url))
            .json(&json!({"username": username, "password": superset.password, "provider": "db"}));
        let answer: Value = login.send().await?.error_for_status()?.json().await?;
        let token = answer["access_token"].as_str().unwrap_or_default().to_owned();
        let mut session = Self {
            superset,
            client,
            token,
            csrf: String::new(),
        };
        let answer: Value = session
            .request(reqwest::Method::GET, "security/csrf_token/")
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        session.csrf = answer["result"].as_str().unwrap_or_default().to_owned();
        Ok(session)
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}/api/v1/{path}", self.superset.url))
            .bearer_auth(&self.token)
            .header("X-CSRFToken", &self.csrf)
    }

    async fn get(&self, path: &str) -> anyhow::Result<StatusCode> {
        Ok(self.request(reqwest::Method::GET, path).send().await?.status())
    }
}

#[tokio::test]
async fn accounts_may_do_what_their_roles_say_and_no_more() -> anyhow::Result<()> {
    // Dashboards, databases, SQL Lab, users.
    for (username, expected) in [
        ("admin", [200, 200, 200, 200]),
        ("stockfeed-operator", [200, 200, 200, 200]),
        ("viewer", [200, 403, 403, 403]),
        ("analyst", [200, 200, 200, 403]),
    ] {
        let session = Session::of(username).await?;
        let mut statuses = Vec::new();
        for path in ["dashboard/", "database/", "sqllab/", "security/users/"] {
            statuses.push(session.get(path).await?.as_u16());
        }
        assert_eq!(statuses, expected, "{username}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_comes_in_with_another_password() -> anyhow::Result<()> {
    let session = Session::of("admin").await?;
    for password in ["admin", ""] {
        let login = session
            .client
            .post(format!("{}/api/v1/security/login", session.superset.url))
            .json(&json!({"username": "admin", "password": password, "provider": "db"}));
        let status = login.send().await?.status();
        assert!(status.is_client_error(), "{password:?}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_name_no_host_that_counts_visitors_and_health_is_told_to_anybody() -> anyhow::Result<()> {
    let session = Session::of("viewer").await?;
    let page = Client::new()
        .get(format!("{}/login/", session.superset.url))
        .send()
        .await?;
    let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
    assert!(
        policy.contains("img-src 'self'") && !policy.contains("scarf"),
        "{policy}"
    );
    for (path, text) in [("live", "alive\n"), ("ready", "there\n")] {
        let url = format!("{}/stockfeed/health/{path}", session.superset.url);
        let answer = Client::new().get(url).send().await?.error_for_status()?;
        assert_eq!(answer.text().await?, text);
    }
    Ok(())
}
