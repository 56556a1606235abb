"""Upload of an exported folder to the Hugging Face hub."""

from pathlib import Path

from ssl_nlp.errors import UserError


def check_push(name: str) -> None:
    """Check before any work that a folder can be uploaded under a name.

    Raises:
        UserError: it cannot be a name on the hub, the hub is switched off, or nobody is logged in.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in its `__all__`

    try:
        validate_repo_id(name)
        valid = "/" in name  # or the lines of the card would load another model, or none
    except HFValidationError:
        valid = False
    if not valid:
        raise UserError(f"--push {name!r} is not a name on the hub: use USER/MODEL, of letters, digits, - _ .")
    if huggingface_hub.is_offline_mode():
        raise UserError("--push needs the hub, and HF_HUB_OFFLINE switches it off: unset it, or leave --push out")
    if huggingface_hub.get_token() is None:
        raise UserError("--push needs somebody who is logged in to the hub: run hf auth login, or set HF_TOKEN")


def push(folder: Path, name: str) -> str:
    """Upload a folder as a new private model, and return its address.

    Raises:
        UserError: the hub has such a model already, cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]  # likewise

    api = HfApi()
    try:
        address = api.create_repo(name, private=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Export by ssl_nlp")
    except (HTTPError, OSError) as error:
        response = error.response if isinstance(error, HfHubHTTPError) else None
        if response is not None and response.status_code == 409:
            why = f"the hub has {name} already, and nothing is overwritten: choose another name"
        else:
            why = f"the hub did not take it ({str(error).strip().splitlines()[0]}): try again with hf upload"
        raise UserError(f"{folder} is written, but not pushed: {why}") from error
    return str(address)
