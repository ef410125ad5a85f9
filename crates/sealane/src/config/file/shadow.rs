//! Shadow mode in a file.

use serde::Deserialize;

use crate::config::Shadow;

/// The mode without its share.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ShadowMode {
    Off,
    Record,
    Compare,
}

/// The mode with its share.
///
/// # Errors
/// The share is out of its range, or stands where nothing is compared.
pub(super) fn read(mode: Option<ShadowMode>, share: Option<f64>) -> Result<Shadow, &'static str> {
    match (mode, share) {
        (Some(ShadowMode::Compare), share) => {
            let share = share.unwrap_or(1.0);
            let is_share = (0.0..=1.0).contains(&share);
            let refused = "routing.shadow_share must be between 0 and 1";
            is_share.then_some(Shadow::Compare { share }).ok_or(refused)
        }
        (_, Some(_)) => Err("routing.shadow_share needs shadow = \"compare\""),
        (Some(ShadowMode::Record), None) => Ok(Shadow::Record),
        (Some(ShadowMode::Off) | None, None) => Ok(Shadow::Off),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::parse, *};

    #[test]
    fn a_shadow_has_a_share_only_if_it_compares() {
        let shadow = |routing: &str| {
            let text = format!("primary.url = 'a'\n[routing]\n{routing}");
            parse(&text, Path::new("sealane.toml"))
        };
        for (routing, expected) in [
            ("shadow = 'off'", Shadow::Off),
            ("shadow = 'record'", Shadow::Record),
            ("shadow = 'compare'", Shadow::COMPARE_ALL),
        ] {
            assert_eq!(shadow(routing).unwrap().shadow, expected);
        }
        for (routing, says) in [
            ("shadow = 'compare'\nshadow_share = 7.0", "shadow_share must be between 0 and 1"),
            ("shadow = 'record'\nshadow_share = 0.5", "shadow_share needs shadow"),
            ("shadow = 'tide'", "`shadow` must be one of"),
        ] {
            let error = shadow(routing).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("tide"), "{error}");
        }
    }
}
