//! A database of the test, in the cluster that `scripts/with-postgres` runs.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use url::Url;
use uuid::Uuid;

/// An empty database; it is removed with its cluster.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: String,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let given = std::env::var_os("DATABASE_URL").expect("DATABASE_URL; run `make test`");
        let given = given.into_string().expect("UTF-8");
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut cluster = Self { url: given }.connect().await;
        let create = format!("CREATE DATABASE {name}");
        cluster.execute(AssertSqlSafe(create)).await.expect("the database is made");
        cluster.close().await.expect("the connection ends");
        Self { url: Self::renamed(&name) }
    }

    fn renamed(name: &str) -> String {
        let given = std::env::var_os("DATABASE_URL").and_then(|url| url.into_string().ok());
        let mut url = Url::parse(&given.unwrap_or_default()).expect("a URL");
        url.set_path(name);
        url.into()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The database's URL through a TCP port on this machine.
    pub(crate) fn url_by_way_of(&self, port: u16) -> String {
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
        PgConnection::connect_with(&options).await.expect("Postgres answers")
    }

    /// The number that a query returns.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        let asked = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        asked.fetch_one(&mut self.connect().await).await.expect(query)
    }
}
