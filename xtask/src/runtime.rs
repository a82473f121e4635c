//! The ONNX Runtime library, taken out of the `onnxruntime` package that pip has checked by hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::process::ask;
use crate::project::Project;

/// Copies the library into the runtime folder, under its own name; returns its path there.
pub(crate) fn copy_library(project: &Project) -> Result<Vec<PathBuf>, Error> {
    let source = find_library(&package_folder(project)?)?;
    let folder = project.runtime();
    fs::create_dir_all(&folder).map_err(Error::files("make", &folder))?;

    let name = source.file_name().unwrap_or(source.as_os_str());
    let target = folder.join(name);
    let partial = folder.join(".partial");
    fs::copy(&source, &partial).map_err(Error::files("copy", &source))?;
    fs::rename(&partial, &target).map_err(Error::files("write", &target))?;
    remove_others(&folder, &target)?;
    println!("runtime: {}", target.display());
    Ok(vec![target])
}

/// Where pip has put the package's libraries.
fn package_folder(project: &Project) -> Result<PathBuf, Error> {
    let script = "import sysconfig; print(sysconfig.get_path('platlib'))";
    let (_, folder) = ask(Command::new(project.venv_python()).args(["-c", script]))?;
    Ok(Path::new(folder.trim()).join("onnxruntime").join("capi"))
}

fn find_library(folder: &Path) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(Error::files("read", folder))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library))
        .ok_or_else(|| Error::NoLibrary { folder: folder.to_owned() })
}

/// Whether this is the library itself, on any platform, and not one of its providers.
fn is_library(name: &str) -> bool {
    let unix = name.starts_with("libonnxruntime.") && (name.contains(".so") || name.ends_with(".dylib"));
    unix || name == "onnxruntime.dll"
}

/// An older library beside the new one would be ambiguous.
fn remove_others(folder: &Path, keep: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(Error::files("read", folder))?;
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path != keep {
            fs::remove_file(&path).map_err(Error::files("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_told_from_its_providers() {
        for name in ["libonnxruntime.so.1.31.1", "libonnxruntime.1.31.1.dylib", "onnxruntime.dll"] {
            assert!(is_library(name), "{name}");
        }
        for name in ["libonnxruntime_providers_shared.so", "onnxruntime_providers_shared.dll", "__init__.py"] {
            assert!(!is_library(name), "{name}");
        }
    }
}
