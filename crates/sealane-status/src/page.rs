//! The page, and the part of it that changes.
//!
//! Rust writes the picture and the tables, so that they are there without JavaScript, and so that
//! there is one place where text becomes HTML. The script fetches the same part again every second,
//! and draws only what needs a memory: the curves.

use std::fmt::{self, Write as _};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Response, StatusCode, header};
use sealane::{EndpointStatus, Health, Report, Role, RoutedConnection, Status, TimedEvent};
use sha2::{Digest, Sha256};

use crate::{
    StatusBody,
    answer::answer,
    html::escaped,
    needs::{Unready, no_primary},
    picture::{class, is_ejected, picture, time},
    spread::spread,
};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The fixed parts.
#[derive(Debug)]
pub(crate) struct Page {
    /// Up to the part that changes.
    before: String,
    after: String,
    policy: Option<HeaderValue>,
}

impl Page {
    pub(crate) fn new() -> Self {
        let html = HTML.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
        let (before, after) = html.split_once("<!--LIVE-->").unwrap_or((&html, ""));
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        );
        let policy = HeaderValue::from_str(&policy).ok();
        Page { before: before.to_owned(), after: after.to_owned(), policy }
    }

    /// The whole page.
    pub(crate) fn whole(&self, db: &RoutedConnection) -> Response<StatusBody> {
        let mut html = self.before.clone();
        // A text takes everything.
        let _ = write!(html, "{}", live(&db.status(), &db.report(), &db.recent_events()));
        html.push_str(&self.after);
        self.answer(html)
    }

    /// The part that changes.
    pub(crate) fn fragment(&self, db: &RoutedConnection) -> Response<StatusBody> {
        self.answer(live(&db.status(), &db.report(), &db.recent_events()).to_string())
    }

    fn answer(&self, html: String) -> Response<StatusBody> {
        let body = StatusBody::whole(html);
        let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", body);
        if let Some(policy) = &self.policy {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        response
    }
}

/// As a content security policy names a script or a style.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Everything that changes.
fn live<'a>(
    status: &'a Status,
    report: &'a Report,
    events: &'a [TimedEvent],
) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| {
        write_verdict(f, status)?;
        write!(f, "{}", picture(status))?;
        write_endpoints(f, status)?;
        write!(f, "{}", spread(report))?;
        write_events(f, events)
    })
}

/// The one line that answers whether all is well.
fn write_verdict(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let unwell = status.endpoints.iter().filter(|it| class(status, it) != "good").count();
    let (class, text) = match (no_primary(status), status.reads_on_primary, unwell) {
        // As the check for readiness judges: a primary that does not answer is none.
        (Some(Unready::PrimaryAway { endpoint, condition }), _, _) => {
            ("bad", format!("The primary, {}, is {condition}.", escaped(&endpoint)))
        }
        (Some(_), _, _) => ("bad", "No endpoint may take writes.".to_owned()),
        (_, Some(true), _) => {
            ("fair", "All reads are on the primary: no replica takes any.".to_owned())
        }
        (_, _, 0) => ("good", "All endpoints serve.".to_owned()),
        (_, _, 1) => ("fair", "1 endpoint does not serve.".to_owned()),
        (_, _, more) => ("fair", format!("{more} endpoints do not serve.")),
    };
    write!(f, "<p class=\"verdict {class}\" role=\"status\">{text}")?;
    if let Some(ratio) = status.replica_read_ratio {
        write!(f, " <span>{:.0} % of all reads went to replicas.</span>", ratio * 100.0)?;
    }
    f.write_str("</p>")
}

fn write_endpoints(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    f.write_str(
        "<h2>Endpoints</h2><div class=\"wide\"><table class=\"endpoints\"><thead><tr><th>name</th><th>role</th>\
         <th>condition</th><th class=\"n\">lag</th><th class=\"n\">95 % of a minute</th>\
         <th class=\"n\">may miss</th><th class=\"n\">running</th>\
         <th class=\"n\">reads</th><th>share</th><th class=\"n\">writes</th><th>server</th>\
         </tr></thead><tbody>",
    )?;
    let total: u64 = status.endpoints.iter().map(|it| it.reads).sum();
    for endpoint in &status.endpoints {
        write_endpoint(f, endpoint, status, total)?;
    }
    f.write_str("</tbody></table></div>")
}

fn write_endpoint(
    f: &mut fmt::Formatter<'_>,
    it: &EndpointStatus,
    status: &Status,
    total: u64,
) -> fmt::Result {
    let is_primary = status.primary.as_ref() == Some(&it.name);
    let role = format!("{:?}", it.role).to_lowercase();
    let role = match (it.role, is_primary) {
        (Role::Primary, false) => "primary, not in charge",
        (_, true) => "primary",
        _ => role.as_str(),
    };
    let p95 = it.lag_last_minute.and_then(|it| it.p95_ms).map(time).unwrap_or_default();
    let staleness = it.staleness_ms.map_or_else(|| "unknown".to_owned(), time);
    let lag = match (is_primary, it.lag_ms) {
        (true, _) => String::new(),
        (false, lag_ms) => lag_ms.map_or_else(|| "unknown".to_owned(), time),
    };
    // Most endpoints are named after their address.
    let address = if it.address == it.name { "" } else { &it.address };
    let version = it.version.as_deref().unwrap_or_default();
    // Without the package that it is from: `PostgreSQL 17.5 (Debian 17.5-1)`.
    let product = version.split_once(" (").map_or(version, |(product, _)| product);
    let notes = it.replication_notes();
    write!(
        f,
        "<tr class=\"{class}\"><th>{name}</th><td>{role}</td><td>{condition}{ejected}{why}</td>\
         <td class=\"n\" data-name=\"lag\">{lag}</td>\
         <td class=\"n\" data-name=\"95 % of a minute\">{p95}</td>\
         <td class=\"n\" data-name=\"may miss\">{staleness}</td>\
         <td class=\"n\" data-name=\"running\">{running}</td>\
         <td class=\"n\" data-name=\"reads\">{reads}</td>\
         <td data-name=\"share\"><progress max=\"{most}\" value=\"{reads}\"></progress></td>\
         <td class=\"n\" data-name=\"writes\">{writes}</td>\
         <td title=\"{version}\">{address} <small>{product} {notes}</small></td></tr>",
        class = class(status, it),
        name = escaped(&it.name),
        condition = it.condition,
        ejected = if is_ejected(status, it) { ", ejected" } else { "" },
        why = why(it),
        running = it.in_flight,
        reads = it.reads,
        most = total.max(1),
        writes = it.writes,
        address = escaped(address),
        version = escaped(version),
        product = escaped(product),
        notes = escaped(&notes),
    )
}

/// Why it does not answer.
fn why(endpoint: &EndpointStatus) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| match &endpoint.health {
        Health::Down { failure } => {
            write!(f, "<br><small>{}</small>", escaped(&failure.to_string()))
        }
        _ => Ok(()),
    })
}

/// The last events, the newest first.
fn write_events(f: &mut fmt::Formatter<'_>, events: &[TimedEvent]) -> fmt::Result {
    f.write_str(
        "<h2>Last events</h2><div class=\"wide\"><table class=\"events\"><thead><tr><th>time (UTC)</th>\
         <th>severity</th><th>event</th></tr></thead><tbody>",
    )?;
    if events.is_empty() {
        f.write_str("<tr><td colspan=\"3\">nothing has changed since the start</td></tr>")?;
    }
    for event in events.iter().rev() {
        write!(
            f,
            "<tr class=\"{severity}\"><td>{}</td><td>{severity}</td><td>{}</td></tr>",
            time_of_day(event.unix_ms),
            escaped(&event.text),
            severity = event.severity,
        )?;
    }
    f.write_str("</tbody></table></div>")
}

/// The time of day, in UTC.
fn time_of_day(unix_ms: u64) -> impl fmt::Display {
    let seconds = unix_ms / 1_000;
    fmt::from_fn(move |f| {
        let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
        write!(f, "{hours:02}:{minutes:02}:{:02}", seconds % 60)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_place_for_each_part() {
        for mark in ["/*STYLE*/", "/*SCRIPT*/", "<!--LIVE-->"] {
            assert_eq!(HTML.matches(mark).count(), 1, "{mark}");
        }
        let page = Page::new();
        assert!(page.before.contains(STYLE) && page.after.contains(SCRIPT));
        assert!(page.policy.is_some());
    }

    #[test]
    fn nothing_in_the_page_would_be_refused_by_its_policy() {
        let all = [HTML, STYLE, SCRIPT].concat();
        for foreign in
            ["http:", "https:", "//cdn", " style=", "onclick=", "url(", "@import", "eval("]
        {
            assert!(!all.contains(foreign), "{foreign}");
        }
        // These would end the elements that the parts are in.
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }

    /// A writer and its readers.
    async fn harbour() -> (Status, Report) {
        let folder = tempfile::tempdir().unwrap();
        let config = sealane::Config::sqlite(folder.path().join("harbour.db"));
        let db = sealane::connect(config).await.unwrap();
        (db.status(), db.report())
    }

    #[tokio::test]
    async fn a_replica_that_reads_avoid_does_not_serve() {
        let (mut status, report) = harbour().await;
        let html = live(&status, &report, &[]).to_string();
        assert!(html.contains("All endpoints serve.") && !html.contains("ejected"), "{html}");
        status.endpoints[1].ejected = true;
        let html = live(&status, &report, &[]).to_string();
        assert!(html.contains("verdict fair") && html.contains("1 endpoint does not"), "{html}");
        assert!(html.contains("<tr class=\"fair\"><th>readers</th>"), "{html}");
        assert!(html.contains("<td>serving, ejected</td>"), "{html}");
        assert!(html.contains(">serving, ejected · 0 running</text>"), "{html}");
    }

    /// It was ejected as a replica, and promoted since.
    #[tokio::test]
    async fn a_primary_serves_whatever_reads_found_there() {
        let (mut status, report) = harbour().await;
        status.endpoints[0].ejected = true;
        let html = live(&status, &report, &[]).to_string();
        assert!(html.contains("All endpoints serve.") && !html.contains("ejected"), "{html}");
    }

    #[test]
    fn a_time_is_the_time_of_day() {
        assert_eq!(time_of_day(86_400_000 + 3_723_004).to_string(), "01:02:03");
    }
}
