"""`velatura new`: a project folder to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json


def new(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Folder to make; its last part names the LoRA.")],
    base: Annotated[
        str, typer.Option(help="Base model: a name, a checkpoint file, a diffusers folder, or an id on Hugging Face.")
    ] = "pocket",
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of pictures to copy in, with their captions if there are any."),
    ] = None,
    trigger: Annotated[str, typer.Option(help="Words that will call the style up.")] = "",
    as_json: Json = False,
) -> None:
    """Make a project folder, with copies of your pictures.

    It holds a brief, a recipe with every setting explained, and the dataset. Originals stay as they are.
    """
    from velatura import project
    from velatura import recipe as recipes
    from velatura.brief import Brief
    from velatura.errors import RecipeError

    title = name.absolute().name
    legal = project.legal_name(title)
    if legal != title:
        raise RecipeError(f"'{title}' cannot be a name on every system", fix=f"take {legal or 'letters and digits'}")
    tree = {"name": title, "base": _base(base), "dataset": {"path": project.DATASET, "trigger": trigger}}
    created = project.create(name, recipe=recipes.build(tree), brief=Brief(name=title, trigger=trigger), images=images)
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


def _base(name: str) -> dict[str, str]:
    """What the recipe says of the base: its name or path, and its hash where it is here and whole.

    The bases that come with the program go by their names alone.
    """
    from velatura import bases, inventory, settings
    from velatura.weights import hub

    direct = settings.base_at(name)
    if direct is None and hub.is_id(name) and hub.whole(name) is None:
        return {"model": name}
    files = bases.find(name)
    if files.model == settings.BUILT_IN_BASES.get(name):
        return {"model": name}
    whole = not inventory.examine(files).missing
    sha256 = bases.base_hash(bases.locate(files)) if whole else ""
    return {"model": str(files.model.absolute()) if Path(name).exists() else name, "sha256": sha256}
