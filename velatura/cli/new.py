"""`velatura new`: a project folder to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json


def new(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Folder to make; its last part names the LoRA.")],
    base: Annotated[str, typer.Option(help="Base model: a name, a checkpoint file, or a diffusers folder.")] = "pocket",
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
    from velatura import project, settings
    from velatura import recipe as recipes
    from velatura.brief import Brief
    from velatura.errors import RecipeError

    title = name.absolute().name
    legal = project.legal_name(title)
    if legal != title:
        raise RecipeError(f"'{title}' cannot be a name on every system", fix=f"take {legal or 'letters and digits'}")
    found = settings.find_base(base)
    model = str(found.absolute()) if found != settings.BUILT_IN_BASES.get(base) and Path(base).exists() else base
    tree = {"name": title, "base": {"model": model}, "dataset": {"path": project.DATASET, "trigger": trigger}}
    created = project.create(name, recipe=recipes.build(tree), brief=Brief(name=title, trigger=trigger), images=images)
    if as_json:
        problems = [{"name": problem.name, "what": problem.what} for problem in created.problems]
        output.emit({"folder": output.shown(created.folder), "pictures": created.pictures, "problems": problems})
        return
    for problem in created.problems:
        output.tell(f"note: {problem}")
    folder = output.shown(created.folder)
    if created.pictures:
        output.say(f"{folder} is ready with {created.pictures} pictures.")
    else:
        output.say(f"{folder} is ready; put your pictures into {folder}/{project.DATASET}.")
    output.say(f"Next: look into {folder}/{project.RECIPE}, then run `velatura train {folder}`.")
