"""`velatura dataset regularise`: pictures of the class, painted by the base, to train beside the set."""

from __future__ import annotations

from typing import Annotated

import typer

from velatura.cli.dataset.shared import Folder
from velatura.cli.options import Json


def regularise(
    folder: Folder,
    class_words: Annotated[
        str, typer.Option("--class", metavar="WORDS", help='What the trigger is one of, as in "woman".')
    ] = "",
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", help='Instead: what to paint, as in "a photo of a woman"; repeatable.'),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Pictures of each prompt; none: as many as the set has.")
    ] = None,
    trigger: Annotated[str, typer.Option(help="What the class takes the place of; none: the project's trigger.")] = "",
    base: Annotated[
        str, typer.Option(help="Base model: a name, a file or a folder; none: the project's, else pocket.")
    ] = "",
    negative: Annotated[str, typer.Option(help="What to keep away from.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Every picture's own seed follows from it.")] = 1,
    side: Annotated[
        int | None, typer.Option(min=64, help="Side of the training area in pixels; none: the project's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the sampler; none: what suits the base.")] = None,
    cfg: Annotated[
        float | None, typer.Option(min=1, help="Classifier-free guidance; none: what suits the base.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance of bases into which it is distilled; none: 3.5.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Sampler, by its name in A1111; none: what suits the base.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Noise schedule, by its name in A1111; none: what suits the base.")
    ] = None,
    clip_skip: Annotated[
        int | None, typer.Option(min=1, help="Layer of CLIP to read, counted from the last; none: the base's own.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="How many pictures are painted at a time.")] = 4,
    memory: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A setting of [memory], as in precision=fp32; repeatable."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what was painted for captions or settings that are gone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Paint pictures of the class with the base, to train beside the set so that it keeps what it knows.

    With --class, one is painted for each training caption, at its picture's size; with --prompt, squares. They come
    into reg/, where a training finds them. What is there is not painted again.
    """
    from velatura import project, recipe
    from velatura.api.regularising import RegulariseRequest
    from velatura.api.regularising import regularise as paint
    from velatura.cli import ending
    from velatura.cli.progress import follow

    around = project.containing(folder)
    own = recipe.load(around).memory if around else recipe.MemorySettings()
    request = RegulariseRequest(
        folder=folder,
        base=base,
        class_words=class_words,
        trigger=trigger,
        prompts=tuple(prompts or ()),
        count=count,
        seed=seed,
        negative=negative,
        steps=steps,
        cfg=cfg,
        guidance=guidance,
        sampler=sampler,
        scheduler=scheduler,
        side=side,
        clip_skip=clip_skip,
        batch=batch,
        memory=recipe.with_memory(own, memory or ()),
        prune=prune,
    )
    told = "stopped; what is painted is kept, run it again to go on"
    done = follow(paint(request), as_json=as_json, interrupted=told)
    if done is not None and not as_json:
        ending.show(done)
