use std::collections::HashMap;

use super::*;
use crate::Config;

const USER: &str = "\
user: carol
context: home
contexts:
  home:
    cluster: home
    nodes: [a:1, b:1, c:1, d:1]
    password_file: home.pass
  work: {cluster: work, nodes: [e:1, f:1, g:1, h:1], user: wendy}
output: json
jobs: 3
bwlimit: 1MiB
";

const PROJECT: &str = "cluster: project\nnodes: [p:1, q:1, r:1, s:1]\njobs: 5\n";

#[derive(Default)]
struct World {
    flags: Global,
    variables: HashMap<&'static str, &'static str>,
    project: Option<&'static str>,
    user: Option<&'static str>,
    named: Option<&'static str>,
}

impl World {
    fn lay(&self) -> Layers {
        let directory = tempfile::tempdir().unwrap();
        let read = |name: &str, text: Option<&str>| {
            let file = directory.path().join(name);
            std::fs::write(&file, text?).unwrap();
            Some(ConfigFile::read(&file).unwrap())
        };
        let files = Files {
            named: read("named.yaml", self.named),
            project: read("project.yaml", self.project),
            user: read("user.yaml", self.user),
        };
        lay(&self.flags, &|name| self.variables.get(name).map(|text| (*text).to_owned()), &files)
    }
}

/// A value and the last part of where it comes from.
fn told<T: Clone>(given: &Given<T>) -> (T, String) {
    let place = given.origin.to_string();
    (given.value.clone(), place.rsplit('/').next().unwrap_or_default().to_owned())
}

fn cluster(layers: &Layers) -> (String, String) {
    told(layers.connection.cluster.as_ref().unwrap())
}

fn user(layers: &Layers) -> (String, String) {
    told(layers.connection.user.as_ref().unwrap())
}

/// Takes the layers away one after the other, from the top.
#[test]
fn a_flag_stands_above_the_environment_above_the_project_above_the_user() {
    let mut world = World {
        flags: Global { jobs: Some(9), ..Global::default() },
        variables: [("DFS_JOBS", "7")].into(),
        project: Some(PROJECT),
        user: Some(USER),
        named: None,
    };
    let jobs = |world: &World| told(&world.lay().jobs);
    assert_eq!(jobs(&world), (Some(9), "--jobs".into()));
    world.flags = Global::default();
    assert_eq!(jobs(&world), (Some(7), "DFS_JOBS".into()));
    world.variables.clear();
    assert_eq!(jobs(&world), (Some(5), "project.yaml:3".into()));
    world.project = None;
    assert_eq!(jobs(&world), (Some(3), "user.yaml:10".into()));
    world.user = None;
    world.variables = [("DFS_NODES", "a:1,b:1,c:1,d:1")].into();
    assert_eq!(jobs(&world), (None, "default".into()));
}

#[test]
fn each_setting_has_a_variable() {
    let variables = [
        ("DFS_CLUSTER", "v"),
        ("DFS_NODES", "a:1, b:1,c:1,d:1"),
        ("DFS_USER", "vera"),
        ("DFS_PASSWORD_FILE", "v.pass"),
        ("DFS_TLS_CA", "v.pem"),
        ("DFS_TLS_SERVER_NAME", "v.example"),
        ("DFS_OUTPUT", "json"),
        ("DFS_COLOR", "always"),
        ("DFS_VERBOSITY", "quiet"),
        ("DFS_JOBS", "2"),
        ("DFS_BWLIMIT", "2M"),
        ("DFS_NO_TOKEN_CACHE", "1"),
    ];
    let layers = World { variables: variables.into(), ..World::default() }.lay();
    assert_eq!(layers.mistakes, [""; 0]);
    let connection = &layers.connection;
    assert_eq!(cluster(&layers), ("v".into(), "DFS_CLUSTER".into()));
    assert_eq!(connection.nodes.as_ref().unwrap().value, ["a:1", "b:1", "c:1", "d:1"]);
    assert_eq!(user(&layers), ("vera".into(), "DFS_USER".into()));
    assert_eq!(connection.password_file.as_ref().unwrap().value, Path::new("v.pass"));
    assert_eq!(connection.tls.ca.as_ref().unwrap().value, Path::new("v.pem"));
    assert!(connection.tls.wanted.is_some() && connection.tls.server_name.is_some());
    assert_eq!(told(&layers.output), (Output::Json, "DFS_OUTPUT".into()));
    assert_eq!(told(&layers.colour), (Colour::Always, "DFS_COLOR".into()));
    assert_eq!(told(&layers.verbosity), (Verbosity::Quiet, "DFS_VERBOSITY".into()));
    assert_eq!(layers.bwlimit.value, Some(2 << 20));
    assert_eq!(told(&layers.token_cache), (false, "DFS_NO_TOKEN_CACHE".into()));
}

#[test]
fn what_a_cluster_is_known_by_comes_from_one_file() {
    let world = World { project: Some(PROJECT), user: Some(USER), ..World::default() };
    let layers = world.lay();
    assert_eq!(cluster(&layers), ("project".into(), "project.yaml:1".into()));
    // A password for one cluster is not sent to another one.
    assert!(layers.connection.password_file.is_none());
    assert_eq!(user(&layers), ("carol".into(), "user.yaml:1".into()), "a name is no secret");
    assert_eq!(layers.output.value, Output::Json);
}

#[test]
fn a_context_is_chosen_by_flag_variable_project_or_user() {
    let mut world = World { user: Some(USER), ..World::default() };
    assert_eq!(cluster(&world.lay()), ("home".into(), "user.yaml:5".into()));
    assert_eq!(told(&world.lay().context.unwrap()), ("home".into(), "user.yaml:2".into()));
    assert!(world.lay().connection.password_file.unwrap().value.ends_with("home.pass"));
    world.project = Some("context: work\n");
    assert_eq!(cluster(&world.lay()).0, "work");
    assert_eq!(user(&world.lay()).0, "wendy", "the context's own user");
    world.project = Some(PROJECT);
    world.variables = [("DFS_CONTEXT", "work")].into();
    assert_eq!(cluster(&world.lay()).0, "work");
    world.flags.context = Some("home".into());
    assert_eq!(cluster(&world.lay()).0, "home");
    world.flags.context = Some("nowhere".into());
    let mistakes = world.lay().mistakes.join("\n");
    assert!(mistakes.contains("--context: context: there is no 'nowhere'"), "{mistakes}");
    assert!(mistakes.contains("home, work"), "{mistakes}");
}

#[test]
fn a_file_that_is_named_may_have_contexts_and_a_projects_may_not() {
    let world = World { named: Some(USER), ..World::default() };
    assert_eq!(cluster(&world.lay()), ("home".into(), "named.yaml:5".into()));
    let world = World { project: Some(USER), ..World::default() };
    let mistakes = world.lay().mistakes.join("\n");
    assert!(mistakes.contains("project.yaml:3: contexts: they belong"), "{mistakes}");
}

#[test]
fn without_a_cluster_it_says_what_to_do() {
    let said = |world: World| world.lay().mistakes.join("\n");
    assert!(said(World::default()).contains("--config or DFS_CONFIG"));
    let silent = World { user: Some("jobs: 2\n"), ..World::default() };
    assert!(said(silent).contains("user.yaml:1: no cluster"));
    let many = "contexts:\n  a: {}\n  b: {}\n";
    let many = World { user: Some(many), ..World::default() };
    assert!(said(many).contains("there are a, b; choose with --context"));
    let none = World { variables: [("DFS_CONTEXT", "x")].into(), ..World::default() };
    assert!(said(none).contains("DFS_CONTEXT: context: no file has contexts"));
}

#[test]
fn every_value_that_cannot_be_used_is_named_with_its_place() {
    let text = "cluster: c\nnodes: [a:1, b:1, c:1, d:1]\njobs: 0\noutput: xml\nbwlimit: [1]\n";
    let variables = [("DFS_COLOR", "blue"), ("DFS_VERBOSITY", "loud")].into();
    let layers = World { named: Some(text), variables, ..World::default() }.lay();
    let all = layers.mistakes.join("\n");
    for part in [
        "named.yaml:3: jobs: '0'",
        "named.yaml:4: output: 'xml' is none of text, json",
        "named.yaml:5: bwlimit: '?'",
        "DFS_COLOR: color: 'blue' is none of auto, always, never",
        "DFS_VERBOSITY: verbosity: 'loud'",
    ] {
        assert!(all.contains(part), "{part} not in {all}");
    }
}

#[test]
fn a_flag_for_tls_stands_above_one_part_of_a_file() {
    let text = "cluster: c\nnodes: [a:1, b:1, c:1, d:1]\ntls: {ca: x.pem, server_name: n}\n";
    let mut world = World { named: Some(text), ..World::default() };
    world.flags.tls_ca = Some("/y.pem".into());
    let tls = world.lay().connection.tls;
    assert_eq!(told(&tls.ca.unwrap()), ("/y.pem".into(), "--tls-ca".into()));
    assert_eq!(told(&tls.server_name.unwrap()), ("n".into(), "named.yaml:3".into()));
    world.flags = Global { tls_cert: Some("/c.pem".into()), ..Global::default() };
    world.named = Some("cluster: c\nnodes: [a:1, b:1, c:1, d:1]\n");
    let mistakes = Config::check(world.lay().connection).unwrap_err().join("\n");
    assert!(mistakes.contains("--tls-cert: tls: ca: missing"), "{mistakes}");
}
