//! The wires: every path from a client to a node and from node to node has a proxy of its own.

use std::path::PathBuf;

use harness::cluster::NODES;
use harness::proxy::Mode;
use harness::{Cluster, Proxy};

/// All paths of one cluster and some clients.
pub(super) struct Links {
    /// Of each client, to nodes 1 to 4.
    clients: Vec<[Proxy; 4]>,
    /// From each node to nodes 1 to 4; that to itself carries nothing.
    nodes: [[Proxy; 4]; 4],
}

impl Links {
    /// Puts proxies in front of the nodes of a cluster of which nothing runs, and tells each
    /// node to go through its own.
    pub(super) fn lay(cluster: &Cluster, clients: u64) -> Self {
        let addresses = cluster.addresses();
        let nodes = NODES.map(|_| Proxy::to_all(addresses));
        for (node, proxies) in NODES.into_iter().zip(&nodes) {
            let peers = NODES.map(|peer| match peer == node {
                true => addresses[peer - 1].to_string(),
                false => proxies[peer - 1].address().to_string(),
            });
            cluster.configure(node, "peers", &format!("[{}]", peers.join(", ")));
        }
        Self { clients: (0..clients).map(|_| Proxy::to_all(addresses)).collect(), nodes }
    }

    /// Writes a configuration for each client.
    pub(super) fn configurations(&self, cluster: &Cluster) -> Vec<PathBuf> {
        let write = |(number, proxies): (usize, &[Proxy; 4])| {
            let addresses = proxies.each_ref().map(Proxy::address);
            cluster.client_config_with(&format!("client-{number}.yaml"), addresses)
        };
        self.clients.iter().enumerate().map(write).collect()
    }

    /// From one client to a node.
    pub(super) fn of_client(&self, client: u64, node: usize) -> Vec<&Proxy> {
        let chosen = usize::try_from(client).expect("a few clients") % self.clients.len();
        vec![&self.clients[chosen][node - 1]]
    }

    /// From all clients to a node.
    pub(super) fn of_clients(&self, node: usize) -> Vec<&Proxy> {
        self.clients.iter().map(|proxies| &proxies[node - 1]).collect()
    }

    /// Between a node and the other nodes, in both directions.
    pub(super) fn of_peers(&self, node: usize) -> Vec<&Proxy> {
        let others = NODES.into_iter().filter(|other| *other != node);
        others
            .flat_map(|other| [&self.nodes[other - 1][node - 1], &self.nodes[node - 1][other - 1]])
            .collect()
    }

    /// Everything passes again, over new connections.
    pub(super) fn mend(&self) {
        for proxy in self.clients.iter().chain(&self.nodes).flatten() {
            mend(proxy);
        }
    }
}

/// A connection that has lost bytes is of no use any more.
pub(super) fn mend(proxy: &Proxy) {
    proxy.pace(u64::MAX);
    proxy.set(Mode::Close);
    proxy.set(Mode::Forward);
}
