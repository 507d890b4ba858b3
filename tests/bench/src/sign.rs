//! Signatures of S3 requests, version 4, for bodies that are not part of the signature: over
//! plain HTTP that is the least work for both sides.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Length of a block of SHA-256, in bytes.
const BLOCK: usize = 64;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) region: String,
}

impl Keys {
    /// The headers that sign a request. `query` is encoded and sorted; `when` is like
    /// `20130524T000000Z`.
    pub(crate) fn headers(
        &self,
        method: &str,
        host: &str,
        path: &str,
        query: &str,
        when: &str,
    ) -> String {
        let payload = "UNSIGNED-PAYLOAD";
        let names = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{payload}\n\
             x-amz-date:{when}\n\n{names}\n{payload}"
        );
        let day = when.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{when}\n{scope}\n{}", hex(&hash(&canonical)));
        let secret = format!("AWS4{}", self.secret);
        let steps = [day, &self.region, "s3", "aws4_request", &text];
        let start = secret.into_bytes();
        let signature = steps.iter().fold(start, |key, step| hmac(&key, step).to_vec());
        format!(
            "x-amz-content-sha256: {payload}\r\nx-amz-date: {when}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},\
             Signature={}\r\n",
            self.id,
            hex(&signature)
        )
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let keyed = |pad: u8| Sha256::new_with_prefix(block.map(|byte| byte ^ pad));
    let inner = keyed(0x36).chain_update(text).finalize();
    keyed(0x5c).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 2 of RFC 4231.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&hmac(b"Jefe", "what do ya want for nothing?")), expected);
    }

    #[test]
    fn a_long_key_is_hashed_first() {
        // Test case 6 of RFC 4231.
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        let text = "Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex(&hmac(&[0xaa; 131], text)), expected);
    }
}
