//! Stores a text, lists it, reads it back and removes it.
//!
//! ```sh
//! cargo run --release -p dfs-client --example roundtrip -- .dfs-dev/dfs.yaml
//! ```

use dfs_client::{Client, Config, Credentials, FilePath, GetOptions, Prefix, PutOptions};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: roundtrip CONFIG")?;
    let config = Config::load(file.as_ref())?;
    let user = config.user.clone().ok_or("the configuration names no user")?;
    let password = config.password_file.as_ref().ok_or("the configuration names no password")?;
    let credentials = Credentials::new(user, Config::read_password(password)?);
    let client = Client::connect(&config, credentials).await?;

    let path = FilePath::new("example/greeting.txt")?;
    let stored = client.put_bytes(path.clone(), "hello\n".into(), PutOptions::default()).await?;
    println!("stored as {}", stored.tag);

    let mut files = client.list(Prefix::new("example/")?, false);
    while let Some(file) = files.next().await? {
        println!("{} is {}", file.path, file.health.word());
    }

    client.get_stream(path.clone(), Box::new(std::io::stdout()), GetOptions::default()).await?;
    client.remove(path, &CancellationToken::new()).await?;
    client.close().await;
    Ok(())
}
