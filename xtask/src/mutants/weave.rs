//! Plants all mutants of a file in its text.

use anyhow::{Context, ensure};

use super::list::Mutant;

/// What the root of each crate begins with. What a mutant does not use is no news.
pub(super) const FIRST: &str = "#![allow(warnings)]\n";

/// The variable of the environment that chooses a mutant.
pub(super) const CHOICE: &str = "SEALANE_MUTANT";

/// What the root of each crate ends with.
pub(super) fn last() -> String {
    format!(
        r#"
pub(crate) fn is_mutant(number: u32) -> bool {{
    static CHOSEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let chosen = || std::env::var("{CHOICE}").ok().and_then(|it| it.parse().ok()).unwrap_or(0);
    *CHOSEN.get_or_init(chosen) == number
}}
"#
    )
}

/// The text of a file with all its `mutants`.
///
/// # Errors
/// When a mutant's text is not there, or overlaps another's without being the same.
pub(super) fn woven(source: &str, mutants: &[&Mutant]) -> anyhow::Result<String> {
    let mut places = Vec::new();
    for mutant in mutants {
        let at = mutant.place(source).with_context(|| mutant.name.clone())?;
        places.push((at..at + mutant.text.len(), *mutant));
    }
    places.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut woven, mut end) = (String::with_capacity(source.len() * 2), 0);
    for group in places.chunk_by(|(one, _), (other, _)| one == other) {
        let [(range, first), ..] = group else { continue };
        ensure!(range.start >= end, "{} overlaps the mutant before", first.name);
        woven.push_str(&source[end..range.start]);
        woven.push_str(&choice(&source[range.clone()], group.iter().map(|(_, mutant)| *mutant)));
        end = range.end;
    }
    woven.push_str(&source[end..]);
    Ok(woven)
}

/// `text`, or what one of the mutants makes of it.
fn choice<'a>(text: &str, mutants: impl Iterator<Item = &'a Mutant>) -> String {
    let chosen: String = mutants
        .map(|it| format!("if crate::is_mutant({}) {{ {} }} else ", it.number, it.becomes))
        .collect();
    let choice = format!("{chosen}{{ {text} }}");
    // A statement stays one, and an expression stays one expression among others.
    if text.ends_with(';') { choice } else { format!("({choice})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(number: u32, text: &str, becomes: &str) -> Mutant {
        let toml = format!(
            "name = 'n{number}'\nsays = ''\nfile = 'f'\ntext = '{text}'\nbecomes = '{becomes}'"
        );
        let mut mutant: Mutant = toml::from_str(&toml).unwrap();
        mutant.number = number;
        mutant
    }

    #[test]
    fn expressions_and_statements_become_choices() {
        let (one, two) = (mutant(1, "a < b", "a <= b"), mutant(2, "a < b", "true"));
        let three = mutant(3, "stop();", "");
        let woven = woven("if a < b && c { stop(); }", &[&three, &one, &two]).unwrap();
        assert_eq!(
            woven,
            "if (if crate::is_mutant(1) { a <= b } else if crate::is_mutant(2) { true } \
             else { a < b }) && c { if crate::is_mutant(3) {  } else { stop(); } }"
        );
    }

    #[test]
    fn mutants_that_overlap_are_refused() {
        let (one, other) = (mutant(1, "a < b", "x"), mutant(2, "b && c", "y"));
        assert!(woven("a < b && c", &[&one, &other]).is_err());
    }
}
