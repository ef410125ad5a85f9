//! A session that has seen more on a replica than the primary shows.

use sealane_core::{SessionView, WhenAhead};

use crate::RoutedConnection;

/// Where `connection` asks for it and its session may be ahead of the primary: waits until the
/// primary has followed. Once out of patience, puts up with what the primary shows. `planned` is the
/// session that a read was planned with. Cancel safe.
pub(crate) async fn overtaken(connection: &RoutedConnection, planned: Option<&SessionView>) {
    let WhenAhead::Wait(patience) = connection.own_when_ahead() else { return };
    let now = connection.session_now().view();
    let session = planned.unwrap_or(&now);
    if !connection.cluster().board().until_shown(session, patience).await {
        tracing::debug!(
            target: "sealane::route",
            ?patience,
            "the primary is not proved to show what the session has seen on a replica"
        );
    }
}
