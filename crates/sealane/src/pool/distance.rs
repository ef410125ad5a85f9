//! How long a connection to a replica takes, by the server's distance.

use std::time::Duration;

use sealane_core::EndpointId;
use sealane_monitor::TopologyStore;

/// The least time.
pub(crate) const SOONEST: Duration = Duration::from_secs(1);
/// The most time.
const LATEST: Duration = Duration::from_secs(5);
/// So many quickest probes, which take one round trip each. A new connection with TLS takes up to 18, with
/// the search for the application's hook.
const PROBES_PER_LOGIN: u32 = 40;

/// So soon a connection to `endpoint` should be there, as far as probes have shown.
pub(crate) fn arrives_within(store: &TopologyStore, endpoint: EndpointId) -> Duration {
    let topology = store.topology();
    let quickest = topology.get(endpoint).and_then(|it| it.least_probe_time);
    let far = |quickest: Duration| quickest.saturating_mul(PROBES_PER_LOGIN);
    quickest.map_or(LATEST, far).clamp(SOONEST, LATEST)
}
