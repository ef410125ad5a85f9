//! A PostgreSQL primary and its replicas, from the environment.
//!
//! ```sh
//! DATABASE_URL=postgres://app@db-1/shop \
//! DATABASE_REPLICA_URLS=postgres://app@db-2/shop,postgres://app@db-3/shop \
//!     cargo run --example postgres
//! ```
//!
//! It makes a table `sealane_example`, writes to it, and
//! watches the session come back to the replicas.

#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::time::{Duration, Instant};

use sea_orm::{ActiveValue::Set, ConnectionTrait, Schema, entity::prelude::*};

mod message {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sealane_example")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub text: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let db = sealane::connect(sealane::Config::from_env()?).await?;
    let schema = Schema::new(db.get_database_backend());
    let mut table = schema.create_table_from_entity(message::Entity);
    db.execute(table.if_not_exists()).await?;

    // A session of its own, as for one request or one user.
    let session = db.session();
    let ahoy = message::ActiveModel { text: Set("ahoy".to_owned()), ..Default::default() };
    let written = ahoy.insert(&session).await?;
    let begun = Instant::now();
    let read = message::Entity::find_by_id(written.id).one(&session).await?;
    println!("read at once, and not stale: {read:?}");

    let sql = "SELECT id FROM sealane_example";
    println!("\n{}", session.explain(sql));
    let primary = db.status().primary;
    let by_primary = || session.explain(sql).first_choice().map(str::to_owned) == primary;
    while by_primary() && begun.elapsed() < Duration::from_secs(5) {
        message::Entity::find_by_id(written.id).one(&session).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("{:?} after the write:\n{}", begun.elapsed(), session.explain(sql));

    message::Entity::delete_by_id(written.id).exec(&session).await?;
    println!("{}", serde_json::to_string_pretty(&db.status())?);
    db.close().await?;
    Ok(())
}
