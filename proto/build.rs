//! Compiles `dfs.proto` without protoc when the `wire` feature is on.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=dfs.proto");
    #[cfg(feature = "wire")]
    wire::compile()?;
    Ok(())
}

#[cfg(feature = "wire")]
mod wire {
    use std::path::PathBuf;

    use prost::Message;

    pub(crate) fn compile() -> Result<(), Box<dyn std::error::Error>> {
        let descriptors = protox::compile(["dfs.proto"], ["."])?;
        let out = PathBuf::from(std::env::var("OUT_DIR")?);
        std::fs::write(out.join("dfs_descriptor.bin"), descriptors.encode_to_vec())?;
        tonic_prost_build::configure()
            .bytes(".dfs.v1.Block.data")
            // Secrets have no `Debug`, so that no log line can show one by accident.
            .skip_debug([".dfs.v1.AuthenticateRequest", ".dfs.v1.AuthenticateResponse"])
            .compile_fds(descriptors)?;
        Ok(())
    }
}
