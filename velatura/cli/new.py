"""`velatura new`: a project folder to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.shipped import Shipped


def new(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Folder to make; its last part names the LoRA.")],
    base: Annotated[
        str,
        typer.Option(
            help="Base model: a name, a checkpoint file, a diffusers folder, or an id on Hugging Face; none: the"
            " recipe's own, pocket without one."
        ),
    ] = "",
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="Begin with a recipe of `velatura recipe list`.")] = "",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of pictures to copy in, with their captions if there are any."),
    ] = None,
    trigger: Annotated[str, typer.Option(help="Words that will call the style up.")] = "",
    as_json: Json = False,
) -> None:
    """Make a project folder, with copies of your pictures.

    It holds a brief, a recipe with every setting explained, and the dataset. Originals stay as they are. `velatura
    recipe list` names recipes for people, styles and drawings to begin with.
    """
    from velatura import project, shipped
    from velatura import recipe as recipes
    from velatura.brief import Brief
    from velatura.errors import RecipeError

    title = name.absolute().name
    legal = project.legal_name(title)
    if legal != title:
        raise RecipeError(f"'{title}' cannot be a name on every system", fix=f"take {legal or 'letters and digits'}")
    start = shipped.find(recipe) if recipe else None
    tree = start.fitted(_count(images)) if start else {}
    if base or "base" not in tree:
        tree["base"] = tree.get("base", {}) | _base(base or "pocket", start)
    tree["name"] = title
    tree["dataset"] = tree.get("dataset", {}) | {"path": project.DATASET, "trigger": trigger}
    about = start.comments if start else ()
    created = project.create(
        name, recipe=recipes.build(tree), brief=Brief(name=title, trigger=trigger), images=images, about=about
    )
    if as_json:
        problems = [{"name": problem.name, "what": problem.what} for problem in created.problems]
        output.emit({"folder": output.shown(created.folder), "pictures": created.pictures, "problems": problems})
        return
    for problem in created.problems:
        output.tell(f"note: {problem}")
    folder = output.shown(created.folder)
    if created.pictures:
        count = "one picture" if created.pictures == 1 else f"{created.pictures} pictures"
        output.say(f"{folder} is ready with {count}.")
    else:
        output.say(f"{folder} is ready; put your pictures into {folder}/{project.DATASET}.")
    output.say(f"Next: look into {folder}/{project.RECIPE}, then run `velatura train {folder}`.")


def _count(images: Path | None) -> int:
    """How many pictures are to be copied; 0 where none are named."""
    from velatura.dataset.scan import scan

    return 0 if images is None else len(scan(images, deep=False).pictures)


def _base(name: str, start: Shipped | None) -> dict[str, str]:
    """What the recipe says of the base: its name or path, and its hash where it is here and whole.

    The bases that come with the program go by their names alone.

    Raises:
        RecipeError: the recipe that the project begins with is for bases of another family.
    """
    from velatura import bases, inventory, settings
    from velatura.errors import RecipeError
    from velatura.weights import hub

    direct = settings.base_at(name)
    if direct is None and hub.is_id(name) and hub.whole(name) is None:
        return {"model": name}
    files = bases.find(name)
    if start is not None and start.family and (family := bases.recognise(files).family) != start.family:
        what = f"the recipe {start.name} is for bases of {start.family}, and {name} is one of {family}"
        raise RecipeError(what, fix="take another recipe or base")
    if files.model == settings.BUILT_IN_BASES.get(name):
        return {"model": name}
    whole = not inventory.examine(files).missing
    sha256 = bases.base_hash(bases.locate(files)) if whole else ""
    return {"model": str(files.model.absolute()) if Path(name).exists() else name, "sha256": sha256}
