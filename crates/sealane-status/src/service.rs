//! The service: which path gives what.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use sealane::RoutedConnection;
use serde_json::json;
use tokio::sync::watch;
use tower_service::Service;

use crate::{
    Needs, StatusBody,
    answer::{answer, json, line},
    explain,
    page::Page,
    stream::EventStream,
};

type Metrics = dyn Fn() -> String + Send + Sync;

/// Serves the state of one database; see the [crate]. Clones share everything.
///
/// # Cancel safety
/// Dropping a response's future or body has no effect on anything else.
#[derive(Clone)]
pub struct StatusService {
    db: RoutedConnection,
    needs: Needs,
    metrics: Option<Arc<Metrics>>,
    page: Arc<Page>,
    end: Arc<watch::Sender<bool>>,
}

impl StatusService {
    /// Shows `db`, and needs a [primary](Needs::primary) to be ready. The settings and the session
    /// of `db` apply to what `/explain` tells.
    #[must_use]
    pub fn new(db: &RoutedConnection) -> Self {
        StatusService {
            db: db.clone(),
            needs: Needs::default(),
            metrics: None,
            page: Arc::new(Page::new()),
            end: Arc::new(watch::Sender::new(false)),
        }
    }

    /// What `/readyz` needs to answer with 200.
    #[must_use]
    pub fn needs(self, needs: Needs) -> Self {
        StatusService { needs, ..self }
    }

    /// What `/metrics` answers: the text of Prometheus's exposition format. It is a function, so
    /// that this crate depends on no exporter. With `metrics-exporter-prometheus` (its HTTP listener
    /// is not needed, so `default-features = false`):
    ///
    /// ```
    /// # use sealane::RoutedConnection;
    /// # use sealane_status::StatusService;
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    ///
    /// # fn install(db: &RoutedConnection) -> Result<StatusService, Box<dyn std::error::Error>> {
    /// // Before `sealane::connect`, so that nothing is missed.
    /// let handle = PrometheusBuilder::new().install_recorder()?;
    /// let status = StatusService::new(db).metrics(move || {
    ///     handle.run_upkeep();
    ///     handle.render()
    /// });
    /// # Ok(status)
    /// # }
    /// ```
    #[must_use]
    pub fn metrics(self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        StatusService { metrics: Some(Arc::new(render)), ..self }
    }

    /// Ends all streams of events, and all later ones at once, so that a graceful shutdown need not
    /// wait for the pages that are open.
    pub fn end_streams(&self) {
        self.end.send_replace(true);
    }

    /// The answer to anything but a POST.
    fn get(&self, path: &str, uri: &http::Uri) -> Response<StatusBody> {
        match path {
            "/" | "" => self.page.whole(&self.db),
            "/fragment" => self.page.fragment(&self.db),
            "/livez" => line(StatusCode::OK, "alive\n"),
            "/readyz" => self.readiness(),
            "/metrics" => self.metrics_text(),
            "/status.json" => json(StatusCode::OK, &self.db.status()),
            "/report.json" => json(StatusCode::OK, &self.db.report()),
            "/events" => self.events(),
            "/explain" => match explain::of_query(uri) {
                Ok(sql) => json(StatusCode::OK, &explain::explain(&self.db, &sql)),
                Err((status, text)) => line(status, text),
            },
            _ => line(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }

    fn readiness(&self) -> Response<StatusBody> {
        let missing = self.needs.missing(&self.db.status());
        let texts: Vec<_> = missing.iter().map(ToString::to_string).collect();
        let is_ready = missing.is_empty();
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(status, &json!({ "ready": is_ready, "text": texts.join("; "), "missing": missing }))
    }

    fn metrics_text(&self) -> Response<StatusBody> {
        match &self.metrics {
            Some(render) => answer(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                StatusBody::whole(render()),
            ),
            None => line(StatusCode::NOT_FOUND, "the application gives no metrics\n"),
        }
    }

    fn events(&self) -> Response<StatusBody> {
        let stream = EventStream::new(self.db.events(), &self.end);
        let mut response = answer(StatusCode::OK, "text/event-stream", StatusBody::events(stream));
        // nginx would keep events back until its buffer is full.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

impl<B> Service<Request<B>> for StatusService
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<StatusBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        let (head, body) = request.into_parts();
        Box::pin(async move {
            let path = head.uri.path();
            Ok(match (head.method, path) {
                (Method::GET, _) => service.get(path, &head.uri),
                (Method::HEAD, _) => {
                    let mut response = service.get(path, &head.uri);
                    *response.body_mut() = StatusBody::whole("");
                    response
                }
                (Method::POST, "/explain") => match explain::of_body(&head.headers, body).await {
                    Ok(sql) => json(StatusCode::OK, &explain::explain(&service.db, &sql)),
                    Err((status, text)) => line(status, text),
                },
                (_, path) => refused(path),
            })
        })
    }
}

fn refused(path: &str) -> Response<StatusBody> {
    let mut response = line(StatusCode::METHOD_NOT_ALLOWED, "this can only be read\n");
    let allowed = if path == "/explain" { "GET, HEAD, POST" } else { "GET, HEAD" };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

impl fmt::Debug for StatusService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusService").field("needs", &self.needs).finish_non_exhaustive()
    }
}
