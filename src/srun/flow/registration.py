"""The names under which published models enter the model registry."""

from srun.data.dataset import Dataset
from srun.tracking import Version


def registered(data: Dataset, original: str, method: str, request: str | None, seed: int, alias: str) -> Version:
    """What a published model is registered as: names carry the data set, so that no alias crosses from one to another.

    ``request`` is None for an Original, which was trained before any. An alias takes no dots.
    """
    name = data.info["name"]
    story = f'trained on all of data set "{name}", before any request'
    if request is not None:
        story = f'which forgot the request "{request}" of data set "{name}" by {method}'
    tags = {
        "srun.data": name,
        "srun.fingerprint": data.fingerprint,
        "srun.original": original,
        "srun.method": method,
        "srun.request": request or "none: trained before any",
        "srun.seed": str(seed),
    }
    words = f'Original "{original}", {story}; seed {seed}.'
    return Version(f"srun-{name}-{original}", alias.replace(".", "--"), tags, words)
