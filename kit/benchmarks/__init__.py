"""Benchmarks that others report too.

Their data come from Hugging Face, or from a folder with its files on a machine without a network.
"""

from pathlib import Path

from kit.core.config import HUB_SECONDS


class Unavailable(RuntimeError):
    """The data of a benchmark are not here; the message says where to put them."""


class FormatError(ValueError):
    """A benchmark's files are not in the form that this kit knows; the message says why."""


def fetch(repository: str, name: str, folder: str = "") -> Path:
    """A file of a data set on Hugging Face, downloaded only if its cache does not hold it.

    Args:
        repository: the data set, `owner/name`.
        name: path of the file in it.
        folder: holds a folder with the data set's name, and the file there; then nothing is
            asked.
    Returns:
        The file's path on this machine.
    Raises:
        Unavailable: the file is not in the folder, or Hugging Face does not give it.
    Source: our choice.
    """
    if folder:
        path = Path(folder) / repository.partition("/")[2] / name
        if not path.exists():
            raise Unavailable(
                f"{path} is not there: put the files of {repository} there, "
                "or leave evaluation.folder empty to download it"
            )
        return path

    import huggingface_hub as hub

    try:
        return Path(
            hub.hf_hub_download(repository, name, repo_type="dataset", etag_timeout=HUB_SECONDS)
        )
    # There are a dozen kinds: no network, no such file, no right to it...
    except Exception as fault:
        raise Unavailable(
            f"Hugging Face did not give {name} of {repository} ({type(fault).__name__}): get it "
            "on a machine with a network, and name the folder above it in evaluation.folder"
        ) from None
