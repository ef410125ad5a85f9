//! Describes errors in a TOML file in our own words.
//!
//! The parser quotes what it found, which may be a password. So the message contains only the place
//! of the error, what is possible there, and the key if it is one of ours.

/// The keys of all tables. A message contains only keys of this list.
#[rustfmt::skip]
const KEYS: &[&str] = &[
    "primary", "replicas", "routing", "probes", "health", "tokens", "require_replicas", "strict",
    "url", "name", "group", "subscription",
    "tags",
    "weight",
    "zone", "max_connections", "min_connections",
    "acquire_timeout_ms", "idle_timeout_ms", "max_lifetime_ms", "consistency", "max_staleness_ms",
    "max_lag_ms", "fallback", "primary_wait_ms", "write_tracking", "shared_waits_for_sessions",
    "max_wait_ms", "when_ahead", "max_ahead_wait_ms", "balancer", "keys", "max_age_s",
    "interval_ms", "quick_interval_ms", "timeout_ms", "budget_per_s", "down_after", "down_ratio",
    "up_after", "back_off_ms", "back_off_cap_ms", "forgiven_after_ms", "lagging_above_ms",
    "lagging_until_ms", "replaced_after_ms", "ejection", "after", "fallback_limit", "read_timeout_ms",
    "stale_limit_ms", "primary_reads", "hedged_reads", "replica_share", "shadow", "shadow_share",
    "rules", "spill_ratio", "heavy_reads", "priority",
    "tables", "text", "cost", "tag", "to_primary", "to_group", "to_replicas", "sticky", "hedged",
];

/// Describes `error` in `text` without quoting any of the text.
pub(super) fn words(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map(|span| span.start.min(text.len()));
    let line = start.and_then(|start| text.get(..start)).map(|it| it.matches('\n').count() + 1);
    let at = line.map_or_else(String::new, |line| format!("line {line}: "));
    let found = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default();
    let named = key(found).map_or_else(|| "this".to_owned(), |key| format!("`{key}`"));
    let message = error.message();
    // The message says what was found and what is possible; only the latter is serde's own text.
    let (what, possible) = message.rsplit_once("expected ").unwrap_or((message, ""));
    let words = match what {
        it if it.starts_with("unknown field") => match quoted(possible).as_str() {
            "" => "there is no such key here".to_owned(),
            possible => format!("there is no such key here; possible are {possible}"),
        },
        it if it.starts_with("missing field") => format!("{} is missing", quoted(message)),
        it if it.starts_with("duplicate") => format!("{named} stands here for the second time"),
        it if it.contains("unknown variant") => {
            format!("{named} must be one of {}", quoted(possible).replace('`', "\""))
        }
        it if it.contains("invalid type: sequence") => {
            format!("{named} is a list, and must be {}", kind(possible))
        }
        it if it.contains("invalid type") || it.contains("invalid value") => {
            format!("{named} must be {}", kind(possible))
        }
        _ => {
            "this is not a value, or not TOML at all (see the book's chapter on the configuration)"
                .to_owned()
        }
    };
    format!("{at}{words}")
}

/// The key of a line, if it is one of ours.
fn key(line: &str) -> Option<&'static str> {
    let before = line.split_once('=').map_or(line, |(key, _)| key);
    let last = before.rsplit('.').next()?.trim().trim_matches(['[', ']', '"', '\'']);
    KEYS.iter().copied().find(|known| *known == last)
}

/// The words between backticks that are ours: keys and choices.
fn quoted(possible: &str) -> String {
    let ours = |it: &&str| KEYS.contains(it) || CHOICES.contains(it);
    let quoted = possible.split('`').skip(1).step_by(2).filter(ours);
    quoted.map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
}

/// The values of keys that accept only a few values.
#[rustfmt::skip]
const CHOICES: &[&str] = &[
    "eventual", "bounded-staleness", "read-your-writes", "strong", "two-choices", "round-robin",
    "weighted-round-robin", "least-in-flight", "least-lag", "fastest-response", "random", "sticky",
    "primary", "wait", "fail", "stale", "intended", "always", "tables", "whole", "light", "moderate", "heavy",
];

/// A type name of serde's, in words for people.
fn kind(expected: &str) -> &'static str {
    match expected {
        it if it.contains("sequence") => "a list, such as [\"a\", \"b\"]",
        it if it.contains("string") => "a text in quotes",
        it if it.contains("bool") => "true or false",
        it if it.contains("struct") || it.contains("map") => "a table, such as [primary]",
        it if it.starts_with('u') || it.starts_with('i') => "a whole number, not below zero",
        it if it.starts_with('f') => "a number",
        _ => "something else (see the book's chapter on the configuration)",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::File;
    use super::*;

    #[rstest]
    #[case::list("[primary]\nurl = [\"a:tide\"]", "line 2: `url` is a list, and must be a text")]
    #[case::text("[primary]\nurl = 'a'\n[tokens]\nkeys = 'tide'", "line 4: `keys` must be a list")]
    #[case::number(
        "primary.url = 'a'\nrouting.max_lag_ms = 'tide'",
        "line 2: `max_lag_ms` must be a whole number"
    )]
    #[case::table("primary = 'tide'", "line 1: `primary` must be a table")]
    #[case::choice(
        "primary.url = 'a'\nrouting.when_ahead = 'tide'",
        "line 2: `when_ahead` must be one of \"primary\", \"wait\""
    )]
    #[case::key(
        "primary.url = 'a'\n[health]\ntide = 1",
        "line 3: there is no such key here; possible are `down_after`"
    )]
    #[case::missing("[primary]\nname = 'tide'", "line 1: `url` is missing")]
    #[case::twice(
        "[primary]\nurl = 'a'\nurl = 'tide'",
        "line 3: `url` stands here for the second time"
    )]
    #[case::unquoted("[primary]\nurl = tide", "line 2: this is not a value")]
    fn a_fault_is_told_by_line_and_key(#[case] text: &str, #[case] told: &str) {
        let words = words(&toml::from_str::<File>(text).err().unwrap(), text);
        assert!(words.starts_with(told), "{words}");
        assert!(!words.contains("tide"), "{words}");
    }

    /// Serde lists the keys of a table if it finds an unknown one, and likewise the choices of a
    /// key.
    #[test]
    fn every_key_and_choice_may_be_told() {
        let tables = [
            "",
            "[primary]\n",
            "[routing]\n",
            "[[rules]]\n",
            "[probes]\n",
            "[health]\n",
            "[tokens]\n",
        ];
        let choices = [
            "consistency",
            "balancer",
            "fallback",
            "primary_reads",
            "when_ahead",
            "write_tracking",
        ];
        let tables = tables.map(str::to_owned).into_iter();
        let choices = choices.map(|key| format!("routing.{key} = 'x'\n")).into_iter();
        let of_rules = ["cost", "fallback"].map(|key| format!("[[rules]]\n{key} = 'x'\n"));
        for table in tables.chain(choices).chain(of_rules) {
            let error = toml::from_str::<File>(&format!("{table}x = 1")).err().unwrap();
            let (_, possible) = error.message().rsplit_once("expected ").unwrap();
            for name in possible.split('`').skip(1).step_by(2) {
                assert!(KEYS.contains(&name) || CHOICES.contains(&name), "{name}");
            }
        }
    }
}
