"""Which folders a model may be swapped to."""

from __future__ import annotations

from pathlib import Path

from deployments.errors import ForbiddenPackage


def package_folder(root: Path | None, package: str) -> Path:
    """The folder of a package that a client names, links resolved. Raises ForbiddenPackage.

    It need not be there: replicas look for it on their own nodes, at the same path.
    """
    if root is None:
        raise ForbiddenPackage(
            "no package may be loaded: set models_root, the folder of all packages, in the API's args"
        )
    resolved = root.resolve()
    try:
        folder = (resolved / package).resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links
        raise ForbiddenPackage("a package is named by its folder below models_root") from None
    if resolved not in folder.parents:
        raise ForbiddenPackage("the package is not below models_root: name it by its folder there")
    return folder
