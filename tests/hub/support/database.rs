//! A database of the test, in the cluster that `scripts/with-postgres` runs.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use url::Url;
use uuid::Uuid;

/// A database of one test. It is not dropped: `scripts/with-postgres` removes the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: String,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let url = std::env::var_os("DATABASE_URL").expect("DATABASE_URL; run `make test`");
        let url = url.into_string().expect("UTF-8");
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut cluster = Self { url }.connect().await;
        let create = format!("CREATE DATABASE {name}");
        cluster.execute(AssertSqlSafe(create)).await.expect("the database is created");
        cluster.close().await.expect("the connection closes");
        Self { url: Self::url_of(&name) }
    }

    fn url_of(name: &str) -> String {
        let given = std::env::var_os("DATABASE_URL").and_then(|url| url.into_string().ok());
        let mut url = Url::parse(&given.unwrap_or_default()).expect("a URL");
        url.set_path(name);
        url.into()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The database's URL over a TCP port of this machine.
    pub(crate) fn url_via_port(&self, port: u16) -> String {
        let name = Url::parse(&self.url).expect("a URL").path().trim_start_matches('/').to_owned();
        format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=disable")
    }

    /// The Unix socket of the cluster.
    pub(crate) fn socket(&self) -> String {
        let url = Url::parse(&self.url).expect("a URL");
        let host =
            url.query_pairs().find(|(name, _)| name == "host").map(|(_, value)| value.into_owned());
        format!("{}/.s.PGSQL.5432", host.expect("DATABASE_URL names a socket directory"))
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        let options = PgConnectOptions::from_str(&self.url).expect("a URL");
        PgConnection::connect_with(&options).await.expect("Postgres accepts")
    }

    /// The number that a query returns.
    pub(crate) async fn query_number(&self, query: &str) -> i64 {
        let query_scalar = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        query_scalar.fetch_one(&mut self.connect().await).await.expect(query)
    }
}
