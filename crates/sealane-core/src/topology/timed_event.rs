//! An event as listeners get it: with its time, its place in the order, and its words.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::{Event, Moment, Severity, Topology};

/// An [`Event`], with what a log or a page shows of it.
///
/// The words are made when the event happens, because a later topology may not have its endpoints
/// any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TimedEvent {
    /// The events of one process are numbered from 1 on, without gaps.
    pub number: u64,
    /// When it was told, in milliseconds since 1970, by the clock of this machine. For people: the
    /// clock may be wrong or move back.
    pub unix_ms: u64,
    /// When what it tells was seen, on the clock that policies use.
    #[serde(skip)]
    pub at: Moment,
    /// How much it matters.
    pub severity: Severity,
    /// The event in words, with the names of its endpoints.
    pub text: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl TimedEvent {
    /// `event`, which was seen at `at` and led to `topology`, as number `number` at `time`.
    #[must_use]
    pub fn new(
        number: u64,
        time: SystemTime,
        at: Moment,
        event: Event,
        topology: &Topology,
    ) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let (text, severity) = (event.named(topology).to_string(), event.severity_in(topology));
        TimedEvent { number, unix_ms, at, severity, text, event }
    }

    /// When it was told, by the clock of this machine.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Endpoint, EndpointId, Failure};

    use super::*;

    #[test]
    fn it_is_written_flat_and_keeps_its_words() {
        let topology = Topology::new(vec![Endpoint::new("db-1", "here")]);
        let (time, at) = (SystemTime::UNIX_EPOCH + Duration::from_millis(1_500), Moment::ZERO);
        let down = Event::PrimaryChanged { from: Some(EndpointId::FIRST), to: None };
        let told = TimedEvent::new(7, time, at, down, &topology);
        assert_eq!(told.time(), time);
        let json = serde_json::to_value(&told).unwrap();
        let wanted = serde_json::json!({
            "number": 7, "unix_ms": 1_500, "severity": "error",
            "text": "no endpoint may take writes",
            "event": "primary_changed", "from": 0, "to": null,
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn reads_on_the_primary_are_trouble_and_their_return_is_none() {
        assert!(Event::ReadsOnPrimary {}.is_trouble());
        assert!(!Event::ReadsOnReplicas {}.is_trouble());
    }

    #[test]
    fn the_loss_of_the_primary_is_an_error_and_one_failed_statement_is_none() {
        let names = ["db-1", "db-2"].map(|name| Endpoint::new(name, "here"));
        let topology = Topology::always_current(names.to_vec());
        let second = EndpointId::from_index(1).unwrap();
        assert_eq!(topology.primary(), Some(EndpointId::FIRST));
        let severity = |endpoint, failure| {
            let down = Event::Down { endpoint, failure };
            let time = SystemTime::UNIX_EPOCH;
            TimedEvent::new(1, time, Moment::ZERO, down, &topology).severity
        };
        let cut = || Failure::Statement("cut".to_owned());
        assert_eq!(severity(EndpointId::FIRST, Failure::Timeout), Severity::Error);
        assert_eq!(severity(EndpointId::FIRST, cut()), Severity::Warning);
        assert_eq!(severity(second, Failure::Timeout), Severity::Warning);
    }
}
