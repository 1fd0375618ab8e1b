//! (coming)
pub fn note_build(_: &crate::paths::Paths, _: crate::tools::Built) -> anyhow::Result<()> { Ok(()) }
