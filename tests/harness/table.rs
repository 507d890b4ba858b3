//! The table of placement as it is published, written out a second time: what the product
//! computes is compared with this.

/// Rows x, columns nodes, each with the first and the second chunk of the node.
pub const TABLE: [[[u64; 2]; 4]; 4] = [
    [[1, 2], [2, 3], [3, 4], [4, 1]],
    [[4, 1], [1, 2], [2, 3], [3, 4]],
    [[3, 4], [4, 1], [1, 2], [2, 3]],
    [[2, 3], [3, 4], [4, 1], [1, 2]],
];

/// The bits of the two chunks that a node keeps of a file with residue `x`.
pub fn home_mask(x: u8, node: usize) -> u32 {
    let bit = |chunk: &u64| 1 << (chunk - 1);
    TABLE[usize::from(x)][node - 1].iter().map(bit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_here_and_the_products_table_agree() {
        use dfs_proto::digest::Residue;
        use dfs_proto::placement::{NodeId, home_chunks};
        for x in Residue::ALL {
            for node in NodeId::ALL {
                let expected = u32::from(home_chunks(x, node).mask());
                assert_eq!(home_mask(x.get(), node.get().into()), expected);
            }
        }
    }
}
