//! SeaORM's access control by role over the routed connection.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, DbErr, Schema, TransactionError, TransactionTrait,
    entity::prelude::*,
    rbac::{Action, RbacContext, RbacUserId, Table},
};
use sealane::{Config, RestrictedConnection, RestrictedTransaction, RoutedConnection};

mod boat {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "boat")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

const OWNER: RbacUserId = RbacUserId(1);
const GUEST: RbacUserId = RbacUserId(2);

struct Harbour {
    db: RoutedConnection,
    // Removed when the test ends.
    _folder: tempfile::TempDir,
}

/// The owner reads and inserts, the guest reads.
async fn harbour() -> Harbour {
    let folder = tempfile::tempdir().unwrap();
    let db = sealane::connect(Config::sqlite(folder.path().join("harbour.db"))).await.unwrap();
    let create = Schema::new(db.get_database_backend()).create_table_from_entity(boat::Entity);
    db.execute(&create).await.unwrap();
    sea_orm::rbac::schema::create_tables(&db, Default::default()).await.unwrap();
    let mut context = RbacContext::load(&db).await.unwrap();
    context.add_tables(&db, &["boat", "*"]).await.unwrap();
    context.add_crud_permissions(&db).await.unwrap();
    context.add_roles(&db, &["owner", "guest"]).await.unwrap();
    context.assign_user_role(&db, &[(1, "owner"), (2, "guest")]).await.unwrap();
    for (role, may) in [("owner", &["select", "insert"][..]), ("guest", &["select"])] {
        context.add_role_permissions(&db, role, may, &["boat"]).await.unwrap();
    }
    db.load_rbac().await.unwrap();
    Harbour { db, _folder: folder }
}

fn ida() -> boat::ActiveModel {
    boat::ActiveModel { id: NotSet, name: Set("Ida".to_owned()) }
}

fn is_refused<T: std::fmt::Debug>(result: Result<T, DbErr>) -> bool {
    matches!(result, Err(DbErr::AccessDenied { .. }))
}

#[tokio::test]
async fn a_user_does_what_the_rules_allow_and_no_more() {
    let harbour = harbour().await;
    let owner: RestrictedConnection = harbour.db.restricted_for(OWNER).unwrap();
    let guest = harbour.db.session().restricted_for(GUEST).unwrap();
    ida().insert(&owner).await.unwrap();
    // It is routed: the owner reads the write in the owner's session.
    assert_eq!(boat::Entity::find().all(&owner).await.unwrap().len(), 1);
    assert_eq!(boat::Entity::find().count(&guest).await.unwrap(), 1);
    assert!(is_refused(ida().insert(&guest).await));
    assert!(is_refused(boat::Entity::delete_many().exec(&owner).await));
    let raw = owner.execute_unprepared("DELETE FROM boat").await;
    assert!(matches!(raw, Err(DbErr::RbacError(_))), "{raw:?}");
    assert_eq!(boat::Entity::find().count(&harbour.db).await.unwrap(), 1);
    assert_eq!(guest.user_id(), GUEST);
    assert!(guest.rules().user_can(Action("select"), Table("boat")).unwrap());
}

#[tokio::test]
async fn a_transaction_of_a_user_is_judged_too() {
    let harbour = harbour().await;
    let (owner, guest) =
        (harbour.db.restricted_for(OWNER).unwrap(), harbour.db.restricted_for(GUEST).unwrap());
    let transaction: RestrictedTransaction = owner.begin().await.unwrap();
    ida().insert(&transaction).await.unwrap();
    let nested = transaction.begin().await.unwrap();
    assert!(is_refused(boat::Entity::delete_many().exec(&nested).await));
    nested.rollback().await.unwrap();
    transaction.commit().await.unwrap();
    let refused = guest
        .transaction::<_, boat::Model, DbErr>(|transaction| {
            Box::pin(async move { ida().insert(transaction).await })
        })
        .await;
    let is_denied =
        matches!(&refused, Err(TransactionError::Transaction(DbErr::AccessDenied { .. })));
    assert!(is_denied, "{refused:?}");
    assert_eq!(boat::Entity::find().count(&guest).await.unwrap(), 1);
}

#[tokio::test]
async fn without_rules_nobody_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let db = sealane::connect(Config::sqlite(folder.path().join("bare.db"))).await.unwrap();
    assert!(matches!(db.restricted_for(OWNER), Err(DbErr::RbacError(_))));
}
