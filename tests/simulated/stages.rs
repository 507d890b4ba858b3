//! What the nodes are doing: each request, when it begins and when it has been answered. Heard
//! from their own spans, so that nothing in a node knows of it.

use std::cell::RefCell;
use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    /// A simulation runs on one thread, and so do the requests of its nodes.
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
}

/// A request on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The node's host.
    pub(crate) host: String,
    /// As metrics name it.
    pub(crate) method: String,
    /// It has been answered, or was given up.
    pub(crate) ended: bool,
}

/// Starts to listen, in all threads.
pub(crate) fn listen() {
    let wanted = |span: &Metadata<'_>| {
        let known = [("dfs_server::meter", "request"), ("turmoil::sim", "node")];
        span.is_span() && known.contains(&(span.target(), span.name()))
    };
    let subscriber = tracing_subscriber::registry().with(Listener.with_filter(filter_fn(wanted)));
    tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
}

/// What was seen in this thread since the last call.
pub(crate) fn seen() -> Vec<Seen> {
    SEEN.take()
}

struct Listener;

/// The value of the only field of a span that is asked for.
struct Value(&'static str, String);

impl Visit for Value {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.0 {
            value.clone_into(&mut self.1);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let is_host = span.name() == "node";
        let mut value = Value(if is_host { "name" } else { "method" }, String::new());
        attributes.record(&mut value);
        if is_host {
            span.extensions_mut().insert(value.1);
            return;
        }
        let host =
            span.scope().skip(1).find_map(|outer| outer.extensions().get::<String>().cloned());
        let seen = Seen { host: host.unwrap_or_default(), method: value.1, ended: false };
        span.extensions_mut().insert(seen.clone());
        SEEN.with_borrow_mut(|all| all.push(seen));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let seen = span.extensions().get::<Seen>().cloned();
        if let Some(seen) = seen {
            SEEN.with_borrow_mut(|all| all.push(Seen { ended: true, ..seen }));
        }
    }
}
