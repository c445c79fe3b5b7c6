//! A router directory packed as `.tar.gz`, as `collect.sh` writes it.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

use crate::failure::Failure;

/// Maximum number of files in an archive.
const MOST_FILES: usize = 1000;
/// Maximum size of an archive's files together, in bytes.
const MOST_BYTES: u64 = 16 << 30;

/// A router directory, unpacked if need be. What was unpacked is removed in the end.
#[derive(Debug)]
pub(crate) struct RouterPath {
    directory: PathBuf,
    is_unpacked: bool,
}

impl RouterPath {
    /// Takes a directory as it is, and unpacks an archive.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Ok(Self { directory: path.to_owned(), is_unpacked: false });
        }
        let wrong = |error| Failure::of_file(path, error);
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let unpacked =
            Self { directory: temporary_directory().map_err(|error| wrong(error.to_string()))?, is_unpacked: true };
        let files = unpack(file, &unpacked.directory).map_err(|error| {
            wrong(format!(
                "is no directory, and no .tar.gz of one ({error}); --router wants one with the router's files"
            ))
        })?;
        if files == 0 {
            return Err(wrong("has no file in it; make one with collect.sh".to_owned()));
        }
        Ok(unpacked)
    }

    /// Returns the directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for RouterPath {
    fn drop(&mut self) {
        if self.is_unpacked {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Makes a directory that nobody else can read: a capture may have passwords in it.
fn temporary_directory() -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = env::temp_dir().join(format!("ftp-conntrack-{}-{number}", process::id()));
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&path)?;
    Ok(path)
}

/// Unpacks the regular files of an archive under the last part of their names. Returns their number.
fn unpack(file: File, directory: &Path) -> io::Result<usize> {
    let mut archive = Archive::new(GzDecoder::new(file));
    let (mut files, mut bytes) = (0, 0);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let name = entry.path()?.file_name().map(ToOwned::to_owned);
        let Some(name) = name else { continue };
        files += 1;
        bytes += entry.size();
        if files > MOST_FILES || bytes > MOST_BYTES {
            return Err(io::Error::other("there is too much in it"));
        }
        let mut unpacked = File::create(directory.join(name))?;
        io::copy(&mut (&mut entry).take(MOST_BYTES), &mut unpacked)?;
    }
    Ok(files)
}
