//! The manifest of `ops/kubernetes`, as far as it can be held against the product without a
//! cluster of Kubernetes.

use std::collections::BTreeMap;

use sealane::Config;
use sealane_recipes::axum;
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::{
    harbour::{Harbour, User},
    serve,
};

const MANIFEST: &str = include_str!("../../../../ops/kubernetes/harbour.yaml");

fn objects() -> BTreeMap<String, Value> {
    let objects = serde_yaml_ng::Deserializer::from_str(MANIFEST);
    let objects = objects.map(|it| Value::deserialize(it).unwrap());
    objects.map(|it| (it["kind"].as_str().unwrap().to_owned(), it)).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?}"))
}

#[test]
fn the_secret_of_the_manifest_is_a_configuration_that_the_service_finds() {
    let objects = objects();
    let names: Vec<_> = objects.keys().map(String::as_str).collect();
    assert_eq!(names, ["Deployment", "Secret", "Service"]);
    let secret = &objects["Secret"];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sealane.toml");
    let template = text(&secret["stringData"]["sealane.toml"]);
    std::fs::write(&file, template.replace(r#"["CHANGE-ME"]"#, &format!("[{:?}]", "k".repeat(32))))
        .unwrap();
    let config = Config::from_toml_file(&file).unwrap();
    let targets: Vec<_> = config.targets().unwrap().iter().map(|it| it.name.clone()).collect();
    assert_eq!(targets, ["postgres-0", "postgres-1", "postgres-2"]);

    let pod = &objects["Deployment"]["spec"]["template"]["spec"];
    let (container, volume) = (&pod["containers"][0], &pod["volumes"][0]);
    assert_eq!(volume["secret"]["secretName"], secret["metadata"]["name"]);
    let mount = &container["volumeMounts"][0];
    assert_eq!(mount["name"], volume["name"]);
    let path = format!("{}/sealane.toml", text(&mount["mountPath"]));
    let variable = &container["env"][0];
    assert_eq!((text(&variable["name"]), text(&variable["value"])), ("CONFIG", &*path));
    // Whoever asks the Service reaches the pods.
    let labels = &objects["Deployment"]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&objects["Service"]["spec"]["selector"], labels);
    assert_eq!(&objects["Deployment"]["spec"]["selector"]["matchLabels"], labels);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_of_the_manifest_are_answered() {
    let objects = objects();
    let container = &objects["Deployment"]["spec"]["template"]["spec"]["containers"][0];
    let path = |probe: &str| text(&container[probe]["httpGet"]["path"]).trim_start_matches('/');
    let harbour = Harbour::empty().await;
    let mut kubelet = User::of(serve(axum::app(harbour.db.clone()).await.unwrap()).await);
    // A path that is not there fails the request.
    for probe in ["livenessProbe", "readinessProbe"] {
        assert!(!kubelet.text(path(probe)).await.is_empty(), "{probe}");
    }
}
