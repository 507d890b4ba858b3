//! From a password, or from a token of an earlier run, to a session; and back.

use std::sync::Arc;
use std::time::Duration;

use dfs_proto::name::UserName;
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::status::Reason;
use dfs_proto::wire::{MAX_MESSAGE_BYTES, convert, pb};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use super::{Node, Session, UNARY_LIMIT, name, within};
use crate::error::{Cause, NodeError};
use crate::tokens::{Place, TokenCache};

/// Limit for a login: passwords are hashed slowly on purpose, and logins queue.
const AUTHENTICATE_LIMIT: Duration = Duration::from_secs(10);

/// User and password. Has no `Debug`.
pub struct Credentials {
    user: UserName,
    /// `None`: only a login of before counts.
    password: Option<String>,
    cache: Option<Arc<TokenCache>>,
    /// Whether tokens are got anew, and kept for calls without a password.
    login: bool,
}

impl Credentials {
    /// Takes a user and his password.
    pub fn new(user: UserName, password: impl Into<String>) -> Self {
        Self { user, password: Some(password.into()), cache: None, login: false }
    }

    /// A user without a password, who has logged in before.
    pub fn logged_in(user: UserName, cache: Arc<TokenCache>) -> Self {
        Self { user, password: None, cache: Some(cache), login: false }
    }

    /// Uses tokens of earlier runs with the same password, and keeps new ones.
    pub fn remember(self, cache: Arc<TokenCache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Gets new tokens and keeps them for [`Credentials::logged_in`].
    pub fn log_in(self, cache: Arc<TokenCache>) -> Self {
        Self { cache: Some(cache), login: true, ..self }
    }

    pub(crate) fn user(&self) -> &UserName {
        &self.user
    }
}

impl Node {
    pub(super) async fn try_log_in(&self, number: u64) -> Result<Session, Cause> {
        let channel = self.open().await?;
        let mut client = DfsServiceClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let kept = match self.kept_token() {
            Some(token) => self.introduce(&mut client, token).await?,
            None => None,
        };
        let token = match kept {
            Some(token) => token,
            None => self.authenticate(&mut client).await?,
        };
        Ok(Session { client, channel, bearer: bearer(&token)?, number })
    }

    /// A token of an earlier run.
    fn kept_token(&self) -> Option<String> {
        let Credentials { password, cache, login, .. } = &*self.credentials;
        let cache = cache.as_ref().filter(|_| !login)?;
        cache.find(&self.place(), password.as_deref())
    }

    /// Asks a node who it is, with a token that it may not know any more: `None`, and the token
    /// is forgotten. Found out before anything is sent that would have to be sent again.
    async fn introduce(
        &self,
        client: &mut DfsServiceClient<Channel>,
        token: String,
    ) -> Result<Option<String>, Cause> {
        let mut request = Request::new(pb::GetNodeInfoRequest {});
        name(&mut request);
        request.metadata_mut().insert("authorization", bearer(&token)?);
        let answer = within(UNARY_LIMIT, "GetNodeInfo", client.get_node_info(request)).await;
        match answer {
            Ok(answer) => {
                self.check(answer.get_ref().node.as_ref())?;
                Ok(Some(token))
            }
            Err(Cause::Refused { reason: Some(Reason::TokenExpired), .. }) => {
                self.forget_token();
                Ok(None)
            }
            Err(cause) => Err(self.first_answer(cause)),
        }
    }

    async fn authenticate(&self, client: &mut DfsServiceClient<Channel>) -> Result<String, Cause> {
        let Credentials { user, password, cache, login } = &*self.credentials;
        let password = password.as_ref().ok_or(Cause::LoggedOut)?;
        let request =
            pb::AuthenticateRequest { user: user.as_str().to_owned(), password: password.clone() };
        let mut request = Request::new(request);
        name(&mut request);
        let answer = within(AUTHENTICATE_LIMIT, "the login", client.authenticate(request)).await;
        let answer = answer.map_err(|cause| self.first_answer(cause))?;
        let pb::AuthenticateResponse { token, expires_in_seconds, node } = answer.into_inner();
        self.check(node.as_ref())?;
        if let Some(cache) = cache.clone() {
            let (place, password, login) = (self.place(), password.clone(), *login);
            let (kept, life) = (token.clone(), Duration::from_secs(expires_in_seconds));
            let keep = move || cache.keep(&place, &password, kept, life, login);
            // A cache that cannot be written is none; only who logs in is told.
            match tokio::task::spawn_blocking(keep).await {
                Ok(Err(error)) if login => return Err(Cause::TokenNotKept(error.to_string())),
                _ => {}
            }
        }
        Ok(token)
    }

    pub(super) fn forget_token(&self) {
        if let Some(cache) = &self.credentials.cache {
            cache.forget(&self.place());
        }
    }

    fn place(&self) -> Place {
        Place {
            cluster: self.cluster.clone(),
            node: self.id,
            address: self.address.clone(),
            user: self.credentials.user.clone(),
        }
    }

    /// Refuses a node of another cluster or at another position.
    fn check(&self, identity: Option<&pb::NodeIdentity>) -> Result<(), Cause> {
        let identity = convert::identity(identity).map_err(|e| Cause::Nonsense(e.to_string()))?;
        if identity.cluster == self.cluster && identity.node == self.id {
            return Ok(());
        }
        Err(Cause::WrongNode {
            position: identity.node,
            cluster: identity.cluster.to_string(),
            expected: self.id,
            expected_cluster: self.cluster.to_string(),
        })
    }

    /// Ends the token that is kept for this node, there and here.
    pub(crate) async fn log_out(&self) -> Result<(), NodeError> {
        let token = self.credentials.cache.as_ref().and_then(|c| c.find_any(&self.place()));
        let ended = match token {
            Some(token) => self.end(&token).await.map_err(|cause| self.error(cause)),
            None => Ok(()),
        };
        self.forget_token();
        if let Some(cache) = self.credentials.cache.clone() {
            let place = self.place();
            let removed = tokio::task::spawn_blocking(move || cache.remove(&place)).await;
            if let Ok(Err(error)) = removed {
                return Err(self.error(Cause::TokenNotKept(error.to_string())));
            }
        }
        ended
    }

    async fn end(&self, token: &str) -> Result<(), Cause> {
        let mut client = DfsServiceClient::new(self.open().await?);
        let mut request = Request::new(pb::LogoutRequest {});
        request.metadata_mut().insert("authorization", bearer(token)?);
        match within(UNARY_LIMIT, "Logout", client.logout(request)).await {
            // One that the node does not know has ended.
            Ok(_) | Err(Cause::Refused { reason: Some(Reason::TokenExpired), .. }) => Ok(()),
            Err(cause) => Err(cause),
        }
    }
}

/// The header that carries a token, kept out of debug output and of header compression.
fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Cause> {
    let mut bearer: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| Cause::Nonsense("a token with odd characters".to_owned()))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}
