use super::*;
use crate::audit::Audit;
use crate::users::{Role, Users};
use dfs_proto::name::UserName;
use dfs_proto::wire::pb;
use std::convert::Infallible;
use std::path::Path;

const SECRET: &str = "the secret of the cluster";

/// Answers with the user that the layer let through.
#[derive(Clone)]
struct Echo;

impl Service<Request<()>> for Echo {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let user = request.extensions().get::<Principal>();
        let user = user.map_or("nobody", |principal| principal.user.as_str());
        ready(Ok(Response::new(user.to_owned())))
    }
}

fn auth() -> Arc<Auth> {
    Arc::new(Auth::new(
        Users::load_or_empty(Path::new("/nowhere")).unwrap(),
        SECRET,
        Audit::default(),
    ))
}

/// What comes back: the user that the handler saw, or the reason of the refusal.
async fn call(auth: &Arc<Auth>, path: &str, authorization: Option<&str>) -> String {
    let mut request = Request::builder().uri(path);
    if let Some(text) = authorization {
        request = request.header(AUTHORIZATION, text);
    }
    let mut request = request.body(()).unwrap();
    // Nobody can bring a principal along.
    let user = UserName::new("mallory").unwrap();
    request.extensions_mut().insert(Principal { user, role: Role::Admin, token: [0; 32] });
    let mut gate = AuthLayer(Arc::clone(auth)).layer(Echo);
    let response = gate.call(request).await.unwrap();
    match Status::from_header_map(response.headers()) {
        Some(status) => Reason::of(&status).expect("a reason of ours").name().to_owned(),
        None => response.into_body(),
    }
}

/// The paths of all methods in the API's descriptors.
fn methods() -> Vec<String> {
    let pool = prost_reflect(pb::FILE_DESCRIPTOR_SET);
    pool.iter()
        .flat_map(|(service, methods)| methods.iter().map(move |m| format!("/{service}/{m}")))
        .collect()
}

/// Services and their methods, read from encoded descriptors.
fn prost_reflect(bytes: &[u8]) -> Vec<(String, Vec<String>)> {
    use prost::Message;
    let set = prost_types::FileDescriptorSet::decode(bytes).unwrap();
    let mut services = Vec::new();
    for file in set.file {
        for service in &file.service {
            let methods = service.method.iter().map(|m| m.name().to_owned()).collect();
            services.push((format!("{}.{}", file.package(), service.name()), methods));
        }
    }
    services
}

#[tokio::test]
async fn without_a_token_only_what_is_public_by_design_is_let_in() {
    let auth = auth();
    let all = methods();
    assert_eq!(all.len(), 19, "a new method needs a line in `access` and one here: {all:?}");
    for path in all {
        let got = call(&auth, &path, None).await;
        if path == "/dfs.v1.DfsService/Authenticate" {
            assert_eq!(got, "nobody", "{path}");
        } else {
            assert_eq!(got, "TOKEN_MISSING", "{path}");
        }
    }
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(call(&auth, path, None).await, "nobody", "{path}");
    }
}

#[tokio::test]
async fn a_token_opens_what_is_for_users_and_nothing_else() {
    let auth = auth();
    let alice = UserName::new("alice").unwrap();
    let token = auth.issue(alice, &auth.users(), std::time::Instant::now()).unwrap();
    let bearer = format!("Bearer {token}");
    for path in methods() {
        let expected = match path.as_str() {
            "/dfs.v1.DfsService/Authenticate" => "nobody",
            path if path.starts_with("/dfs.v1.PeerService/") => "TOKEN_MISSING",
            _ => "alice",
        };
        assert_eq!(call(&auth, &path, Some(&bearer)).await, expected, "{path}");
    }
}

#[tokio::test]
async fn the_clusters_secret_opens_what_is_for_peers_and_nothing_else() {
    let auth = auth();
    let (hello, list) = ("/dfs.v1.PeerService/Hello", "/dfs.v1.DfsService/List");
    let peer = format!("Peer {SECRET}");
    for path in methods() {
        let expected = match path.as_str() {
            "/dfs.v1.DfsService/Authenticate" => "nobody",
            path if path.starts_with("/dfs.v1.PeerService/") => "nobody",
            _ => "TOKEN_MISSING",
        };
        assert_eq!(call(&auth, &path, Some(&peer)).await, expected, "{path}");
    }
    assert_eq!(call(&auth, list, Some(&peer)).await, "TOKEN_MISSING");
    assert_eq!(call(&auth, list, Some(&format!("Bearer {SECRET}"))).await, "TOKEN_EXPIRED");
    assert_eq!(call(&auth, hello, Some("Peer wrong")).await, "NOT_ALLOWED");
    assert_eq!(call(&auth, hello, Some("Peer ")).await, "NOT_ALLOWED");
}

#[tokio::test]
async fn wrong_tokens_and_unknown_methods_are_refused() {
    let auth = auth();
    let list = "/dfs.v1.DfsService/List";
    assert_eq!(call(&auth, list, Some("Bearer 00ff")).await, "TOKEN_EXPIRED");
    assert_eq!(call(&auth, list, Some("Bearer")).await, "TOKEN_MISSING");
    assert_eq!(call(&auth, list, Some("Basic YTpi")).await, "TOKEN_MISSING");
    let token =
        auth.issue(UserName::new("a").unwrap(), &auth.users(), std::time::Instant::now()).unwrap();
    let bearer = format!("Bearer {token}");
    for path in [
        "/",
        "/dfs.v1.DfsService",
        "/dfs.v1.DfsService/",
        "/dfs.v1.DfsService/Lists",
        "/dfs.v1.DfsService/List/",
        "/dfs.v1.DfsService//List",
        "/dfs.v1.dfsservice/List",
        "/other.Service/List",
        "/grpc.channelz.v1.Channelz/GetServers",
    ] {
        assert_eq!(call(&auth, path, Some(&bearer)).await, "UNKNOWN_METHOD", "{path}");
    }
}
