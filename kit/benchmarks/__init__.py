"""Benchmarks that others report too. Their data come from the hub, or from a folder with its files for a machine without one."""

from pathlib import Path


class Unavailable(RuntimeError):
    """The data of a benchmark are not here; the message says where to put them."""


class FormatError(ValueError):
    """A benchmark's files are not in the form that this kit knows; the message says what is different."""


def fetch(repository: str, name: str, folder: str = "") -> Path:
    """A file of a data set on the hub, from its cache if it is there; or FOLDER/<name of the data set>/<name>. Raises Unavailable."""
    if folder:
        if not (path := Path(folder) / repository.partition("/")[2] / name).exists():
            raise Unavailable(
                f"{path} is not there: put the files of {repository} there, or leave evaluation.folder empty to use the hub"
            )
        return path
    from kit.models import HUB_SECONDS, hub

    try:
        return Path(
            hub.hf_hub_download(repository, name, repo_type="dataset", etag_timeout=HUB_SECONDS)
        )
    except Exception as e:  # a dozen kinds: no network, no such file, no right to it
        raise Unavailable(
            f"the hub did not give {name} of {repository} ({type(e).__name__}): get the data set on a machine with a network, and "
            f"name the folder above it in evaluation.folder"
        ) from None
