"""Sources at fixed versions, through the registries' own clients: wheels by pip, crates by cargo.

Nothing is installed, built or run. What is fetched is checked by its hash and read as an archive.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent


def wheels(folder):
    """The wheels of packages.txt, in the order of their names; pip checks their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--only-binary", ":all:", "--require-hashes", "--dest", folder, "--requirement", HERE / "packages.txt"],
        check=True)
    wanted = {line.split("==")[0].replace("-", "_") for line in lines(HERE / "packages.txt")}
    return sorted(path for path in folder.glob("*.whl") if path.name.split("-")[0].lower() in wanted)


def crates(folder):
    """The archives of crates.txt, in the order of their names, out of cargo's own cache."""
    pins = [line.split() for line in lines(HERE / "crates.txt")]
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "lib.rs").write_text("")
    manifest = ["[package]", 'name = "sources"', 'version = "0.0.0"', 'edition = "2021"', "[workspace]", "[dependencies]"]
    manifest += [f'{name} = {{ version = "={version}", default-features = false }}' for name, version, _ in pins]
    (folder / "Cargo.toml").write_text("\n".join(manifest) + "\n")
    # One target, so that no other system's crates come along.
    subprocess.run(
        [os.environ.get("CARGO", "cargo"), "fetch", "--quiet", "--target", "x86_64-unknown-linux-gnu"],
        cwd=folder, check=True)
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    found = []
    for name, version, digest in pins:
        archives = sorted(home.glob(f"registry/cache/*/{name}-{version}.crate"))
        archive = next((path for path in archives if sha256(path) == digest), None)
        if archive is None:
            sys.exit(f"error: cargo has fetched no {name} {version} with the hash of crates.txt")
        found.append(archive)
    return found


def files_of_wheel(path, ending):
    """Names and texts of a wheel's files with this ending, in the order of their names."""
    with zipfile.ZipFile(path) as wheel:
        for name in sorted(wheel.namelist()):
            if name.endswith(ending):
                yield name, wheel.read(name)


def files_of_crate(path, ending):
    """The same of a crate; names begin with the crate's and its version."""
    with tarfile.open(path) as crate:
        for member in sorted(crate.getmembers(), key=lambda member: member.name):
            if member.isfile() and member.name.endswith(ending):
                yield member.name, crate.extractfile(member).read()


def lines(path):
    """The lines of a file of pins that say something."""
    return [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def sha256(path):
    """A file's hash, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
