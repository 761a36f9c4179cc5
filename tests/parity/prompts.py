"""The prompt grammar: rows of the parity page."""

from __future__ import annotations

from tests.parity import Row

TITLE = "Prompts"

INTRO = """
What a prompt says, against A1111's own parser (modules/prompt_parser.py with lark 1.1.2, the version that A1111 pins):
two hundred of its answers are kept as vectors, and with VELATURA_A1111 naming a checkout the test asks it about
thousands of random prompts, unbalanced ones too. What ComfyUI does with weights is `--emphasis comfy`.
"""

A1111 = "A1111 1.10"
VECTORS = "generation/prompt/test_a1111.py::test_prompts_mean_what_a1111_makes_of_them"
STEPS = "generation/test_conditioning.py::test_each_step_is_painted_with_its_text_counted_as_a1111_counts"
TOGETHER = "generation/test_conditioning.py::test_prompts_joined_by_and_pull_together_each_with_its_weight"

ROWS = (
    Row(
        "(word), (word:1.3), [word], escapes, BREAK",
        A1111,
        0,
        VECTORS,
        "a weight that is no number is an error, there it is a crash; a BREAK in brackets is a "
        "break, there it becomes a "
        "word; weights that multiply to infinity are refused",
    ),
    Row(
        "[from:to:when], [to:when], [from::when], alternating words, all of them nested",
        A1111,
        0,
        VECTORS,
        "the steps of a second pass included; a step beyond all numbers is an error, there it is a crash",
    ),
    Row(
        "An edit right before a bracket or colon without a partner, as in [a:b:5]]",
        "–",
        None,
        note="always an edit; A1111 takes it for one or for plain text at random, anew with each start of the program",
    ),
    Row("Prompts joined by AND, and their weights", A1111, 0, VECTORS, "negative prompts are not cut, as there"),
    Row(
        "The text of each step",
        A1111,
        1e-4,
        STEPS,
        "a loop written out with its counting, on latents in float32: steps count from 0, so the "
        "first text has one more",
    ),
    Row("Pictures of several prompts", A1111, 1e-4, TOGETHER, "its formula written out, on latents in float32"),
    Row(
        "Edits with samplers that ask twice a step (Heun, DPM2, DPM++ SDE...)",
        "–",
        None,
        note="a number is a sampling step; A1111 counts askings, so [a:b:10] of 20 steps of Heun is there at step 5. "
        "Shares mean the same",
    ),
    Row(
        "Weights in a prompt that changes",
        "–",
        None,
        note="the mean is restored text by text; in A1111 over all texts of the prompt, so that "
        "words of one step act on "
        "the others",
    ),
    Row(
        "Prompts of unlike length, joined by AND or in one batch",
        "–",
        None,
        note="go through the denoiser apart; A1111 fills the shorter up with its last vector, so "
        "that a picture hangs on "
        "those beside it",
    ),
    Row(
        "LoRAs of a batch whose prompts differ",
        "–",
        None,
        note="each picture has its own; in A1111 those of the first prompt are used for all",
    ),
    Row(
        "LoRA tags: strengths by place or name, lyco",
        "–",
        None,
        note="as in A1111, with lbw=, start= and stop= of the block weight extension; a name that is no file, and what "
        "cannot be loaded, are errors, there they are passed over",
    ),
    Row(
        "styles.csv and comments",
        "–",
        None,
        note="as in A1111, but comments go before styles are put in: there one at the end of a "
        "prompt takes with it what "
        "a style adds",
    ),
    Row(
        "Wildcards, choices in braces",
        "–",
        None,
        note="the syntax of A1111's extension dynamic prompts in its random mode, from text files; "
        "what is chosen hangs on "
        "the picture's seed, by other draws than there; variables are refused; bars in square brackets belong to these",
    ),
    Row(
        "--emphasis comfy",
        "ComfyUI",
        1e-4,
        "text/test_clip.py::test_weights_act_by_the_formula_of_their_mode",
        "its formula; the brackets stay A1111's: in ComfyUI [word] is plain text, and (a "
        "(b:1.2):1.3) gives b 1.2, here "
        "1.2 times 1.3",
    ),
)
