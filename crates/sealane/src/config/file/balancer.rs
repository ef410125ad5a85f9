//! The balancers' names in a file.

use sealane_core::{
    FastestResponse, LeastInFlight, LeastLag, Random, RoundRobin, Sticky, TwoChoices,
    WeightedRoundRobin,
};
use serde::Deserialize;

use crate::config::Config;

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BalancerName {
    TwoChoices,
    RoundRobin,
    WeightedRoundRobin,
    LeastInFlight,
    LeastLag,
    FastestResponse,
    Random,
    Sticky,
}

impl BalancerName {
    pub(super) fn apply(self, config: Config) -> Config {
        match self {
            BalancerName::TwoChoices => config.balancer(TwoChoices),
            BalancerName::RoundRobin => config.balancer(RoundRobin::default()),
            BalancerName::WeightedRoundRobin => config.balancer(WeightedRoundRobin::default()),
            BalancerName::LeastInFlight => config.balancer(LeastInFlight),
            BalancerName::LeastLag => config.balancer(LeastLag),
            BalancerName::FastestResponse => config.balancer(FastestResponse),
            BalancerName::Random => config.balancer(Random),
            BalancerName::Sticky => config.balancer(Sticky),
        }
    }
}
