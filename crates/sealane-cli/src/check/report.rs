//! The result of a check, as text and as JSON.

use std::io::{self, Write};

use anstyle::Style;
use sealane::Target;
use sealane_core::printable;
use serde::Serialize;

use super::{
    facts::EndpointFacts,
    finding::{Finding, Severity},
    judge::worst,
};
use crate::{output::named, style};

/// All findings, and what was looked at.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The severity of the worst finding; `None` if there is none.
    pub worst: Option<Severity>,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
    /// The endpoints that were asked.
    pub endpoints: Vec<Line>,
}

/// One endpoint that was asked.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its address, without credentials.
    pub address: String,
    /// `primary`, `replica`, `subscriber` or `file`; `None` if it did not answer.
    pub role: Option<&'static str>,
    /// Its software.
    pub version: Option<String>,
}

impl Line {
    pub(super) fn of(endpoint: &EndpointFacts) -> Self {
        let server = endpoint.server.as_ref().ok();
        let role = server.map(|server| match (&endpoint.subscription, server.is_replica) {
            (Some(_), _) => "subscriber",
            (None, true) => "replica",
            (None, false) => "primary",
        });
        Line {
            name: endpoint.name.clone(),
            address: endpoint.address.clone(),
            role,
            version: server.map(|server| server.version.clone()),
        }
    }

    pub(super) fn of_file(target: &Target) -> Self {
        let (name, address) = (target.name.clone(), target.address.clone());
        Line { name, address, role: Some("file"), version: None }
    }
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>, endpoints: Vec<Line>) -> Self {
        Report { worst: worst(&findings), findings, endpoints }
    }

    /// Whether a finding is at least as bad as `limit`.
    #[must_use]
    pub fn is_at_least(&self, limit: Severity) -> bool {
        self.worst.is_some_and(|worst| worst >= limit)
    }

    /// Writes the findings for people.
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (finding, places) in self.grouped() {
            let (style, severity) = (style_of(finding.severity), finding.severity);
            let place =
                if places.is_empty() { String::new() } else { format!(" {}", places.join(", ")) };
            writeln!(out, "{style}{severity}{style:#} {}{place}", finding.code.name)?;
            writeln!(out, "  found:  {}", printable(&finding.found))?;
            writeln!(out, "  remedy: {}", printable(&finding.remedy))?;
        }
        writeln!(out, "{}", self.summary())
    }

    /// Findings that differ only in their endpoint are told once, with all places.
    fn grouped(&self) -> Vec<(&Finding, Vec<String>)> {
        let mut groups: Vec<(&Finding, Vec<String>)> = Vec::new();
        for finding in &self.findings {
            let place = finding.endpoint.as_ref().map(|name| self.place(name));
            let told = |(it, _): &&mut (&Finding, _)| {
                (it.code, &it.found, &it.remedy) == (finding.code, &finding.found, &finding.remedy)
            };
            match groups.iter_mut().find(told) {
                Some((_, places)) => places.extend(place),
                None => groups.push((finding, place.into_iter().collect())),
            }
        }
        groups
    }

    fn place(&self, name: &str) -> String {
        let endpoint = self.endpoints.iter().find(|it| it.name == name);
        endpoint.map_or_else(|| name.to_owned(), |it| named(name, &it.address))
    }

    fn summary(&self) -> String {
        let count = |severity| self.findings.iter().filter(|it| it.severity == severity).count();
        let all =
            [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
        let parts: Vec<_> = all
            .into_iter()
            .map(|(severity, name)| (count(severity), name))
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| counted(count, name))
            .collect();
        let asked = counted(self.endpoints.len(), "endpoint");
        match parts.as_slice() {
            [] => format!("all good: {asked}"),
            parts => format!("{} at {asked}", parts.join(", ")),
        }
    }
}

fn style_of(severity: Severity) -> Style {
    match severity {
        Severity::Error => style::WRONG,
        Severity::Warning => style::RISKY,
        Severity::Note => style::NOTE,
    }
}

fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::code;

    #[test]
    fn what_is_the_same_at_several_endpoints_is_told_once() {
        let at =
            |name| Finding::at(code::SUPERUSER, name, "a\u{1b}[2J is a superuser", "revoke it");
        let line = |name: &str, address: &str| Line {
            name: name.to_owned(),
            address: address.to_owned(),
            role: None,
            version: None,
        };
        let endpoints = vec![line("db-1", "db-1:5432"), line("near", "db-2:5432")];
        let mut out = anstream::StripStream::new(Vec::new());
        Report::new(vec![at("db-1"), at("near")], endpoints).write(&mut out).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        let expected = "warning superuser db-1:5432, near (db-2:5432)\n  found:  a\\u{1b}[2J is a superuser\n  \
                        remedy: revoke it\n2 warnings at 2 endpoints\n";
        assert_eq!(text, expected);
    }
}
