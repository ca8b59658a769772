"""Pushing an export to the Hugging Face hub: the folder as it is, after every file was checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory.errors import ExportError, InputError
from factory.files.manifest import scan_for_pickle, verify


def push(model: str | Path, repository: str, *, private: bool = True, api: Any = None) -> dict[str, Any]:
    """Push an export.

    Args:
        model: An export.
        repository: `owner/name`.
        private: Whether a repository that is made for it is private.
        api: A `huggingface_hub.HfApi`; one with the user's own login without it.

    Returns:
        `{"url", "commit", "files"}`.

    Raises:
        ExportError: The export was altered, or holds a pickle.
        InputError: The repository's name is wrong, or the hub refused.
    """
    folder = Path(model)
    files = verify(folder)
    bad = scan_for_pickle(folder)
    if bad:
        raise ExportError(f"the export holds a pickle: {bad[0]}", where=folder)
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError(f"{repository!r} is no repository", fix="Use owner/name")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    hub = api or HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True, repo_type="model")
        done = hub.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Upload an exported student"
        )
    except LocalTokenNotFoundError as error:
        raise InputError("there is no login for the hub", fix="Run `hf auth login` first") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"the hub refused: {' '.join(str(error).split())}", where=repository) from error
    return {"url": str(getattr(done, "commit_url", "") or f"https://huggingface.co/{repository}"), "files": files}
