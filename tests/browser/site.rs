//! The server of the pages: it serves pages and tokens like an app's backend, and receives the pages' reports.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use actix_web::dev::ServerHandle;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::client::{Client, string_at};

/// Inserted into the phone page before its own script.
const WATCH: &str = "<script type=\"module\" src=\"/test/watch.js\"></script>";

/// The parameters that pages read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    /// Lifetime of a token in seconds.
    pub(crate) ttl_s: u32,
    /// The lifetime that the page gets with the token.
    pub(crate) page_ttl_s: u32,
    /// The position where the page starts reading.
    pub(crate) from: &'static str,
}

impl Default for Access {
    fn default() -> Self {
        Self { ttl_s: 300, page_ttl_s: 300, from: "earliest" }
    }
}

/// Everything that pages reported, and the tokens that they got.
#[derive(Debug, Default, Clone)]
pub(crate) struct PageReports {
    /// Ids of the events that a page received or showed, in order.
    pub(crate) events: Vec<String>,
    /// Connection states that the phone page showed, such as `open sse`.
    pub(crate) states: Vec<String>,
    /// Whether the phone page reported missing events.
    pub(crate) gap: bool,
    /// The hub's response to a page's request, or the state of the phone page at its end.
    pub(crate) response: Option<Value>,
    /// Faults that a page reported.
    pub(crate) faults: Vec<String>,
    /// Number of tokens issued.
    pub(crate) tokens: usize,
}

impl PageReports {
    fn add(&mut self, report: &Value) {
        let field = |name: &str| report.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        self.events.extend(field("event"));
        self.states.extend(field("state"));
        self.faults.extend(field("wrong"));
        self.gap |= report.get("gap").is_some();
        if let Some(response) = report.get("answer") {
            self.response = Some(response.clone());
        }
    }
}

struct Backend {
    hub: Client,
    proxy: SocketAddr,
    access: Access,
    reports: watch::Sender<PageReports>,
}

#[derive(Debug)]
pub(crate) struct Site {
    address: SocketAddr,
    reports: watch::Sender<PageReports>,
    server: ServerHandle,
    tasks: JoinSet<()>,
}

impl Site {
    /// Starts the server. It gets tokens from `hub`; pages connect to `proxy`.
    pub(crate) fn start(
        listener: TcpListener,
        hub: Client,
        proxy: SocketAddr,
        access: Access,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let reports = watch::Sender::new(PageReports::default());
        let backend = web::Data::new(Backend { hub, proxy, access, reports: reports.clone() });
        let app = move || {
            App::new()
                .app_data(web::Data::clone(&backend))
                .route("/token", web::post().to(token))
                .route("/report", web::post().to(report))
                .route("/test/{file}", web::get().to(test_page))
                .route("/{file:.*}", web::get().to(phone_page))
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        let server = server.listen(listener).expect("a listening socket").run();
        let handle = server.handle();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.await.expect("the site is served") });
        Self { address, reports, server: handle, tasks }
    }

    /// The URL of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The URL of the same page at another origin.
    pub(crate) fn url_of_other_origin(&self, path: &str) -> String {
        format!("http://localhost:{}/{path}", self.address.port())
    }

    pub(crate) fn reports(&self) -> watch::Receiver<PageReports> {
        self.reports.subscribe()
    }

    pub(crate) async fn stop(mut self) {
        self.server.stop(false).await;
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Issues a token for one order; the same response as `examples/phone/serve.py`.
async fn token(backend: web::Data<Backend>) -> HttpResponse {
    let Access { ttl_s, page_ttl_s, from } = backend.access;
    let requested = json!({"types": ["order.A-1001.*"], "ttl_s": ttl_s});
    let created = backend.hub.post("/v1/stream-tokens", &requested).await.expect(201);
    backend.reports.send_modify(|reports| reports.tokens += 1);
    HttpResponse::Ok().json(json!({
        "hub": format!("http://{}", backend.proxy),
        "token": string_at(&created, "/token"),
        "ttl_s": page_ttl_s,
        "from": from,
    }))
}

async fn report(backend: web::Data<Backend>, body: web::Bytes) -> HttpResponse {
    let new: Vec<Value> = serde_json::from_slice(&body).expect("a list of reports");
    backend.reports.send_modify(|reports| new.iter().for_each(|report| reports.add(report)));
    HttpResponse::NoContent().finish()
}

async fn test_page(file: web::Path<String>) -> HttpResponse {
    page("tests/browser/pages", &file, |text| text)
}

async fn phone_page(file: web::Path<String>) -> HttpResponse {
    let file = if file.is_empty() { "index.html" } else { &*file };
    page("examples/phone", file, |text| text.replace("</title>", &format!("</title>{WATCH}")))
}

fn page(folder: &str, file: &str, adapt: impl FnOnce(String) -> String) -> HttpResponse {
    let content_type = match file.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        _ => return HttpResponse::NotFound().finish(),
    };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(file);
    match fs::read_to_string(path) {
        Ok(text) => {
            HttpResponse::Ok().insert_header((CONTENT_TYPE, content_type)).body(adapt(text))
        }
        Err(_) => HttpResponse::NotFound().finish(),
    }
}
