//! Background jobs: a request's token travels in the payload of its job, so that the worker, in
//! another process, misses nothing that the request wrote.

use sea_orm::DbErr;
use sealane::RoutedConnection;
use serde::{Deserialize, Serialize};

use crate::boat;

/// What the queue carries, as JSON: Redis, RabbitMQ, SQS, a table.
#[derive(Debug, Deserialize, Serialize)]
pub struct Job {
    /// The boat to paint.
    pub boat: i32,
    /// The session of the request that asked for it. `None` if it did nothing before.
    pub token: Option<String>,
}

/// In a request: launches a boat and asks for paint. Returns the payload for the queue.
///
/// # Errors
/// Those of the database, and of the payload's JSON.
pub async fn enqueue(db: &RoutedConnection, name: &str) -> anyhow::Result<String> {
    let boat = boat::launch(db, name.to_owned()).await?;
    // After all writes of the request that the job has to see.
    let token = db.token().await;
    Ok(serde_json::to_string(&Job { boat: boat.id, token })?)
}

/// In a worker: reads the boat, on a replica that has it.
///
/// # Errors
/// Those of the database, and of the payload's JSON.
pub async fn work(db: &RoutedConnection, payload: &str) -> anyhow::Result<Option<boat::Model>> {
    let job: Job = serde_json::from_str(payload)?;
    // A token that is too old begins a session that misses nothing that the primary has by now.
    let session = match &job.token {
        Some(token) => db.resume(token).session,
        None => db.session(),
    };
    Ok(sealane::scope(session, paint(db, job.boat)).await?)
}

/// Knows nothing of jobs and sessions.
async fn paint(db: &RoutedConnection, boat: i32) -> Result<Option<boat::Model>, DbErr> {
    use sea_orm::EntityTrait;
    boat::Entity::find_by_id(boat).one(db).await
}
